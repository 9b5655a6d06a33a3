"""Names and numbers as a reader wants them: a key such as ``energy_eV`` becomes "Energy" in eV.

The suite's keys carry their unit as a suffix (``temperature_K``, ``fmax_eV_per_A``); this
file holds the one table that turns the suffix into the unit's symbol.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

__all__ = ["UNITS", "exact_value", "format_value", "label_of", "split_unit", "with_error", "with_unit"]

UNITS: dict[str, str] = {
    "A": "Å",
    "A2": "Å²",
    "A2_per_fs": "Å²/fs",
    "A2_per_ps": "Å²/ps",
    "A3": "Å³",
    "A3_per_atom": "Å³/atom",
    "A_per_fs": "Å/fs",
    "C": "°C",
    "D": "D",
    "Eh": "Eh",
    "GB": "GB",
    "GPa": "GPa",
    "J_per_K_per_mol": "J/K/mol",
    "J_per_m2": "J/m²",
    "K": "K",
    "MB": "MB",
    "MiB": "MiB",
    "S_per_cm": "S/cm",
    "THz": "THz",
    "atoms": "atoms",
    "cm2_per_s": "cm²/s",
    "deg": "°",
    "degrees": "°",
    "eV": "eV",
    "eV_per_A": "eV/Å",
    "eV_per_A2": "eV/Å²",
    "eV_per_A3": "eV/Å³",
    "eV_per_atom": "eV/atom",
    "fs": "fs",
    "g_per_cm3": "g/cm³",
    "h": "h",
    "hartree": "hartree",
    "kB": "k_B",
    "kJ_per_mol": "kJ/mol",
    "kcal_per_mol": "kcal/mol",
    "m_per_s": "m/s",
    "meV": "meV",
    "meV_per_A": "meV/Å",
    "meV_per_A3": "meV/Å³",
    "meV_per_atom": "meV/atom",
    "meV_per_atom_per_ns": "meV/atom/ns",
    "meV_per_atom_per_ps": "meV/atom/ps",
    "min": "min",
    "ms": "ms",
    "muB": "μB",
    "uEh": "µEh",
    "ns": "ns",
    "ns_per_day": "ns/day",
    "per_A3": "1/Å³",
    "per_K": "1/K",
    "percent": "%",
    "ps": "ps",
    "s": "s",
    "s_per_step": "s/step",
    "seconds": "s",
    "steps": "steps",
    "steps_per_s": "steps/s",
}

_NAMES = {
    "dt": "Time step",
    "fmax": "Largest force",
    "lr": "Learning rate",
    "mae": "MAE",
    "msd": "MSD",
    "n_atoms": "Atoms",
    "n_frames": "Frames",
    "n_steps": "Steps",
    "rdf": "RDF",
    "rmsd": "RMSD",
    "rmse": "RMSE",
    "sha256": "SHA-256",
}

_ACRONYMS = frozenset({"mae", "msd", "rdf", "rmsd", "rmse"})

_ENERGIES = frozenset({"kinetic", "potential", "total"})

_LISTED = 9
"""Values of a longer list that are shown; nine are a 3x3 matrix."""

_LONGEST = max(suffix.count("_") for suffix in UNITS) + 1


def split_unit(key: str) -> tuple[str, str]:
    """The stem of ``key`` and the unit's symbol, empty if the key carries no known unit.

    ``split_unit("fmax_eV_per_A")`` is ``("fmax", "eV/Å")``; the longest suffix that is a unit wins.
    A key that is nothing but a rate (``ns_per_day``) is a speed.
    """
    if key in _NAMES:
        return key, ""
    if key == "s_per_step":
        return "time_per_step", "s"
    if "_per_" in key and key in UNITS:
        return "speed", UNITS[key]
    words = key.split("_")
    for start in range(max(1, len(words) - _LONGEST), len(words)):
        unit = UNITS.get("_".join(words[start:]))
        if unit is not None:
            return "_".join(words[:start]), unit
    return key, ""


def label_of(key: str) -> str:
    """A key's stem as words for a heading: ``potential_energy_eV`` gives "Potential energy"."""
    stem, unit = split_unit(key)
    if stem == "conserved":
        return "Conserved quantity"
    if stem in _ENERGIES and unit.startswith("eV"):
        return f"{stem.capitalize()} energy"
    words = stem.replace("_", " ").strip().removeprefix("n ")
    head, _, tail = words.partition(" ")
    if stem in _NAMES:
        return _NAMES[stem]
    if head in _ACRONYMS and tail:
        return f"{_NAMES[head]} {tail}"
    return words[:1].upper() + words[1:] if (len(words) > 1 and words.islower()) or " " in words else words


def with_unit(key: str) -> str:
    """A key as an axis label: ``temperature_K`` gives "Temperature (K)"."""
    unit = split_unit(key)[1]
    return f"{label_of(key)} ({unit})" if unit else label_of(key)


def format_value(value: Any, unit: str = "") -> str:
    """``value`` as a person reads it: five significant digits, energies to at least 0.1 meV.

    Integers get thin thousands separators, a missing value a dash, NaN and infinity their names.
    """
    if value is None:
        return "–"
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        return _format_real(float(value), unit)
    if isinstance(value, (list, tuple)):
        return ", ".join(format_value(item, unit) for item in value)
    return str(value)


def with_error(value: float, error: float) -> str:
    """``value ± error``, the error to two significant digits and the value to as many decimals."""
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return format_value(value)
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{decimals}f} ± {error:.{decimals}f}" if decimals < 12 else format_value(value)


def exact_value(value: Any) -> str:
    """``value`` without rounding, for a setting that somebody may want to type again."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        more = f" … {len(value):,} in all" if len(value) > _LISTED else ""
        return ", ".join(exact_value(item) for item in value[:_LISTED]) + more
    if isinstance(value, Real) and not isinstance(value, Integral):
        return repr(float(value))
    return str(value)


def _format_real(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if unit.startswith(("eV", "hartree")) and 1 <= abs(value) < 1e7:
        return f"{value:.4f}" if unit != "hartree" else f"{value:.6f}"
    if 1e4 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.5g}"
