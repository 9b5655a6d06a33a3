"""Descriptors of composition: statistics of elemental properties (Magpie)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.errors import MissingExtraError

__all__ = ["MAGPIE", "MAGPIE_STATISTICS", "composition_row", "magpie_names", "magpie_table"]

Floats = NDArray[np.float64]

MAGPIE = (
    "Number",
    "MendeleevNumber",
    "AtomicWeight",
    "MeltingT",
    "Column",
    "Row",
    "CovalentRadius",
    "Electronegativity",
    "NsValence",
    "NpValence",
    "NdValence",
    "NfValence",
    "NValence",
    "NsUnfilled",
    "NpUnfilled",
    "NdUnfilled",
    "NfUnfilled",
    "NUnfilled",
    "GSvolume_pa",
    "GSbandgap",
    "GSmagmom",
    "SpaceGroupNumber",
)
"""The 22 elemental properties of Ward et al., npj Comput. Mater. 2, 16028 (2016)."""

MAGPIE_STATISTICS = ("minimum", "maximum", "range", "mean", "avg_dev", "mode")

_MOST = 118


def magpie_table() -> Floats:
    """``(119, 22)`` of :data:`MAGPIE` by atomic number, NaN where nothing is known.

    Raises:
        MissingExtraError: matminer, whose tables these are, is not installed.
    """
    try:
        from matminer.utils.data import MagpieData
    except ImportError as error:
        raise MissingExtraError.for_extra("matminer", "property") from error
    from ase.data import chemical_symbols

    known: dict[str, dict[str, Any]] = MagpieData().all_elemental_props
    table = np.full((_MOST + 1, len(MAGPIE)), np.nan)
    for column, name in enumerate(MAGPIE):
        for number, symbol in enumerate(chemical_symbols[1:], start=1):
            value = known[name].get(symbol)
            if isinstance(value, int | float):
                table[number, column] = value
    return table


def magpie_names() -> list[str]:
    """Names of the descriptors: property after property, each with every statistic."""
    return [f"{statistic} {name}" for name in MAGPIE for statistic in MAGPIE_STATISTICS]


def composition_row(numbers: NDArray[np.int64], table: Floats) -> Floats:
    """``(132,)`` statistics over the composition: each element counts by its share of the atoms.

    Minimum, maximum, range, mean, mean absolute deviation, and the value of the most frequent element (the
    least of them where several are). NaN where a property of an element is unknown.

    Args:
        numbers: ``(n_atoms,)`` atomic numbers.
        table: As :func:`magpie_table` gives it.
    """
    elements, counts = np.unique(numbers, return_counts=True)
    share = counts / counts.sum()
    values = table[elements]
    mean = share @ values
    low, high = values.min(axis=0), values.max(axis=0)
    spread = share @ np.abs(values - mean)
    frequent = values[counts == counts.max()].min(axis=0)
    return np.stack([low, high, high - low, mean, spread, frequent], axis=1).ravel()
