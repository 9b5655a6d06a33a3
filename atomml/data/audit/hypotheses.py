"""Units, signs and normalisations that labels are known to come in by mistake, as factors.

Factors are those of :mod:`ase.units` (CODATA 2014).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import units
from numpy.typing import NDArray

from atomml.data.audit.near_pairs import Pairs

__all__ = ["ENERGY_NAMES", "FORCE_NAMES", "Hypothesis", "energy_hypotheses", "stress_hypotheses"]

Floats = NDArray[np.float64]

Factor = Callable[[Pairs], Floats | float]

_PER_MOL = 1.0 / units.mol
_ENERGY = {
    "Ha": units.Hartree,
    "Ry": units.Rydberg,
    "kcal/mol": units.kcal * _PER_MOL,
    "kJ/mol": units.kJ * _PER_MOL,
    "meV": 1e-3,
}
_FORCE = {
    "Ha/bohr": units.Hartree / units.Bohr,
    "Ry/bohr": units.Rydberg / units.Bohr,
    "kcal/mol/Å": units.kcal * _PER_MOL,
    "kJ/mol/Å": units.kJ * _PER_MOL,
    "kJ/mol/nm": 0.1 * units.kJ * _PER_MOL,
    "Ha/Å": units.Hartree,
    "meV/Å": 1e-3,
}
_STRESS = {
    "GPa": units.GPa,
    "kbar": 0.1 * units.GPa,
    "bar": 1e-4 * units.GPa,
    "Ha/bohr³": units.Hartree / units.Bohr**3,
    "Ry/bohr³": units.Rydberg / units.Bohr**3,
}
_RARE = 0.2
_GRADIENT = "gradients-for-forces"
_GRADIENT_WORDS = "the forces have the sign of gradients"


def _slug(unit: str) -> str:
    return unit.replace("/", "-per-").replace("Å", "A").replace("³", "3")


ENERGY_NAMES = {f"energy-in-{_slug(unit)}": unit for unit in _ENERGY}
"""Trap's name and unit of energies."""

FORCE_NAMES = {f"forces-in-{_slug(unit)}": unit for unit in _FORCE}
"""Trap's name and unit of forces."""


@dataclass(frozen=True)
class Hypothesis:
    """What could be wrong with labels, and what they must be multiplied by if it is.

    Attributes:
        traps: Names of the findings that it stands for; empty if all is as it should be.
        words: What it is, for a sentence.
        energy: Factor to eV, from the pairs.
        forces: Factor to eV/Å.
        stress: Factor to eV/Å³, from the pairs.
        length: Factor to Å.
        rarity: How much closer (in the logarithm of the factor) it must fit than a usual case.
    """

    traps: tuple[str, ...]
    words: str
    energy: Factor = lambda _: 1.0
    forces: float = 1.0
    stress: Factor = lambda _: 1.0
    length: float = 1.0
    rarity: float = 0.0


def _constant(value: float) -> Factor:
    return lambda _: value


def energy_hypotheses() -> list[Hypothesis]:
    """How energies and forces may be wrong; each also with forces of the wrong sign. The first is sound."""
    found = [Hypothesis((), "energies and forces agree")]
    for name, unit in ENERGY_NAMES.items():
        found.append(Hypothesis((name,), f"the energies are in {unit}", energy=_constant(_ENERGY[unit])))
    found.append(
        Hypothesis(("energy-per-atom",), "the energies are per atom", energy=lambda pairs: pairs.n_atoms)
    )
    for name, unit in FORCE_NAMES.items():
        found.append(Hypothesis((name,), f"the forces are in {unit}", forces=_FORCE[unit]))
    found.append(
        Hypothesis(
            ("energy-in-Ha", "forces-in-Ha-per-bohr"),
            "energies and forces are in atomic units (Ha, Ha/bohr)",
            energy=_constant(units.Hartree),
            forces=_FORCE["Ha/bohr"],
        )
    )
    found.append(Hypothesis(("positions-in-bohr",), "the positions are in bohr", length=units.Bohr))
    return found + [_reversed(one) for one in found]


def _reversed(one: Hypothesis) -> Hypothesis:
    words = f"{one.words} and {_GRADIENT_WORDS}" if one.traps else _GRADIENT_WORDS
    return Hypothesis(
        (*one.traps, _GRADIENT), words, energy=one.energy, forces=-one.forces, length=one.length
    )


def stress_hypotheses() -> list[Hypothesis]:
    """How the stress may be wrong. The first is sound."""
    found = [Hypothesis((), "stress and energies agree")]
    for unit, factor in _STRESS.items():
        words = f"the stress is in {unit}"
        rarity = 0.0 if unit in ("GPa", "kbar") else _RARE
        trap = f"stress-in-{_slug(unit)}"
        found.append(Hypothesis((trap,), words, stress=_constant(factor), rarity=rarity))
    found += [_wrong_sign(one) for one in found]
    for sign, words in ((-1.0, "minus stress times volume"), (1.0, "stress times volume")):
        found.append(
            Hypothesis(
                ("virial-for-stress",),
                f"a virial ({words}) stands in place of the stress",
                stress=_per_volume(sign),
                rarity=0.0 if sign < 0 else _RARE,
            )
        )
    return found


def _per_volume(sign: float) -> Factor:
    return lambda pairs: sign / np.maximum(pairs.volume, 1e-12)


def _wrong_sign(one: Hypothesis) -> Hypothesis:
    words = "the stress is positive under compression, as VASP has it"
    return Hypothesis(
        (*one.traps, "stress-sign"),
        f"{one.words} and {words}" if one.traps else words,
        stress=lambda pairs: -one.stress(pairs),
        rarity=one.rarity,
    )
