"""The bytes of a checkpoint: a safetensors table, tensors, and one digest over both.

Layout, all of it fixed so that equal content gives equal bytes and no byte goes unchecked:
eight bytes of little-endian length; a compact JSON table padded with spaces to a multiple of
eight; the tensors' bytes, little-endian, widest type first and then by name, without gaps. The
table's ``__metadata__`` holds ``atomml`` (canonical JSON: ``format``, ``kind``, ``header``) and
``sha256`` over that JSON and every tensor's name, type, shape and bytes. Any reader of
safetensors can open these files; :func:`read` refuses one of which a single bit has changed.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import CheckpointError
from atomml.files import write_atomic_with
from atomml.untrusted_json import parse_json

if TYPE_CHECKING:
    import torch

__all__ = [
    "FORMAT",
    "Entry",
    "content_digest",
    "from_numpy",
    "from_torch",
    "read",
    "to_numpy",
    "to_torch",
    "write",
]

FORMAT = 1
"""Version of the layout and header that this code writes; older ones must still load."""

_LARGEST_TABLE = 100_000_000  # bytes; the same bound as the safetensors library's
_NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16: carried as its bits
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "F64": np.dtype("<f8"),
}
_FOREIGN = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # zip; pickle protocols 2 to 5
_TAGS = {dtype: tag for tag, dtype in _NUMPY_TYPES.items() if tag != "BF16"}


@dataclass(frozen=True)
class Entry:
    """One tensor: its safetensors type and its content as a contiguous little-endian array."""

    tag: str
    array: np.ndarray[Any, Any]


def content_digest(entries: Mapping[str, Entry], header: Mapping[str, Any], kind: str) -> str:
    """The digest that a file of this content would have."""
    return _digest(_content(header, kind), entries)


def write(path: Path, entries: dict[str, Entry], header: Mapping[str, Any], kind: str) -> str:
    """Write a file atomically; returns its digest.

    Args:
        path: Where to.
        entries: Tensors by name.
        header: What else to keep; fit for JSON.
        kind: ``tensors`` or ``state``.

    Raises:
        TypeError: A header that is not JSON.
    """
    content = _content(header, kind)
    # widest first: every tensor then begins at a multiple of its own width
    entries = dict(sorted(entries.items(), key=lambda item: (-item[1].array.itemsize, item[0])))
    digest = _digest(content, entries)
    table = _table(content, digest, entries)

    def write_parts(stream: Any) -> None:
        """The table, then each entry's bytes."""
        stream.write(table)
        for entry in entries.values():
            stream.write(entry.array.tobytes())

    write_atomic_with(path, write_parts)
    return digest


def read(path: Path, kind: str | None) -> tuple[dict[str, Entry], dict[str, Any], str]:
    """Tensors, header and digest of a file, every byte of it verified; any kind if ``kind`` is None.

    Raises:
        CheckpointError: Missing, damaged, foreign, of a newer format, or of another kind.
    """
    data = _read_bytes(path)
    table, start = _parse_table(path, data)
    metadata = table.pop("__metadata__")
    envelope = _parse_envelope(path, metadata["atomml"])
    entries = _parse_entries(path, table, memoryview(data)[start:])
    digest = _digest(metadata["atomml"], entries)
    # The exact table of this content is the only one accepted: length, spaces and order included.
    if metadata.get("sha256") != digest or data[:start] != _table(metadata["atomml"], digest, entries):
        raise _damaged(path)
    if kind is not None and envelope["kind"] != kind:
        raise CheckpointError(f"{path} holds {envelope['kind']}, not {kind}: give {_KINDS[kind]}.")
    return entries, envelope["header"], digest


_KINDS = {"tensors": "a model's checkpoint", "state": "a run's restart file"}


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check the path.") from error
    # a table of 640 bytes begins like a pickle, so what follows the length decides
    if data.startswith(_FOREIGN) and data[8:9] != b"{":
        raise CheckpointError(
            f"{path} is a pickled or zipped checkpoint of another program, which is never loaded as it is: "
            "turn it into a safe file with atomml convert."
        )
    return data


def _parse_table(path: Path, data: bytes) -> tuple[dict[str, Any], int]:
    """The JSON table and where the tensors' bytes begin."""
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= length <= min(_LARGEST_TABLE, len(data) - 8):
        raise _damaged(path)
    try:
        table = parse_json(data[8 : 8 + length])
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(table, dict):
        raise _damaged(path)
    metadata = table.get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("atomml"), str):
        raise CheckpointError(
            f"{path} is not an atomml checkpoint: it is damaged, or another program's safetensors file."
        )
    return table, 8 + length


def _parse_envelope(path: Path, content: str) -> dict[str, Any]:
    try:
        envelope = parse_json(content)
        version = envelope["format"]
        if isinstance(version, int) and version > FORMAT:
            raise CheckpointError(
                f"{path} is in checkpoint format {version}, newer than the {FORMAT} that this atomml reads: "
                "upgrade atomml."
            )
        if version != FORMAT or not isinstance(envelope["header"], dict) or "kind" not in envelope:
            raise _damaged(path)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    return envelope


def _parse_entries(path: Path, table: dict[str, Any], data: memoryview) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    position = 0
    try:
        for name, row in table.items():
            begin, end = row["data_offsets"]
            dtype, shape = _NUMPY_TYPES[row["dtype"]], tuple(row["shape"])
            if begin != position or end - begin != dtype.itemsize * math.prod(shape) or end > len(data):
                raise _damaged(path)
            array = np.frombuffer(data[begin:end], dtype=dtype).reshape(shape).copy()
            entries[name] = Entry(row["dtype"], array)
            position = end
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path) from error
    if position != len(data):
        raise _damaged(path)
    return entries


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged or not an atomml checkpoint (its content and its digest disagree): "
        "take another copy of it."
    )


def _content(header: Mapping[str, Any], kind: str) -> str:
    return _canonical({"format": FORMAT, "kind": kind, "header": dict(header)})


def _canonical(value: Any) -> str:
    """JSON with one spelling only: sorted keys, no spaces, ASCII, shortest exact floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _digest(content: str, entries: Mapping[str, Entry]) -> str:
    """SHA-256 over the header and each tensor's name, type, shape and bytes, in the order of names."""
    state = hashlib.sha256(b"atomml checkpoint\0")
    _update(state, content.encode())
    for name, entry in sorted(entries.items()):
        _update(state, _canonical([name, entry.tag, list(entry.array.shape)]).encode())
        _update(state, entry.array.tobytes())
    return state.hexdigest()


def _update(state: Any, data: bytes) -> None:
    state.update(struct.pack("<Q", len(data)))  # the length keeps neighbouring parts apart
    state.update(data)


def _table(content: str, digest: str, entries: Mapping[str, Entry]) -> bytes:
    """The file's first part: length, JSON table, padding."""
    table: dict[str, Any] = {"__metadata__": {"atomml": content, "sha256": digest}}
    position = 0
    for name, entry in entries.items():
        end = position + entry.array.nbytes
        table[name] = {"dtype": entry.tag, "shape": list(entry.array.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def from_numpy(name: str, array: np.ndarray[Any, Any]) -> Entry:
    """A copy of an array, ready to be written.

    Raises:
        TypeError: A type that the format lacks.
    """
    _check_name(name)
    array = np.asarray(array)
    little = array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype
    if little not in _TAGS:
        raise TypeError(f"array {name!r} of type {array.dtype} does not fit a checkpoint")
    return Entry(_TAGS[little], np.array(array, dtype=little, order="C", copy=True))


def from_torch(name: str, tensor: torch.Tensor) -> Entry:
    """A copy of a tensor from any device, ready to be written.

    Raises:
        TypeError: A type that the format lacks.
    """
    import torch

    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        _check_name(name)
        return Entry("BF16", tensor.view(torch.int16).numpy().view(np.uint16).copy())
    try:
        return from_numpy(name, tensor.numpy())
    except RuntimeError as error:
        raise TypeError(f"tensor {name!r} of type {tensor.dtype} does not fit a checkpoint") from error


def to_numpy(entry: Entry) -> np.ndarray[Any, Any]:
    """The array in the machine's byte order, writable; bfloat16 as its bits."""
    return entry.array.astype(entry.array.dtype.newbyteorder("="))


def to_torch(entry: Entry) -> torch.Tensor:
    """The tensor, on the CPU, in the type that was written."""
    import torch

    native = to_numpy(entry)
    if entry.tag == "BF16":
        return torch.from_numpy(native.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(native)


def _check_name(name: str) -> None:
    if not isinstance(name, str) or name == "__metadata__":
        raise TypeError(f"{name!r} cannot name a tensor in a checkpoint")
