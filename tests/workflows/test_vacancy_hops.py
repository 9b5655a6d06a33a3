"""The hop of a neighbour into a vacancy: which atom, between which ends, and the barrier by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from atomml.cli.main import main
from atomml.data.symmetry import unique_sites
from atomml.workflows import vacancy
from atomml.workflows.defects.defect_cells import supercell
from atomml.workflows.defects.vacancy_hops import hop_ends, nearest_equivalent


def cell_of(atoms: Atoms, n: int) -> Atoms:
    return supercell(atoms, n * np.eye(3, dtype=int))


def test_the_nearest_equivalent_atom_is_of_the_same_site() -> None:
    """In rock salt the nearest neighbour is of the other kind; the hop is along the fcc lattice, a/√2."""
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    cell = cell_of(salt, 2)
    for site in unique_sites(salt, 0.01):
        found = nearest_equivalent(cell, site, len(salt))
        assert found is not None
        atom, distance = found
        assert cell.symbols[atom] == site.element
        assert distance == pytest.approx(5.64 / np.sqrt(2))
    copper = bulk("Cu", "fcc", a=3.6)
    assert nearest_equivalent(copper, unique_sites(copper, 0.01)[0], 1) is None


def test_the_ends_differ_by_one_atom_that_goes_the_short_way() -> None:
    """Across the boundary too: the atom that hops ends one step away, not a cell away."""
    copper = bulk("Cu", "fcc", a=3.6, cubic=True)
    cell = cell_of(copper, 2)
    place = 0
    vacant = cell.copy()
    del vacant[place]
    for hopper in range(1, len(cell)):
        if cell.get_distance(place, hopper, mic=True) > 2.6:
            continue
        start, end = hop_ends(cell, vacant, place, hopper)
        moves = np.linalg.norm(end.positions - start.positions, axis=1)
        assert list(np.flatnonzero(moves > 1e-9)) == [hopper - 1]  # without the atom that is gone
        assert moves[hopper - 1] == pytest.approx(3.6 / np.sqrt(2))
        whole = end.positions[hopper - 1] - cell.positions[place]
        shifts = np.linalg.solve(cell.cell.array.T, whole)
        assert np.allclose(shifts, np.rint(shifts), atol=1e-9)


def test_the_barrier_is_that_of_the_saddle_which_symmetry_knows() -> None:
    """Half way the atom sits between two vacant sites: relaxed there with itself held, it is the saddle.

    The forces of 0.03 eV/Å across a path whose curvature is some 3 eV/Å² leave 2e-4 eV.
    """
    from ase.constraints import FixAtoms
    from ase.optimize import BFGS

    copper = bulk("Cu", "fcc", a=3.59, cubic=True)
    found = vacancy(copper, EMT(), min_length=7, start="given", neb="nearest", neb_images=3)
    assert found.migration_barrier is not None
    (row,) = found.barriers
    assert row["converged"]
    assert row["hop_distance_A"] == found.hop_distance == pytest.approx(3.59 / np.sqrt(2))
    assert row["barrier_eV"] == pytest.approx(row["reverse_barrier_eV"], abs=2e-3)
    cell = cell_of(copper, 2)
    nearest = nearest_equivalent(cell, unique_sites(copper, 0.01)[0], 4)
    assert nearest is not None
    hopper = nearest[0]
    saddle = cell.copy()
    saddle.positions[hopper] += cell.get_distance(hopper, 0, mic=True, vector=True) / 2
    saddle.set_constraint(FixAtoms([hopper - 1]))
    del saddle[0]
    saddle.set_constraint(FixAtoms([hopper - 1]))
    vacant = found.structures[len(cell)][1].copy()
    energies = []
    for atoms in (saddle, vacant):
        atoms.calc = EMT()
        BFGS(atoms, logfile=None).run(fmax=0.01)
        energies.append(atoms.get_potential_energy())
    assert found.migration_barrier == pytest.approx(energies[0] - energies[1], abs=3e-3)
    assert 0.3 < found.migration_barrier < 0.8


def test_the_command_draws_the_hop_and_keeps_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bulk("Cu", "fcc", a=3.6).write("cu.cif")
    words = ["vacancy", "cu.cif", "--model", "ase:ase.calculators.emt:EMT", "--min-length", "6"]
    words += ["--neb", "nearest", "--neb-images", "1", "--out", "run", "--quiet"]
    assert main(words) in (0, 3)  # three points may not follow the forces well enough
    (row,) = csv.DictReader(Path("run/barriers.csv").read_text().splitlines())
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["results"]["migration_barrier_eV"] == float(row["barrier_eV"])
    assert Path("run/neb/v_Cu/path.extxyz").exists()
    page = Path("run/report.html").read_text()
    assert "Energy along the hops" in page
    assert "Barriers" in page
    before = Path("run/barriers.csv").read_bytes()
    path = Path("run/neb/v_Cu/summary.json").read_bytes()
    assert main([*words, "--resume"]) in (0, 3)
    assert Path("run/barriers.csv").read_bytes() == before
    assert Path("run/neb/v_Cu/summary.json").read_bytes() == path  # not found twice


def test_a_barrier_and_another_potential_may_be_asked_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come after the relaxations, which stay as they are; another supercell is another run."""
    monkeypatch.chdir(tmp_path)
    bulk("Cu", "fcc", a=3.6).write("cu.cif")
    words = ["vacancy", "cu.cif", "--model", "ase:ase.calculators.emt:EMT", "--out", "run", "--quiet"]
    assert main([*words, "--min-length", "6"]) == 0
    first = json.loads(Path("run/summary.json").read_text())["results"]
    (relaxed,) = Path("run/defects").glob("*/summary.json")
    before = relaxed.read_bytes()
    assert main([*words, "--min-length", "6", "--resume", "--mu", "Cu=-1"]) == 0
    second = json.loads(Path("run/summary.json").read_text())["results"]
    change = second["vacancy_formation_energy_eV"] - first["vacancy_formation_energy_eV"]
    assert change == pytest.approx(-1 - first["chemical_potentials"][0]["mu_eV"], abs=1e-9)
    assert relaxed.read_bytes() == before
    assert main([*words, "--min-length", "8", "--resume"]) == 2


def test_a_folder_with_another_structures_relaxation_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file behind ``--phases`` was replaced between two runs: its old energy must not pass for the new."""
    from atomml.errors import OptionError
    from atomml.workflows import formation

    monkeypatch.chdir(tmp_path)
    bulk("Cu", "fcc", a=3.6).write("rival.extxyz")
    settings = {"phases": ("rival.extxyz",), "out": "run"}
    formation(bulk("Cu", "hcp", a=2.55, c=4.16), EMT(), **settings)
    for other in (bulk("Cu", "bcc", a=2.87), bulk("Cu", "fcc", a=3.6, cubic=True), bulk("Ag")):
        other.write("rival.extxyz")
        with pytest.raises(OptionError, match="another structure"):
            formation(bulk("Cu", "hcp", a=2.55, c=4.16), EMT(), resume=True, **settings)
