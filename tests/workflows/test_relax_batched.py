"""Structures that relax together: each goes the way that it goes alone, whatever happens to the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength

from atomml import load_model
from atomml.errors import OptionError
from atomml.graph import AtomGraph
from atomml.model import Energies
from atomml.potentials.lennard_jones import LennardJones, argon
from atomml.workflows import relax
from atomml.workflows.relaxing.relaxation import RelaxResult
from atomml.workflows.relaxing.relaxation_batched import relax_batched
from atomml.workflows.relaxing.relaxation_coordinates import Coordinates, deform, differentiate
from atomml.workflows.relaxing.relaxation_many import relax_many

NONE = np.empty(0, dtype=np.intp)


def sheared(number: int) -> Atoms:
    """One to eight atoms of one or two elements, displaced, in a cell that is strained."""
    cells = (
        bulk("Ar", "fcc", a=5.3, cubic=True),
        bulk("ArKr", "rocksalt", a=7.0, cubic=True),
        bulk("Kr", "hcp", a=4.0, c=6.6),
        bulk("Ar", "fcc", a=5.2),
    )
    atoms = cells[number % 4]
    atoms.rattle(0.1, seed=number)
    strain = np.random.default_rng(number).normal(0, 0.02, (3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


def in_order(found: Any) -> list[RelaxResult]:
    """The results by place; each must be there once and without an error."""
    ended = sorted(found, key=lambda one: one.index)
    assert [one.index for one in ended] == list(range(len(ended)))
    assert [one.error for one in ended] == [None] * len(ended)
    return [one.result for one in ended]


@pytest.mark.parametrize("cell", ["free", "shape", "volume", "none"])
@pytest.mark.parametrize("optimizer", ["fire", "fire2", "lbfgs", "bfgs"])
def test_the_way_is_that_of_ases_optimiser_and_filter(optimizer: str, cell: str, lj: LennardJones) -> None:
    """``relax`` has ``CellFilter``, which takes a matrix logarithm at each step."""
    pressure = 0.3 if cell in ("free", "volume") else 0.0
    settings: dict[str, Any] = {
        "optimizer": optimizer,
        "cell": cell,
        "pressure": pressure,
        "steps": 15,
        "fmax": 1e-9,
    }
    atoms = sheared(1)
    atoms.set_constraint(FixAtoms([3]))
    (mine,) = in_order(relax_batched([atoms], lj, **settings))
    theirs = relax(atoms, lj, **settings)
    assert mine.n_steps == theirs.n_steps == 15
    np.testing.assert_allclose(mine.atoms.positions, theirs.atoms.positions, atol=1e-8)
    np.testing.assert_allclose(mine.atoms.cell, theirs.atoms.cell, atol=1e-8)
    assert np.abs(mine.atoms.positions - atoms.positions).max() > 0.05
    alike = {key: value for key, value in theirs.results().items() if not isinstance(value, list)}
    found = mine.results()
    assert found["formula"] == alike.pop("formula")
    assert {key: found[key] for key in alike} == pytest.approx(alike, abs=1e-7)


@pytest.mark.parametrize("cell", ["free", "shape", "volume"])
def test_the_gradient_is_the_slope_of_the_enthalpy(cell: str, lj: LennardJones) -> None:
    """Along directions that the cell may go; a central difference of 1e-4 is off by its square, some 1e-7."""
    atoms = sheared(0)
    mine = Coordinates(atoms.copy(), cell, 0.5 if cell != "shape" else 0.0, NONE)
    generator = np.random.default_rng(1)
    start = mine.x.copy()
    start[-3:] += 0.3 * generator.normal(size=(3, 3)) if cell != "volume" else 0.3 * np.eye(3)
    if cell == "shape":
        start[-3:] -= np.trace(start[-3:]) / 3 * np.eye(3)
    direction = generator.normal(size=mine.x.shape)
    if cell == "volume":
        direction[-3:] = np.eye(3)
    elif cell == "shape":
        direction[-3:] -= np.trace(direction[-3:]) / 3 * np.eye(3)

    def enthalpy(x: Any) -> float:
        mine.set_x(x)
        deform([mine])
        found = relax(mine.atoms, lj, steps=0)
        mine.energy = found.energy
        return mine.get_value()

    slope = (enthalpy(start + 1e-4 * direction) - enthalpy(start - 1e-4 * direction)) / 2e-4
    enthalpy(start)
    alone = mine.atoms.copy()
    alone.calc = _calculator(lj)
    differentiate([mine], [alone.get_forces()], [alone.get_stress(voigt=False)])
    assert np.vdot(mine.gradient, direction) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def _calculator(model: LennardJones) -> Any:
    from atomml.calculator import AtomMLCalculator

    return AtomMLCalculator(model)


def test_many_unlike_structures_end_where_each_ends_alone(lj: LennardJones) -> None:
    """Within the criterion: the same number of steps, and the forces below it; more than enter at once.

    None takes more than some tens of steps. Over hundreds, as of ArKr far from its minimum, rounding grows
    into other ways, some of which have not ended after a thousand steps.
    """
    structures = [sheared(number) for number in (0, 2, 3, 4, 7, 8)]
    settings: dict[str, Any] = {"cell": "free", "fmax": 2e-3, "smax": 5e-3}
    ended = list(relax_batched(structures, lj, batch_edges=600, **settings))
    assert [one.index for one in ended] != sorted(one.index for one in ended)  # who is done leaves
    for mine, atoms in zip(in_order(ended), structures, strict=True):
        alone = relax(atoms, lj, **settings)
        assert mine.converged
        assert mine.max_force <= 2e-3
        assert mine.n_steps == alone.n_steps
        assert mine.energy_per_atom == pytest.approx(alone.energy_per_atom, abs=1e-9)
        np.testing.assert_allclose(mine.atoms.cell.cellpar(), alone.atoms.cell.cellpar(), rtol=1e-6)


def test_who_goes_along_changes_nothing(lj: LennardJones) -> None:
    """Torch rounds an element by its place in the array: 1e-16 of a force, grown over 20 steps."""
    structures = [sheared(number) for number in range(6)]
    settings: dict[str, Any] = {"cell": "free", "steps": 20, "fmax": 1e-4}
    whole = in_order(relax_batched(structures, lj, **settings))
    few = in_order(relax_batched(structures[3:], lj, batch_edges=500, **settings))
    for one, other in zip(whole[3:], few, strict=True):
        np.testing.assert_allclose(one.atoms.positions, other.atoms.positions, atol=1e-10)


def test_with_chgnet_who_goes_along_changes_no_bit() -> None:
    """Its kernels go through each structure's rows alike, whatever lies before and behind them."""
    structures = [bulk("Si"), bulk("Cu", cubic=True), bulk("NaCl", "rocksalt", a=5.8), bulk("Al")]
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=seed)
    model = load_model("chgnet-0.3.0", device="cpu")
    settings: dict[str, Any] = {"cell": "free", "steps": 6, "fmax": 1e-3}
    together = in_order(relax_batched(structures, model, **settings))
    for atoms, one in zip(structures, together, strict=True):
        (alone,) = in_order(relax_batched([atoms], model, **settings))
        np.testing.assert_array_equal(one.atoms.positions, alone.atoms.positions)
        np.testing.assert_array_equal(one.atoms.cell, alone.atoms.cell)
        assert one.energy == alone.energy


def test_fixed_atoms_of_the_structure_and_of_the_option_stay(lj: LennardJones) -> None:
    atoms = sheared(1)
    atoms.set_constraint(FixAtoms([0]))
    (found,) = in_order(relax_batched([atoms], lj, fix="index == 5", fmax=1e-3))
    moved = np.linalg.norm(found.atoms.positions - atoms.positions, axis=1)
    assert found.converged
    assert moved[[0, 5]].tolist() == [0.0, 0.0]
    assert (np.delete(moved, [0, 5]) > 0).all()
    assert [constraint.index.tolist() for constraint in found.atoms.constraints] == [[0]]


def test_one_that_fails_is_named_and_the_others_go_on(sick: LennardJones) -> None:
    structures = [sheared(0), bulk("Ne", "fcc", a=4.4), sheared(1), bulk("Na"), Atoms("Ar"), sheared(2)]
    ended = {one.index: one for one in relax_batched(structures, sick, cell="free", steps=30)}
    assert "not finite" in str(ended[1].error)
    assert "atom 0 is Na" in str(ended[3].error)
    assert "not periodic" in str(ended[4].error)
    healthy = in_order(relax_batched([structures[n] for n in (0, 2, 5)], sick, cell="free", steps=30))
    for number, alone in zip((0, 2, 5), healthy, strict=True):
        result = ended[number].result
        assert result is not None
        np.testing.assert_allclose(result.atoms.positions, alone.atoms.positions, atol=1e-10)


def test_what_flies_apart_is_an_error_of_its_own(lj: LennardJones) -> None:
    """A tension that no bond of argon holds."""
    ended = list(relax_batched([sheared(0), Atoms("Ar")], lj, cell="free", pressure=-5.0, optimizer="fire"))
    errors = {one.index: str(one.error) for one in ended}
    assert "flown apart" in errors[0]
    assert "not periodic" in errors[1]


class Narrow(LennardJones):
    """Lennard-Jones on a device whose memory holds so many edges."""

    room = 700
    largest = 0

    def energies(self, graph: AtomGraph) -> Energies:
        if graph.n_edges > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.largest = max(self.largest, graph.n_edges)
        return super().energies(graph)


def narrow(room: int) -> Narrow:
    plain = argon()
    model = Narrow.from_hyperparameters(plain.hyperparameters(), plain.info)
    model.load_state_dict(plain.state_dict())
    model.room = room
    return model.to(plain.dtype)


def test_a_batch_that_does_not_fit_is_halved_and_says_so(lj: LennardJones) -> None:
    structures = [sheared(number) for number in range(8)]
    told: list[str] = []
    model = narrow(900)
    found = in_order(relax_batched(structures, model, cell="free", steps=25, warn=told.append))
    assert told
    assert "did not fit into memory: it was halved" in told[0]
    assert 0 < len(told) <= 4  # not at each step anew
    assert 0 < model.largest <= 900
    wide = in_order(relax_batched(structures, lj, cell="free", steps=25))
    for mine, theirs in zip(found, wide, strict=True):
        np.testing.assert_allclose(mine.atoms.positions, theirs.atoms.positions, atol=1e-10)


def test_one_that_is_too_large_by_itself_is_an_error_of_its_own() -> None:
    small, large = bulk("Ar", "fcc", a=5.3), sheared(1).repeat(2)
    ended = {one.index: one for one in relax_batched([small, large], narrow(700), steps=3)}
    assert ended[0].error is None
    assert "does not fit into memory by itself" in str(ended[1].error)


def test_those_that_need_more_than_a_gradient_a_step_relax_alone(lj: LennardJones) -> None:
    """A line search, the symmetry and a bond that is kept; alone each is ASE's own."""
    bound = sheared(0)
    bound.set_constraint(FixBondLength(0, 1))
    (searched,) = in_order(relax_batched([sheared(0)], lj, optimizer="bfgslinesearch", fmax=1e-3))
    held, free = in_order(relax_batched([bound, sheared(0)], lj, fmax=1e-3))
    assert searched.energy == pytest.approx(free.energy, abs=1e-6)
    assert held.energy == relax(bound, lj, fmax=1e-3).energy
    assert held.energy > free.energy


def test_any_calculator_of_ase_relaxes_its_structures() -> None:
    copper = bulk("Cu", "fcc", a=3.7, cubic=True)
    copper.rattle(0.05, seed=0)
    (found,) = in_order(relax_batched([copper], EMT(), cell="free"))
    alone = relax(copper, EMT(), cell="free")
    assert found.n_steps == alone.n_steps
    assert found.energy == pytest.approx(alone.energy, abs=1e-9)


def test_wrong_options_are_refused_at_once(lj: LennardJones) -> None:
    with pytest.raises(OptionError):
        relax_batched([], lj, cell="some")
    assert list(relax_batched([], lj)) == []


class Stops(LennardJones):
    """Lennard-Jones that is interrupted once it has answered so many times."""

    left = 1 << 30

    def energies(self, graph: AtomGraph) -> Energies:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().energies(graph)


def test_an_interrupted_run_of_many_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """With cells that move, in the middle of several; what no restart file holds is cut off, done again."""
    structures = [sheared(number) for number in range(4)]
    settings: dict[str, Any] = {"cell": "free", "fmax": 1e-3, "smax": 1e-3, "save_every": 3}
    plain = argon()
    model = Stops.from_hyperparameters(plain.hyperparameters(), plain.info)
    model.load_state_dict(plain.state_dict())
    model = model.to(plain.dtype)
    whole = relax_many(structures, model, out=tmp_path / "whole", **settings)
    for left in (8, 5):
        model.left = left
        with pytest.raises(KeyboardInterrupt):
            relax_many(structures, model, out=tmp_path / "parts", resume=left == 5, **settings)
    model.left = 1 << 30
    parts = relax_many(structures, model, out=tmp_path / "parts", resume=True, **settings)
    assert parts.n_converged == whole.n_converged == 4
    names = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*")]
    same = [name for name in names if name.suffix in (".csv", ".extxyz", ".cif")]
    assert len(same) == 1 + 4 * 4
    for name in same:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
