"""The store gives back what went in, whole or not at all, to many processes, and refuses the rest."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atomml.data.dataset import ConcatDataset, ListDataset, open_dataset
from atomml.data.entry import LABELS, Entry, Labels
from atomml.data.record import decode_entry, encode_entry
from atomml.data.store import StoreDataset, write_store
from atomml.errors import AtomMLError, FileFormatError

Make = Callable[..., list[Entry]]


def _assert_same(one: Entry, other: Entry) -> None:
    """To the last bit, and of the same types."""
    assert encode_entry(one) == encode_entry(other)
    np.testing.assert_array_equal(one.atoms.numbers, other.atoms.numbers)
    np.testing.assert_array_equal(one.atoms.positions, other.atoms.positions)
    np.testing.assert_array_equal(one.atoms.cell.array, other.atoms.cell.array)
    np.testing.assert_array_equal(one.atoms.pbc, other.atoms.pbc)
    assert one.atoms.info == other.atoms.info
    assert replace(one, atoms=None, labels=None) == replace(other, atoms=None, labels=None)  # type: ignore[arg-type]
    for name in LABELS:
        np.testing.assert_array_equal(getattr(one.labels, name), getattr(other.labels, name))


finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@st.composite
def any_entry(draw: st.DrawFn) -> Entry:
    n = draw(st.integers(1, 5))
    vectors = hnp.arrays(np.float64, (n, 3), elements=finite)
    atoms = Atoms(
        draw(st.lists(st.integers(1, 118), min_size=n, max_size=n)),
        draw(vectors),
        cell=draw(hnp.arrays(np.float64, (3, 3), elements=finite)),
        pbc=draw(st.tuples(st.booleans(), st.booleans(), st.booleans())),
    )
    words = st.text(max_size=8)
    atoms.info = draw(
        st.dictionaries(words, st.one_of(words, st.integers(), finite, st.booleans()), max_size=3)
    )
    labels = Labels(
        draw(st.none() | finite),
        draw(st.none() | vectors),
        draw(st.none() | hnp.arrays(np.float64, (3, 3), elements=finite)),
        draw(st.none() | hnp.arrays(np.float64, (n,), elements=finite)),
    )
    texts = [draw(words) for _ in range(4)]
    weight = draw(st.floats(0, 1e6))
    return Entry(atoms, labels, texts[0], draw(st.integers(0, 1 << 40)), *texts[1:], weight=weight)


@given(any_entry())
def test_a_record_gives_back_the_entry(entry: Entry) -> None:
    _assert_same(entry, decode_entry(encode_entry(entry)))


def test_any_flipped_bit_of_a_record_is_seen(entries: Make) -> None:
    record = bytearray(encode_entry(entries(1)[0]))
    for byte in range(len(record)):
        record[byte] ^= 1
        with pytest.raises(FileFormatError, match=r"set\.lmdb, entry 3 is damaged"):
            decode_entry(bytes(record), "set.lmdb, entry 3")
        record[byte] ^= 1


def test_a_store_is_a_sequence_of_its_entries(entries: Make, tmp_path: Path) -> None:
    made = entries(7)
    header = write_store(tmp_path / "a.lmdb", made, [{"path": "x", "sha256": "y"}])
    store = open_dataset(tmp_path / "a.lmdb")
    assert len(store) == header["n_entries"] == 7
    for index, entry in enumerate(store):
        _assert_same(entry, made[index])
        _assert_same(store[index - 7], made[index])
    with pytest.raises(IndexError):
        store[7]
    np.testing.assert_array_equal(store.n_atoms, [4] * 7)
    assert store.sources == [{"path": "x", "sha256": "y"}]
    assert [entry.frame for entry in store[1::3]] == [1, 4]
    assert [entry.frame for entry in store.subset([5, 0]).subset([1])] == [0]


def test_one_content_has_one_digest_in_memory_and_on_disk(entries: Make, tmp_path: Path) -> None:
    made = entries(5)
    listed = ListDataset(made)
    write_store(tmp_path / "a.lmdb", made)
    write_store(tmp_path / "b.lmdb", made[::-1])
    store = open_dataset(tmp_path / "a.lmdb")
    assert store.digest == listed.digest == store[:].digest == ConcatDataset([listed]).digest
    assert open_dataset(tmp_path / "b.lmdb").digest == listed[::-1].digest != listed.digest


def test_the_header_says_what_the_entries_say(entries: Make, tmp_path: Path) -> None:
    made = entries(6)
    made[2] = replace(made[2], labels=Labels(made[2].labels.energy), group="MD")
    write_store(tmp_path / "a.lmdb", made)
    header = StoreDataset(tmp_path / "a.lmdb").header
    energies = np.array([entry.labels.energy for entry in made], dtype=float) / 4
    found = header["statistics"]["energy_eV_per_atom"]
    # Welford's sums and NumPy's agree to a few roundings of float64.
    np.testing.assert_allclose(
        [found[key] for key in ("mean", "std", "min", "max")],
        [energies.mean(), energies.std(), energies.min(), energies.max()],
        rtol=1e-12,
    )
    forces = np.concatenate([e.labels.forces for e in made if e.labels.forces is not None])
    rms = header["statistics"]["force_rms_eV_per_A"]
    assert rms == pytest.approx(float(np.sqrt((forces**2).mean())), rel=1e-12)
    assert header["label_counts"] == {"energy": 6, "forces": 5, "stress": 5, "magmoms": 0}
    assert (header["n_atoms"], header["elements"], header["groups"]) == (24, {"Cu": 6}, {"": 5, "MD": 1})
    assert ListDataset(made).label_counts == open_dataset(tmp_path / "a.lmdb").label_counts


def test_no_pickle_is_in_the_file(entries: Make, tmp_path: Path) -> None:
    write_store(tmp_path / "a.lmdb", entries(3))
    environment = lmdb.open(str(tmp_path / "a.lmdb"), subdir=False, readonly=True, lock=False)
    with environment, environment.begin() as transaction:
        for _, value in transaction.cursor():
            with pytest.raises((pickle.UnpicklingError, ValueError, KeyError, EOFError, IndexError)):
                pickle.loads(value)


def _sum_of_energies(store: StoreDataset, seed: int) -> float:
    order = random.Random(seed).sample(range(len(store)), len(store))
    return sum(sorted(store[index].labels.energy or 0.0 for index in order))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_several_processes_read_at_once(entries: Make, tmp_path: Path, method: str) -> None:
    write_store(tmp_path / "a.lmdb", entries(50))
    store = StoreDataset(tmp_path / "a.lmdb")
    here = _sum_of_energies(store, 0)  # opened before the fork
    with multiprocessing.get_context(method).Pool(3) as pool:
        assert pool.starmap(_sum_of_energies, [(store, seed) for seed in range(6)]) == [here] * 6


def test_two_sets_of_one_file_and_a_file_that_is_replaced(entries: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    write_store(path, entries(3))
    one, other = open_dataset(path), open_dataset(path)
    write_store(path, entries(5, seed=1))
    new = open_dataset(path)
    assert (len(one), len(other), len(new)) == (3, 3, 5)
    assert one[2].labels.energy == other[2].labels.energy != new[2].labels.energy


def test_files_that_are_no_store_are_refused_in_one_sentence(entries: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    write_store(path, entries(40))
    whole = path.read_bytes()
    cases: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "is no store"),
        "text": (b"4\n\nCu 0 0 0\n" * 1000, "is no store"),
        "head": (whole[: len(whole) // 2], "is cut short"),
        "page": (whole[:4096], "is no store|is cut short"),
        "zeros": (bytes(len(whole)), "is no store"),
    }
    for name, (data, words) in cases.items():
        damaged = tmp_path / f"{name}.lmdb"
        damaged.write_bytes(data)
        with pytest.raises(FileFormatError, match=words) as caught:
            open_dataset(damaged)
        assert str(damaged) in str(caught.value)
        assert str(caught.value).count(".lmdb") == 1
    with pytest.raises(FileFormatError, match=r"is neither file nor folder|is no file"):
        open_dataset(tmp_path / "missing.lmdb")


def test_a_foreign_lmdb_file_and_a_later_version_are_refused(tmp_path: Path) -> None:
    for name, header, words in (
        ("none", None, "is no store"),
        ("foreign", b'{"format": "other"}', "is no store"),
        ("broken", b"{", "is no store"),
        ("later", b'{"format": "atomml-store", "version": 99}', "version 99, newer than 1"),
    ):
        path = tmp_path / f"{name}.lmdb"
        environment = lmdb.open(str(path), subdir=False, lock=False)
        with environment, environment.begin(write=True) as transaction:
            transaction.put(b"x", b"y")
            if header is not None:
                transaction.put(b"\xff" * 8 + b"header", header)
        with pytest.raises(FileFormatError, match=words):
            open_dataset(path)


def test_damage_inside_is_found(entries: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    made = entries(20)
    write_store(path, made)
    StoreDataset(path).verify()
    data = bytearray(path.read_bytes())
    place = data.find(encode_entry(made[11])[40:])
    data[place + 5] ^= 0xFF
    path.write_bytes(bytes(data))
    store = StoreDataset(path)
    assert store[10].frame == 10
    with pytest.raises(FileFormatError, match="entry 11 is damaged"):
        store[11]
    with pytest.raises(FileFormatError, match="entry 11 is damaged"):
        store.verify()


def test_an_unfinished_store_leaves_nothing(entries: Make, tmp_path: Path) -> None:
    def stopping() -> Iterator[Entry]:
        yield entries(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "a.lmdb", stopping())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_stored_is_refused_by_name(entries: Make, tmp_path: Path) -> None:
    entry = entries(1)[0]
    entry.atoms.info["gap"] = float("nan")
    with pytest.raises(AtomMLError, match=r"Cu\.xyz, frame 0: a value in its info cannot be stored"):
        write_store(tmp_path / "a.lmdb", [entry])
    with pytest.raises(FileFormatError, match="is no folder"):
        write_store(tmp_path / "none" / "a.lmdb", [])


def test_an_empty_store_is_a_store(tmp_path: Path) -> None:
    write_store(tmp_path / "a.lmdb", [])
    store = open_dataset(tmp_path / "a.lmdb")
    assert (len(store), len(store.n_atoms), store.digest) == (0, 0, "")


WRITERS = """
import itertools, os, random, signal, sys, time
from ase.build import bulk
from atomml.data import store
from atomml.data.entry import Entry, Labels

path, atoms, generator = sys.argv[1], bulk("Cu", cubic=True), random.Random(0)
store._TRANSACTION = 20_000  # a commit every few entries

def write(round):
    store.write_store(path, (Entry(atoms, Labels(float(i)), frame=i) for i in range(200)), round=round)

write(0)
for kill in range(30):
    child = os.fork()
    if not child:
        for round in itertools.count(1000 * kill + 1):
            write(round)
    time.sleep(generator.uniform(0.0, 0.25))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = store.StoreDataset(path)
    found.verify()
    assert [entry.labels.energy for entry in found] == [float(i) for i in range(200)]
    print(found.header["round"], flush=True)
"""


def test_a_writer_that_is_killed_leaves_the_old_store_or_the_new_one(tmp_path: Path) -> None:
    """Killed 30 times at random moments: in transactions, in commits, about the rename."""
    path = tmp_path / "a.lmdb"
    done = subprocess.run(
        [sys.executable, "-c", WRITERS, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    rounds = [int(word) for word in done.stdout.split()]
    assert len(rounds) == 30
    assert rounds == sorted(rounds)  # never an older one again
    assert len(set(rounds)) > 5  # many were killed after a replacement
    assert len(list(tmp_path.glob(".a.lmdb.*"))) > 5  # and many within a store that was not whole
