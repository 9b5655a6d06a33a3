"""What a workflow returns: a dataclass whose numbers know their units and write themselves to the summary."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from atomml.run import plain

__all__ = ["UNIT_SUFFIXES", "Result", "quantity"]

UNIT_SUFFIXES = {
    "eV_per_atom": "eV/atom",
    "meV_per_atom": "meV/atom",
    "meV_per_A3": "meV/Å^3",
    "meV_per_A": "meV/Å",
    "eV_per_A3": "eV/Å^3",
    "eV_per_A": "eV/Å",
    "A3_per_atom": "Å^3/atom",
    "A2_per_ps": "Å^2/ps",
    "g_per_cm3": "g/cm^3",
    "m_per_s": "m/s",
    "uEh": "µEh",
    "Eh": "Eh",
    "kcal_per_mol": "kcal/mol",
    "eV": "eV",
    "meV": "meV",
    "GPa": "GPa",
    "S_per_cm": "S/cm",
    "cm2_per_s": "cm^2/s",
    "per_A3": "1/Å^3",
    "J_per_K_per_mol": "J/K/mol",
    "THz": "THz",
    "J_per_m2": "J/m^2",
    "per_K": "1/K",
    "A3": "Å^3",
    "A2": "Å^2",
    "A": "Å",
    "K": "K",
    "fs": "fs",
    "ps": "ps",
    "ns_per_day": "ns/day",
    "muB": "μB",
    "D": "D",
    "deg": "°",
    "s": "s",
}
"""The end of a result's key and the unit that it stands for; longer ones first."""

_SUFFIX_OF = {unit: suffix for suffix, unit in UNIT_SUFFIXES.items()}


def quantity(unit: str = "", *, default: Any = dataclasses.MISSING, summary: bool = True) -> Any:
    """A field of a :class:`Result` with its unit.

    Args:
        unit: One of the values of :data:`UNIT_SUFFIXES`; its suffix is added to the key in the
            summary (``energy`` in eV becomes ``energy_eV``). Empty for a number without one.
        default: Value when nobody gives one.
        summary: False keeps the field (structures, long arrays) out of the summary.
    """
    if unit and unit not in _SUFFIX_OF:
        raise ValueError(f"unknown unit {unit!r}; add it to UNIT_SUFFIXES")
    metadata = {"unit": unit, "summary": summary}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class Result:
    """Base of what workflows return.

    Attributes:
        converged: Whether the run reached its criterion.
        warnings: What a reader of the numbers should know.
        folder: The run folder; None where nothing was written.
        summary: What ``summary.json`` holds; empty where nothing was written.
    """

    converged: bool = dataclasses.field(default=True, metadata={"summary": False})
    warnings: list[str] = dataclasses.field(default_factory=list, metadata={"summary": False})
    folder: Path | None = dataclasses.field(default=None, metadata={"summary": False})
    summary: dict[str, Any] = dataclasses.field(default_factory=dict, metadata={"summary": False}, repr=False)

    def results(self) -> dict[str, Any]:
        """The numbers by key; a key carries its unit (``energy_eV``). Fields that are None are left out."""
        return {
            _key(entry): plain(value)
            for entry in dataclasses.fields(self)
            if entry.metadata.get("summary", True) and (value := getattr(self, entry.name)) is not None
        }

    @classmethod
    def from_summary(cls, summary: dict[str, Any], folder: Path) -> Self:
        """The result that an earlier run wrote into ``summary.json``; what is not there is as by default."""
        known = summary["results"]
        fields = {entry.name: known[_key(entry)] for entry in dataclasses.fields(cls) if _key(entry) in known}
        state = {"converged": summary["converged"], "warnings": list(summary["warnings"])}
        return cls(**fields, **state, folder=folder, summary=summary)

    def units(self) -> dict[str, str]:
        """The unit of each key of :meth:`results` that has one."""
        known = self.results()
        pairs = ((_key(entry), _unit(entry)) for entry in dataclasses.fields(self))
        return {key: unit for key, unit in pairs if unit and key in known}


def _unit(entry: dataclasses.Field[Any]) -> str:
    if entry.metadata.get("unit"):
        return str(entry.metadata["unit"])
    matches = (unit for suffix, unit in UNIT_SUFFIXES.items() if entry.name.endswith(f"_{suffix}"))
    return next(matches, "")


def _key(entry: dataclasses.Field[Any]) -> str:
    suffix = _SUFFIX_OF.get(_unit(entry), "")
    if entry.name.endswith("_per_atom"):  # energy_per_atom_eV, not energy_per_atom_eV_per_atom
        suffix = suffix.removesuffix("_per_atom")
    if not suffix or entry.name.endswith(f"_{suffix}"):
        return entry.name
    return f"{entry.name}_{suffix}"
