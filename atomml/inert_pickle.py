"""Files of ``torch.save``, read without running anything: records and tensors come out, never objects.

A pickle is a programme. Here a small machine goes through its opcodes, and whatever the programme would
import, call or build becomes a :class:`Record` that names it; only tensors, ordered dictionaries and sizes
are made, by our own code. Nothing is imported, no code of the file's is looked up, and sizes are checked
before memory is taken.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from atomml.errors import CheckpointError

__all__ = ["Name", "Record", "read_torch_file"]

MOST_PICKLED = 512 * 2**20
"""Bytes of a pickled structure, without its tensors, that are read at most."""

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


class Name(NamedTuple):
    """Something that a pickle refers to by name: a class, a function, a data type."""

    module: str
    name: str

    def __str__(self) -> str:
        """As one imports it."""
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """What a pickle would have built; inert.

    Attributes:
        made_by: The class or function that it would have called.
        arguments: What with.
        state: What it would have set on the result, or None.
        items: What it would have appended.
        entries: What it would have stored by key.
    """

    made_by: Name
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    entries: list[tuple[Any, Any]] = field(default_factory=list)

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute that the state would have set."""
        return self.state.get(key, default) if isinstance(self.state, dict) else default


@dataclass(frozen=True)
class _Storage:
    data: Tensor


def read_torch_file(path: str | Path) -> Any:
    """What ``torch.save`` wrote, as plain values, tensors on the CPU and :class:`Record`.

    Raises:
        CheckpointError: Missing, damaged, compiled, of the format before torch 1.6, or with something in it
            that only running it could make; one sentence.
    """
    path = Path(path)
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no file {path}: check the path.") from error
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is not a file of torch.save since torch 1.6 (or is cut short): save it again."
        ) from error
    with archive:
        try:
            return _read_archive(path, archive)
        except CheckpointError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} is damaged ({_first_line(error)}): get it again.") from error
        except (EOFError, OSError, MemoryError, zipfile.BadZipFile, RecursionError) as error:
            raise CheckpointError(f"{path} is damaged or cut short: get it again.") from error


def _read_archive(path: Path, archive: zipfile.ZipFile) -> Any:
    entries = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise CheckpointError(f"{path} is an archive without one data.pkl: it is no file of torch.save.")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in entries or any(name.startswith(f"{folder}code/") for name in entries):
        raise CheckpointError(
            f"{path} is compiled by TorchScript, which holds code and no weights by name: use the file that "
            "it was compiled from."
        )
    packed = [name for name, info in entries.items() if info.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(f"{path} has a compressed entry {packed[0]!r}, which torch.save never writes.")
    if sum(info.file_size for info in entries.values()) > path.stat().st_size:
        raise CheckpointError(f"{path} announces more than it holds: get it again.")
    order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in entries else b"little"
    if order.strip() != b"little":
        raise CheckpointError(f"{path} was written on a big-endian machine, which is not offered.")
    if entries[pickles[0]].file_size > MOST_PICKLED:
        raise CheckpointError(f"{path} has a pickled structure of more than {MOST_PICKLED >> 20} MiB.")

    def storage(key: str, dtype: torch.dtype, count: int) -> _Storage:
        """The numbers of one storage."""
        info = entries.get(f"{folder}data/{key}")
        size = count * torch.empty(0, dtype=dtype).element_size()
        if info is None or count < 0 or info.file_size != size:
            raise CheckpointError(f"{path} lacks numbers {key}, or has another count of them than it says.")
        raw = bytearray(archive.read(info))
        return _Storage(torch.frombuffer(raw, dtype=dtype) if count else torch.empty(0, dtype=dtype))

    return _Machine(str(path), storage).run(archive.read(pickles[0]))


_MARK = object()


class _Machine:
    """Goes through the opcodes of a pickle; see the module."""

    def __init__(self, where: str, storage: Callable[[str, torch.dtype, int], _Storage]) -> None:
        self.where, self.storage = where, storage
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.stored: dict[str, _Storage] = {}

    def run(self, pickled: bytes) -> Any:
        """The value that the pickle ends with."""
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _LITERALS:
                self.stack.append(argument)
            else:
                action = getattr(self, f"_do_{opcode.name.lower()}", None)
                if action is None:
                    raise CheckpointError(
                        f"{self.where} uses {opcode.name}, which no weights need: it is not read."
                    )
                action(argument)
        raise CheckpointError(f"{self.where} is cut short: get it again.")

    def _marked(self) -> list[Any]:
        """What lies above the last mark; the mark goes too."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise CheckpointError(f"{self.where} is damaged: get it again.")
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def _do_proto(self, argument: Any) -> None:
        pass

    def _do_frame(self, argument: Any) -> None:
        pass

    def _do_mark(self, argument: Any) -> None:
        self.stack.append(_MARK)

    def _do_pop(self, argument: Any) -> None:
        self.stack.pop()

    def _do_pop_mark(self, argument: Any) -> None:
        self._marked()

    def _do_dup(self, argument: Any) -> None:
        self.stack.append(self.stack[-1])

    def _put(self, argument: Any) -> None:
        self.memo[int(argument)] = self.stack[-1]

    _do_put = _do_binput = _do_long_binput = _put

    def _do_memoize(self, argument: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, argument: Any) -> None:
        self.stack.append(self.memo[int(argument)])

    _do_get = _do_binget = _do_long_binget = _get

    def _do_tuple(self, argument: Any) -> None:
        self.stack.append(tuple(self._marked()))

    def _do_tuple1(self, argument: Any) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def _do_tuple2(self, argument: Any) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def _do_tuple3(self, argument: Any) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def _do_list(self, argument: Any) -> None:
        self.stack.append(self._marked())

    def _do_dict(self, argument: Any) -> None:
        self.stack.append(dict(_pairs(self._marked())))

    def _do_frozenset(self, argument: Any) -> None:
        self.stack.append(frozenset(self._marked()))

    def _do_append(self, argument: Any) -> None:
        value = self.stack.pop()
        self._extend([value])

    def _do_appends(self, argument: Any) -> None:
        self._extend(self._marked())

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target.items.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise CheckpointError(f"{self.where} appends to what is no list: it is not read.")

    def _do_additems(self, argument: Any) -> None:
        values = self._marked()
        if not isinstance(self.stack[-1], set):
            raise CheckpointError(f"{self.where} adds to what is no set: it is not read.")
        self.stack[-1].update(values)

    def _do_setitem(self, argument: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._store([(key, value)])

    def _do_setitems(self, argument: Any) -> None:
        self._store(list(_pairs(self._marked())))

    def _store(self, pairs: list[tuple[Any, Any]]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target.entries.extend(pairs)
        elif isinstance(target, dict):
            target.update(pairs)
        else:
            raise CheckpointError(f"{self.where} stores by key in what has none: it is not read.")

    def _do_global(self, argument: Any) -> None:
        module, _, name = str(argument).partition(" ")
        self.stack.append(Name(module, name))

    def _do_stack_global(self, argument: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise CheckpointError(f"{self.where} names something by what is no text: it is not read.")
        self.stack.append(Name(module, name))

    def _do_reduce(self, argument: Any) -> None:
        arguments, made_by = self.stack.pop(), self.stack.pop()
        self.stack.append(self._make(made_by, arguments))

    _do_newobj = _do_reduce

    def _do_newobj_ex(self, argument: Any) -> None:
        keywords, arguments, made_by = self.stack.pop(), self.stack.pop(), self.stack.pop()
        record = self._make(made_by, arguments)
        if keywords and isinstance(record, Record):
            record.entries.extend(keywords.items())
        self.stack.append(record)

    def _do_inst(self, argument: Any) -> None:
        module, _, name = str(argument).partition(" ")
        self.stack.append(self._make(Name(module, name), tuple(self._marked())))

    def _do_obj(self, argument: Any) -> None:
        made_by, *arguments = self._marked()
        self.stack.append(self._make(made_by, tuple(arguments)))

    def _make(self, made_by: Any, arguments: Any) -> Any:
        """Tensors and the like; a record of everything else."""
        if not isinstance(made_by, Name) or not isinstance(arguments, tuple):
            raise CheckpointError(f"{self.where} calls what is no name: it is not read.")
        maker = _MAKERS.get(str(made_by))
        return Record(made_by, arguments) if maker is None else maker(self, arguments)

    def _do_build(self, argument: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif not isinstance(
            target, dict | Tensor
        ):  # attributes of those, such as _metadata, mean nothing here
            raise CheckpointError(f"{self.where} sets the state of a plain value: it is not read.")

    def _do_binpersid(self, argument: Any) -> None:
        """A reference to numbers outside the pickle."""
        match self.stack.pop():
            case ("storage", Name() as kind, str() as key, str(), int() as count) if kind.name in _DTYPES:
                if key not in self.stored:
                    self.stored[key] = self.storage(key, _DTYPES[kind.name], count)
                self.stack.append(self.stored[key])
            case _:
                raise CheckpointError(f"{self.where} refers to numbers of an unknown kind: it is not read.")


def _tensor(machine: _Machine, arguments: tuple[Any, ...]) -> Tensor:
    """A view of a storage, checked to lie within it."""
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, _Storage):
        raise CheckpointError(f"{machine.where} has a tensor without numbers: it is not read.")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise CheckpointError(f"{machine.where} has a tensor of no possible shape: it is not read.")
    reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
    count = 1
    for n in size:
        count *= n
    if count and (reach > storage.data.numel() or count > max(storage.data.numel(), 2**20)):
        raise CheckpointError(
            f"{machine.where} has a tensor that is larger than its numbers: it is not read."
        )
    return storage.data.as_strided(size, stride, offset).clone() if count else storage.data.new_empty(size)


def _first(machine: _Machine, arguments: tuple[Any, ...]) -> Any:
    """A parameter is its tensor."""
    return arguments[0]


def _ordered(machine: _Machine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    return dict(arguments[0]) if arguments else {}


_MAKERS: dict[str, Callable[[_Machine, tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "collections.OrderedDict": _ordered,
    "_codecs.encode": lambda machine, arguments: arguments[0].encode("latin1"),
    "torch.Size": lambda machine, arguments: tuple(arguments[0]),
    "builtins.set": lambda machine, arguments: set(arguments[0] if arguments else ()),
    "__builtin__.set": lambda machine, arguments: set(arguments[0] if arguments else ()),
}

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}

_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
        *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    )
)


def _pairs(values: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(values[::2], values[1::2], strict=True)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
