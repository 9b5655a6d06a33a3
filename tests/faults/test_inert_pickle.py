"""Hostile pickles run nothing; harmless ones give the bits that torch gives."""

from __future__ import annotations

import contextlib
import copyreg
import io
import marshal
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from atomml.errors import CheckpointError
from atomml.inert_pickle import Name, Record, read_torch_file


def archive(path: Path, pickled: bytes, **entries: bytes) -> Path:
    """A file as torch.save lays it out, around any pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("hostile/data.pkl", pickled)
        file.writestr("hostile/version", b"3\n")
        for name, content in entries.items():
            file.writestr(f"hostile/{name.replace('__', '/')}", content)
    return path


class _Calls:
    """Pickles into a call of anything."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def _payloads(canary: Path) -> dict[str, bytes]:
    """Pickles that would create the file ``canary``, each by another way in."""
    touch = f"open({str(canary)!r}, 'w').close()"
    shell = f"touch {canary}"
    code = marshal.dumps(compile(touch, "x", "exec"))
    made = f"{canary}".encode()

    def named(module: str, name: str) -> bytes:
        """A name looked up by protocol 4."""
        return b"\x80\x04" + _short(module) + _short(name) + b"\x93"

    system = b"cposix\nsystem\n"
    executed = b"c__builtin__\nexec\n"
    text = b"(V" + touch.encode() + b"\ntR"
    imported = f"__import__('os').system({shell!r})"
    return {
        "reduce of os.system": pickle.dumps(_Calls(os.system, shell), 2),
        "protocol 0": pickle.dumps(_Calls(os.system, shell), 0),
        "protocol 5": pickle.dumps(_Calls(os.system, shell), 5),
        "exec": executed + text + b".",
        "eval": pickle.dumps(_Calls(eval, imported), 4),
        "os.mkdir": pickle.dumps(_Calls(os.mkdir, str(canary)), 4),
        "inst": b"(V" + shell.encode() + b"\niposix\nsystem\n.",
        "obj": b"(" + system + b"V" + shell.encode() + b"\no.",
        "stack global": b"\x80\x04"
        + _short("posix")
        + _short("system")
        + b"\x93"
        + _short(shell)
        + b"\x85R.",
        "dotted name": b"\x80\x04"
        + _short("builtins")
        + _short("exec.__call__")
        + b"\x93"
        + _short(touch)
        + b"\x85R.",
        "inside a list": b"(l" + executed + text + b"a.",
        "as a key": b"}" + executed + text + b"Ns.",
        "as a state": b"ccollections\nOrderedDict\n)R" + executed + text + b"b.",
        "popped": executed + text + b"0N.",
        "remembered": executed + b"q\x00" + b"0h\x00" + text + b".",
        "getattr chain": pickle.dumps(_Calls(getattr, _Calls(__import__, "os"), "name"), 4)[:-1]
        + b"0"
        + executed
        + text
        + b".",
        "marshalled function": b"ctypes\nFunctionType\n(cmarshal\nloads\n(B"
        + struct.pack("<I", len(code))
        + code
        + b"tR}tR)R.",
        "two pickles": pickle.dumps(_Calls(os.system, shell), 2)[:-1] + b"0" + executed + text + b".",
        "newobj": b"\x80\x02csubprocess\nPopen\n((lV" + b"touch\naV" + made + b"\natt\x81.",
        "newobj_ex": b"\x80\x04csubprocess\nPopen\n((lVtouch\naV" + made + b"\nat}\x92.",
        "reduce of a class": b"csubprocess\nPopen\n((lVtouch\naV" + made + b"\natR.",
        "bytes as code": pickle.dumps(_Calls(exec, compile(touch, "x", "exec").co_filename and touch), 3),
        "long tuple": b"(" + executed + text + b"tt0N."[:1] + b".",
    }


KINDS = sorted(_payloads(Path("x")))


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_pickle_runs_nothing(kind: str, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    payload = _payloads(canary)[kind]
    path = archive(tmp_path / "m.pt", payload)
    with contextlib.suppress(CheckpointError):
        read_torch_file(path)
    assert not canary.exists()


def test_the_payloads_are_armed(tmp_path: Path) -> None:
    """Python's own unpickler falls for most of them: else the test above would show nothing."""
    ran = []
    for kind in KINDS:
        canary = tmp_path / f"ran-{len(ran)}-{KINDS.index(kind)}"
        try:
            found = pickle.loads(_payloads(canary)[kind])
        except Exception:
            found = None
        if isinstance(found, subprocess.Popen) and hasattr(found, "returncode"):
            found.wait()
        if canary.exists():
            ran.append(kind)
    assert len(ran) >= 16, sorted(set(KINDS) - set(ran))


def test_extension_codes_are_refused(tmp_path: Path) -> None:
    copyreg.add_extension("os", "system", 7)
    try:
        path = archive(tmp_path / "m.pt", b"\x80\x02\x82\x07(Vtrue\ntR.")
        with pytest.raises(CheckpointError, match="EXT1"):
            read_torch_file(path)
    finally:
        copyreg.remove_extension("os", "system", 7)


@pytest.mark.parametrize(
    ("pickled", "sentence"),
    [
        (b"\x80\x02N", "cut short|damaged"),
        (b"", "cut short|damaged"),
        (b"\x80\x02K\x01K\x02R.", "calls what is no name"),
        (b"\x80\x02K\x01K\x02a.", "no list"),
        (b"\x80\x02K\x01K\x02K\x03s.", "stores by key"),
        (b"\x80\x02K\x01K\x02b.", "plain value"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"t.", "damaged"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "cut short|damaged"),
        (b"\x80\x02U\x07storageQ.", "unknown kind"),
        (b"Pnumbers\n.", "PERSID"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x04\x93.", "damaged"),
        (bytes(range(256)), "damaged|cut short|uses|is not read"),
    ],
)
def test_damaged_pickle_is_one_sentence(pickled: bytes, sentence: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "m.pt", pickled)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        read_torch_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def _tensor_pickle(count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A pickled tensor with any numbers in it."""

    class Stub:
        """Stands for the storage."""

    stream = io.BytesIO()

    class Writer(pickle.Pickler):
        """Writes storages as torch does."""

        def persistent_id(self, obj: Any) -> Any:
            """The reference of a storage."""
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(obj, Stub) else None

    rebuild = torch._utils._rebuild_tensor_v2
    Writer(stream, 2).dump(_Calls(rebuild, Stub(), offset, size, stride, False, OrderedDict()))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("count", "size", "stride", "offset"),
    [
        (4, (5,), (1,), 0),
        (4, (2,), (4,), 0),
        (4, (2,), (1,), 3),
        (4, (-1,), (1,), 0),
        (4, (2,), (-1,), 1),
        (4, (2, 2), (1,), 0),
        (5, (2,), (1,), 0),
        (10**9, (10**9,), (1,), 0),
        (4, (10**9, 4), (0, 1), 0),
    ],
)
def test_tensor_beyond_its_numbers_is_refused(
    count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int, tmp_path: Path
) -> None:
    path = archive(tmp_path / "m.pt", _tensor_pickle(count, size, stride, offset), data__0=bytes(16))
    with pytest.raises(CheckpointError):
        read_torch_file(path)


def test_harmless_tensors_have_the_bits_that_torch_gives(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 4, generator=generator)
    saved = {
        "float32": base,
        "float64": base.double(),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "complex": torch.complex(base, -base),
        "int64": (base * 100).long(),
        "bool": base > 0,
        "transposed": base.T,
        "sliced": base[1:, ::2],
        "scalar": base[0, 0],
        "empty": base[:0],
        "parameter": torch.nn.Parameter(base),
        "nested": [1, (2.5, None), {"x": True, "big": 10**30}, {3, 4}, b"bytes", "text", torch.Size([2, 3])],
        "shared": (base, base),
    }
    torch.save(saved, tmp_path / "m.pt")
    found = read_torch_file(tmp_path / "m.pt")
    wanted = torch.load(tmp_path / "m.pt", weights_only=False)
    assert found.keys() == wanted.keys()
    assert found["nested"] == [1, (2.5, None), {"x": True, "big": 10**30}, {3, 4}, b"bytes", "text", (2, 3)]
    for key in saved:
        if isinstance(wanted[key], torch.Tensor):
            assert found[key].dtype == wanted[key].dtype
            assert torch.equal(found[key], wanted[key].data), key


def test_whole_modules_come_out_as_records(tmp_path: Path) -> None:
    """Classes are named, never looked up: the module that defines this one is gone when it is read."""
    home = types.ModuleType("gone_tomorrow")
    kind = type("Net", (torch.nn.Module,), {"__module__": "gone_tomorrow"})
    home.Net = kind  # type: ignore[attr-defined]
    sys.modules["gone_tomorrow"] = home
    try:
        module = kind()
        module.layer = torch.nn.Linear(2, 3)
        torch.save(module, tmp_path / "m.pt")
    finally:
        del sys.modules["gone_tomorrow"]
    found = read_torch_file(tmp_path / "m.pt")
    assert isinstance(found, Record)
    assert found.made_by == Name("gone_tomorrow", "Net")
    layer = found.get("_modules")["layer"]
    assert str(layer.made_by) == "torch.nn.modules.linear.Linear"
    assert torch.equal(layer.get("_parameters")["weight"], module.layer.weight.data)


def test_other_containers_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no file"):
        read_torch_file(tmp_path / "none.pt")
    torch.save({"a": 1}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"since torch 1\.6"):
        read_torch_file(tmp_path / "old.pt")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/data.pkl", bytes(10**7))
    with pytest.raises(CheckpointError, match="compressed entry"):
        read_torch_file(tmp_path / "bomb.pt")
    script = archive(tmp_path / "script.pt", b"N.", constants__pkl=b"N.", code__net=b"")
    with zipfile.ZipFile(script, "a") as file:
        file.writestr("hostile/constants.pkl", b"N.")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_torch_file(script)
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as file:
        file.writestr("readme.txt", b"hello")
    with pytest.raises(CheckpointError, match=r"without one data\.pkl"):
        read_torch_file(tmp_path / "other.pt")


def test_every_truncation_is_one_sentence(tmp_path: Path) -> None:
    torch.save({"weights": torch.arange(50.0)}, tmp_path / "m.pt")
    content = (tmp_path / "m.pt").read_bytes()
    for length in range(0, len(content), 37):
        (tmp_path / "cut.pt").write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_torch_file(tmp_path / "cut.pt")
