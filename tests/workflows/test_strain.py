"""Stress against strain with closed answers: compliances, work and energy, a plain sum over a lattice."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from interrupted import Interrupted
from scipy.optimize import minimize_scalar

from atomml.cli.main import main
from atomml.errors import ModelError, OptionError
from atomml.workflows import elastic, strain
from atomml.workflows.crystals.elastic_tensor import rotated, youngs_modulus
from atomml.workflows.crystals.strain_measurement import failure_of
from atomml.workflows.crystals.strained_cell import IDENTITY, StrainedCell, axes_along, gradient_parts

GPA = 160.21766208
EPSILON, SIGMA, NEAR, FAR = 0.0104, 3.4, 6.8, 8.5
SMOOTH = LennardJones(epsilon=EPSILON, sigma=SIGMA, rc=FAR, ro=NEAR, smooth=True)
TIGHT: dict[str, Any] = {"fmax": 1e-5, "smax": 1e-4}


def copper() -> Atoms:
    return bulk("Cu", "fcc", a=3.6, cubic=True)


@pytest.fixture(scope="module")
def tensor() -> Any:
    found = elastic(copper(), EMT(), **TIGHT)
    return np.array(found.elastic_tensor)


@pytest.mark.parametrize("direction", [(1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 0)])
def test_the_initial_slope_is_youngs_modulus_of_the_tensor(direction: Any, tensor: Any) -> None:
    """``1/S11`` in turned axes; strains of ±0.2 % leave an error of the second order, some 1e-4."""
    along = np.array(direction) / np.linalg.norm(direction)
    found = strain(copper(), EMT(), direction=direction, max_strain=0.01, **TIGHT)
    expected = float(youngs_modulus(tensor, along[None])[0])
    assert found.mode == "tension"
    assert found.youngs_modulus == pytest.approx(expected, rel=3e-3)
    turned = np.linalg.inv(rotated(tensor, np.array(found.axes)))
    poisson = [-turned[1, 0] / turned[0, 0], -turned[2, 0] / turned[0, 0]]
    assert found.poisson_ratios == pytest.approx(poisson, abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("direction", [(1, 0, 0), (1, 0, 1)])
def test_the_slope_is_that_of_relaxed_ions(direction: Any) -> None:
    """Hexagonal argon, two atoms that move when the cell is pulled aslant; [uvw] is of the hexagonal cell."""
    crystal = bulk("Ar", "hcp", a=3.7, c=6.1)
    reference = elastic(crystal, SMOOTH, strain=0.002, **TIGHT)
    assert reference.atoms is not None
    found = strain(reference.atoms, SMOOTH, direction=direction, start="given", max_strain=0.01, **TIGHT)
    along = np.array(direction) @ reference.atoms.cell.array
    along = (along / np.linalg.norm(along))[None]
    expected = float(youngs_modulus(np.array(reference.elastic_tensor), along)[0])
    clamped = float(youngs_modulus(np.array(reference.clamped_elastic_tensor), along)[0])
    assert found.youngs_modulus == pytest.approx(expected, rel=2e-3)
    assert abs(clamped / expected - 1) > 4e-3


def test_the_initial_slope_of_a_shear_is_that_of_the_compliance(tensor: Any) -> None:
    """``1/S66`` with x along [1 -1 0] and y normal to (111)."""
    found = strain(copper(), EMT(), direction=(1, -1, 0), plane=(1, 1, 1), max_strain=0.01, **TIGHT)
    turned = np.linalg.inv(rotated(tensor, np.array(found.axes)))
    assert found.mode == "shear"
    assert found.initial_slope == pytest.approx(1 / turned[5, 5], rel=5e-3)
    assert found.youngs_modulus is None


def test_with_the_sides_fixed_the_slope_is_the_stiffness(tensor: Any) -> None:
    found = strain(copper(), EMT(), transverse="fixed", max_strain=0.01, **TIGHT)
    assert found.initial_slope == pytest.approx(tensor[0, 0], rel=5e-3)
    assert found.youngs_modulus is None


def lj(r: Any) -> Any:
    """The pair energy with ASE's smooth cutoff, written out."""
    x, u = (SIGMA / r) ** 6, r**2
    switch = np.where(
        r < NEAR,
        1.0,
        (FAR**2 - u) ** 2 * (FAR**2 + 2 * u - 3 * NEAR**2) / (FAR**2 - NEAR**2) ** 3,
    )
    return np.where(r < FAR, 4 * EPSILON * (x**2 - x) * switch, 0.0)


def energy_of_atom(along: float, across: float) -> float:
    """Of a face-centred tetragonal crystal, a plain sum over its lattice, eV."""
    n = np.arange(-5, 6)
    grid = np.stack(np.meshgrid(n, n, n, indexing="ij"), -1).reshape(-1, 3)
    points = grid[grid.sum(axis=1) % 2 == 0] / 2 * [along, across, across]
    lengths = np.linalg.norm(points, axis=1)
    return float(lj(lengths[lengths > 0]).sum() / 2)


def test_a_lennard_jones_crystal_pulled_along_100_is_a_sum_over_its_lattice() -> None:
    """At each length the sides that have least energy, and ``dE/dl`` over the area of four atoms."""
    found = strain(bulk("Ar", "fcc", a=5.2, cubic=True), SMOOTH, step=0.05, max_strain=0.5, **TIGHT)
    assert found.atoms is not None
    rest = float(found.atoms.cell[0, 0])

    def relaxed(length: float) -> Any:
        wide = minimize_scalar(
            lambda w: energy_of_atom(length, w), bounds=(0.75 * rest, 1.1 * rest), options={"xatol": 1e-9}
        )
        return float(wide.fun), float(wide.x)

    h = 1e-4
    expected = []
    for one in found.strains[: found.strains.index(found.strain_at_strength) + 1]:
        length = rest * (1 + one)
        slope = (relaxed(length + h)[0] - relaxed(length - h)[0]) / (2 * h)
        expected.append(4 * slope / relaxed(length)[1] ** 2 * GPA)
    n = len(expected)
    assert n > 3
    assert np.allclose(found.stresses[:n], expected, atol=1e-3 * max(expected))
    assert found.ideal_strength == pytest.approx(max(expected), rel=1e-3)
    assert found.strength_reached
    assert found.failed


@pytest.mark.parametrize(
    "load",
    [
        {"direction": (1, 1, 0)},
        pytest.param({"direction": (1, -1, 0), "plane": (1, 1, 1)}, marks=pytest.mark.slow),
        {"tensor": (1, 0.5, 0, 0, 0.2, 0)},
    ],
    ids=["tension", "shear", "tensor"],
)
def test_the_nominal_stress_is_the_slope_of_the_energy_and_the_sides_bear_none(
    load: Any, tmp_path: Path
) -> None:
    """Central differences over ±0.2 % of a smooth curve; the transverse stress is below the criterion."""
    crystal = bulk("Ar", "fcc", a=5.2, cubic=True)
    run = tmp_path / "run"
    found = strain(crystal, SMOOTH, step=0.002, max_strain=0.01, out=run, **TIGHT, **load)
    rows = list(csv.DictReader((run / "log.csv").read_text().splitlines()))
    energy, nominal, true, transverse = (
        np.array([float(row[name]) for row in rows])
        for name in ("energy_eV", "nominal_stress_GPa", "stress_GPa", "transverse_stress_GPa")
    )
    weights = np.array(load.get("tensor", [1.0]))
    slopes = (energy[2:] - energy[:-2]) / 0.004 / float(rows[0]["volume_A3"]) * GPA / (weights @ weights)
    assert np.allclose(slopes, nominal[1:-1], atol=2e-3 * nominal.max())
    if found.mode != "shear":  # whose area stays nearly the same
        assert not np.allclose(true, nominal, atol=2e-3 * nominal.max())
    assert transverse.max() <= TIGHT["smax"]
    assert found.transverse_stress <= TIGHT["smax"]
    assert found.work_mismatch_percent < 0.5


def test_derivatives_of_a_deformed_cell_are_those_of_its_energy() -> None:
    """Finite differences over every row that the optimiser moves."""
    atoms = copper()
    atoms.rattle(0.05, seed=2)
    atoms.calc = EMT()
    cell = StrainedCell(atoms, np.ones(6, dtype=bool), True)
    cell.deform(IDENTITY + np.array([0.03, -0.02, 0.01, 0.04, -0.03, 0.05]))
    forces, start = cell.get_forces(), cell.get_positions()
    h = 1e-5
    for place in np.ndindex(start.shape):
        ends = []
        for sign in (1, -1):
            moved = start.copy()
            moved[place] += sign * h
            cell.set_positions(moved)
            ends.append(cell.get_potential_energy())
        assert forces[place] == pytest.approx(-(ends[0] - ends[1]) / (2 * h), abs=1e-5)


def test_axes_lie_along_the_direction_and_on_the_plane() -> None:
    cell = np.array([[3.0, 0, 0], [-1.5, 2.6, 0], [0.3, 0.2, 5.0]])
    axes = axes_along(cell, (1, 2, 0), (2, -1, 1))
    assert np.allclose(axes @ axes.T, np.eye(3))
    assert np.linalg.det(axes) == pytest.approx(1)
    assert np.allclose(axes[0], (cell[0] + 2 * cell[1]) / np.linalg.norm(cell[0] + 2 * cell[1]))
    for vector in ((1, 2, 0), (0, 1, 1)):  # both lie in (2 -1 1)
        assert abs(axes[1] @ (np.array(vector) @ cell)) < 1e-12
    gradient = gradient_parts(IDENTITY + np.array([0.1, 0, 0, 0, 0, 0.2]))
    assert np.allclose(gradient @ [1, 0, 0], [1.1, 0, 0])  # what lies along x stays there
    for wrong, words in (({"direction": (0, 0, 0)}, "no direction"), ({"plane": (1, 0, 0)}, "does not lie")):
        with pytest.raises(OptionError, match=words):
            strain(copper(), EMT(), **wrong)  # type: ignore[arg-type]


def rows_of(stresses: list[float], bonds: float = 1.1) -> list[dict[str, Any]]:
    return [
        {"strain": 0.01 * n, "stress_GPa": s, "longest_bond_ratio": bonds} for n, s in enumerate(stresses)
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (rows_of([0, 1, 2, 3]), ""),
        (rows_of([0, 1, 2, 1.9, 1.8]), ""),
        (rows_of([0, 1, 2, 1.9, 1.8, 1.7]), "fell in 3 steps"),
        (rows_of([0, 1, 2, 0.9]), "fell from 2 to 0.9"),
        (rows_of([0, 1, 2, 2.1], bonds=1.6), "a bond is 1.60 times"),
        (rows_of([0.2, 1, 2, 3]), ""),
    ],
)
def test_failure_is_recognised_and_said(rows: list[dict[str, Any]], words: str) -> None:
    assert (words in failure_of(rows)) if words else failure_of(rows) == ""


class Breaks(EMT):  # type: ignore[misc]
    """Copper without an answer once its cell is a tenth longer."""

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        if self.atoms.cell.lengths()[0] > 1.1 * 3.6:
            self.results["energy"] = self.results["free_energy"] = float("nan")


def test_a_model_without_an_answer_is_a_failure_of_the_crystal() -> None:
    found = strain(copper(), Breaks(), transverse="fixed", step=0.04)
    assert found.failed
    assert "no finite answer at a strain of 0.12" in found.failure
    assert found.n_steps == 2


def test_a_range_without_failure_is_called_a_lower_bound() -> None:
    found = strain(copper(), EMT(), max_strain=0.02)
    assert not found.failed
    assert found.failure_strain is None
    assert not found.strength_reached
    assert any("lower bound" in warning for warning in found.warnings)
    squeezed = strain(copper(), EMT(), max_strain=-0.02)
    assert squeezed.ideal_strength < -0.5
    assert squeezed.strains[-1] == pytest.approx(-0.02)


class Stops(Interrupted, EMT):  # type: ignore[misc]
    """Copper that is interrupted once it has answered so many times, and counts its answers."""


@pytest.mark.parametrize("left", [25, pytest.param(45, marks=pytest.mark.slow)])
def test_an_interrupted_run_goes_on_to_the_same_numbers(
    left: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the first points and later; ions displaced at random, so that the seed counts too."""
    settings: dict[str, Any] = {"step": 0.02, "max_strain": 0.06, "rattle": 0.01, "seed": 5, "start": "given"}
    whole = strain(copper(), Stops(), out="whole", **settings)
    monkeypatch.setattr(Stops, "left", left)
    with pytest.raises(KeyboardInterrupt):
        strain(copper(), Stops(), out="part", **settings)
    monkeypatch.setattr(Stops, "left", 1 << 30)
    part = strain(copper(), Stops(), out="part", resume=True, **settings)
    assert part.results() == whole.results()
    for name in ("log.csv", "trajectory.extxyz"):
        assert Path("whole", name).read_bytes() == Path("part", name).read_bytes()


def test_the_folder_holds_what_the_contract_says(here: Path) -> None:
    bulk("Si", "diamond", a=5.46).write("si2.cif")  # whose [-1 1 1] is [100] of the cubic cell
    words = ["strain", "si2.cif", "--direction", "-1,1,1", "--step", "0.04", "--max-strain", "0.08"]
    words += ["--start", "given", "--fmax", "0.01", "--smax", "0.1", "--quiet", "--out", "run"]
    assert main(words) == 0  # CHGNet
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["units"]["ideal_strength_GPa"] == "GPa"
    assert 80 < summary["results"]["youngs_modulus_GPa"] < 160  # silicon along [100]: 130
    assert summary["results"]["n_steps"] == 2
    page = Path("run/report.html").read_text()
    assert all(title in page for title in ("Stress against strain", "Energy against strain", "Steps"))
    assert main(["report", "run", "--quiet"]) == 0
    assert Path("run/report.html").read_text() == page


def test_wrong_options_and_models_are_refused() -> None:
    class NoStress(EMT):  # type: ignore[misc]
        implemented_properties = ("energy", "forces")

    with pytest.raises(ModelError, match="gives no stress"):
        strain(copper(), NoStress(), start="given")
    for wrong in ({"max_strain": 0.001}, {"max_strain": -0.95}, {"tensor": (0,) * 6}, {"step": 0}):
        with pytest.raises(OptionError):
            strain(copper(), EMT(), **wrong)  # type: ignore[arg-type]
