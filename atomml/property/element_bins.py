"""The 92 inputs that CGCNN and ALIGNN have for an element: one-hot bins of nine elemental properties."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["N_BINS", "binned_elements", "element_bins"]

N_BINS = 92
"""Width of the input of an atom."""


@cache
def _table() -> Tensor:
    lines = Path(__file__).with_name("element_bins.txt").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line and not line.startswith("#")]
    table = torch.zeros(len(rows) + 1, N_BINS, dtype=torch.float64)
    for number, row in enumerate(rows, start=1):
        table[number, [int(place) for place in row.split()]] = 1.0
    return table


def element_bins() -> Tensor:
    """``(101, 92)`` float64 by atomic number, zeros for none; a copy.

    Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), supplement, table S2.
    """
    return _table().clone()


def binned_elements() -> tuple[int, ...]:
    """Atomic numbers that the table knows: 1 to 100."""
    return tuple(range(1, len(_table())))
