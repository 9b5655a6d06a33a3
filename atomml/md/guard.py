"""Watches every step and says what went wrong, at which step and atom, before it spoils the run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from atomml.errors import RunFailedError
from atomml.md.state import Array, System

__all__ = ["BlowUpError", "Guard", "Limits"]

# Atoms closer than this share of the sum of their covalent radii are not a bond of any kind:
# H2 and N2, the shortest bonds there are, lie at 1.2 and 0.78.
CLOSE_SHARE = 0.5
# Å per step: sixty times the thermal displacement of a hydrogen atom at 300 K in 1 fs.
LARGEST_DISPLACEMENT = 2.0
# Change of the volume in one step, as a share: a barostat takes hundreds of steps for it.
LARGEST_VOLUME_CHANGE = 0.1
_SKIN = 1.0


class BlowUpError(RunFailedError):
    """The trajectory left what its equations of motion allow.

    Attributes:
        reason: What happened and to which atom, without the step.
        atom: The atom that stands out; None where none does.
    """

    def __init__(self, reason: str, atom: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.atom = atom


@dataclass(frozen=True)
class Limits:
    """What a sound step stays within; None derives a limit.

    Attributes:
        min_distance: Å; derived from the covalent radii of each pair if None.
        max_temperature: K; if None ten times the highest target or initial temperature, 3000 K at
            least, and more for few atoms, whose temperature fluctuates by ``T sqrt(2 / n_dof)``.
        max_energy_jump: eV/atom in the conserved quantity from one step to the next. It would not
            change at all in exact dynamics; a stable velocity Verlet moves it by less than
            the kinetic energy (by ``(ω dt)²/8`` of it), so three times ``kT`` per
            atom, 0.2 eV at least, means that the integration has failed.
    """

    min_distance: float | None = None
    max_temperature: float | None = None
    max_energy_jump: float | None = None


class Guard:
    """Checks a :class:`System` against its limits; never changes it.

    Args:
        system: The first frame.
        limits: What the user asked for.
        highest_temperature: The highest temperature that the run aims at or starts from, K.
    """

    def __init__(self, system: System, limits: Limits, highest_temperature: float) -> None:
        fluctuation = 1.0 + 5.0 * np.sqrt(2.0 / system.n_dof)
        derived = max(3000.0, 10.0 * highest_temperature) * fluctuation
        self.max_temperature = float(derived) if limits.max_temperature is None else limits.max_temperature
        self._max_jump = limits.max_energy_jump
        self._close = _ClosePairs(system, limits.min_distance)

    def check_move(self, system: System, positions: Array, volume: float) -> None:
        """Before forces are evaluated at new positions: did any atom fly off or the cell collapse?

        Args:
            system: After the move.
            positions: ``(n, 3)`` before it, Å.
            volume: Before it, Å³.

        Raises:
            BlowUpError: Names the atom.
        """
        moved = np.abs(system.positions - positions).max(axis=1)
        if not moved.max() <= LARGEST_DISPLACEMENT:  # also true for NaN
            atom = int(np.argmax(np.where(np.isfinite(moved), moved, np.inf)))
            raise BlowUpError(f"{_name(system, atom)} moved by {moved[atom]:.3g} Å in one step", atom)
        if volume and not abs(system.volume / volume - 1.0) <= LARGEST_VOLUME_CHANGE:
            raise BlowUpError(f"the volume went from {volume:.4g} to {system.volume:.4g} Å³ in one step")

    def check_forces(self, system: System) -> None:
        """After forces were evaluated: are they numbers?

        Raises:
            BlowUpError: Names the atom.
        """
        good = np.isfinite(system.force_array).all(axis=1)
        if not good.all():
            atom = int(np.argmin(good))
            raise BlowUpError(f"the force on {_name(system, atom)} is not finite", atom)
        if not np.isfinite(system.energy):
            raise BlowUpError("the potential energy is not finite")

    def check_step(self, system: System, jump: float, target_temperature: float) -> None:
        """After a whole step.

        Args:
            system: After the step.
            jump: Change of the conserved quantity in the step, eV.
            target_temperature: K.

        Raises:
            BlowUpError: Names the atom or pair.
        """
        self._close.check(system)
        temperature = system.temperature()
        if not temperature <= self.max_temperature:
            share = (system.momenta**2 / system.masses).sum(axis=1)
            atom = int(np.argmax(np.where(np.isfinite(share), share, np.inf)))
            raise BlowUpError(
                f"the temperature reached {temperature:.4g} K (limit {self.max_temperature:.4g} K), "
                f"{_name(system, atom)} being the fastest",
                atom,
            )
        limit = self._jump_limit(max(temperature, target_temperature)) * system.n_atoms
        if not abs(jump) <= limit:
            atom = int(np.argmax((system.force_array**2).sum(axis=1)))
            raise BlowUpError(
                f"the conserved energy jumped by {jump:.4g} eV (limit {limit:.4g} eV), "
                f"{_name(system, atom)} feeling the largest force",
                atom,
            )

    def _jump_limit(self, temperature: float) -> float:
        if self._max_jump is not None:
            return self._max_jump
        return max(0.2, 3.0 * units.kB * temperature)


class _ClosePairs:
    """Pairs that could come too close, searched anew only after atoms have moved."""

    def __init__(self, system: System, min_distance: float | None) -> None:
        kinds = np.unique(system.numbers)
        radii = np.full(len(covalent_radii), 0.0)
        radii[kinds] = covalent_radii[kinds] * CLOSE_SHARE
        if min_distance is not None:
            radii[kinds] = 0.5 * min_distance
        self._radii: Array = radii[system.numbers]
        self._cutoff = 2.0 * float(self._radii.max()) + _SKIN
        self._positions: Array | None = None
        self._cell: Array = system.cell
        self._index: NDArray[np.int64] = np.empty((2, 0), dtype=np.int64)
        self._shift: Array = np.empty((0, 3))
        self._squared: Array = np.empty(0)

    def check(self, system: System) -> None:
        """Refuse a pair that is closer than allowed."""
        if self._cutoff == _SKIN:  # switched off by --min-distance 0
            return
        if self._positions is None or self._strayed(system):
            self._search(system)
        first, second = self._index
        vectors = system.positions[second] - system.positions[first] + self._shift @ system.cell
        squared = (vectors * vectors).sum(axis=1)
        bad = np.flatnonzero(squared < self._squared)
        if len(bad):
            worst = bad[np.argmin(squared[bad] - self._squared[bad])]
            a, b = int(first[worst]), int(second[worst])
            raise BlowUpError(
                f"{_name(system, a)} and {_name(system, b)} came within {np.sqrt(squared[worst]):.3f} Å "
                f"(limit {np.sqrt(self._squared[worst]):.3f} Å)",
                a,
            )

    def _strayed(self, system: System) -> bool:
        """Whether a pair that was left out may have come within its limit."""
        assert self._positions is not None
        moved = system.positions - self._positions
        bound = 2.0 * float(np.sqrt((moved * moved).sum(axis=1).max()))
        if system.cell is not self._cell:
            reach = float(np.abs(self._shift).max(initial=0.0)) + 1.0  # cells away, of pairs near by
            bound += 3.0 * reach * float(np.abs(system.cell - self._cell).max())
        return bound > _SKIN

    def _search(self, system: System) -> None:
        from atomml.graph.neighbours import complete_cell, find_edges

        cell = complete_cell(system.cell, system.pbc)
        edges = find_edges(system.positions, cell, system.pbc, self._cutoff)
        first, second = edges.index
        once = first <= second
        self._index, self._shift = edges.index[:, once], edges.shift[once].astype(np.float64)
        limits = self._radii[self._index[0]] + self._radii[self._index[1]]
        self._squared = limits * limits
        self._positions, self._cell = system.positions.copy(), system.cell.copy()


def _name(system: System, atom: int) -> str:
    return f"atom {atom} ({chemical_symbols[int(system.numbers[atom])]})"
