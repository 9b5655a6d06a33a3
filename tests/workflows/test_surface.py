"""Surface energies with closed answers: broken bonds, sums over a lattice, polar and unlike sides."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.neighborlist import neighbor_list
from interrupted import Interrupted

from atomml.cli.main import main
from atomml.errors import OptionError
from atomml.workflows import surface
from atomml.workflows.crystals.slabs import conventional, planes_of, terminations
from atomml.workflows.crystals.surface_measurement import _plane

JOULES = 16.02176634
EPSILON, SIGMA, NEAR, FAR = 0.0104, 3.4, 6.8, 8.5
SMOOTH = LennardJones(epsilon=EPSILON, sigma=SIGMA, rc=FAR, ro=NEAR, smooth=True)
CLAMPED: dict[str, Any] = {"start": "given", "relax": "none"}


class Bonds(Calculator):  # type: ignore[misc]
    """Every pair within 3 Å is a bond of -1 eV; unlike atoms only, if ``unlike``."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, unlike: bool = False) -> None:
        super().__init__()
        self.unlike = unlike

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        i, j = neighbor_list("ij", self.atoms, 3.0)
        numbers = self.atoms.numbers
        bonds = int((numbers[i] != numbers[j]).sum()) if self.unlike else len(i)
        forces = np.zeros((len(self.atoms), 3))
        self.results = {"energy": -bonds / 2, "forces": forces, "stress": np.zeros(6)}


def by_plane(found: Any) -> dict[str, dict[str, Any]]:
    return {row["miller"]: row for row in found.surfaces}


def test_a_crystal_of_bonds_costs_half_of_each_bond_that_is_cut() -> None:
    """fcc: 4 bonds on a²/2 at (100), 3 on √3a²/4 at (111), 6 on a²/√2 at (110), second layer included."""
    a = 3.6
    found = surface(bulk("Cu", "fcc", a=a), Bonds(), **CLAMPED)
    expected = {"(100)": 4 / 2 / (a**2 / 2), "(111)": 3 / 2 / (np.sqrt(3) * a**2 / 4)}
    expected["(110)"] = 6 / 2 / (a**2 / np.sqrt(2))
    rows = by_plane(found)
    assert set(rows) == set(expected)
    for plane, energy in expected.items():
        assert rows[plane]["surface_energy_J_per_m2"] == pytest.approx(energy * JOULES, rel=1e-9)
        assert rows[plane]["change_with_thickness_J_per_m2"] == pytest.approx(0, abs=1e-9)
        assert rows[plane]["symmetric"]
        assert not rows[plane]["polar"]
    assert found.lowest_surface == "(111) 1"
    assert found.bulk_energy_per_atom == pytest.approx(-6)
    assert found.warnings == []


def test_the_wulff_shape_of_bonds_is_a_truncated_octahedron() -> None:
    """γ100 / γ111 = 2/√3: a (111) octahedron of height h cut at 2h/√3 < √3 h; (110) just misses it."""
    found = surface(bulk("Cu", "fcc", a=3.6), Bonds(), thickness=(6.0,), **CLAMPED)
    shares = {row["miller"]: row["wulff_area_percent"] for row in found.surfaces}
    # Edges t of the squares: the octahedron |x|+|y|+|z| <= √3 h of edge √6 h, cut at x = 2h/√3.
    edge = np.sqrt(2) * (np.sqrt(3) - 2 / np.sqrt(3))
    squares = 6 * edge**2
    hexagons = 8 * (np.sqrt(3) / 4) * (6 - 3 * edge**2)
    assert shares["(100)"] == pytest.approx(100 * squares / (squares + hexagons), rel=1e-3)
    assert shares["(111)"] == pytest.approx(100 * hexagons / (squares + hexagons), rel=1e-3)
    assert shares["(110)"] == pytest.approx(0, abs=1e-6)
    lowest, highest = (f(row["surface_energy_J_per_m2"] for row in found.surfaces) for f in (min, max))
    assert lowest < found.mean_surface_energy < highest


def lj(r: Any) -> Any:
    """The pair energy with ASE's smooth cutoff, written out."""
    x, u = (SIGMA / r) ** 6, r**2
    far = (FAR**2 - u) ** 2 * (FAR**2 + 2 * u - 3 * NEAR**2) / (FAR**2 - NEAR**2) ** 3
    return np.where(r < FAR, 4 * EPSILON * (x**2 - x) * np.where(r < NEAR, 1.0, far), 0.0)


def cut_energy(a: float, plane: Any) -> float:
    """Pairs across a plane of fcc, eV/Å²: ``-1/2 Σ ρ (R·n) v(R)`` over all R with ``R·n > 0``.

    A pair ``R`` crosses the plane from a layer of height ``R·n``, of which ``ρ R·n`` atoms lie on a unit
    of area; two surfaces share the cost.
    """
    n = np.arange(-5, 6)
    grid = np.stack(np.meshgrid(n, n, n, indexing="ij"), -1).reshape(-1, 3)
    points = grid[grid.sum(axis=1) % 2 == 0] * a / 2
    heights = points @ (np.array(plane) / np.linalg.norm(plane))
    up = points[heights > 1e-9]
    return float(-0.5 * (4 / a**3 * heights[heights > 1e-9] * lj(np.linalg.norm(up, axis=1))).sum())


@pytest.mark.parametrize(("max_index", "n"), [(1, 3), pytest.param(2, 6, marks=pytest.mark.slow)])
def test_lennard_jones_surfaces_are_sums_over_the_lattice(max_index: int, n: int) -> None:
    """Exact once a slab is thicker than the cutoff of 8.5 Å; all planes up to the index."""
    a = 5.25
    crystal = bulk("Ar", "fcc", a=a)
    found = surface(crystal, SMOOTH, max_index=max_index, thickness=(9.0, 14.0), vacuum=12.0, **CLAMPED)
    rows = by_plane(found)
    assert len(rows) == found.n_surfaces == n  # 100 110 111, and 210 211 221: (200) is (100)
    for row in rows.values():
        expected = cut_energy(a, _plane(row["miller"])) * JOULES
        assert row["surface_energy_J_per_m2"] == pytest.approx(expected, rel=1e-6)
        # None where one cell of the orientation is thicker than both thicknesses asked for
        assert (row["change_with_thickness_J_per_m2"] or 0.0) == pytest.approx(0, abs=1e-9)
    shares = [row["wulff_area_percent"] for row in found.surfaces]
    assert sum(shares) == pytest.approx(100)
    assert shares[0] == max(shares)


def test_relaxation_lowers_the_energy_and_a_held_middle_less() -> None:
    settings: dict[str, Any] = {"miller": (1, 1, 0), "thickness": (7.0,), "fmax": 1e-3}
    free = surface(bulk("Cu", "fcc", a=3.6), EMT(), **settings)
    held = surface(bulk("Cu", "fcc", a=3.6), EMT(), fix_middle=True, **settings)
    (row,), (other,) = free.surfaces, held.surfaces
    assert row["surface_energy_J_per_m2"] < row["unrelaxed_energy_J_per_m2"] - 1e-3
    assert row["unrelaxed_energy_J_per_m2"] == pytest.approx(other["unrelaxed_energy_J_per_m2"], abs=1e-6)
    assert row["surface_energy_J_per_m2"] <= other["surface_energy_J_per_m2"] + 1e-4
    (slab,) = held.slabs
    height = slab.positions[:, 2]
    middle = abs(height - height.mean()) < np.ptp(height) / 6
    (start,) = surface(bulk("Cu", "fcc", a=3.6), EMT(), **(settings | {"relax": "none"})).slabs
    assert np.abs(slab.positions - start.positions)[middle].max() < 1e-9
    assert np.abs(slab.positions - start.positions)[~middle].max() > 1e-3


def test_the_bulk_of_the_same_orientation_makes_it_converge_and_the_slope_agrees() -> None:
    """The slope of the energies over the atoms is the bulk's; a wrong reference would grow with thickness."""
    found = surface(bulk("Ar", "fcc", a=5.25), SMOOTH, miller=(1, 1, 1), thickness=(10, 16, 22), **CLAMPED)
    (row,) = found.surfaces
    assert row["bulk_mismatch_meV_per_atom"] == pytest.approx(0, abs=1e-6)


def test_polar_surfaces_are_named_and_the_energy_is_the_mean_of_both_sides() -> None:
    """MgO (111): 3 of 6 bonds cut on each side, an atom on √3a²/4; (100) is neither polar nor unlike."""
    a = 4.2
    found = surface(bulk("MgO", "rocksalt", a=a), Bonds(unlike=True), thickness=(6.0,), **CLAMPED)
    rows = by_plane(found)
    assert rows["(111)"]["polar"]
    assert not rows["(111)"]["symmetric"]
    assert set(rows["(111)"]["termination"].split(" | ")) == {"Mg", "O"}
    assert rows["(111)"]["surface_energy_J_per_m2"] == pytest.approx(3 / 2 / (np.sqrt(3) * a**2 / 4) * JOULES)
    assert "mean of two unlike sides" in rows["(111)"]["note"]
    assert rows["(100)"]["surface_energy_J_per_m2"] == pytest.approx(1 / 2 / (a**2 / 4) * JOULES)
    assert not rows["(100)"]["polar"]
    assert rows["(100)"]["symmetric"]
    assert any("Polar: (111) 1" in warning for warning in found.warnings)


def test_slabs_of_broken_formula_units_get_no_energy() -> None:
    found = surface(
        bulk("MgO", "rocksalt", a=4.2), Bonds(unlike=True), thickness=(6.0,), symmetrize=True, **CLAMPED
    )
    cut = [row for row in found.surfaces if not row["stoichiometric"]]
    assert {row["miller"] for row in cut} == {"(111)"}
    assert all(row["surface_energy_J_per_m2"] is None and row["symmetric"] for row in cut)
    assert all("chemical potential" in row["note"] for row in cut)
    assert found.n_without_energy == len(cut)
    assert found.mean_surface_energy is None  # no shape without all its faces
    assert any("Not whole formula units" in warning for warning in found.warnings)


def test_every_termination_of_a_plane_is_found() -> None:
    """Diamond (111) is cut between double layers (one bond an atom) or within one (three)."""
    crystal = conventional(bulk("Si", "diamond", a=5.43), 0.01)
    found = list(terminations(crystal, (1, 1, 1), (10.0,), 12.0, symmetrize=False))
    assert len(found) == 2
    assert [cut.name for cut in found] == ["(111) 1", "(111) 2"]
    energies = surface(bulk("Si", "diamond", a=5.43), Bonds(), miller=(1, 1, 1), thickness=(8.0,), **CLAMPED)
    area = np.sqrt(3) * 5.43**2 / 4
    values = [row["surface_energy_J_per_m2"] for row in energies.surfaces]
    assert values == pytest.approx([0.5 / area * JOULES, 1.5 / area * JOULES], rel=1e-6)
    assert planes_of(crystal, 1, None) == [(1, 0, 0), (1, 1, 0), (1, 1, 1)]


def test_a_slab_that_has_not_converged_or_falls_apart_is_said() -> None:
    thin = surface(
        bulk("Ar", "fcc", a=5.25), SMOOTH, miller=(1, 0, 0), thickness=(3, 6), tolerance=1e-5, **CLAMPED
    )
    assert any("still changes by" in warning for warning in thin.warnings)
    squeezed = surface(bulk("Ar", "fcc", a=4.2), SMOOTH, miller=(1, 0, 0), thickness=(6,), **CLAMPED)
    assert any("below 0" in warning for warning in squeezed.warnings)


class Stops(Interrupted, EMT):  # type: ignore[misc]
    """Copper that is interrupted once it has answered so many times, and counts its answers."""


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_next_slab(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"miller": (1, 1, 0), "thickness": (5.0, 8.0), "start": "given", "fmax": 1e-3}
    crystal = bulk("Cu", "fcc", a=3.6)
    whole = surface(crystal, Stops(), out="whole", **settings)
    asked = Stops.answers
    monkeypatch.setattr(Stops, "left", asked - 3)
    with pytest.raises(KeyboardInterrupt):
        surface(crystal, Stops(), out="part", **settings)
    monkeypatch.setattr(Stops, "left", 1 << 30)
    Stops.answers = 0
    part = surface(crystal, Stops(), out="part", resume=True, **settings)
    assert Stops.answers < asked
    assert part.lowest_surface_energy == pytest.approx(whole.lowest_surface_energy, abs=1e-12)
    tables = [
        list(csv.DictReader(Path(name, "thickness.csv").read_text().splitlines()))
        for name in ("part", "whole")
    ]
    for one, other in zip(*tables, strict=True):  # ASE's EMT sums in the order of its neighbour list
        assert float(one["energy_eV"]) == pytest.approx(float(other["energy_eV"]), abs=1e-9)


def test_the_folder_holds_what_the_contract_says(here: Path) -> None:
    bulk("Cu", "fcc", a=3.58).write("cu1.extxyz")
    words = ["surface", "cu1.extxyz", "--thickness", "4,6", "--vacuum", "8", "--relax", "none", "--quiet"]
    assert main([*words, "--start", "given", "--out", "run"]) == 0  # CHGNet
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["units"]["lowest_surface_energy_J_per_m2"] == "J/m^2"
    assert 0.5 < summary["results"]["lowest_surface_energy_J_per_m2"] < 2.5  # copper: 1.3 to 1.8
    rows = list(csv.DictReader(Path("run/thickness.csv").read_text().splitlines()))
    assert len({row["surface"] for row in rows}) == 3
    page = Path("run/report.html").read_text()
    for title in ("Surface energies", "Faces of the Wulff shape", "Convergence with thickness", "Slabs"):
        assert title in page
    assert main(["report", "run", "--quiet"]) == 0
    assert Path("run/report.html").read_text() == page


def test_wrong_options_are_refused() -> None:
    copper = bulk("Cu", "fcc", a=3.6)
    for wrong in ({"miller": (0, 0, 0)}, {"thickness": (10.0, 5.0)}, {"max_atoms": 1}, {"max_index": 9}):
        with pytest.raises(OptionError):
            surface(copper, Bonds(), **(CLAMPED | wrong))


@pytest.mark.parametrize(
    ("text", "plane"), [("(110)", (1, 1, 0)), ("(1-10)", (1, -1, 0)), ("(-2-31)", (-2, -3, 1))]
)
def test_planes_are_read_back_from_their_names(text: str, plane: Any) -> None:
    assert _plane(text) == plane
