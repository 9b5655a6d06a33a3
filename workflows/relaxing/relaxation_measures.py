"""What is read off a structure that relaxes: its stress, volume, displacement, frame and result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atomml.units import GPA

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "cell_factor",
    "driving_stress",
    "frame_of",
    "max_displacement",
    "pressure_of",
    "relaxed_facts",
    "volume_of",
]


_STIFFNESS = 48.0  # eV: volume of an atom times bulk modulus; of osmium 36, of diamond 16, of copper 10
_FIRST_GUESS = 70.0  # eV/Å²: the curvature that ASE's BFGS and LBFGS begin with


def cell_factor(n_atoms: int) -> float:
    """Å by which the logarithm of a cell's deformation is multiplied to stand beside positions.

    The energy of n atoms is curved by ``k n`` along the logarithm U, so along ``f U`` by ``k n / f²``, with
    k an atom's volume times the bulk modulus. The factor makes that the curvature that optimisers begin
    with for positions, for the stiffest crystals, so that a first step is never too long. With ASE's own
    factor, n, cells are softer than that by tens of times, which takes as many steps to learn.
    """
    return float((_STIFFNESS * n_atoms / _FIRST_GUESS) ** 0.5)


def driving_stress(stress: Array, cell: str, pressure: float) -> float | None:
    """Largest component, in GPa, of the stress that the cell may follow; None for a fixed cell.

    Args:
        stress: ``(3, 3)`` eV/Å³.
        cell: What may change: ``free``, ``shape``, ``volume`` or ``none``.
        pressure: External pressure, GPa.
    """
    import numpy as np

    if cell == "none":
        return None
    total = stress * GPA + pressure * np.eye(3)
    mean = np.trace(total) / 3 * np.eye(3)
    driving = {"free": total, "volume": mean, "shape": total - mean}[cell]
    return float(np.abs(driving).max())


def volume_of(atoms: Atoms) -> float | None:
    """Å³; None for what is not periodic in three directions."""
    return float(atoms.cell.volume) if atoms.pbc.all() and atoms.cell.rank == 3 else None


def pressure_of(stress: Array | None) -> float | None:
    """Pressure in GPa, positive under compression, of a stress ``(3, 3)`` in eV/Å³; None without one."""
    return None if stress is None else float(-stress.trace() / 3 * GPA)


def max_displacement(start: Atoms, end: Atoms) -> float:
    """Farthest move of an atom in Å, beyond what the cell carried it."""
    import numpy as np

    carried: Array = start.positions
    if volume_of(start) is not None:
        carried = start.positions @ np.linalg.solve(start.cell.array, end.cell.array)
    return float(np.linalg.norm(end.positions - carried, axis=1).max())


def frame_of(
    atoms: Atoms, energy: float, forces: Array, stress: Array | None, magmoms: Array | None = None
) -> str:
    """A frame of extended XYZ: energy eV, forces ``(n_atoms, 3)`` eV/Å, stress eV/Å³, moments μB."""
    from ase.stress import full_3x3_to_voigt_6_stress

    from atomml.data.structures import extxyz_frame

    results: dict[str, Any] = {"energy": energy, "forces": forces}
    if stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(stress) if stress.shape == (3, 3) else stress
    if magmoms is not None:
        results["magmoms"] = magmoms
    return extxyz_frame(atoms, results)


def relaxed_facts(start: Atoms, atoms: Atoms, energy: float) -> dict[str, Any]:
    """Fields of ``RelaxResult`` that follow from both structures and the energy in eV."""
    relaxed = atoms.copy()
    relaxed.set_constraint(start.constraints)
    volume, before = volume_of(atoms), volume_of(start)
    return {
        "atoms": relaxed,
        "formula": str(atoms.get_chemical_formula()),
        "energy": energy,
        "energy_per_atom": energy / len(atoms),
        "volume": volume,
        "volume_change_percent": 100 * (volume / before - 1) if volume and before else None,
        "max_displacement": max_displacement(start, atoms),
        "cell_lengths": None if volume is None else atoms.cell.lengths().tolist(),
        "cell_angles": None if volume is None else atoms.cell.angles().tolist(),
    }
