"""The manifest: rows that survive a kill, one writer, no file but its own, shards that partition."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomml.errors import AtomMLError, FileFormatError, OptionError
from atomml.manifest import DONE, FAILED, RUNNING, WAITING, Manifest, Shard, digest_of, read_manifest


def test_what_was_written_is_read_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    floats = [0.1, 1e-300, -76.02676713301123, 5e-324]
    with Manifest(path, "job") as manifest:
        for item in ("b", "a", "c"):
            assert manifest.start(item, "d" * 64) == 1
        manifest.finish("a", {"forces": floats, "text": "Å"})
        manifest.fail("b", "it failed")
        assert manifest.counts() == {WAITING: 0, RUNNING: 1, DONE: 1, FAILED: 1}
    rows = read_manifest(path)
    assert [(row.id, row.status, row.attempt) for row in rows] == [
        ("a", DONE, 1),
        ("b", FAILED, 1),
        ("c", WAITING, 0),  # its job ended, not the item: the attempt does not count
    ]
    assert rows[0].result == {"forces": floats, "text": "Å"}  # the same bits
    assert rows[1].error == "it failed"


def test_attempts_count_until_the_end_or_another_digest(tmp_path: Path) -> None:
    with Manifest(tmp_path / "m.sqlite", "job") as manifest:
        assert [manifest.start("a", "1") for _ in range(3)] == [1, 2, 3]
        assert manifest.start("a", "2") == 1
        manifest.fail("a", "why")
        assert manifest.start("a", "2") == 1


def test_a_second_writer_is_refused_in_this_process_and_in_another(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    code = f"from atomml.manifest import Manifest; Manifest({str(path)!r}, 'job').close()"
    call = [sys.executable, "-c", code]
    with Manifest(path, "job") as manifest:
        with pytest.raises(OptionError, match="Another process writes the manifest"):
            Manifest(path, "job")
        refused = subprocess.run(call, capture_output=True, text=True)
        assert "OptionError: Another process writes the manifest" in refused.stderr
        manifest.start("a", "1")
        assert [row.id for row in read_manifest(path)] == ["a"]  # readers may look
    assert subprocess.run(call).returncode == 0


def test_another_jobs_manifest_and_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    Manifest(path, "one").close()
    with pytest.raises(OptionError, match="the manifest of 'one', not of 'two'"):
        Manifest(path, "two")
    text = tmp_path / "text"
    text.write_text("no data base at all, but long enough to look like the header of one\n" * 20)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as base:
        base.execute("CREATE TABLE mine (x)")
    base.close()
    for file in (text, other):
        before = file.read_bytes()
        with pytest.raises(FileFormatError, match="no manifest"):
            Manifest(file, "one")
        with pytest.raises(FileFormatError, match="no manifest"):
            read_manifest(file)
        assert file.read_bytes() == before
    with pytest.raises(FileFormatError, match="no file"):
        read_manifest(tmp_path / "missing")


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    Manifest(path, "job").close()
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA user_version = 99")
    base.close()
    with pytest.raises(FileFormatError, match="newer"):
        Manifest(path, "job")


def test_a_manifest_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AtomMLError, match="cannot be written"):
        Manifest(tmp_path / "no" / "folder" / "m.sqlite", "job")


def test_kill_9_between_two_writes_leaves_whole_rows(tmp_path: Path) -> None:
    """The writer kills itself after 100 rows, within the write of the next: all that returned is there."""
    path = tmp_path / "m.sqlite"
    code = (
        "import os, signal, sys\nfrom atomml.manifest import Manifest\n"
        "m = Manifest(sys.argv[1], 'job')\n"
        "for n in range(100):\n    m.start(f'{n:03d}', 'd'); m.finish(f'{n:03d}', {'n': n})\n"
        "m._base.execute('BEGIN'); m.start('torn', 'd')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    with Manifest(path, "job") as manifest:
        rows = list(manifest.rows())
    assert [row.result for row in rows] == [{"n": n} for n in range(100)]


@settings(max_examples=25)
@given(
    texts=st.lists(st.text(max_size=8), unique=True, max_size=40), count=st.integers(min_value=1, max_value=9)
)
def test_shards_share_out_every_item_exactly_once(texts: list[str], count: int) -> None:
    shards = [Shard.parse(f"{index}/{count}") for index in range(1, count + 1)]
    for text in texts:
        assert sum(shard.holds(digest_of(text)) for shard in shards) == 1


def test_shards_are_about_equal() -> None:
    """4,000 digests in 8 shards: 500 each, standard deviation 21; five of them would be a faulty hash."""
    held = [sum(Shard(index, 8).holds(digest_of(str(n))) for n in range(4000)) for index in range(1, 9)]
    assert max(abs(count - 500) for count in held) < 5 * 21


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/", "/2", "a/b", "-1/2", "1/2/3", "1 /2", ""])
def test_shards_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="i/N"):
        Shard.parse(text)


def test_digests_know_where_a_part_ends() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of("a") == digest_of(b"a") != digest_of("a", "")
