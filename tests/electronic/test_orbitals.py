"""The one place that knows PySCF's order of orbitals: matrices turn, and blocks are degrees and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

from atomml.electronic.matrices import PairIndex, all_pairs, assemble, blocks_of
from atomml.electronic.orbital_levels import molecule_of, shells_of_basis
from atomml.electronic.orbitals import block_layout, n_orbitals, orbital_order
from atomml.electronic.rotation import align, orbital_rotation, rotate_matrix
from atomml.errors import StructureError
from atomml.graph.batching import collate

pytest.importorskip("pyscf")


def turn(seed: int) -> Any:
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return rotation * np.sign(np.linalg.det(rotation))


MIRROR = np.diag([1.0, -1.0, 1.0])


@pytest.mark.parametrize("basis", ["sto-3g", "def2-svp", "def2-tzvp", "def2-qzvp"])
@pytest.mark.parametrize("rotation", [turn(0), -turn(1), MIRROR], ids=["turned", "inverted", "mirrored"])
def test_pyscf_s_overlap_kinetic_and_nuclear_matrices_turn(basis: str, rotation: Any) -> None:
    """Up to g shells (l = 4, def2-QZVP), under rotations, the inversion and a mirror."""
    atoms = molecule("CH3OH")
    turned = atoms.copy()
    turned.positions = atoms.positions @ rotation.T
    shells = [shells_of_basis(basis, int(z)) for z in atoms.numbers]
    if basis == "def2-qzvp":
        assert max(degree for own in shells for degree in own) == 4
    here, there = molecule_of(atoms, basis), molecule_of(turned, basis)
    for integral in ("int1e_ovlp", "int1e_kin", "int1e_nuc"):
        expected, matrix = there.intor(integral), here.intor(integral)
        size = np.abs(matrix).max()
        assert np.abs(rotate_matrix(matrix, shells, rotation) - expected).max() < 1e-12 * max(size, 1.0)


def test_orbitals_turn_by_an_orthogonal_matrix_that_multiplies() -> None:
    shells = [(0, 1, 2, 3), (0, 0, 1)]
    one, two = (orbital_rotation(shells, turn(seed)) for seed in (2, 3))
    np.testing.assert_allclose(one @ one.T, np.eye(len(one)), atol=1e-13)
    np.testing.assert_allclose(one @ two, orbital_rotation(shells, turn(2) @ turn(3)), atol=1e-12)


@pytest.mark.parametrize(
    ("first", "second"), [((0, 0, 1), (0, 0, 0, 1, 1, 2)), ((2, 1, 3), (1, 3)), ((4,), (4, 0))]
)
def test_blocks_are_as_many_coefficients_exactly(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    layout = block_layout(first, second)
    n = n_orbitals(first) * n_orbitals(second)
    assert layout.basis.shape == (n, n)
    identity = torch.eye(n, dtype=torch.float64)
    torch.testing.assert_close(layout.basis.T @ layout.basis, identity, rtol=0, atol=1e-13)


@pytest.mark.parametrize("rotation", [turn(4), -turn(5)], ids=["turned", "inverted"])
def test_coefficients_of_a_path_turn_among_themselves(rotation: Any) -> None:
    """Each path's coefficients turn as its degree and parity say, so nothing else may mix with them."""
    first, second = (0, 1, 2), (0, 1, 2)
    layout = block_layout(first, second)
    block = torch.from_numpy(np.random.default_rng(0).standard_normal((layout.rows, layout.columns)))
    one, two = (torch.from_numpy(orbital_rotation([shells], rotation)) for shells in (first, second))
    before = block.flatten() @ layout.basis
    after = (one @ block @ two.T).flatten() @ layout.basis
    for path, (degree, natural) in enumerate(zip(layout.degrees, layout.natural, strict=True)):
        own = slice(int(layout.start[path]), int(layout.start[path + 1]))
        wigner = torch.from_numpy(orbital_rotation([(degree,)], rotation))
        order = torch.from_numpy(orbital_order((degree,)))
        wigner = wigner[order][:, order] * (1.0 if natural else np.linalg.det(rotation))
        torch.testing.assert_close(after[own], wigner @ before[own], rtol=0, atol=1e-12)


def test_matrices_are_their_blocks_and_back_in_a_batch() -> None:
    molecules = [molecule(name) for name in ("CH3OH", "H2O", "H2")]
    shells = {z: shells_of_basis("def2-svp", z) for z in (1, 6, 8)}
    graph = collate([all_pairs(atoms) for atoms in molecules])
    matrices = []
    for seed, atoms in enumerate(molecules):
        n = sum(n_orbitals(shells[int(z)]) for z in atoms.numbers)
        half = np.random.default_rng(seed).standard_normal((n, n))
        matrices.append(torch.from_numpy(half + half.T))
    flat = torch.cat([matrix.flatten() for matrix in matrices])
    blocks = blocks_of(flat, graph, shells.__getitem__)
    for ours, theirs in zip(assemble(blocks, graph, shells.__getitem__), matrices, strict=True):
        assert torch.equal(ours, theirs)
    n_numbers = sum(times * part.numel() for part, times in blocks.entries())
    assert n_numbers == len(flat)


def test_pairs_know_their_reverse() -> None:
    graph = all_pairs(molecule("CH3OH"))
    centre, neighbour = graph.edge_index
    assert graph.n_edges == 6 * 5
    assert torch.equal(graph.edge_index[:, graph.edge_reverse], torch.stack([neighbour, centre]))
    index = PairIndex.of(graph)
    assert sum(len(edges) for edges in index.pairs.values()) == graph.n_edges
    assert all_pairs(molecule("CH3OH")[:1]).n_edges == 0


def test_crystals_have_no_such_graph() -> None:
    from ase.build import bulk

    with pytest.raises(StructureError, match="periodic"):
        all_pairs(bulk("Si"), "here")


def test_the_nearest_geometry_is_turned_onto_a_molecule() -> None:
    atoms = molecule("CH3OH")
    moved = atoms.positions @ turn(7).T + 3.0
    rotation, left = align(atoms.positions, moved)
    np.testing.assert_allclose(rotation, turn(7), atol=1e-12)
    assert left < 1e-12
