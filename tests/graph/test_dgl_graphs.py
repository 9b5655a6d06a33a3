"""To DGL and back nothing is lost, and what DGL does in between is right."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from atomml.errors import StructureError
from atomml.graph import AtomGraph, build_graph, collate
from atomml.graph.dgl import from_dgl, to_dgl
from atomml.kernels.compile import cache_folder

pytestmark = pytest.mark.skipif(find_spec("dgl") is None, reason="the extra dgl is not installed")

SameGraph = Callable[[AtomGraph, AtomGraph], None]


@pytest.fixture
def dgl() -> ModuleType:
    """DGL as our own code imports it: imported here, it could write into the home folder."""
    to_dgl(build_graph(Atoms("He"), 4.0))
    return sys.modules["dgl"]


@pytest.fixture
def graphs(oxide: Atoms) -> list[AtomGraph]:
    """A crystal, a charged radical, an atom without any edge, a cell smaller than the cutoff."""
    water = molecule("H2O")
    water.info.update(charge=1, spin=1)
    return [build_graph(atoms, 4.0, 2.7) for atoms in (oxide, water, Atoms("He"), bulk("Cu"))]


def test_there_and_back_is_the_same_graph(graphs: list[AtomGraph], assert_same: SameGraph) -> None:
    for graph in (*graphs, collate(graphs)):
        assert_same(from_dgl(to_dgl(graph)), graph)


def test_there_and_back_without_bonds(oxide: Atoms, assert_same: SameGraph) -> None:
    graph = build_graph([oxide, oxide], 4.0)
    assert_same(from_dgl(to_dgl(graph)), graph)


def test_dgl_batches_as_we_do(dgl: ModuleType, graphs: list[AtomGraph], assert_same: SameGraph) -> None:
    assert_same(from_dgl(dgl.batch([to_dgl(graph) for graph in graphs])), collate(graphs))
    parts = dgl.unbatch(to_dgl(collate(graphs)))
    for part, graph in zip(parts, graphs, strict=True):
        assert_same(from_dgl(part), graph)


def test_messages_go_from_neighbours_to_their_centre(dgl: ModuleType, graphs: list[AtomGraph]) -> None:
    graph = collate(graphs)
    there = to_dgl(graph)
    there.nodes["atom"].data["z"] = graph.numbers.double()
    there.update_all(dgl.function.copy_u("z", "message"), dgl.function.sum("message", "total"), etype="edge")
    centre, neighbour = graph.edge_index
    expected = torch.zeros(graph.n_atoms, dtype=torch.float64)
    expected.index_add_(0, centre, graph.numbers[neighbour].double())
    assert torch.equal(there.nodes["atom"].data["total"], expected)  # sums of integers are exact


def test_angles_sum_up_at_their_first_bond(dgl: ModuleType, graphs: list[AtomGraph]) -> None:
    graph = collate(graphs)
    assert graph.bond_graph is not None
    bonds = graph.bond_graph
    there = to_dgl(graph)
    there.nodes["bond"].data["edge"] = bonds.bonds.double()
    there.update_all(
        dgl.function.copy_u("edge", "message"), dgl.function.sum("message", "total"), etype="angle"
    )
    expected = torch.zeros(graph.n_edges, dtype=torch.float64)
    expected.index_add_(0, bonds.angle_index[0], bonds.angle_index[1].double())
    assert torch.equal(there.nodes["bond"].data["total"], expected[bonds.bonds])


def test_foreign_and_mixed_graphs_are_refused(dgl: ModuleType, oxide: Atoms) -> None:
    with pytest.raises(StructureError, match="made by to_dgl"):
        from_dgl(dgl.graph(([0, 1], [1, 0])))
    with pytest.raises(StructureError, match=r"different cutoffs: 4.0, 5.0"):
        from_dgl(dgl.batch([to_dgl(build_graph(oxide, 4.0)), to_dgl(build_graph(oxide, 5.0))]))


@pytest.mark.slow
def test_importing_dgl_leaves_the_home_folder_and_the_environment_alone(tmp_path: Path) -> None:
    """DGL without DGLBACKEND writes ``.dgl/config.json`` and prints; the variable must not stay either."""
    script = """
        import os
        from ase.build import bulk
        from atomml.graph import build_graph
        from atomml.graph.dgl import to_dgl
        to_dgl(build_graph(bulk("Cu"), 4.0))
        assert "DGLBACKEND" not in os.environ
    """
    environment = {k: v for k, v in os.environ.items() if k != "DGLBACKEND"}
    environment |= {"HOME": str(tmp_path), "ATOMML_CACHE": str(cache_folder().parent)}
    code = "\n".join(line.strip() for line in script.splitlines())
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    assert not (tmp_path / ".dgl").exists()
