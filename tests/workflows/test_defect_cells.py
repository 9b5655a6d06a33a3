"""Sites that symmetry tells apart, conventional cells, and supercells for defects."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal

from atomml.data.symmetry import conventional_cell, point_group, unique_sites
from atomml.workflows.crystals.phonon_measurement import repeats_for
from atomml.workflows.defects.defect_cells import face_distance, supercell, supercell_matrix


def rutile() -> Atoms:
    """TiO2, of W. H. Baur and A. A. Khan, Acta Cryst. B 27, 2133 (1971)."""
    cell = [4.594, 4.594, 2.959, 90, 90, 90]
    return crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=cell)


def plain(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def test_rutile_and_lithium_cobalt_oxide_have_the_sites_of_the_tables(root: Path) -> None:
    """Rutile: Ti 2a (m.mm), O 4f (m.2m). LiCoO2 (R-3m, hexagonal): metals 3a and 3b, O 6c."""
    from ase.io import read

    group = point_group(plain(rutile()), 0.01)
    assert (group.symbol, group.number) == ("P4_2/mnm", 136)
    sites = unique_sites(plain(rutile()), 0.01)
    assert [(site.label, site.symmetry) for site in sites] == [("Ti 2a", "m.mm"), ("O 4f", "m.2m")]
    assert [len(site.atoms) for site in sites] == [2, 4]
    layered = read(root / "examples" / "LiCoO2.cif")
    sites = unique_sites(layered, 0.01)
    assert {(site.element, site.multiplicity) for site in sites} == {("Li", 3), ("Co", 3), ("O", 6)}
    letters = {site.element: site.wyckoff for site in sites}
    assert {letters["Li"], letters["Co"]} == {"a", "b"}
    assert letters["O"] == "c"


def test_sites_do_not_depend_on_the_cell_that_is_given() -> None:
    sites = unique_sites(plain(rutile()).repeat((2, 1, 2)), 0.01)
    assert [site.label for site in sites] == ["Ti 2a", "O 4f"]
    assert [len(site.atoms) for site in sites] == [8, 16]


def test_the_conventional_cell_is_made_of_whole_vectors() -> None:
    primitive = bulk("Cu", "fcc", a=3.6)
    rows = conventional_cell(primitive, 0.01)
    assert rows is not None
    cell = rows @ primitive.cell.array
    assert np.allclose(cell @ cell.T, 3.6**2 * np.eye(3))
    assert conventional_cell(bulk("Cu", "fcc", a=3.6, cubic=True).repeat(2), 0.01) is None


@pytest.mark.parametrize(
    "atoms", [bulk("Cu", "fcc", a=3.6), bulk("Mg", "hcp", a=3.2, c=5.2), plain(rutile())], ids=str
)
@pytest.mark.parametrize("length", [7.0, 10.0])
def test_a_supercell_is_the_same_crystal_with_its_faces_apart(atoms: Atoms, length: float) -> None:
    matrix = supercell_matrix(atoms, length, 0.01)
    made = supercell(atoms, matrix)
    assert len(made) == len(atoms) * round(abs(np.linalg.det(matrix)))
    assert face_distance(made) >= length - 1e-6
    assert len(made) <= len(atoms) * math.prod(repeats_for(atoms.cell.array, length))
    shifts = np.linalg.solve(atoms.cell.array.T, (made.positions[: len(atoms)] - atoms.positions).T)
    assert np.allclose(shifts, np.rint(shifts), atol=1e-9)  # its first atoms are those of the cell
    assert list(made.symbols[: len(atoms)]) == list(atoms.symbols)
    assert made.cell.volume == pytest.approx(atoms.cell.volume * len(made) / len(atoms))
    around, lengths = neighbor_list("id", made, 3.4)
    once, distances = neighbor_list("id", atoms, 3.4)
    assert len(around) == len(once) * len(made) // len(atoms)
    assert lengths.min() == pytest.approx(distances.min())


def test_the_smallest_of_the_supercells_is_taken() -> None:
    """Copper at 7 Å: 2 x 2 x 2 cubes are 32 atoms, 4 x 4 x 4 primitive cells 64. A skew one needs no more."""
    primitive = bulk("Cu", "fcc", a=3.6)
    skew = primitive.copy()
    skew.set_cell(np.array([[1, 0, 0], [3, 1, 0], [0, -2, 1]]) @ primitive.cell.array)
    assert [len(supercell(atoms, supercell_matrix(atoms, 7, 0.01))) for atoms in (primitive, skew)] == [
        32,
        32,
    ]
