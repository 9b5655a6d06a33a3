"""``atomml train --from-deepmd input.json``: DeePMD-kit's sections and its own npy systems."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from atomml.cli.main import main
from atomml.errors import AtomMLError, FileFormatError, OptionError
from atomml.potentials.lennard_jones import argon
from atomml.workflows.trainings.deepmd_input import read_deepmd_input

REPFLOW = {
    "n_dim": 16,
    "e_dim": 16,
    "a_dim": 8,
    "nlayers": 2,
    "e_rcut": 5.0,
    "e_rcut_smth": 4.0,
    "e_sel": 100,
    "a_rcut": 4.2,
    "a_rcut_smth": 3.5,
    "a_sel": 40,
    "smooth_edge_update": True,
}


def settings() -> dict[str, Any]:
    """An input with every section."""
    return {
        "_comment": "argon",
        "model": {
            "type_map": ["Ar"],
            "descriptor": {"type": "dpa3", "repflow": dict(REPFLOW), "activation_function": "silut:10.0"},
            "fitting_net": {"neuron": [16, 16], "resnet_dt": True, "activation_function": "tanh"},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.002, "stop_lr": 2e-5, "decay_steps": 10},
        "loss": {
            "type": "ener",
            "start_pref_e": 0.2,
            "limit_pref_e": 20,
            "start_pref_f": 100,
            "limit_pref_f": 60,
            "start_pref_v": 0.02,
            "limit_pref_v": 1,
        },
        "optimizer": {"type": "AdamW", "weight_decay": 0.001},
        "training": {
            "training_data": {"systems": ["data/train_0", "data/train_1"], "batch_size": 2},
            "validation_data": {"systems": "data/valid"},
            "numb_steps": 30,
            "gradient_max_norm": 5.0,
            "seed": 7,
            "disp_file": "lcurve.out",
            "save_freq": 100,
        },
    }


@pytest.fixture
def written(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Writes an input; systems of argon stand beside it."""
    from atomml import AtomMLCalculator

    calculator = AtomMLCalculator(argon())
    for number, name in enumerate(("train_0", "train_1", "valid/one")):
        folder = tmp_path / "data" / name
        (folder / "set.000").mkdir(parents=True)
        arrays: dict[str, list[Any]] = {"coord": [], "box": [], "energy": [], "force": [], "virial": []}
        for seed in range(4):
            atoms = bulk("Ar", "fcc", 5.3, cubic=True)
            atoms.rattle(0.1, seed=10 * number + seed)
            atoms.calc = calculator
            arrays["coord"].append(atoms.positions.ravel())
            arrays["box"].append(atoms.cell.array.ravel())
            arrays["energy"].append(atoms.get_potential_energy())
            arrays["force"].append(atoms.get_forces().ravel())
            virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
            arrays["virial"].append(virial.ravel())
        for key, values in arrays.items():
            np.save(folder / "set.000" / f"{key}.npy", np.array(values))
        (folder / "type.raw").write_text("0\n" * 4)
        (folder / "type_map.raw").write_text("Ar\n")

    def write(given: dict[str, Any]) -> Path:
        """The file."""
        path = tmp_path / "input.json"
        path.write_text(json.dumps(given))
        return path

    return write


def test_every_section_is_read(written: Callable[[dict[str, Any]], Path]) -> None:
    found = read_deepmd_input(written(settings()))
    assert found.model["family"] == "dpa3"
    assert found.model["e_rcut_smth"] == 4.0
    assert found.model["neuron"] == [16, 16]
    assert "elements" not in found.model
    assert [Path(path).name for path in (*found.train, *found.valid)] == ["train_0", "train_1", "one"]
    options = found.options
    assert (options["max_steps"], options["batch_size"], options["clip"], options["seed"]) == (30, 2, 5.0, 7)
    assert (options["learning_rate"], options["final_rate"], options["decay_steps"]) == (0.002, 0.01, 10)
    assert options["energy_weight"] == "0.20000000000000001:20~0.01/3"
    assert (options["optimiser"], options["weight_decay"], options["loss"]) == ("adamw", 0.001, "deepmd")
    assert found.not_taken == ["training.disp_file", "training.save_freq"]


def test_the_command_trains_on_it_and_says_what_it_leaves(
    written: Callable[[dict[str, Any]], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The losses of the log are DeePMD-kit's by its own formula at the first step's weights."""
    path = written(settings())
    call = ["train", "--from-deepmd", str(path), "--out", str(tmp_path / "run"), "--precision", "float64"]
    assert main([*call, "--threads", "1"]) == 0
    assert "training.disp_file, training.save_freq" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["results"]["steps"] == 30
    rows = (tmp_path / "run/log.csv").read_text().splitlines()
    first, last = (dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in (rows[1], rows[-1]))
    assert float(last["learning_rate"]) == pytest.approx(0.002 * 0.01, rel=1e-6)
    assert float(last["valid_loss"]) < 0.7 * float(first["valid_loss"])


def _drop(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(given: dict[str, Any]) -> None:
        """In place."""
        for key in keys[:-1]:
            given = given[key]
        del given[keys[-1]]

    return change


def _put(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(given: dict[str, Any]) -> None:
        """In place."""
        for key in keys[:-1]:
            given = given[key]
        given[keys[-1]] = value

    return change


BAD = {
    "no model": (_drop("model"), "section model"),
    "no descriptor": (_drop("model", "descriptor"), "descriptor"),
    "other descriptor": (_put("se_e2_a", "model", "descriptor", "type"), "se_e2_a"),
    "no steps": (_drop("training", "numb_steps"), "numb_steps"),
    "no systems": (_put([], "training", "training_data", "systems"), "no system"),
    "missing system": (_put(["data/none"], "training", "training_data", "systems"), "none"),
    "other rate": (_put("cosine", "learning_rate", "type"), "cosine"),
    "other loss": (_put("dos", "loss", "type"), "dos"),
    "relative forces": (_put(0.1, "loss", "relative_f"), "relative_f"),
    "other optimiser": (_put("LKF", "optimizer", "type"), "LKF"),
    "batch": (_put("mixed:4", "training", "training_data", "batch_size"), "mixed:4"),
    "branches": (_put({}, "model", "model_dict"), "without a branch"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_has_no_counterpart_is_refused_by_name(
    kind: str, written: Callable[[dict[str, Any]], Path]
) -> None:
    change, word = BAD[kind]
    given = settings()
    change(given)
    with pytest.raises(AtomMLError, match=word) as caught:
        read_deepmd_input(written(given))
    assert caught.value.exit_code == 2


def test_files_that_are_none_are_said(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    for name, word in (("none.json", "no file"), ("bad.json", "no JSON")):
        with pytest.raises(FileFormatError, match=word):
            read_deepmd_input(tmp_path / name)


def test_batches_by_atoms_hold_as_many_structures_as_fit(written: Callable[[dict[str, Any]], Path]) -> None:
    given = settings()
    for asked, n in (("auto", 8), ("auto:64", 16), ("auto:1", 1)):
        given["training"]["training_data"]["batch_size"] = asked
        assert read_deepmd_input(written(given)).options["batch_size"] == n
    given["training"]["training_data"]["batch_size"] = 0
    with pytest.raises(OptionError, match="batch_size"):
        read_deepmd_input(written(given))


def two_branches() -> dict[str, Any]:
    """The same with two branches that share all but the encoding of their data."""
    given = settings()
    model, training = given["model"], given["training"]
    fitting = {**model["fitting_net"], "dim_case_embd": 2}
    shared = {"types": model["type_map"], "body": model["descriptor"], "fit": fitting}
    branch = {"type_map": "types", "descriptor": "body", "fitting_net": "fit"}
    given["model"] = {"shared_dict": shared, "model_dict": {"pbe": dict(branch), "scan": dict(branch)}}
    loss = given.pop("loss")
    given["loss_dict"] = {"pbe": loss, "scan": dict(loss)}
    own = {"training_data": {"systems": ["data/train_1"], "batch_size": 2}}
    both = {key: training.pop(key) for key in ("training_data", "validation_data")}
    training["data_dict"] = {"pbe": both, "scan": own}
    return given


def test_branches_become_heads_with_their_shares(
    written: Callable[[dict[str, Any]], Path], tmp_path: Path
) -> None:
    """Two systems against one, unless probabilities are given; each branch's answer is its own."""
    from atomml.registry import load_model

    given = two_branches()
    found = read_deepmd_input(written(given))
    assert (found.model["heads"], found.model["dim_case_embd"]) == (["pbe", "scan"], 2)
    assert found.options["head_shares"] == ("pbe=2", "scan=1")
    assert [text.partition("=")[0] for text in (*found.train, *found.valid)] == ["pbe", "pbe", "scan", "pbe"]
    given["training"]["model_prob"] = {"pbe": 0.25, "scan": 0.75}
    path = written(given)
    assert read_deepmd_input(path).options["head_shares"] == ("pbe=0.25", "scan=0.75")
    out = tmp_path / "run"
    call = ["train", "--from-deepmd", str(path), "--out", str(out), "--max-steps", "3", "--quiet"]
    assert main(call) == 0
    atoms, energies = bulk("Ar", "fcc", 5.3, cubic=True), []
    for head in ("pbe", "scan"):
        from atomml import AtomMLCalculator

        atoms.calc = AtomMLCalculator(load_model(f"{out / 'model.safetensors'}@{head}"))
        energies.append(atoms.get_potential_energy())
    assert energies[0] != energies[1]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda g: g["model"]["shared_dict"]["fit"].update(dim_case_embd=1), "dim_case_embd"),
        (
            lambda g: g["model"]["model_dict"]["scan"].update(fitting_net={"neuron": [8]}),
            "another fitting_net",
        ),
        (lambda g: g["model"]["model_dict"]["scan"].update(descriptor="body:1"), "level"),
        (lambda g: g["model"]["model_dict"]["scan"].update(descriptor="soul"), "soul"),
        (lambda g: g["loss_dict"]["scan"].update(start_pref_f=1.0), "another loss"),
        (lambda g: g["training"]["data_dict"].pop("scan"), "no data for the branch scan"),
        (lambda g: g["training"].update(model_prob={"pbe": 1.0}), "model_prob"),
    ],
)
def test_branches_that_cannot_be_one_model_are_refused(
    written: Callable[[dict[str, Any]], Path], change: Callable[[dict[str, Any]], object], word: str
) -> None:
    given = two_branches()
    change(given)
    with pytest.raises(AtomMLError, match=word):
        read_deepmd_input(written(given))
