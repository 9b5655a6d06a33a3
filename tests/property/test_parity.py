"""CGCNN and ALIGNN answer what their public codes answer for the same weights; descriptors those of matminer.

The answers come from ``tests/golden/cgcnn_reference.py`` and ``alignn_reference.py``, run in environments of
their own. Both sides are float64; CGCNN's structures went through CIF files of 14 digits.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atomml.potentials.alignn import ALIGNN
from atomml.potentials.cgcnn import CGCNN
from atomml.property.describer import Describer
from atomml.property.element_bins import element_bins
from atomml.property.folding import FoldedGraph, join_folded
from atomml.property.nearest import nearest_graph, shell_weights
from atomml.property.property_model import PropertyBatch, PropertyModel, join_inputs
from atomml.property.targets import Target

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
from property_cases import NETWORKS, draw_inputs, draw_weights, structures  # noqa: E402

ALL = list(range(1, 101))
SAME = 1e-6


def answer(model: PropertyModel, names: list[str]) -> torch.Tensor:
    cases = structures()
    return model.outputs(join_inputs([model.input_of(cases[name]) for name in names])).raw.detach()


def fill(model: PropertyModel, seed: int, rename: Any = lambda name: name) -> PropertyModel:
    state = {k: v for k, v in model.state_dict().items() if k not in ("inputs", "centres")}
    state = {rename(k): v for k, v in state.items() if "num_batches" not in k}
    for name, values in draw_weights({k: tuple(v.shape) for k, v in state.items()}, seed).items():
        state[name].copy_(torch.as_tensor(values))
    model.get_buffer("inputs").copy_(torch.as_tensor(draw_inputs()))
    return model.eval()


@pytest.mark.parametrize("name", list(NETWORKS))
def test_cgcnn_is_the_public_one(name: str) -> None:
    golden = json.loads((GOLDEN / "property" / "cgcnn.json").read_text())
    target = Target("x", classes=("a", "b") if name == "classes" else ())
    model = CGCNN.fresh("m", ALL, {**NETWORKS[name], "targets": [target]}).double()
    found = answer(fill(model, list(NETWORKS).index(name)), golden["structures"])
    found = torch.log_softmax(found, 1) if name == "classes" else found
    expected = torch.tensor(golden["random"][name])
    assert (found - expected).abs().max() < SAME
    assert expected.std() > 0.1  # they differ from structure to structure


@pytest.mark.parametrize("outputs", [1, 2])
def test_alignn_is_the_public_one(outputs: int) -> None:
    golden = json.loads((GOLDEN / "property" / "alignn.json").read_text())
    model = ALIGNN.fresh("m", ALL, {"targets": [Target(str(k)) for k in range(outputs)]}).double()

    def theirs(name: str) -> str:
        """How the public code calls a weight."""
        return name.replace(".linear.", ".layer.0.").replace(".norm.", ".layer.1.")

    found = answer(fill(model, outputs, theirs), golden["structures"])
    assert (found - torch.tensor(golden["random"][str(outputs)])).abs().max() < SAME


def whole(graph: Any, k: int | None) -> FoldedGraph:
    """The graph as it is, nothing folded; with angles where k is None."""
    c, n = graph.edge_index
    length = graph.edge_vectors().norm(dim=1)
    count = torch.ones(graph.n_edges, dtype=torch.float64)
    count = count if k is None else shell_weights(c, length, graph.n_atoms, k)
    used = torch.nonzero(count > 0)[:, 0]
    pairs = [(f, e) for e in range(graph.n_edges) for f in range(graph.n_edges) if c[f] == n[e]]
    if k is not None:
        pairs = []
    unit = graph.edge_vectors() / length[:, None]
    first = torch.tensor([f for f, _ in pairs], dtype=torch.int64)
    last = torch.tensor([e for _, e in pairs], dtype=torch.int64)
    cosine = (unit[first] * unit[graph.edge_reverse[last]]).sum(1).clamp(-1, 1)
    ones = torch.ones(graph.n_atoms, dtype=torch.float64)
    return FoldedGraph(
        graph.numbers, ones, graph.batch, 1, n[used], c[used], length[used], count[used],
        first, last, cosine, torch.ones(len(pairs), dtype=torch.float64),
    )  # fmt: skip


@pytest.mark.parametrize("family", ["cgcnn", "alignn"])
@pytest.mark.parametrize("learning", [False, True], ids=["answers", "gradients"])
def test_folded_graphs_give_what_whole_ones_give(family: str, learning: bool) -> None:
    """Answers, gradients, batch statistics; of a batch: the statistics of equal atoms alone are rounding."""
    kinds: dict[str, Any] = {"cgcnn": CGCNN, "alignn": ALIGNN}
    shape = {"channels": 12, "hidden": 12} if family == "cgcnn" else {"channels": 12, "embedding": 8}
    results = []
    for folded in (True, False):
        model = kinds[family].fresh("m", ALL, {"targets": [Target("x")], **shape}).double()
        fill(model, 5).train(learning)
        graphs = []
        for name in ("NaCl", "Si", "skewed"):
            atoms = structures()[name]
            graph = model.input_of(atoms).folded
            assert graph is not None
            if name != "skewed":
                assert len(graph.numbers) == len(set(atoms.numbers))
            k = 12 if family == "cgcnn" else None
            graphs.append(graph if folded else whole(nearest_graph(atoms, 12, 8.0), k))
        out = model.outputs(PropertyBatch(None, join_folded(graphs))).raw
        gradient = torch.autograd.grad(out.square().sum(), list(model.parameters()), allow_unused=True)
        kept = [out.detach(), *(g for g in gradient if g is not None)]
        kept += [b for n, b in model.named_buffers() if "running" in n] if learning else []
        results.append(kept)
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() <= 1e-8 * max(1.0, float(other.abs().max()))


def test_composition_and_symmetry_are_those_of_matminer() -> None:
    pytest.importorskip("matminer")
    describer = Describer.fresh(["magpie", "structure"])
    names = describer.names()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from matminer.featurizers.composition import ElementProperty
        from matminer.featurizers.structure.order import DensityFeatures, StructuralComplexity
        from matminer.featurizers.structure.symmetry import GlobalSymmetryFeatures
        from pymatgen.io.ase import AseAtomsAdaptor

        for atoms in structures().values():
            row = dict(zip(names, describer.row(atoms), strict=True))
            structure = AseAtomsAdaptor.get_structure(atoms)
            magpie = ElementProperty.from_preset("magpie").featurize(structure.composition)
            assert np.allclose(list(row.values())[:132], magpie, rtol=1e-12, equal_nan=True)
            density = DensityFeatures().featurize(structure)
            symmetry = GlobalSymmetryFeatures().featurize(structure)
            complexity = StructuralComplexity(symprec=0.01).featurize(structure)[0]
            found = [row[n] for n in ("density", "volume per atom", "packing fraction", "space group")]
            assert found == pytest.approx(
                [*map(float, density), symmetry[0]], rel=2e-4
            )  # their atomic masses
            assert row["structural complexity per atom"] == pytest.approx(float(complexity), abs=1e-12)
            assert bool(row["centrosymmetric"]) == symmetry[3]


def test_files_of_the_public_code_are_converted_without_running_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of the layout that its ``main.py`` writes, numpy's scalar of the best error included."""
    from atomml.cli.main import main
    from atomml.errors import CheckpointError, InputError
    from atomml.potentials.cgcnn.public_files import convert_cgcnn

    model = fill(CGCNN.fresh("m", ALL, {"targets": [Target("x")], "channels": 32, "hidden": 64}), 3)
    state = {k: v for k, v in model.state_dict().items() if k not in ("inputs", "centres")}
    arguments = {"atom_fea_len": 32, "n_conv": 3, "h_fea_len": 64, "n_h": 1, "task": "regression"}
    scale = {"mean": torch.tensor(-1.5), "std": torch.tensor(2.0)}
    file = {"epoch": 3, "state_dict": state, "best_mae_error": np.float64(0.1), "args": arguments}
    torch.save({**file, "normalizer": scale}, tmp_path / "gap.pth.tar")
    table = tmp_path / "atom_init.json"
    table.write_text(json.dumps({number: row.tolist() for number, row in enumerate(draw_inputs()) if number}))
    found = convert_cgcnn(tmp_path / "gap.pth.tar", table)
    atoms = structures()["skewed"]
    expected = model.outputs(join_inputs([model.input_of(atoms)])).raw * 2.0 - 1.5
    assert found.answer([found.inputs_of(atoms)]).learned[0] == pytest.approx(
        float(expected.detach()), abs=1e-5
    )
    assert found.targets[0].name == "gap"
    torch.save({**file, "normalizer": scale, "args": Path("x")}, tmp_path / "bad.pth.tar")
    with pytest.raises(CheckpointError, match=r"bad\.pth\.tar"):
        convert_cgcnn(tmp_path / "bad.pth.tar", table)
    table.write_text('{"1": [0, 1]}')
    with pytest.raises(InputError, match=r"atom_init\.json.*element 1"):
        convert_cgcnn(tmp_path / "gap.pth.tar", table)
    main(["convert", "cgcnn", str(tmp_path / "gap.pth.tar"), "--to", str(tmp_path / "m.safetensors")])
    assert "--elements" in capsys.readouterr().err


def test_the_bins_of_elements_follow_the_paper() -> None:
    """Silicon by hand.

    Group 14, period 3, electronegativity 1.90, radius 111 pm, four valence electrons, first ionisation energy
    8.15 eV, affinity 1.39 eV, a p element, 12.1 cm³/mol.
    """
    places = element_bins()[14].nonzero().flatten().tolist()
    assert places == [14, 21, 30, 39, 49, 61, 74, 79, 85]
    assert element_bins()[0].sum() == 0
