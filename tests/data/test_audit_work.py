"""The work along near-by structures is the change of energy; slopes, prints and fits are what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from numpy.typing import NDArray

from atomml.data.audit.composition import fit_composition, split
from atomml.data.audit.evidence import gather
from atomml.data.audit.near_pairs import compare_entries
from atomml.data.audit.neighbourhood import neighbourhood
from atomml.data.audit.scale_fit import fit_slope, partial_slopes
from atomml.data.entry import Entry, Labels
from atomml.testing.planted_sets import label_structures, rattled

GENERATOR_SEED = 7


def _turn(seed: int) -> NDArray[np.float64]:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def _turned(entry: Entry, seed: int, shift: float = 0.0) -> Entry:
    """The same calculation in another frame, all of it turned."""
    turn, atoms, labels = _turn(seed), entry.atoms.copy(), entry.labels
    atoms.set_cell(atoms.cell.array @ turn, scale_atoms=False)
    atoms.positions = atoms.positions @ turn + shift
    assert labels.forces is not None
    stress = None if labels.stress is None else turn.T @ labels.stress @ turn
    return replace(entry, atoms=atoms, labels=replace(labels, forces=labels.forces @ turn, stress=stress))


def _pair(amount: float, strain: float) -> tuple[Entry, Entry]:
    """Two argon crystals whose displacements and strains are in a fixed direction and of this amount."""
    base = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((2, 1, 1))
    (first,) = rattled(base, 1, 0.05, 0.01, 3)
    generator = np.random.default_rng(GENERATOR_SEED)
    second = first.copy()
    bent = strain * generator.normal(size=(3, 3))
    second.set_cell(second.cell.array @ (np.eye(3) + 0.5 * (bent + bent.T)), scale_atoms=True)
    second.positions += amount * generator.normal(size=second.positions.shape)
    a, b = label_structures([first, second], "lj-argon", "pair")
    return a, b


def _miss(amount: float, strain: float) -> float:
    """Difference between work and change of energy, eV."""
    row = compare_entries(*_pair(amount, strain))
    assert row is not None
    change, force_work, isotropic, deviatoric = row[:4]
    return abs(change - force_work - isotropic - deviatoric)


@pytest.mark.parametrize(("amount", "strain"), [(0.04, 0.0), (0.0, 0.02), (0.04, 0.02)])
def test_work_is_the_change_of_energy_to_third_order(amount: float, strain: float) -> None:
    """Half the step leaves an eighth of the error of the rule or less; a wrong sign leaves half."""
    errors = [_miss(amount * step, strain * step) for step in (1.0, 0.5, 0.25)]
    assert errors[0] / errors[1] > 6.5
    assert errors[1] / errors[2] > 6.5


@pytest.mark.parametrize(("amount", "strain"), [(0.03, 0.0), (0.03, 0.01)])
def test_work_does_not_change_when_one_structure_is_turned_and_moved(amount: float, strain: float) -> None:
    a, b = _pair(amount, strain)
    row, turned = compare_entries(a, b), compare_entries(a, _turned(b, 5))
    atoms = b.atoms.copy()
    atoms.positions += [0.2, -0.1, 0.3]
    atoms.wrap()
    moved = compare_entries(a, replace(b, atoms=atoms))
    assert row is not None
    assert turned == pytest.approx(row, abs=1e-9)
    assert moved == pytest.approx(row, abs=1e-9)


def test_a_molecule_is_laid_on_the_other() -> None:
    first, second = rattled(molecule("CH3CH2OH"), 2, 0.03, 0.0, 1)
    generator = np.random.default_rng(2)
    force = [generator.normal(size=(9, 3)) for _ in range(2)]
    a = Entry(first, Labels(0.0, force[0]))
    b = Entry(second, Labels(1.0, force[1]))
    row, turned = compare_entries(a, b), compare_entries(a, _turned(b, 9, shift=3.0))
    assert row is not None
    assert turned == pytest.approx(row, abs=1e-10)


def test_far_structures_are_no_pair() -> None:
    a, _ = _pair(0.03, 0.0)
    atoms = a.atoms.copy()
    atoms.positions[0] += 1.5
    assert compare_entries(a, replace(a, atoms=atoms)) is None
    assert compare_entries(a, a) is None
    atoms = a.atoms.copy()
    atoms.set_cell(atoms.cell.array * 1.2, scale_atoms=True)
    assert compare_entries(a, replace(a, atoms=atoms)) is None


def test_a_slope_is_found_among_outliers_and_lies_in_its_interval() -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(size=200)
    y = -27.2 * x + generator.normal(scale=1.0, size=200)
    y[:30] = generator.normal(scale=500.0, size=30)
    slope = fit_slope(x, y, np.ones(200))
    assert slope is not None
    assert slope.tells
    assert slope.value == pytest.approx(-27.2, rel=0.02)
    assert slope.allows(-27.2)
    assert not slope.allows(27.2)
    assert not slope.allows(-13.6)


def test_noise_gives_no_slope_that_tells() -> None:
    generator = np.random.default_rng(2)
    slope = fit_slope(generator.normal(size=100), generator.normal(size=100), np.ones(100))
    assert slope is None or not slope.tells
    assert fit_slope(np.ones(3), np.ones(3), np.ones(3)) is None


def test_two_slopes_of_columns_that_go_together_are_told_apart() -> None:
    generator = np.random.default_rng(3)
    first = generator.normal(size=300)
    second = 0.7 * first + 0.7 * generator.normal(size=300)
    y = 1.0 * first + 160.2 * second + generator.normal(scale=0.05, size=300)
    found = partial_slopes((first, second), y, np.ones(300))
    assert [slope.value for slope in found if slope] == pytest.approx([1.0, 160.2], rel=0.02)


@pytest.mark.parametrize("name", ["crystal", "molecule"])
def test_a_fingerprint_is_the_structures_own(name: str) -> None:
    """Turned, moved, renumbered, repeated: the same; moved by 0.02 Å: another."""
    base = bulk("CuAu", "zincblende", a=5.5, cubic=True) if name == "crystal" else molecule("CH3CH2OH")
    (atoms,) = rattled(base, 1, 0.05, 0.01, 1)
    seen = neighbourhood(atoms)
    turn = _turn(4)
    other = atoms[::-1]
    other.set_cell(other.cell.array @ turn, scale_atoms=False)
    other.positions = other.positions @ turn + 1.7
    if name == "crystal":
        other = other.repeat((1, 2, 1))
    again = neighbourhood(other)
    assert again.fingerprint == pytest.approx(seen.fingerprint, abs=1e-10)
    assert again.polarity == pytest.approx(seen.polarity, abs=1e-10)
    assert again.closest == pytest.approx(seen.closest, abs=1e-12)
    other.positions[0] += 0.02
    assert np.abs(neighbourhood(other).fingerprint - seen.fingerprint).max() > 1e-4


def test_polarity_is_zero_where_symmetry_forbids_a_force() -> None:
    perfect = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    assert neighbourhood(perfect).polarity < 1e-12
    assert neighbourhood(rattled(perfect, 1, 0.05, 0.0, 1)[0]).polarity > 0.02


def test_swapped_elements_change_the_fingerprint() -> None:
    a = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    b = a.copy()
    b.numbers[[0, 1]] = b.numbers[[1, 0]]
    assert np.abs(neighbourhood(a).fingerprint - neighbourhood(b).fingerprint).max() > 1e-3


def test_composition_energies_are_recovered_past_outliers() -> None:
    generator = np.random.default_rng(5)
    true = {"Na": -1.3, "Cl": -1.8, "Mg": -1.6}
    entries = []
    for k in range(60):
        symbols = generator.choice(list(true), size=int(generator.integers(2, 9)))
        atoms = Atoms(symbols, generator.uniform(0, 9, (len(symbols), 3)))
        energy = sum(true[str(symbol)] for symbol in symbols) + (40.0 if k % 10 == 0 else 0.0)
        entries.append(Entry(atoms, Labels(energy=energy)))
    found = fit_composition(gather(entries))
    assert found is not None
    assert found.energies == pytest.approx([true["Na"], true["Mg"], true["Cl"]], abs=1e-6)
    assert np.flatnonzero(np.abs(found.residual) > 1).tolist() == list(range(0, 60, 10))


def test_elements_in_one_ratio_have_no_energies_of_their_own() -> None:
    entries = [Entry(a, Labels(energy=-20.0)) for a in rattled(molecule("H2O"), 5, 0.02, 0.0, 1)]
    entries += [Entry(Atoms("He2", [[0, 0, 0], [0, 0, 3]]), Labels(energy=-1.0))]
    found = fit_composition(gather(entries))
    assert found is not None
    assert found.elements == (1, 2, 8)
    assert np.isnan(found.energies).tolist() == [True, False, True]
    assert found.predicted[0] == pytest.approx(-20.0 / 3)


def test_a_sample_splits_only_where_there_is_a_gap() -> None:
    generator = np.random.default_rng(6)
    one = generator.normal(scale=0.02, size=200)
    assert split(one) is None
    assert split(generator.exponential(0.05, size=200)) is None
    found = split(np.concatenate([one, 0.5 + one[:40]]))
    assert found is not None
    assert 0.05 < found[0] < 0.45


def test_of_a_large_set_surroundings_are_looked_at_in_some() -> None:
    entries = [
        Entry(atoms, Labels(energy=0.1 * k))
        for k, atoms in enumerate(rattled(molecule("H2O"), 40, 0.05, 0, 1))
    ]
    evidence = gather(entries, sample=10)
    assert evidence.looked_at == 10
    assert np.isfinite(evidence["closest"]).sum() == 10
    assert np.isfinite(evidence["energy"]).all()
