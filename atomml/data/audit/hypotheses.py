"""Units, signs and normalisations that labels are known to come in by mistake, as factors.

Factors are those of :mod:`ase.units` (CODATA 2014).
"""

from __future__ import annotations

from collections.abc import Callable

from ase import units

from atomml.data.audit.near_pairs import Pairs
from atomml.data.audit.scale_fit import Floats, Hypothesis

__all__ = ["ENERGY_NAMES", "FORCE_NAMES", "energy_hypotheses", "stress_hypotheses"]

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
_GRADIENT = "gradients-for-forces"
_GRADIENT_WORDS = "the forces have the sign of gradients"


def _slug(unit: str) -> str:
    return unit.replace("/", "-per-").replace("Å", "A").replace("³", "3")


ENERGY_NAMES = {f"energy-in-{_slug(unit)}": unit for unit in _ENERGY}
"""Trap's name and unit of energies."""

FORCE_NAMES = {f"forces-in-{_slug(unit)}": unit for unit in _FORCE}
"""Trap's name and unit of forces."""


def _constant(value: float) -> Factor:
    return lambda _: value


def energy_hypotheses() -> list[Hypothesis]:
    """How energies and forces may disagree; each also with forces of the wrong sign."""
    found = [Hypothesis((), _constant(1.0), "energies and forces agree")]
    for name, unit in ENERGY_NAMES.items():
        factor = _ENERGY[unit]
        words = f"the energies are in {unit}"
        found.append(Hypothesis((name,), _constant(1 / factor), words, _constant(factor)))
    found.append(
        Hypothesis(
            ("energy-per-atom",),
            lambda pairs: 1.0 / pairs.n_atoms,
            "the energies are per atom",
            lambda pairs: pairs.n_atoms,
        )
    )
    for name, unit in FORCE_NAMES.items():
        factor = _FORCE[unit]
        words = f"the forces are in {unit}"
        found.append(Hypothesis((name,), _constant(factor), words, force_factor=factor))
    found.append(
        Hypothesis(
            ("energy-in-Ha", "forces-in-Ha-per-bohr"),
            _constant(1 / units.Bohr),
            "energies and forces are in atomic units (Ha, Ha/bohr)",
            _constant(units.Hartree),
            units.Hartree / units.Bohr,
        )
    )
    found.append(
        Hypothesis(("positions-in-bohr",), _constant(units.Bohr), "the positions are in bohr")
    )
    return found + [_reversed(one) for one in found]


def _reversed(one: Hypothesis) -> Hypothesis:
    words = f"{one.words} and {_GRADIENT_WORDS}" if one.traps else _GRADIENT_WORDS
    return Hypothesis(
        (*one.traps, _GRADIENT),
        lambda pairs: -one.factor(pairs),
        words,
        one.energy_factor,
        -one.force_factor,
    )


def stress_hypotheses(with_energies: bool) -> list[Hypothesis]:
    """How the stress may disagree with the energies.

    Args:
        with_energies: Whether the unit of the energies is open too, because no forces vouch for it.
    """
    found = [Hypothesis((), _constant(1.0), "stress and energies agree")]
    for unit, factor in _STRESS.items():
        name = f"stress-in-{_slug(unit)}"
        found.append(Hypothesis((name,), _constant(factor), f"the stress is in {unit}"))
    found += [_wrong_sign(one) for one in found]
    for sign, words in ((-1.0, "minus stress times volume"), (1.0, "stress times volume")):
        found.append(
            Hypothesis(
                ("virial-for-stress",),
                lambda pairs, sign=sign: sign / pairs.volume,
                f"a virial ({words}) stands in place of the stress",
            )
        )
    if with_energies:
        found += [one for one in energy_hypotheses() if one.traps and one.force_factor == 1.0]
        found = [one for one in found if "positions-in-bohr" not in one.traps]
    return found


def _wrong_sign(one: Hypothesis) -> Hypothesis:
    words = "the stress is positive under compression, as VASP has it"
    return Hypothesis(
        (*one.traps, "stress-sign"),
        lambda pairs: -one.factor(pairs),
        f"{one.words} and {words}" if one.traps else words,
    )
