"""An audit's evidence as tables per element, formula, entry and pair; the first row names the columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.data.audit.composition import fit_composition
from atomml.data.audit.evidence import Evidence, parse_composition
from atomml.units import GPA

__all__ = ["element_rows", "entry_rows", "formula_rows", "pair_rows"]

_MOST_ENTRIES = 20_000
_MOST_FORMULAS = 2_000

Rows = list[list[Any]]


def element_rows(evidence: Evidence) -> Rows:
    """Of each element: atoms, entries, and its energy in the linear model (empty where that isn't fixed)."""
    from ase.data import chemical_symbols

    composition = fit_composition(evidence)
    counts = evidence.counts
    rows: Rows = [["element", "atoms_in_all", "entries", "fitted_energy_eV"]]
    for place, number in enumerate(evidence.elements):
        energy = np.nan if composition is None else composition.energies[place]
        column = counts[:, place]
        rows.append([chemical_symbols[number], int(column.sum()), int((column > 0).sum()), _cell(energy)])
    return rows


def formula_rows(evidence: Evidence) -> Rows:
    """Of each formula, the most frequent first: entries and the range of the energy per atom."""
    codes = evidence.codes["composition"]
    energy = evidence["energy"] / evidence["n_atoms"]
    counts = np.bincount(codes)
    low, high = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
    known = np.isfinite(energy)
    np.minimum.at(low, codes[known], energy[known])
    np.maximum.at(high, codes[known], energy[known])
    rows: Rows = [["formula", "entries", "lowest_eV_per_atom", "highest_eV_per_atom"]]
    for code in np.argsort(-counts, kind="stable")[:_MOST_FORMULAS]:
        word = evidence.words["composition"][code]
        rows.append([_formula(word), int(counts[code]), _cell(low[code]), _cell(high[code])])
    return rows


def entry_rows(evidence: Evidence) -> Rows:
    """Of each entry its numbers; of a set of more than 20,000, evenly spaced ones."""
    composition = fit_composition(evidence)
    n = len(evidence)
    nothing = np.full(n, np.nan)
    columns: dict[str, NDArray[Any]] = {
        "n_atoms": evidence["n_atoms"].astype(int),
        "energy_eV_per_atom": evidence["energy"] / evidence["n_atoms"],
        "fitted_energy_eV_per_atom": nothing if composition is None else composition.predicted,
        "residual_eV_per_atom": nothing if composition is None else composition.residual,
        "rms_force_eV_per_A": np.sqrt(evidence["mean_square_force"]),
        "max_force_eV_per_A": evidence["max_force"],
        "pressure_GPa": evidence["pressure"] * GPA,
        "volume_A3_per_atom": evidence["volume"] / evidence["n_atoms"],
        "closest_of_covalent_radii": evidence["closest"],
    }
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    rows: Rows = [["index", "source", "formula", "group", *columns]]
    keep = np.unique(np.linspace(0, max(n - 1, 0), min(n, _MOST_ENTRIES)).astype(int))
    for index in keep:
        words = [
            evidence.words[name][evidence.codes[name][index]] for name in ("source", "composition", "group")
        ]
        cells = [_cell(values[index]) for values in columns.values()]
        rows.append([int(index), words[0], _formula(words[1]), words[2], *cells])
    return rows


def pair_rows(evidence: Evidence) -> Rows:
    """Of near-by structures: the change of energy, and the work of forces and stress as they stand."""
    pairs = evidence.verdict.pairs
    work = pairs.force_work + pairs.isotropic + pairs.deviatoric
    rows: Rows = [["first", "second", "energy_change_eV", "work_eV", "displacement_A", "largest_strain"]]
    for k in range(len(pairs)):
        rows.append(
            [
                int(pairs.first[k]),
                int(pairs.second[k]),
                _cell(pairs.change[k]),
                _cell(work[k]),
                _cell(pairs.displacement[k]),
                _cell(pairs.strain[k]),
            ]
        )
    return rows


def _cell(value: Any) -> Any:
    if isinstance(value, int | np.integer):
        return int(value)
    return float(f"{value:.8g}") if np.isfinite(value) else ""


def _formula(word: str) -> str:
    from ase.data import chemical_symbols

    return "".join(
        f"{chemical_symbols[number]}{count if count > 1 else ''}" for number, count in parse_composition(word)
    )
