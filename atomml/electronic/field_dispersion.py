"""Dispersion on PySCF's mean fields: D3 and D4 of the package ``pyscf-dispersion``."""

from __future__ import annotations

from importlib.util import find_spec

from atomml.errors import MissingExtraError, OptionError

__all__ = ["checked_dispersion"]

_DAMPINGS = ("d3bj", "d3zero", "d3bjm", "d3zerom", "d3op", "d4")


def checked_dispersion(text: str) -> str:
    """``DAMPING:FUNCTIONAL`` in lower case, as PySCF takes it.

    Raises:
        OptionError: No such damping, or no parameters of this functional for it.
        MissingExtraError: The package is not installed.
    """
    damping, colon, functional = text.strip().lower().partition(":")
    if damping not in _DAMPINGS or not colon or not functional:
        raise OptionError(
            f"{text!r:.60} is no dispersion: write d3bj:pbe or d4:b3lyp; dampings are {', '.join(_DAMPINGS)}."
        )
    if find_spec("pyscf.dispersion") is None:
        raise MissingExtraError("Dispersion is not installed: run pip install pyscf-dispersion.")
    from pyscf import gto
    from pyscf.dispersion import dftd3, dftd4

    helium = gto.M(atom="He", basis="sto-3g", verbose=0)
    try:
        if damping == "d4":
            dftd4.DFTD4Dispersion(helium, xc=functional)
        else:
            dftd3.DFTD3Dispersion(helium, xc=functional, version=damping)
    except Exception as error:  # each of the two libraries has its own way to say that it knows none
        raise OptionError(
            f"{text}: {damping} has no parameters of {functional!r:.40}: name a functional that it was "
            "fitted to, such as pbe, b3lyp, pbe0 or r2scan."
        ) from error
    return f"{damping}:{functional}"
