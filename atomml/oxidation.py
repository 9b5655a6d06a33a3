"""Oxidation states: from magnetic moments where there are any, balanced to the structure's charge.

B. Deng et al., Nature Machine Intelligence 5, 1031 (2023), read the valence of manganese off CHGNet's
moments by ranges; here every ion of the first transition row has its ranges, and what charge remains is
balanced by moving those atoms into another state whose moments lie closest to it.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["MOMENT_RANGES", "OxidationStates", "has_readable_moments", "oxidation_states", "usual_charge"]

# Common oxidation states of ions that have one (N. N. Greenwood and A. Earnshaw, Chemistry of the Elements,
# 2nd edition); elements with several are not among them.
_USUAL = {
    **dict.fromkeys(("H", "Li", "Na", "K", "Rb", "Cs", "Ag"), 1),
    **dict.fromkeys(("Be", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd"), 2),
    **dict.fromkeys(("B", "Al", "Sc", "Y", "La", "Ga", "In"), 3),
    **dict.fromkeys(("Si", "Zr", "Hf", "Ge"), 4),
    **dict.fromkeys(("P", "Nb", "Ta"), 5),
    "W": 6,
    **dict.fromkeys(("F", "Cl", "Br", "I"), -1),
    **dict.fromkeys(("O", "S", "Se"), -2),
}
_ANIONS = frozenset({"F", "Cl", "Br", "I", "O", "S", "Se"})

# Ranges of the moment's size in μB and the oxidation state that each means. Manganese as in the chgnet
# package (low-spin states below 2.5); the others' ends lie half way between the moments that PBE+U, and
# CHGNet after it, gives the ions in oxides, such as 1.8 for Ni2+, 1.0 for Ni3+, 0 for Co3+ and 2.7 for Co2+.
MOMENT_RANGES: dict[str, tuple[tuple[float, float, int], ...]] = {
    "Ti": ((0.0, 0.5, 4), (0.5, 1.4, 3), (1.4, 2.5, 2)),
    "V": ((0.0, 0.5, 5), (0.5, 1.45, 4), (1.45, 2.2, 3), (2.2, 3.2, 2)),
    "Cr": ((0.0, 0.5, 6), (0.5, 1.6, 5), (1.6, 2.4, 4), (2.4, 3.2, 3), (3.2, 4.5, 2)),
    "Mn": ((0.0, 0.5, 7), (0.5, 1.5, 2), (1.5, 2.5, 3), (2.5, 3.5, 4), (3.5, 4.2, 3), (4.2, 5.5, 2)),
    "Fe": ((0.0, 0.5, 2), (0.5, 1.5, 3), (2.9, 3.9, 2), (3.9, 5.5, 3)),
    "Co": ((0.0, 0.6, 3), (0.6, 1.8, 4), (1.8, 2.85, 2), (2.85, 3.6, 3)),
    "Ni": ((0.0, 0.5, 4), (0.5, 1.4, 3), (1.4, 2.3, 2)),
    "Cu": ((0.0, 0.15, 1), (0.15, 1.2, 2)),
}


@dataclass(frozen=True)
class OxidationStates:
    """States of all atoms and how they were found.

    Attributes:
        states: ``(n,)``; their sum is ``charge`` where ``balanced``.
        method: ``magnetic moments``, ``bond valences``, ``composition``, or ``none``.
        balanced: Whether the sum is the charge of the structure.
        charge: Sum of the states, e.
        moved: Numbers of the atoms whose state is not that of their own moment.
        farthest: How far outside the range of its state such an atom's moment lies at most, μB.
        counts: Atoms by ion, such as ``Mn3+``.
    """

    states: NDArray[np.int64]
    method: str
    balanced: bool
    charge: int
    moved: list[int] = field(default_factory=list)
    farthest: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)


def usual_charge(element: str) -> float | None:
    """The charge that an element's ions usually carry, e; None where there are several."""
    known = _USUAL.get(element)
    return None if known is None else float(known)


def has_readable_moments(atoms: Atoms) -> bool:
    """Whether an element whose moments tell its state is there, and an anion that takes its electrons."""
    elements = set(atoms.symbols)
    return bool(elements & set(MOMENT_RANGES)) and bool(elements & _ANIONS)


def oxidation_states(atoms: Atoms, magmoms: Array | None = None, charge: int = 0) -> OxidationStates:
    """The oxidation state of every atom.

    With moments: each atom of an element in :data:`MOMENT_RANGES` has the state of the range that its moment
    lies in; the others have their usual one, or the one that pymatgen guesses from the composition. If
    the sum is not the charge, atoms change state so that the moments lie outside their ranges by as little
    as possible altogether, which keeps the sum exact. Without moments: bond valences, else the composition.

    Args:
        atoms: The structure.
        magmoms: ``(n,)`` μB, the sign of no matter; None if the model has none.
        charge: Of the structure, e.
    """
    if magmoms is not None and set(atoms.symbols) & set(MOMENT_RANGES):
        fixed = _fixed_states(atoms)
        if fixed is not None:
            return _by_moments(atoms, np.abs(np.asarray(magmoms, dtype=np.float64)), fixed, charge)
    return _by_bonds(atoms, charge)


def _by_moments(atoms: Atoms, moments: Array, fixed: dict[str, int], charge: int) -> OxidationStates:
    symbols = list(atoms.symbols)
    free = [n for n, symbol in enumerate(symbols) if symbol in MOMENT_RANGES]
    states = np.array([fixed.get(symbol, 0) for symbol in symbols], dtype=np.int64)
    costs = [_costs(symbols[n], float(moments[n])) for n in free]
    own = np.array([min(cost, key=lambda state: (cost[state], state)) for cost in costs], dtype=np.int64)
    target = charge - int(states.sum())
    chosen = own if own.sum() == target else _cheapest(costs, target)
    balanced = chosen is not None
    states[free] = own if chosen is None else chosen
    moved = [] if chosen is None else [n for n, a, b in zip(free, own, chosen, strict=True) if a != b]
    outside = [costs[free.index(n)][int(states[n])] for n in moved]
    farthest = max(outside, default=0.0)
    return _result(atoms, states, "magnetic moments", balanced, moved, farthest)


def _costs(symbol: str, moment: float) -> dict[int, float]:
    """How far a moment is outside the ranges of each state, μB."""
    found: dict[int, float] = {}
    for low, high, state in MOMENT_RANGES[symbol]:
        distance = max(low - moment, moment - high, 0.0)
        found[state] = min(distance, found.get(state, np.inf))
    return found


def _cheapest(costs: list[dict[int, float]], target: int) -> NDArray[np.int64] | None:
    """The state of each atom that costs least together, of those whose sum is the target; None if none is."""
    lowest = sum(min(cost) for cost in costs)
    highest = sum(max(cost) for cost in costs)
    if not lowest <= target <= highest:
        return None
    best = np.full(highest - lowest + 1, np.inf)
    best[0] = 0.0
    choices = []
    for cost in costs:
        base, states = min(cost), sorted(cost)
        options = np.full((len(states), len(best)), np.inf)
        for number, state in enumerate(states):
            step = state - base
            options[number, step:] = best[: len(best) - step] + cost[state]
        choices.append(options.argmin(axis=0))
        best = options.min(axis=0)
    place = target - lowest
    if not np.isfinite(best[place]):
        return None
    found = np.zeros(len(costs), dtype=np.int64)
    for number in range(len(costs) - 1, -1, -1):
        cost = costs[number]
        state = sorted(cost)[int(choices[number][place])]
        found[number] = state
        place -= state - min(cost)
    return found


def _fixed_states(atoms: Atoms) -> dict[str, int] | None:
    """States of the elements whose moments tell nothing; None if one of them cannot be told."""
    others = sorted(set(atoms.symbols) - set(MOMENT_RANGES))
    fixed = {element: _USUAL[element] for element in others if element in _USUAL}
    if len(fixed) < len(others):
        guessed = _guess(atoms)
        for element in others:
            value = guessed.get(element)
            if element not in fixed and (value is None or value != round(value)):
                return None
            if element not in fixed and value is not None:
                fixed[element] = round(value)
    return fixed


def _guess(atoms: Atoms) -> dict[str, float]:
    """Pymatgen's likeliest states of a composition by element; they may be broken numbers."""
    from pymatgen.core import Composition

    found = Composition(str(atoms.get_chemical_formula())).reduced_composition.oxi_state_guesses(max_sites=-1)
    return dict(found[0]) if found else {}


def _by_bonds(atoms: Atoms, charge: int) -> OxidationStates:
    """By pymatgen's bond valences; where they fail, by the composition alone."""
    states: Any = _bond_valences(atoms) if atoms.pbc.all() and charge == 0 else None
    if states is not None:
        found = np.asarray(states, dtype=np.int64)
        return _result(atoms, found, "bond valences", int(found.sum()) == charge)
    guessed = _guess(atoms) if charge == 0 else {}
    if guessed and all(value == round(value) for value in guessed.values()):
        found = np.array([round(guessed[symbol]) for symbol in atoms.symbols], dtype=np.int64)
        return _result(atoms, found, "composition", int(found.sum()) == charge)
    return _result(atoms, np.zeros(len(atoms), dtype=np.int64), "none", False)


def _bond_valences(atoms: Atoms) -> list[int] | None:
    from pymatgen.analysis.bond_valence import BVAnalyzer
    from pymatgen.io.ase import AseAtomsAdaptor

    structure = AseAtomsAdaptor.get_structure(atoms)
    try:
        with warnings.catch_warnings():  # of spglib, of what its next version will do
            warnings.simplefilter("ignore", DeprecationWarning)
            return [int(state) for state in BVAnalyzer().get_valences(structure)]
    except (ValueError, KeyError):  # no assignment is likely enough, or an element without parameters
        return None


def _result(
    atoms: Atoms,
    states: NDArray[np.int64],
    method: str,
    balanced: bool,
    moved: list[int] | None = None,
    farthest: float = 0.0,
) -> OxidationStates:
    ions = Counter(_ion(symbol, int(state)) for symbol, state in zip(atoms.symbols, states, strict=True))
    counts = dict(sorted(ions.items())) if method != "none" else {}
    return OxidationStates(states, method, balanced, int(states.sum()), moved or [], farthest, counts)


def _ion(symbol: str, state: int) -> str:
    size = "" if abs(state) == 1 else str(abs(state))
    return f"{symbol}{size}{'+' if state >= 0 else '-'}"
