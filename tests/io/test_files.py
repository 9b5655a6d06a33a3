"""Files are written whole or not at all, whoever fails, is killed or reads meanwhile."""

from __future__ import annotations

import csv
import hashlib
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

from atomml.files import remove_leftovers, sha256_file, write_atomic, write_atomic_with, write_table


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    write_atomic(path, "old")

    def fails(stream: IO[bytes]) -> None:
        stream.write(b"new, and")
        stream.flush()
        assert path.read_text() == "old"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomic_with(path, fails)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_killed_writer_leaves_the_old_file_and_a_leftover_that_goes(
    before: str | None, tmp_path: Path, root: Path
) -> None:
    path = tmp_path / "with [brackets].txt"
    other = tmp_path / ".with b.txt.1.tmp"  # of another file: a pattern in the name would match it
    other.write_text("stays")
    if before is not None:
        path.write_text(before)
    code = (
        "import os, signal, sys; from pathlib import Path; from atomml.files import write_atomic_with\n"
        "def dies(stream):\n"
        "    stream.write(b'half'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomic_with(Path(sys.argv[1]), dies)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, cwd=root, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (path.read_text() if path.exists() else None) == before
    assert len(list(tmp_path.iterdir())) == 2 + (before is not None)
    remove_leftovers(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([other.name] + [path.name] * bool(before))


def test_a_reader_sees_one_whole_version_after_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    versions = [bytes([65 + n]) * (50_000 + n) for n in range(20)]
    write_atomic(path, versions[0])
    seen: list[bytes] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.append(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for data in versions:
        write_atomic(path, data)
    over.set()
    reader.join()
    assert seen
    places = [versions.index(data) for data in seen]
    assert places == sorted(places)


def test_others_may_read_what_is_written_and_its_digest_is_of_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "é"
    write_atomic(path, "é" * 100_000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.read_bytes() == ("é" * 100_000).encode()
    assert sha256_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_table_reads_back_whatever_its_texts_hold(tmp_path: Path) -> None:
    rows = [
        {"a": 0.1 + 0.2, "b": 'a "quote", and\na line'},
        {"a": None, "b": ""},
        {"a": -1e-300, "b": "ü;|\t"},
    ]
    write_table(tmp_path / "t.csv", rows)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    assert [row["b"] for row in found] == [row["b"] for row in rows]
    assert [float(row["a"]) if row["a"] else None for row in found] == [row["a"] for row in rows]
    write_table(tmp_path / "none.csv", [], ("a", "b"))
    assert (tmp_path / "none.csv").read_text() == "a,b\n"
    with pytest.raises(ValueError, match="fields not in"):
        write_table(tmp_path / "t.csv", [{"c": 1}], ("a",))
    assert (tmp_path / "t.csv").stat().st_size > 20
