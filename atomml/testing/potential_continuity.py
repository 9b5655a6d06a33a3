"""Laws of continuity: nothing jumps when an atom crosses a cutoff."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from ase import Atoms

from atomml.testing.laws import Measurement, law
from atomml.testing.potential_subject import Answer, PotentialSubject
from atomml.testing.structures import contact_radius

__all__ = ["cutoff_crossing"]

Crossing = Callable[[float], Atoms]
"""The structure with one pair of atoms at the cutoff plus an amount, in Å."""


@law("potential")
def cutoff_crossing(subject: PotentialSubject) -> Iterator[Measurement]:
    """Energy and forces are continuous as an atom crosses each cutoff: a pair, a triple, a crystal."""
    info = subject.model.info
    for cutoff in sorted({info.cutoff, info.bond_cutoff or info.cutoff}):
        for name, crossing in _crossings(subject, cutoff).items():
            where = f"{name} at {cutoff:g} Å"
            yield from _jumps(subject, crossing, where, subject.model.cutoff_jump(cutoff))


def _crossings(subject: PotentialSubject, cutoff: float) -> dict[str, Crossing]:
    numbers = sorted(set(subject.samples["crystal"].numbers.tolist()))
    pair = [numbers[0], numbers[-1]]
    found = {"pair": _pair(pair, cutoff), "triple": _triple(pair, cutoff)}
    if not subject.quick:
        found["crystal"] = _in_crystal(subject.samples["crystal"], cutoff)
    return found


def _pair(numbers: list[int], cutoff: float) -> Crossing:
    direction = np.array([0.6, 0.0, 0.8])
    return lambda amount: Atoms(numbers=numbers, positions=[np.zeros(3), (cutoff + amount) * direction])


def _triple(numbers: list[int], cutoff: float) -> Crossing:
    """A bonded pair, and a third atom at a slant: an edge and angles appear at once."""
    bond = min(contact_radius(numbers[0]) + contact_radius(numbers[1]), 0.9 * cutoff)
    slant = np.array([0.48, 0.64, 0.6])

    def at(amount: float) -> Atoms:
        """The third atom so many Å beyond the cutoff."""
        places = [np.zeros(3), [0.0, 0.0, bond], (cutoff + amount) * slant]
        return Atoms(numbers=[*numbers, numbers[0]], positions=places)

    return at


def _in_crystal(crystal: Atoms, cutoff: float) -> Crossing:
    """The atom of a crystal that is nearest to the cutoff of another, moved along their line."""
    shifts = np.array(np.meshgrid(*[range(-4, 5)] * 3)).reshape(3, -1).T @ crystal.cell.array
    vectors = crystal.positions[1:, None] + shifts - crystal.positions[0]
    lengths = np.linalg.norm(vectors, axis=2)
    atom, shift = np.unravel_index(np.abs(lengths - cutoff).argmin(), lengths.shape)
    unit = vectors[atom, shift] / lengths[atom, shift]
    missing = cutoff - lengths[atom, shift]

    def at(amount: float) -> Atoms:
        """The neighbour so many Å beyond where it is missed."""
        copy = crystal.copy()
        copy.positions[atom + 1] += (missing + amount) * unit
        return copy

    return at


def _jumps(
    subject: PotentialSubject, crossing: Crossing, where: str, known: tuple[float, float]
) -> Iterator[Measurement]:
    """The jump at the cutoff, with what a smooth function changes between the two points taken out.

    The change over ±d is J + c d + O(d³) for a smooth function with a jump J, so that
    2 change(d/2) - change(d) is J to third order: 1e-15·f''' for d = 1e-5 Å. A model whose switch is known
    not to end at 0 may jump by what it leaves of the atoms' energies, and of those by its slope.
    """
    coarse, fine = (_change(subject, crossing, step) for step in (1e-5, 0.5e-5))
    tolerances = subject.tolerances
    # Two differences, the finer one doubled: five times the error of one answer.
    atoms = crossing(0.0)
    whole = float(subject.model.energies(subject.graph(atoms)).site.detach().abs().sum()) if known[0] else 0.0
    energy = abs(2 * fine[0] - coarse[0])
    allowed = 5 * tolerances.energy * len(atoms) + known[0] * whole
    yield Measurement("energy", energy, allowed, "eV", where)
    forces = float(np.abs(2 * fine[1] - coarse[1]).max())
    yield Measurement("forces", forces, 5 * tolerances.forces + abs(known[1]) * whole, "eV/Å", where)


def _change(
    subject: PotentialSubject, crossing: Crossing, step: float
) -> tuple[float, np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """Energy and forces just outside the cutoff less those just inside."""
    outside: Answer = subject.answer(crossing(step))
    inside: Answer = subject.answer(crossing(-step))
    return outside.energy - inside.energy, outside.forces - inside.forces
