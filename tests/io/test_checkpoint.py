"""Checkpoints: exact, deterministic, atomic; one flipped bit is one too many."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from safetensors.numpy import load_file, save_file

from atomml.checkpoint import (
    FORMAT,
    load_checkpoint,
    load_state,
    model_digest,
    read_header,
    save_checkpoint,
    save_model,
    save_state,
)
from atomml.errors import CheckpointError
from atomml.registry import load_model

HEADER = {
    "step": 12,
    "energy_eV": -0.1,
    "generator": {"state": 2**127 + 1},
    "names": ["a", "ü"],
    "none": None,
}


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(5)
    return {
        "positions": generator.normal(size=(7, 3)),
        "numbers": generator.integers(0, 2**63, 7),
        "pbc": np.array([True, False, True]),
        "words": generator.integers(0, 2**64, 4, dtype=np.uint64),
        "charges": generator.normal(size=7).astype(np.float32),
        "scalar": np.array(3.0),
        "nothing": np.zeros((0, 3)),
        "odd": np.arange(3, dtype=np.int8),
    }


def bits(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.tobytes()


def test_restart_files_keep_every_bit_and_every_digit(tmp_path: Path) -> None:
    digest = save_state(tmp_path / "s", arrays(), HEADER)
    state = load_state(tmp_path / "s")
    assert {name: bits(a) for name, a in state.arrays.items()} == {n: bits(a) for n, a in arrays().items()}
    assert state.header == HEADER
    assert state.sha256 == digest
    assert all(array.flags.writeable for array in state.arrays.values())


@settings(max_examples=60, deadline=None)
@given(
    array=stnp.arrays(
        st.sampled_from(["?", "i1", "<i2", "<i8", "u1", ">u4", "<u8", "<f2", ">f4", "<f8"]),
        stnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    header=st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=6,
        ),
        max_size=3,
    ),
)
def test_any_array_and_header_come_back(
    array: np.ndarray[Any, Any], header: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("state") / "s"
    save_state(path, {"x": array}, header)
    state = load_state(path)
    native = array.astype(array.dtype.newbyteorder("="))
    assert bits(state.arrays["x"]) == bits(native)  # NaN payloads too
    assert state.header == header


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
def test_tensors_of_every_type_come_back(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    save_checkpoint(tmp_path / "c", {"w": tensor, "v": tensor.T}, {})
    tensors, header = load_checkpoint(tmp_path / "c")
    assert header == {}
    assert tensors["w"].dtype == dtype
    assert torch.equal(tensors["w"], tensor)
    assert torch.equal(tensors["v"], tensor.T)


def test_the_file_is_safetensors_to_others(tmp_path: Path) -> None:
    save_state(tmp_path / "s", arrays(), HEADER)
    assert {n: bits(a) for n, a in load_file(tmp_path / "s").items()} == {
        n: bits(a) for n, a in arrays().items()
    }


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    """Whatever the order in which it was given, the name of the file and the time."""
    save_state(tmp_path / "one", arrays(), HEADER)
    shuffled = dict(reversed(arrays().items()))
    save_state(tmp_path / "two", shuffled, dict(reversed(HEADER.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_no_path_host_or_clock_is_in_the_file(tmp_path: Path) -> None:
    save_state(tmp_path / "s", arrays(), HEADER)
    content = (tmp_path / "s").read_bytes()
    for trace in (str(tmp_path), os.uname().nodename, time.strftime("%Y-%m-%d")):
        assert trace.encode() not in content


def test_the_digest_depends_on_every_part(tmp_path: Path) -> None:
    def digest(parts: dict[str, np.ndarray[Any, Any]], header: dict[str, Any], kind: str = "state") -> str:
        if kind == "state":
            return save_state(tmp_path / "s", parts, header)
        return save_checkpoint(tmp_path / "s", {n: torch.from_numpy(a) for n, a in parts.items()}, header)

    x = np.arange(4.0)
    digests = [
        digest({"x": x}, {}),
        digest({"y": x}, {}),
        digest({"x": x.reshape(2, 2)}, {}),
        digest({"x": x.view(np.int64)}, {}),
        digest({"x": -x}, {}),
        digest({"x": x}, {"a": 1}),
        digest({"x": x[:2], "y": x[2:]}, {}),
        digest({"x": x}, {}, "tensors"),
    ]
    assert len(set(digests)) == len(digests)


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path) -> None:
    """Every bit of a small file: length, table, padding, digest and data."""
    path = tmp_path / "s"
    save_state(path, {"x": np.arange(3.0), "b": np.array([True])}, {"a": [1, 2]})
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        spoilt = bytearray(content)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        with pytest.raises(CheckpointError, match=str(path)):
            load_state(path)


def test_a_flipped_bit_in_a_model_is_refused_a_hundred_times_of_a_hundred(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(load_model("lj-argon", "float64", "cpu"), path)
    content = path.read_bytes()
    generator = random.Random(7)
    for _ in range(100):
        spoilt = bytearray(content)
        bit = generator.randrange(8 * len(content))
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        with pytest.raises(CheckpointError):
            load_model(path)


def test_truncation_extension_and_swaps_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    save_state(path, {"x": np.arange(3.0), "y": np.arange(3.0) + 1}, {})
    content = path.read_bytes()
    swapped = content[:-48] + content[-24:] + content[-48:-24]
    spaced = content.replace(b'"dtype":', b'"dtype": ', 1)
    for spoilt in (
        b"",
        content[:4],
        content[:8],
        content[:-1],
        content[:-8],
        content + b"\0",
        swapped,
        spaced,
        content * 2,
    ):
        path.write_bytes(spoilt)
        with pytest.raises(CheckpointError, match=r"is damaged|not an atomml"):
            load_state(path)


def forge(path: Path, envelope: object, table: dict[str, Any] | None = None) -> None:
    """A well-formed safetensors file with the given header."""
    text = json.dumps({"__metadata__": {"atomml": json.dumps(envelope), "sha256": "0" * 64}, **(table or {})})
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode())


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    forge(tmp_path / "s", {"format": FORMAT + 1, "anything": "else"})
    with pytest.raises(
        CheckpointError, match=rf"format {FORMAT + 1}, newer than the {FORMAT}.*upgrade atomml"
    ):
        load_state(tmp_path / "s")


@pytest.mark.parametrize(
    "envelope", [None, [], 1, "x", {}, {"format": "1"}, {"format": 1, "header": 3, "kind": "state"}]
)
def test_a_header_of_another_form_is_refused(envelope: object, tmp_path: Path) -> None:
    forge(tmp_path / "s", envelope)
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "s")


@pytest.mark.parametrize(
    "row",
    [
        {"dtype": "F64", "shape": [10**9, 10**9], "data_offsets": [0, 8 * 10**18]},
        {"dtype": "F64", "shape": [-1], "data_offsets": [0, -8]},
        {"dtype": "F63", "shape": [0], "data_offsets": [0, 0]},
        {"dtype": "F64", "shape": "0", "data_offsets": [0, 0]},
        {"dtype": "F64", "shape": [0], "data_offsets": [0]},
        {"dtype": ["F64"], "shape": [0], "data_offsets": [0, 0]},
        {"shape": [0]},
        [1, 2],
        7,
    ],
)
def test_a_table_that_lies_is_refused_without_allocation(row: object, tmp_path: Path) -> None:
    forge(tmp_path / "s", {"format": 1, "kind": "state", "header": {}}, {"x": row})
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "s")


@pytest.mark.parametrize("limit", [None, 10**6])
def test_deep_nesting_is_refused(limit: int | None, tmp_path: Path) -> None:
    """Also where a package has raised the recursion limit: Python's parser would overflow the stack."""
    text = b"[" * 200_000
    (tmp_path / "s").write_bytes(struct.pack("<Q", len(text)) + text)
    before = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(limit or before)
        with pytest.raises(CheckpointError):
            load_state(tmp_path / "s")
    finally:
        sys.setrecursionlimit(before)


def test_pickles_and_zips_are_refused_and_sent_to_convert(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "zip")
    torch.save({"w": torch.zeros(2)}, tmp_path / "pickle", _use_new_zipfile_serialization=False)
    for name in ("zip", "pickle"):
        with pytest.raises(CheckpointError, match="atomml convert"):
            load_checkpoint(tmp_path / name)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"w": np.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="another program's"):
        load_checkpoint(tmp_path / "foreign.safetensors")


def test_the_two_kinds_are_not_mixed_up(tmp_path: Path) -> None:
    save_state(tmp_path / "s", arrays(), HEADER)
    with pytest.raises(CheckpointError, match="holds state, not tensors"):
        load_checkpoint(tmp_path / "s")
    assert read_header(tmp_path / "s") == HEADER


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "s"
    save_state(path, arrays(), HEADER)
    before = path.read_bytes()
    for bad in (np.zeros(2, complex), np.array(["a"]), np.array([{}]), np.zeros(2, "M8[s]")):
        with pytest.raises(TypeError, match="'x'"):
            save_state(path, {"x": bad}, {})
    with pytest.raises(TypeError):
        save_state(path, {}, {"x": object()})
    with pytest.raises(TypeError):
        save_checkpoint(path, {"x": torch.zeros(2, dtype=torch.complex64)}, {})
    with pytest.raises(TypeError):
        save_state(path, {"__metadata__": np.zeros(2)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_state(path)


# Written by format 1 when it was new; it must load for as long as there is an atomml.
FROZEN = (
    r"FaZDn00000dm>+7ZDn*}WMOn+Utc0Rdm>?UZ*6UCB03^_Tq0&~a&2LBTp~I#EL<XJWnpAxa$F)hdt4%JZ**l`B05|mW^ZzBV"
    r"RRrdTp}!7B6D<Qa9kofGkq*vB5P@GWLzRTTq1LHVRU6&B7Gt(B6DbAGBq|LIwCkXWM*VIW-&21W@9ulGh$&lHDfenWHdH4GB"
    r"P$aG+{VnF*0E?GB7bYH)J?sG-P9AH8nRjGcaK?HeoemV>lvxEFyR!I(s5yba`-PB03^QHZ&qEB6DbAaAhJoTQglOB4lB7VP9"
    r"`%W^-k9b0RuhFf1}OU41MfW^7?+b0Ru>B4l)VaAhJoB0^73Od>2Ib7*03Wg<FTGF>bpWMOn+UvFk+b7gdMB05_#G%PYUU44B"
    r"ZARr(hnwgoInVGpi000000001h0RR91000000RR"
)


def test_a_file_of_format_one_still_loads(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(base64.b85decode(FROZEN))
    state = load_state(tmp_path / "old")
    assert state.header == {"step": 3, "note": "format 1"}
    assert bits(state.arrays["x"]) == bits(np.array([0.1, -0.0, 5e-324]))
    assert bits(state.arrays["flags"]) == bits(np.array([True, False]))


WRITER = """
import sys
import numpy as np
from atomml.checkpoint import save_state
path, size = sys.argv[1], int(sys.argv[2])
for step in range(10**9):
    save_state(path, {"x": np.full(size, float(step))}, {"step": step})
    if step == 0:
        print("ready", flush=True)
"""


def test_a_process_killed_while_it_saves_leaves_a_whole_file(tmp_path: Path) -> None:
    """The benchmark does this 200 times; the signal falls at a random instant, mostly inside a save."""
    path = tmp_path / "s"
    generator = random.Random()
    for _ in range(3):
        arguments = [sys.executable, "-c", WRITER, str(path), "200000"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(generator.uniform(0.0, 0.05))
            process.send_signal(signal.SIGKILL)
        state = load_state(path)
        assert (state.arrays["x"] == state.header["step"]).all()


def test_a_model_comes_back_with_its_weights_and_its_description(tmp_path: Path) -> None:
    model = load_model("lj-argon", "float64", "cpu")
    digest = save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors", "float64", "cpu")
    assert type(again) is type(model)
    assert again.info == model.info  # the digest as well: it was computed without a file
    assert digest == model.info.sha256 == model_digest(again)
    assert again.hyperparameters() == model.hyperparameters()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert save_model(model, tmp_path / "m.safetensors", {"epochs": 3}) != digest
    assert read_header(tmp_path / "m.safetensors")["extra"] == {"epochs": 3}


@pytest.mark.parametrize("damage", ["family", "info", "hyperparameters", "tensor", "shape", "no model"])
def test_a_model_file_that_does_not_fit_together_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(load_model("lj-argon", "float64", "cpu"), path)
    tensors, header = load_checkpoint(path)
    if damage == "family":
        header["family"] = "os:system"
    elif damage == "info":
        del header["info"]["cutoff"]
    elif damage == "hyperparameters":
        header["hyperparameters"] = {}
    elif damage == "tensor":
        tensors.popitem()
    elif damage == "shape":
        tensors["epsilon"] = tensors["epsilon"][:1]
    else:
        header = {}
    save_checkpoint(path, tensors, header)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Exception, match=r"m\.safetensors") as caught:
            load_model(path)
    assert caught.value.exit_code == 2  # type: ignore[attr-defined]
