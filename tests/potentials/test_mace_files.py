"""Files laid out as mace-torch pickles its modules: read, converted, refused.

The modules are stand-ins with mace-torch's names and attributes (real files are read by
``benchmarks/mace_speed.py``, where mace-torch is at hand); their weights are those of the parity tests, so
the answers are mace-torch's.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from e3nn import nn as e3nn_nn
from e3nn import o3
from test_mace_parity import GOLDEN, case_seed, draw_weights, structures

from atomml import load_model
from atomml.cli.main import main
from atomml.errors import CheckpointError, ModelError
from atomml.graph import build_graph
from atomml.potentials.mace.pickled import convert_mace

CLASSES = {
    r"interactions\.0": "blocks.{interaction_cls_first}",
    r"interactions\.\d+": "blocks.{interaction_cls}",
    r"products\.\d+": "blocks.EquivariantProductBasisBlock",
    r"products\.\d+\.symmetric_contractions\.contractions\.\d+": "symmetric_contraction.Contraction",
    r"readouts\.\d+": "blocks.LinearReadoutBlock",
    r"radial_embedding": "blocks.RadialEmbeddingBlock",
    r"radial_embedding\.bessel_fn": "radial.BesselBasis",
    r"radial_embedding\.distance_transform": "radial.AgnesiTransform",
    r"": "models.ScaleShiftMACE",
}


@pytest.fixture(autouse=True)
def _mace_is_not_there() -> Iterator[None]:
    """Stand-in modules live while a file is written, not while it is read."""
    yield
    assert not [name for name in sys.modules if name.split(".")[0] == "mace"]


def _class(path: str, names: dict[str, Any]) -> type:
    for pattern, where in CLASSES.items():
        if re.fullmatch(pattern, path):
            module, name = where.format(**names).split(".")
            module = f"mace.modules.{module}"
            home = sys.modules.setdefault(module, types.ModuleType(module))
            if not hasattr(home, name):
                setattr(home, name, type(name, (torch.nn.Module,), {"__module__": module}))
            return getattr(home, name)  # type: ignore[no-any-return]
    return torch.nn.Module


def write(path: Path, case: str, **changes: Any) -> dict[str, Any]:
    """A file of a case of the parity tests; ``changes`` replace class names or attributes."""
    with np.load(GOLDEN / "mace" / f"{case}.npz") as file:
        answers = {key: file[key] for key in file.files}
    settings = json.loads(str(answers["settings"]))
    shapes = {key: tuple(shape) for key, shape in json.loads(str(answers["shapes"])).items()}
    tensors = {k: torch.as_tensor(v) for k, v in draw_weights(shapes, case_seed(case)).items()}
    tensors |= {
        k.removeprefix("constant:"): torch.as_tensor(v) for k, v in answers.items() if "constant:" in k
    }
    n_heads = len(settings["heads"])
    tensors |= {
        "scale_shift.scale": torch.full((n_heads,), float(answers["factor"]), dtype=torch.float64),
        "scale_shift.shift": torch.zeros(n_heads),
        "atomic_numbers": torch.tensor(settings["atomic_numbers"]),
        "r_max": torch.tensor(settings["r_max"]),
        "radial_embedding.cutoff_fn.p": torch.tensor(settings["num_polynomial_cutoff"]),
        "spherical_harmonics.unused": torch.zeros(0),
        **changes.pop("tensors", {}),
    }
    try:
        root = _tree(tensors, {**settings, **changes})
        _describe(root, settings, changes)
        torch.save(root, path)
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "mace"]:
            del sys.modules[name]
    return answers


def _tree(tensors: dict[str, torch.Tensor], names: dict[str, Any]) -> Any:
    """Nested modules that hold tensors by their dotted names."""
    root = _class("", names)()
    for name, tensor in tensors.items():
        module, path = root, ""
        *parts, leaf = name.split(".")
        for part in parts:
            path = f"{path}.{part}".lstrip(".")
            if part not in module._modules:
                module.add_module(part, _class(path, names)())
            module = module._modules[part]
        module.register_buffer(leaf, tensor)
    return root


def _describe(root: Any, settings: dict[str, Any], changes: dict[str, Any]) -> None:
    """What mace-torch's modules remember of their arguments."""
    hidden = o3.Irreps(settings["hidden_irreps"])
    scalars = o3.Irreps([(hidden.count("0e"), (0, 1))])
    root.heads = settings["heads"]
    root.radial_embedding.out_dim = settings["num_bessel"]
    for i, block in enumerate(root.interactions._modules.values()):
        block.node_feats_irreps = scalars if i == 0 else hidden
        block.edge_attrs_irreps = o3.Irreps.spherical_harmonics(settings["max_ell"])
        block.hidden_irreps = hidden if i < settings["num_interactions"] - 1 else str(hidden[0])
        block.avg_num_neighbors = settings["avg_num_neighbors"]
        block.radial_MLP = settings["radial_MLP"]
        block.cueq_config = changes.get("cueq_config")
    for block in root.products._modules.values():
        for contraction in block.symmetric_contractions.contractions._modules.values():
            contraction.correlation = settings["correlation"]
    last = list(root.readouts._modules.values())[-1]
    width = o3.Irreps(f"{16 * len(settings['heads'])}x0e")
    last.hidden_irreps = width
    last.non_linearity = e3nn_nn.Activation(width, [torch.nn.functional.silu])
    home = sys.modules["mace.modules.blocks"]
    home.NonLinearReadoutBlock = type(  # type: ignore[attr-defined]
        changes.get("readout", "NonLinearReadoutBlock"), (torch.nn.Module,), {"__module__": home.__name__}
    )
    setattr(home, home.NonLinearReadoutBlock.__name__, home.NonLinearReadoutBlock)
    last.__class__ = home.NonLinearReadoutBlock


@pytest.mark.parametrize("case", ["off23-small", "mp-0-small"])
def test_a_converted_file_answers_as_mace_torch_does(case: str, tmp_path: Path) -> None:
    answers = write(tmp_path / "m.model", case)
    main(["convert", "mace", str(tmp_path / "m.model"), "--to", str(tmp_path / "m.safetensors"), "--quiet"])
    model: Any = load_model(tmp_path / "m.safetensors", "float64")
    elements = list(model.config.elements)
    atoms = structures(elements, case_seed(case))[1]
    found = model.predict(build_graph(atoms, model.config.cutoff))
    free = sum(model.references()[z] for z in atoms.numbers)
    assert float(found.energy) - free == pytest.approx(answers["energy:default"][1], abs=1e-9 * len(atoms))
    start = len(structures(elements, case_seed(case))[0])
    np.testing.assert_allclose(
        found.forces, answers["forces:default"][start : start + len(atoms)], rtol=0, atol=1e-8
    )


def test_several_heads_are_listed_and_one_must_be_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = write(tmp_path / "m.model", "two-heads")
    command = ["convert", "mace", str(tmp_path / "m.model"), "--to", str(tmp_path / "m.safetensors")]
    assert main(command) == 2
    assert "has the heads pbe, r2scan: say with --head" in capsys.readouterr().err
    assert not (tmp_path / "m.safetensors").exists()
    assert main([*command, "--head", "default"]) == 2
    assert "no head 'default': it has pbe, r2scan" in capsys.readouterr().err
    assert main([*command, "--head", "r2scan", "--quiet"]) == 0
    model: Any = load_model(tmp_path / "m.safetensors", "float64")
    assert model.config.heads == ("pbe", "r2scan")
    atoms = structures(list(model.config.elements), case_seed("two-heads"))[0]
    found = model.predict(build_graph(atoms, model.config.cutoff))
    free = sum(model.references()[z] for z in atoms.numbers)
    assert float(found.energy) - free == pytest.approx(answers["energy:r2scan"][0], abs=1e-8)


def test_a_file_given_as_a_model_names_the_command(tmp_path: Path) -> None:
    write(tmp_path / "m.model", "two-heads")
    with pytest.raises(CheckpointError, match="atomml convert mace"):
        load_model(tmp_path / "m.model")


def test_a_coupling_table_in_another_basis_changes_nothing(tmp_path: Path) -> None:
    """A file whose paths are mixed, and whose weights are unmixed, is the same model."""
    from atomml.potentials.mace.couplings import coupling

    case, at = "off23-small", "products.0.symmetric_contractions.contractions.0."
    answers = write(tmp_path / "m.model", case)
    settings = json.loads(str(answers["settings"]))
    shapes = {key: tuple(shape) for key, shape in json.loads(str(answers["shapes"])).items()}
    weights = torch.as_tensor(draw_weights(shapes, case_seed(case))[f"{at}weights.0"])
    ours = coupling(tuple((degree, (-1) ** degree) for degree in range(4)), (0, 1), 2)
    table = torch.zeros(16, 16, ours.n_paths, dtype=torch.float64)
    table[ours.factors[:, 0], ours.factors[:, 1]] = ours.coefficients[:, :, 0]
    mixing = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixed = {f"{at}U_matrix_2": table @ mixing, f"{at}weights.0": torch.linalg.inv(mixing) @ weights}
    write(tmp_path / "mixed.model", case, tensors=mixed)
    atoms = structures(settings["atomic_numbers"], case_seed(case))[1]
    graph = build_graph(atoms, settings["r_max"])
    one, other = (
        float(convert_mace(tmp_path / name).predict(graph).energy) for name in ("m.model", "mixed.model")
    )
    assert other == pytest.approx(one, abs=1e-9)
    foreign = {f"{at}U_matrix_2": torch.ones(16, 16, 4, dtype=torch.float64)}
    write(tmp_path / "foreign.model", case, tensors=foreign)
    with pytest.raises(ModelError, match="coupling table"):
        convert_mace(tmp_path / "foreign.model")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"interaction_cls": "RealAgnosticAttResidualInteractionBlock"}, "AttResidualInteractionBlock"),
        ({"readout": "NonLinearDipoleReadoutBlock"}, "NonLinearDipoleReadoutBlock"),
        ({"cueq_config": {"enabled": True}}, "mace_cueq_to_e3nn"),
        ({"tensors": {"joint_embedding.weight": torch.zeros(1)}}, "joint_embedding"),
        ({"tensors": {"readouts.1.linear_2.weight": torch.zeros(3)}}, "has? 3 entries where"),
    ],
    ids=["attention", "dipoles", "cuequivariance", "charges", "wrong size"],
)
def test_what_cannot_be_represented_is_refused_by_name(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    write(tmp_path / "m.model", "off23-small", **changes)
    with pytest.raises(ModelError, match=sentence.replace("has? ", "have ")):
        convert_mace(tmp_path / "m.model")


def test_other_models_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLASSES, "", "extensions.PolarMACE")
    write(tmp_path / "polar.model", "off23-small")
    with pytest.raises(ModelError, match="is a PolarMACE, which cannot be represented here"):
        convert_mace(tmp_path / "polar.model")
    torch.save({"epoch": 3, "state": torch.zeros(2)}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=r"no model of mace-torch, but a dictionary \(epoch, state"):
        convert_mace(tmp_path / "state.pt")
