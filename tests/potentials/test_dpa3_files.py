"""Files laid out as DeePMD-kit writes them: read, converted, refused.

They are written here from the weights of the parity tests, so the answers are DeePMD-kit's. Files of
DeePMD-kit itself are read by ``benchmarks/dpa3_speed.py``, where it is at hand.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from test_dpa3_parity import CASES, GOLDEN, branches_of, case_seed, fitting_of, settings_of, structures

from atomml import load_model
from atomml.cli.main import main
from atomml.errors import CheckpointError, ModelError
from atomml.graph import build_graph
from atomml.potentials.dpa3.deepmd_files import convert_deepmd

CASE = "two-tasks"


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """DeePMD-kit's answers, and the shapes of the weights."""
    with np.load(GOLDEN / "dpa3" / f"{CASE}.npz") as file:
        return {key: file[key] for key in file.files}


def checkpoint(answers: dict[str, Any]) -> dict[str, Any]:
    """A training checkpoint of both branches, as the PyTorch backend writes it."""
    shapes = {key: tuple(shape) for key, shape in json.loads(str(answers["shapes"])).items()}
    state: dict[str, Any] = {}
    branches = branches_of(CASE, shapes, float(answers["factor"]))
    for branch in branches:
        prefix = f"model.{branch.name}.atomic_model."
        state |= {prefix + key: tensor.clone() for key, tensor in branch.weights.items()}
    shared = {"type_map": CASES[CASE]["types"], "descriptor": settings_of(CASES[CASE])}
    shared["fitting"] = fitting_of(CASES[CASE])
    one = {"type_map": "type_map", "descriptor": "descriptor", "fitting_net": "fitting"}
    params = {"shared_dict": shared, "model_dict": {branch.name: dict(one) for branch in branches}}
    state["_extra_state"] = {"model_params": params, "train_infos": {"lr": 1e-3, "step": 10}}
    return {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}}


def single(answers: dict[str, Any]) -> dict[str, Any]:
    """The same with one branch, as it is written where there are no others."""
    state = checkpoint(answers)["model"]
    settings = {
        "type_map": CASES[CASE]["types"],
        "descriptor": settings_of(CASES[CASE]),
        "fitting_net": fitting_of(CASES[CASE]),
    }
    kept = {key.replace(".pbe.", ".Default."): v for key, v in state.items() if ".pbe." in key}
    return {"model": kept | {"_extra_state": {"model_params": settings}}}


def serialised(answers: dict[str, Any]) -> dict[str, Any]:
    """A serialised model; variables are arrays."""
    prefix = "model.Default.atomic_model."
    weights = {key.removeprefix(prefix): v for key, v in single(answers)["model"].items() if "Default" in key}

    def layer(name: str) -> dict[str, Any]:
        """One affine map."""
        parts = {"w": "matrix", "b": "bias", "idt": "idt"}
        found = {ours: weights.get(f"{name}.{theirs}") for ours, theirs in parts.items()}
        arrays = {key: None if v is None else v.numpy() for key, v in found.items()}
        return {"@class": "Layer", "@version": 2, "precision": "float64", "@variables": arrays}

    repflow, base = CASES[CASE]["repflow"], "descriptor.repflows"
    layers = []
    for number in range(repflow["nlayers"]):
        start = f"{base}.layers.{number}."
        rest = {key.removeprefix(start) for key in weights if key.startswith(start)}
        one: dict[str, Any] = {name.partition(".")[0]: None for name in rest if "matrix" in name}
        one = {name: layer(start + name) for name in one}
        lists = {
            name: [key for key in sorted(rest) if key.startswith(name)]
            for name in ("n_residual", "e_residual", "a_residual")
        }
        one["@variables"] = {
            name: [weights[start + key].numpy() for key in keys] for name, keys in lists.items()
        }
        layers.append(one)
    settings = settings_of(CASES[CASE])
    variables = {"davg": weights[f"{base}.mean"].numpy(), "dstd": weights[f"{base}.stddev"].numpy()}
    descriptor = {
        **{key: value for key, value in settings.items() if key != "repflow"},
        "@class": "Descriptor",
        "repflow_args": repflow,
        "type_embedding": {
            "@class": "TypeEmbedNet",
            "embedding": {"layers": [layer("descriptor.type_embedding.embedding.embedding_net.layers.0")]},
        },
        "repflow_variable": {
            "edge_embd": layer(f"{base}.edge_embd"),
            "angle_embd": layer(f"{base}.angle_embd"),
            "repflow_layers": layers,
            "@variables": variables,
        },
    }
    network = "fitting_net.filter_layers.networks.0.layers"
    case, bias = weights["fitting_net.case_embd"], weights["fitting_net.bias_atom_e"]
    fitting = {
        **fitting_of(CASES[CASE]),
        "@class": "Fitting",
        "nets": {
            "@class": "NetworkCollection",
            "networks": [{"layers": [layer(f"{network}.{i}") for i in range(3)]}],
        },
        "@variables": {"bias_atom_e": bias.numpy(), "case_embd": case.numpy(), "fparam_avg": None},
    }
    model = {
        "@class": "Model",
        "type": "standard",
        "type_map": CASES[CASE]["types"],
        "pair_exclude_types": [],
        "descriptor": descriptor,
        "fitting": fitting,
        "@variables": {"out_bias": weights["out_bias"].numpy()},
    }
    return {"software": "deepmd-kit", "version": "3.2.0", "model": model}


def write(tree: dict[str, Any], file: Path) -> Path:
    """As ``.dp``, ``.yaml`` or ``.json``."""
    tree, count = copy.deepcopy(tree), 0

    def plain(value: Any, store: Callable[[Any], Any]) -> Any:
        """The tree with each array stored."""
        if isinstance(value, dict):
            return {key: plain(inner, store) for key, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner, store) for inner in value]
        return store(value) if isinstance(value, np.ndarray) else value

    if file.suffix == ".dp":
        with h5py.File(file, "w") as opened:

            def dataset(array: Any) -> str:
                """Its name."""
                nonlocal count
                count += 1
                return str(opened.create_dataset(f"variable_{count:04d}", data=array).name)

            opened.attrs["json"] = json.dumps(plain(tree, dataset))
        return file
    lists = plain(
        tree,
        lambda array: {
            "@class": "np.ndarray",
            "@is_variable": True,
            "dtype": array.dtype.name,
            "value": array.tolist(),
        },
    )
    file.write_text(json.dumps(lists) if file.suffix == ".json" else yaml.safe_dump(lists))
    return file


def check(model: Any, answers: dict[str, Any], head: str) -> None:
    """Its energies are DeePMD-kit's."""
    for i, atoms in enumerate(structures(CASES[CASE], case_seed(CASE))):
        found = model.predict(build_graph(atoms, 6.0, 4.0), forces=False, stress=False)
        assert float(found.energy) == pytest.approx(answers[f"energy:{head}"][i], abs=1e-9 * len(atoms))


@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".json"])
def test_serialised_models_answer_as_deepmd_kit(suffix: str, answers: dict[str, Any], tmp_path: Path) -> None:
    check(convert_deepmd(write(serialised(answers), tmp_path / f"Model{suffix}")), answers, "pbe")


def test_a_checkpoint_keeps_all_branches_and_one_is_chosen_by_name(
    answers: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "two.pt", tmp_path / "two.safetensors"
    torch.save(checkpoint(answers), source)
    assert main(["convert", "deepmd", str(source), "--to", str(target)]) == 2
    assert "pbe, r2scan" in capsys.readouterr().err
    assert main(["convert", "deepmd", str(source), "--to", str(target), "--head", "r2scan"]) == 0
    check(load_model(target, "float64"), answers, "r2scan")
    check(load_model(f"{target}@pbe", "float64"), answers, "pbe")
    with pytest.raises(ModelError, match="pbe, r2scan"):
        load_model(f"{target}@hse", "float64")


def test_branches_with_fitting_nets_of_their_own_are_taken_apart(
    answers: dict[str, Any], tmp_path: Path
) -> None:
    saved = checkpoint(answers)
    saved["model"]["model.r2scan.atomic_model.fitting_net.filter_layers.networks.0.layers.0.bias"] += 1.0
    torch.save(saved, tmp_path / "apart.pt")
    model = convert_deepmd(tmp_path / "apart.pt", "pbe")
    assert model.config.heads == ("pbe",)
    check(model, answers, "pbe")


def test_a_checkpoint_of_one_model_needs_no_branch(answers: dict[str, Any], tmp_path: Path) -> None:
    torch.save(single(answers), tmp_path / "one.pt")
    check(convert_deepmd(tmp_path / "one.pt"), answers, "pbe")


def test_a_model_with_one_head_has_no_other() -> None:
    with pytest.raises(ModelError, match="@x"):
        load_model("lj-argon@x")


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Put the last of the path where the others lead."""
    *way, key, value = path

    def change(tree: dict[str, Any]) -> None:
        """In place."""
        at: Any = tree["model"]
        for step in way:
            at = at[step]
        if value is None:
            del at[key]
        else:
            at[key] = value

    return change


def _normalise_one_by_one(tree: dict[str, Any]) -> None:
    tree["model"]["descriptor"]["repflow_variable"]["@variables"]["dstd"][0, 0, 0] = 0.5


BAD = {
    "descriptor": (_set("descriptor", "type", "se_e2_a"), "se_e2_a"),
    "fitting": (_set("fitting", "type", "dipole"), "dipole"),
    "model": (_set("type", "zbl"), "zbl"),
    "excluded pairs": (_set("pair_exclude_types", [[0, 1]]), "pair_exclude_types"),
    "excluded types": (_set("descriptor", "exclude_types", [[0, 1]]), "exclude_types"),
    "frame parameters": (_set("fitting", "numb_fparam", 2), "numb_fparam"),
    "electronic configurations": (_set("descriptor", "use_econf_tebd", True), "use_econf_tebd"),
    "experts": (_set("descriptor", "repflow_args", {**CASES[CASE]["repflow"], "use_moe": True}), "use_moe"),
    "readout of edges": (_set("fitting", "add_edge_readout", True), "add_edge_readout"),
    "no element": (_set("type_map", ["H", "C", "O", "Xx"]), "Xx"),
    "missing layer": (
        _set("descriptor", "repflow_variable", "repflow_layers", 1, "node_self_mlp", None),
        "layers.1",
    ),
    "missing part": (_set("fitting", "nets", None), "nets"),
    "wrong shape": (_set("fitting", "neuron", [48, 50]), "shape"),
    "statistics": (_normalise_one_by_one, "one by one"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_represented_is_refused_by_name(
    kind: str, answers: dict[str, Any], tmp_path: Path
) -> None:
    change, word = BAD[kind]
    tree = serialised(answers)
    change(tree)
    with pytest.raises((ModelError, CheckpointError), match=word):
        convert_deepmd(write(tree, tmp_path / "bad.dp"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.dp", b""),
        ("text.dp", b"not HDF5"),
        ("text.yaml", b"a: [1, 2"),
        ("list.yaml", b"- 1"),
        ("code.yaml", b"model: !!python/object/apply:os.system ['true']"),
        ("text.json", b"{"),
        ("deep.json", b"[" * 100_000),
        ("other.json", b'{"model": 3}'),
        ("text.pt", b"not a zip"),
        ("frozen.pth", b""),
    ],
)
def test_damaged_and_foreign_files_get_one_sentence(
    name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert main(["convert", "deepmd", str(file), "--to", str(tmp_path / "m.safetensors")]) == 2
    said = capsys.readouterr().err.strip()
    assert name in said
    assert "\n" not in said


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no file .*none\.dp"):
        convert_deepmd(tmp_path / "none.dp")


def test_variables_kept_in_another_file_are_not_followed(answers: dict[str, Any], tmp_path: Path) -> None:
    file = write(serialised(answers), tmp_path / "linked.dp")
    with h5py.File(file, "a") as opened, h5py.File(tmp_path / "elsewhere.h5", "w") as other:
        other.create_dataset("x", data=opened["variable_0001"])
        del opened["variable_0001"]
        opened["variable_0001"] = h5py.ExternalLink("elsewhere.h5", "/x")
    with pytest.raises(CheckpointError, match=r"linked\.dp .*elsewhere"):
        convert_deepmd(file)
