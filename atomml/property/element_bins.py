"""The 92 inputs that CGCNN and ALIGNN have for an element: one-hot bins of nine elemental properties.

The bins are those of Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), supplement, table S2. The values
are pymatgen's (electronegativities of Pauling, first ionisation energies, electron affinities, molar volumes)
and ASE's (covalent radii of Cordero et al., Dalton Trans. 2832, 2008). The public code of that paper took
others, so its published networks bring a table of their own, which ``convert cgcnn --elements`` reads.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from atomml.errors import ModelError

if TYPE_CHECKING:
    from pymatgen.core import Element

__all__ = ["N_BINS", "check_binned", "element_bins"]

N_BINS = 92
"""Width of the input of an atom."""

_LAST = 100

_RANGES = {
    "electronegativity": (26, 0.5, 4.0),
    "radius": (36, 25.0, 250.0),
    "ionisation": (58, 1.3, 3.3),
    "affinity": (68, -3.0, 3.7),
    "volume": (82, 1.5, 4.3),
}
"""First place, and the limits of ten equal bins: Pauling, pm, log eV, eV, log cm³/mol."""

_GROUPS, _PERIODS, _VALENCE, _BLOCKS = 0, 18, 45, 78


@cache
def _table() -> Tensor:
    from pymatgen.core import Element

    table = torch.zeros(_LAST + 1, N_BINS, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen names each value that it does not have
        for number in range(1, _LAST + 1):
            table[number, _places(Element.from_Z(number))] = 1.0
    return table


def _places(element: Element) -> list[int]:
    """Where an element's row is one; a property that is not known has no bin."""
    from ase.data import covalent_radii

    in_series = element.is_lanthanoid or element.is_actinoid
    group = 0 if in_series else int(element.group)
    found = [_GROUPS + group, _PERIODS + int(element.row), _BLOCKS + "spdf".index(element.block)]
    found.append(_VALENCE + (2 if in_series else group % 10 if group > 12 else group))
    if element.symbol == "He":
        found[-1] = _VALENCE + 2
    known = {
        "electronegativity": element.data.get("X"),
        "radius": 100 * float(covalent_radii[element.Z]),
        "ionisation": _logarithm(element.ionization_energy),
        "affinity": element.electron_affinity,
        "volume": _logarithm(element.molar_volume),
    }
    for name, value in known.items():
        if value is not None and math.isfinite(float(value)):
            first, low, high = _RANGES[name]
            place = math.floor((float(value) - low) / (high - low) * 10 + 1e-9)  # limits are of the bin above
            found.append(first + min(max(place, 0), 9))
    return found


def _logarithm(value: float | None) -> float | None:
    return math.log(value) if value else None


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
    beyond = [z for z in numbers if not 1 <= z <= _LAST]
    if beyond:
        raise ModelError(f"{where}: there is no input for element Z={beyond[0]}: the table ends at fermium.")
