"""DFT behind ASE: the same surface whatever an SCF starts from, and forces that are its slope."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet

from atomml.electronic.dft_calculator import GUESSES, AtomMLDFT, extrapolated
from atomml.errors import OptionError, StructureError

pytest.importorskip("pyscf")

Waters = Callable[[int], list[Atoms]]


def test_the_guess_changes_what_it_takes_and_nothing_else(trained: Path, waters: Waters) -> None:
    """Twelve steps of dynamics: the same energies to 1e-7 eV; the better starts take fewer cycles."""
    energies, cycles = {}, {}
    for guess in GUESSES:
        atoms = waters(1)[0]
        atoms.calc = AtomMLDFT(trained, guess=guess)
        VelocityVerlet(atoms, 0.5 * units.fs).run(12)
        energies[guess] = [run.energy for run in atoms.calc.runs]
        cycles[guess] = float(np.mean([run.cycles for run in atoms.calc.runs[4:]]))
    for guess in GUESSES:
        np.testing.assert_allclose(energies[guess], energies["default"], atol=4e-9)
    assert cycles["extrapolated"] < cycles["last"] < cycles["default"]
    assert cycles["model"] < cycles["default"]


def test_forces_are_the_slope_of_the_energy(trained: Path, waters: Waters) -> None:
    """Central differences of 1e-3 Å: truncation about 1e-5 eV/Å, the SCF's rounding less."""
    atoms = waters(2)[1]
    atoms.calc = AtomMLDFT(trained)
    force = atoms.get_forces()[1, 2]
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * 1e-3
        moved.calc = AtomMLDFT(trained)
        energies.append(moved.get_potential_energy())
    assert force == pytest.approx(-(energies[0] - energies[1]) / 2e-3, abs=2e-4)


def test_what_is_asked_after_the_energy_costs_no_second_scf(waters: Waters) -> None:
    """Forces and dipole of a geometry are those of its converged field, and the history holds it once."""
    atoms, alone = waters(1)[0], waters(1)[0]
    atoms.calc, alone.calc = AtomMLDFT("hf/sto-3g"), AtomMLDFT("hf/sto-3g")
    energy = atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces(), alone.get_forces(), atol=1e-6)
    atoms.get_dipole_moment()
    assert atoms.get_potential_energy() == energy
    assert len(atoms.calc.runs) == len(atoms.calc._history) == 1
    atoms.positions[0, 0] += 0.01
    assert atoms.get_potential_energy() != energy
    assert len(atoms.calc.runs) == 2


def test_extrapolated_densities_are_densities() -> None:
    """Idempotent and with all electrons; exact where nothing moves."""
    from pyscf import scf

    from atomml.electronic.orbital_levels import molecule_of

    history = []
    for step in range(4):
        atoms = molecule("H2O")
        atoms.positions[0, 2] += 0.01 * step
        field = scf.RHF(molecule_of(atoms, "sto-3g"))
        field.verbose = 0
        field.kernel()
        history.append((field.make_rdm1(), field.get_ovlp()))
    overlap = history[-1][1]
    density = extrapolated(history[:3], overlap, 5)
    assert np.trace(density @ overlap) == pytest.approx(10, abs=1e-10)
    np.testing.assert_allclose(density @ overlap @ density, 2 * density, atol=1e-10)
    errors = [np.abs(extrapolated(history[3 - k : 3], overlap, 5) - history[3][0]).max() for k in (1, 2, 3)]
    assert errors[0] > 3 * errors[1] > 3 * errors[2]
    still = extrapolated([history[0]] * 4, history[0][1], 5)
    np.testing.assert_allclose(still, history[0][0], atol=1e-9)


def test_what_cannot_be_is_refused(trained: Path) -> None:
    with pytest.raises(OptionError, match="predictor"):
        AtomMLDFT("pbe/sto-3g", guess="model")
    with pytest.raises(OptionError, match="guess"):
        AtomMLDFT("pbe/sto-3g", guess="core")
    atoms = molecule("NH3")
    atoms.calc = AtomMLDFT(trained)
    with pytest.raises(Exception, match="N, an element"):
        atoms.get_potential_energy()
    from ase.build import bulk

    crystal = bulk("Si")
    crystal.calc = AtomMLDFT("pbe/sto-3g")
    with pytest.raises(StructureError, match="periodic"):
        crystal.get_potential_energy()


def test_another_charge_or_spin_is_another_molecule() -> None:
    """ASE compares positions and elements alone: the cation's energy is not the molecule's."""
    atoms = molecule("OH")
    atoms.info = {"charge": -1, "spin": 0}
    atoms.calc = AtomMLDFT("hf/sto-3g")
    anion = atoms.get_potential_energy()
    assert atoms.get_potential_energy() == anion
    assert len(atoms.calc.runs) == 1
    for charge, spin in ((1, 2), (1, 0), (0, 1)):
        atoms.info = {"charge": charge, "spin": spin}
        alone = atoms.copy()
        alone.calc = AtomMLDFT("hf/sto-3g")
        assert atoms.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=1e-7)
    atoms.info["spin"] = 2
    with pytest.raises(StructureError, match="unpaired"):
        atoms.get_potential_energy()
