"""Structures packed for the viewer: positions as 16-bit steps of a grid, in base64.

A trajectory of 100 frames of 500 atoms takes 400 kB; the step is a fraction of 0.01 Å for
any structure that fits on a screen. What is too large for that goes as float32.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atomml.errors import InputError
from atomml.report.quantities import label_of, split_unit

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["bond_cutoffs", "pack_frames", "unpack_positions"]

MAX_STEP = 0.01
"""Å; a coarser grid than this is not used: half a step, the largest error, stays below 0.005 Å."""

BOND_TOLERANCE = 1.15
"""A bond is drawn up to this multiple of the sum of the covalent radii."""

_LAYER = 200  # added to the elements of the second of two structures laid on each other
_SECOND_CARBON, _SECOND_HYDROGEN = "#e69f00", "#f3dca6"

_NON_METALS = frozenset((1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 33, 34, 35, 36, 52, 53, 54, 85, 86))


def pack_frames(
    frames: Sequence[Atoms], values: Mapping[str, Sequence[float]] | None = None
) -> dict[str, Any]:
    """Everything the viewer shows, as JSON-able data.

    Args:
        frames: Structures; they may differ in their atoms. All positions must be finite. Where
            ``arrays["overlay"]`` is 1 the atoms are a second structure laid on the first: its carbon is
            orange, and no bond is drawn between the two.
        values: Per name (with its unit as a suffix) one number per frame; NaN is shown as a dash.

    Raises:
        InputError: No frames, a position that is not finite, or values of another length.
    """
    if not frames:
        raise InputError("a viewer needs at least one structure and got none.")
    positions = np.concatenate([np.asarray(atoms.positions, dtype=np.float64) for atoms in frames])
    if not np.isfinite(positions).all():
        raise InputError("a structure with NaN or infinite positions cannot be shown: leave that frame out.")
    numbers = [_kinds(atoms) for atoms in frames]
    same = all(np.array_equal(one, numbers[0]) for one in numbers[1:])
    kinds = numbers[0] if same else np.concatenate(numbers)
    species = np.unique(kinds)
    return {
        "species": [_species(int(number)) for number in species],
        "bondCutoffs": _cutoffs(species),
        "metals": [int(kind) % _LAYER not in _NON_METALS for kind in species],
        "counts": [len(numbers[0])] if same else [len(one) for one in numbers],
        "kinds": _base64(np.searchsorted(species, kinds).astype("u1")),
        "nFrames": len(frames),
        "positions": _pack_positions(positions),
        "cells": _cells(frames),
        "pbc": _pbc(frames),
        "values": [_value(name, data, len(frames)) for name, data in (values or {}).items()],
    }


def unpack_positions(packed: Mapping[str, Any]) -> NDArray[np.float64]:
    """The positions (n, 3) in Å of ``pack_frames(...)["positions"]``, as the viewer computes them."""
    raw = base64.b64decode(packed["data"])
    if packed["type"] == "float32":
        return np.frombuffer(raw, dtype="<f4").reshape(-1, 3).astype(np.float64)
    steps = np.frombuffer(raw, dtype="<u2").reshape(-1, 3)
    return np.asarray(packed["origin"]) + steps * np.asarray(packed["step"])


def bond_cutoffs(species: NDArray[np.int64]) -> NDArray[np.float64]:
    """Largest length (n, n) in Å of a drawn bond between the elements ``species``.

    It is 1.15 times the sum of the covalent radii (Cordero et al. 2008, the values of ASE). The
    viewer draws none between two metals of a compound (``frameCutoffs`` in ``geometry.js``).
    """
    from ase.data import covalent_radii

    radii = np.asarray(covalent_radii, dtype=np.float64)[species]
    cutoffs: NDArray[np.float64] = BOND_TOLERANCE * (radii[:, None] + radii[None, :])
    return cutoffs


def _kinds(atoms: Atoms) -> NDArray[np.int64]:
    """Elements; in the second of two structures laid on each other (``arrays["overlay"]``) they differ."""
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    layer = atoms.arrays.get("overlay")
    return numbers if layer is None else numbers + _LAYER * (np.asarray(layer, dtype=np.int64) > 0)


def _cutoffs(kinds: NDArray[np.int64]) -> list[list[float]]:
    """Those of the elements; none between two structures laid on each other."""
    layers = kinds // _LAYER
    cutoffs = bond_cutoffs(kinds % _LAYER) * (layers[:, None] == layers)
    return cutoffs.round(3).tolist()


def _species(kind: int) -> dict[str, Any]:
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors

    layer, number = divmod(kind, _LAYER)
    colour = "#" + "".join(f"{round(255 * float(part)):02x}" for part in jmol_colors[number])
    if layer:
        colour = _SECOND_CARBON if number == 6 else _SECOND_HYDROGEN if number == 1 else colour
    return {
        "symbol": chemical_symbols[number] + ("′" if layer else ""),
        "colour": colour,
        "radius": round(float(covalent_radii[number]), 2),
    }


def _pack_positions(positions: NDArray[np.float64]) -> dict[str, Any]:
    origin = positions.min(axis=0) if len(positions) else np.zeros(3)
    span = positions.max(axis=0) - origin if len(positions) else np.zeros(3)
    if (span > MAX_STEP * 65535).any():
        return {"type": "float32", "data": _base64(positions.astype("<f4"))}
    step = np.where(span > 1e-9, span, 1.0) / 65535
    quantised = np.rint((positions - origin) / step).clip(0, 65535).astype("<u2")
    return {
        "type": "uint16",
        "origin": [float(f"{value:.9g}") for value in origin],
        "step": [float(f"{value:.9g}") for value in step],
        "data": _base64(quantised),
    }


def _cells(frames: Sequence[Atoms]) -> list[list[float] | None]:
    """One cell for all frames if it never changes, one per frame if it does; None without periodicity."""
    cells = [
        np.asarray(atoms.cell.array, dtype=np.float64).ravel().round(5).tolist() if atoms.pbc.any() else None
        for atoms in frames
    ]
    return cells[:1] if all(cell == cells[0] for cell in cells) else cells


def _pbc(frames: Sequence[Atoms]) -> list[list[bool]]:
    flags = [[bool(flag) for flag in atoms.pbc] for atoms in frames]
    return flags[:1] if all(one == flags[0] for one in flags) else flags


def _value(name: str, data: Sequence[float], n_frames: int) -> dict[str, Any]:
    numbers = np.asarray(data, dtype=np.float64).ravel()
    if numbers.size != n_frames:
        raise InputError(f"the viewer got {numbers.size} values of {name} for {n_frames} frames.")
    rounded = [float(f"{number:.8g}") if np.isfinite(number) else None for number in numbers]
    return {"label": label_of(name), "unit": split_unit(name)[1], "data": rounded}


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
