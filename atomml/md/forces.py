"""Energy, forces and stress of the present positions, from any ASE calculator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.atoms import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress

from atomml.errors import OptionError
from atomml.md.state import Array, System

__all__ = ["ForceField", "Spread"]


@dataclass(frozen=True)
class Spread:
    """Standard deviations among the models of a committee.

    Attributes:
        energy: eV.
        forces: ``(n,)`` eV/Å.
    """

    energy: float
    forces: Array


class ForceField:
    """Calls the calculator with the positions of a :class:`System` and stores its answers there.

    Args:
        atoms: The structure; what a calculator may read beside positions and cell (initial
            magnetic moments, ``info``) is taken from here. It is copied.
        calculator: Any ASE calculator.
    """

    def __init__(self, atoms: Atoms, calculator: Any) -> None:
        self._atoms = atoms.copy()
        self._atoms.set_constraint()
        self._calculator = calculator
        self._has_stress = bool(np.all(atoms.pbc)) and "stress" in calculator.implemented_properties

    @property
    def has_stress(self) -> bool:
        """Whether a stress can be had: periodic in all directions and implemented."""
        return self._has_stress

    def __call__(self, system: System, stress: bool = False) -> None:
        """Evaluate at ``system``'s positions and cell; updates its energy, forces and stress.

        Raises:
            OptionError: Stress is wanted and the calculator has none.
        """
        self._place(system)
        forces = self._calculator.get_property("forces", self._atoms)
        system.energy = self._energy()
        system.forces = system.project(np.array(forces, dtype=np.float64, order="C"))
        system.stress = self._stress() if stress else None

    def add_stress(self, system: System) -> None:
        """Fill in the stress of the positions that were evaluated last, if there is one."""
        if system.stress is None and self._has_stress:
            self._place(system)
            system.stress = self._stress()

    def magmoms(self, system: System) -> Array | None:
        """``(n,)`` magnetic moments in μB of the positions evaluated last, or None."""
        if "magmoms" not in self._calculator.implemented_properties:
            return None
        self._place(system)
        moments = self._calculator.get_property("magmoms", self._atoms, allow_calculation=False)
        return None if moments is None else np.array(moments, dtype=np.float64)

    def spread(self) -> Spread | None:
        """How far the models of a committee are apart at the positions evaluated last; None for one model."""
        results = self._calculator.results
        if "forces_std" not in results or "energy_std" not in results:
            return None
        return Spread(float(results["energy_std"]), np.array(results["forces_std"], dtype=np.float64))

    def _place(self, system: System) -> None:
        self._atoms.positions[:] = system.positions
        self._atoms.cell.array[:] = system.cell

    def _energy(self) -> float:
        results = self._calculator.results
        energy = results.get("free_energy", results.get("energy"))
        if energy is None:  # a calculator that computes only what it is asked for
            energy = self._calculator.get_property("energy", self._atoms)
        return float(energy)

    def _stress(self) -> Array:
        try:
            stress = self._calculator.get_property("stress", self._atoms)
        except PropertyNotImplementedError:
            stress = None
        if stress is None:
            raise OptionError(
                "The calculator gives no stress for this structure: a pressure needs one; "
                "take an ensemble of constant volume."
            )
        stress = np.asarray(stress, dtype=np.float64)
        return stress.copy() if stress.shape == (3, 3) else voigt_6_to_full_3x3_stress(stress)
