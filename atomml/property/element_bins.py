"""The 92 inputs that CGCNN and ALIGNN have for an element: one-hot bins of nine elemental properties."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from atomml.errors import ModelError

__all__ = ["N_BINS", "check_binned", "element_bins"]

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


def check_binned(numbers: Sequence[int], where: str) -> None:
    """Refuse elements that the table does not know.

    Raises:
        ModelError: Names the first of them, and ``where`` it is.
    """
    beyond = [z for z in numbers if not 1 <= z < len(_table())]
    if beyond:
        raise ModelError(f"{where}: there is no input for element Z={beyond[0]}: the table ends at fermium.")
