"""One entry as bytes: a digest, a JSON header, raw arrays. No pickle, the same bytes everywhere.

Layout, little-endian: 16 bytes of BLAKE2b over all that follows; the length of the header
(uint32); the header in UTF-8; then float64 arrays in the order positions ``(n, 3)``, cell
``(3, 3)``, energy ``(1,)``, forces ``(n, 3)``, stress ``(3, 3)``, magmoms ``(n,)``, those that the
header names under ``labels``; lower triangles of the matrices ``(m (m + 1) / 2,)`` that it names under
``matrices`` with their m; last the atomic numbers ``(n,)`` as uint8.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from hashlib import blake2b
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from atomml.data.entry import LABELS, Entry, Labels
from atomml.errors import FileFormatError
from atomml.untrusted_json import parse_json

__all__ = ["DIGEST_SIZE", "decode_entry", "encode_entry", "packed_text", "unpacked_text"]

DIGEST_SIZE = 16
_HEAD = struct.Struct("<I")
_START = DIGEST_SIZE + _HEAD.size
_VECTORS = ("positions", "cell", "forces", "stress")
_TEXTS = ("source", "group", "trajectory", "method", "head")


def encode_entry(entry: Entry) -> bytes:
    """The record of an entry; equal entries have equal records.

    Raises:
        FileFormatError: A value in ``atoms.info`` that JSON cannot hold, such as NaN.
    """
    atoms, labels = entry.atoms, entry.labels
    header: dict[str, Any] = {"n": len(atoms), "labels": labels.names, "pbc": atoms.pbc.tolist()}
    header |= {name: getattr(entry, name) for name in _TEXTS if getattr(entry, name)}
    header |= {"frame": entry.frame} if entry.frame else {}
    header |= {"weight": entry.weight} if entry.weight != 1.0 else {}
    header |= {"info": atoms.info} if atoms.info else {}
    header |= {"matrices": {k: len(m) for k, m in entry.matrices.items()}} if entry.matrices else {}
    try:
        text = json.dumps(header, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{entry.where}: a value in its info cannot be stored ({error}).") from error
    parts = [_HEAD.pack(len(text)), text, _floats(atoms.positions), _floats(atoms.cell.array)]
    parts += [_floats(getattr(labels, name)) for name in labels.names]
    parts += [_floats(matrix[np.tril_indices(len(matrix))]) for _, matrix in sorted(entry.matrices.items())]
    parts.append(np.ascontiguousarray(atoms.numbers, dtype=np.uint8).tobytes())
    body = b"".join(parts)
    return blake2b(body, digest_size=DIGEST_SIZE).digest() + body


def decode_entry(record: bytes | memoryview, where: str = "record") -> Entry:
    """The entry of a record; its arrays are copies.

    Args:
        record: As :func:`encode_entry` made it.
        where: What to call it in the error.

    Raises:
        FileFormatError: The digest does not fit: the record is damaged.
    """
    body = memoryview(record)[DIGEST_SIZE:]
    if blake2b(body, digest_size=DIGEST_SIZE).digest() != bytes(record[:DIGEST_SIZE]):
        raise FileFormatError(f"{where} is damaged (its digest does not fit): take another copy.")
    (length,) = _HEAD.unpack_from(body)
    start = _HEAD.size + length
    header = parse_json(bytes(body[_HEAD.size : start]))
    n = header["n"]
    names = [name for name in LABELS if name in header["labels"]]
    lengths = {"positions": 3 * n, "cell": 9, "energy": 1, "forces": 3 * n, "stress": 9, "magmoms": n}
    parts: dict[str, Any] = {}
    for name in ("positions", "cell", *names):
        part = np.frombuffer(body, "<f8", lengths[name], start).astype(np.float64)
        parts[name] = part.reshape(-1, 3) if name in _VECTORS else part
        start += 8 * lengths[name]
    positions, cell = parts.pop("positions"), parts.pop("cell")
    matrices = {}
    for name, size in sorted(header.get("matrices", {}).items()):
        packed = np.frombuffer(body, "<f8", size * (size + 1) // 2, start).astype(np.float64)
        matrices[name] = _unpacked(packed)
        start += 8 * len(packed)
    numbers = np.frombuffer(body, np.uint8, offset=start)
    atoms = Atoms(numbers, positions, cell=cell, pbc=header["pbc"], info=header.get("info"))
    if "energy" in parts:
        parts["energy"] = float(parts["energy"][0])
    texts = {name: header.get(name, "") for name in _TEXTS}
    frame, weight = header.get("frame", 0), header.get("weight", 1.0)
    return Entry(atoms, Labels(**parts), frame=frame, weight=weight, matrices=matrices, **texts)


def packed_text(matrix: NDArray[np.float64]) -> str:
    """The lower triangle of a symmetric matrix as text, with all its bits."""
    return base64.b64encode(_floats(matrix[np.tril_indices(len(matrix))])).decode("ascii")


def unpacked_text(text: str) -> NDArray[np.float64]:
    """Undo :func:`packed_text`."""
    return _unpacked(np.frombuffer(base64.b64decode(text), "<f8").astype(np.float64))


def _unpacked(packed: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric matrix of a lower triangle."""
    size = math.isqrt(2 * len(packed))
    matrix = np.empty((size, size))
    rows, columns = np.tril_indices(size)
    matrix[rows, columns] = matrix[columns, rows] = packed
    return matrix


def _floats(values: float | NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f8").tobytes()
