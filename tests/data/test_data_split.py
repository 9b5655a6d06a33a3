"""A split keeps together what belongs together, depends on the seed alone, and its leaks are counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given
from hypothesis import strategies as st

from atomml.cli.main import main
from atomml.data.dataset import ListDataset, open_dataset
from atomml.data.duplicates import structure_digest
from atomml.data.entry import Entry, Labels
from atomml.data.fingerprint import structure_fingerprint
from atomml.data.leakage import Leak, find_leaks
from atomml.data.split import SplitFacts, gather_facts, split_entries
from atomml.data.store import write_store
from atomml.errors import InputError, OptionError
from atomml.workflows.datasets.data_split import SplitOptions, split_data

Make = Callable[..., list[Entry]]
THIRDS = (0.6, 0.2, 0.2)


def _facts(
    trajectories: Sequence[str], formulas: Sequence[str] = (), digests: Sequence[bytes] = ()
) -> SplitFacts:
    """Facts of entries whose frames count up within each trajectory."""
    seen: dict[str, int] = {}
    frames = []
    for name in trajectories:
        frames.append(seen.get(name, 0))
        seen[name] = frames[-1] + 1
    n = len(trajectories)
    return SplitFacts(
        list(digests) or [bytes([k % 256, k // 256]) for k in range(n)],
        list(formulas) or ["Cu"] * n,
        list(trajectories),
        np.array(frames),
        [],
    )


def _disjoint(sets: Sequence[set[Any]]) -> bool:
    """Whether nothing is in two of them."""
    return sum(map(len, sets)) == len(set().union(*sets))


@given(st.lists(st.sampled_from("ABCDEFGHIJKLMNOP"), min_size=30, max_size=200), st.integers(0, 9))
def test_a_split_by_composition_shares_none_and_uses_every_entry_once(formulas: list[str], seed: int) -> None:
    facts = _facts([""] * len(formulas), formulas)
    if len(set(formulas)) < 3:
        with pytest.raises(InputError, match="different compositions for 3 sets"):
            split_entries(facts, THIRDS, "composition", seed)
        return
    parts = split_entries(facts, THIRDS, "composition", seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(formulas)))
    names = [{formulas[i] for i in part} for part in parts]
    assert all(names)
    assert _disjoint(names)


@given(st.lists(st.integers(0, 40), min_size=60, max_size=300), st.integers(0, 9))
def test_a_random_split_keeps_duplicates_together_and_the_fractions(kinds: list[int], seed: int) -> None:
    facts = _facts([""] * len(kinds), digests=[bytes([kind]) for kind in kinds])
    if len(set(kinds)) < 3:
        return
    parts = split_entries(facts, THIRDS, "random", seed)
    sets = [{kinds[i] for i in part} for part in parts]
    assert _disjoint(sets)
    largest = max(kinds.count(kind) for kind in set(kinds))
    for part, fraction in zip(parts, THIRDS, strict=True):  # dealt greedily, so off by one unit at most
        assert abs(len(part) - fraction * len(kinds)) <= largest + 1


def test_the_seed_alone_decides() -> None:
    facts = _facts([""] * 100)
    one, again, other = (split_entries(facts, THIRDS, "random", seed) for seed in (3, 3, 4))
    assert [part.tolist() for part in one] == [part.tolist() for part in again]
    assert [part.tolist() for part in one] != [part.tolist() for part in other]
    assert [len(part) for part in one] == [60, 20, 20]


def _closest_in_time(facts: SplitFacts, one: np.ndarray, other: np.ndarray) -> float:  # type: ignore[type-arg]
    """Fewest frames between entries of one trajectory in two sets, by looking at every pair."""
    gaps = [
        abs(int(facts.frames[i]) - int(facts.frames[j]))
        for i in one
        for j in other
        if facts.trajectories[i] and facts.trajectories[i] == facts.trajectories[j]
    ]
    return min(gaps, default=np.inf)


@given(
    st.lists(st.integers(1, 120), min_size=1, max_size=5),
    st.integers(0, 12),
    st.integers(0, 9),
    st.integers(0, 20),
)
def test_no_neighbours_in_time_across_a_split(lengths: list[int], gap: int, seed: int, alone: int) -> None:
    names = [f"run{k}" for k, length in enumerate(lengths) for _ in range(length)] + [""] * alone
    facts = _facts(names)
    parts = split_entries(facts, THIRDS, "trajectory", seed, gap)
    for k in range(3):
        for other in parts[k + 1 :]:
            assert _closest_in_time(facts, parts[k], other) > gap
    everything = np.concatenate(parts)
    assert len(np.unique(everything)) == len(everything)
    most_left_out = 2 * gap * len(lengths)
    assert len(names) - len(everything) <= most_left_out
    assert set(np.flatnonzero(np.array(names) == "")) <= set(everything.tolist())


def test_one_long_trajectory_becomes_a_block_for_each_set() -> None:
    facts = _facts(["run"] * 1000)
    parts = split_entries(facts, (0.8, 0.1, 0.1), "trajectory", 0, 10)
    assert [len(part) for part in parts] == pytest.approx([800, 100, 100], abs=10)
    for part in parts:
        assert (np.diff(part) == 1).all()


def test_many_trajectories_are_dealt_out_whole() -> None:
    facts = _facts([f"run{k // 20}" for k in range(600)])
    parts = split_entries(facts, (0.8, 0.1, 0.1), "trajectory", 0, 10)
    assert [len(part) for part in parts] == [480, 60, 60]
    sets = [{facts.trajectories[i] for i in part} for part in parts]
    assert _disjoint(sets)


@pytest.mark.parametrize(
    "fractions", [(1.0,), (0.5, 0.4), (0.9, 0.2, -0.1), (0.5, 0.5, 0.0), (float("nan"), 0.5)]
)
def test_fractions_that_are_no_split(fractions: tuple[float, ...]) -> None:
    with pytest.raises(OptionError, match="are no split"):
        split_entries(_facts([""] * 10), fractions)


def test_what_cannot_be_split_that_way_is_said() -> None:
    with pytest.raises(InputError, match="No entry belongs to a trajectory"):
        split_entries(_facts([""] * 10), THIRDS, "trajectory")
    with pytest.raises(InputError, match="2 different entries for 3 sets"):
        split_entries(_facts([""] * 2), THIRDS, "random")
    with pytest.raises(OptionError, match="by 'luck' is unknown"):
        split_entries(_facts([""] * 10), THIRDS, "luck")


def _rotated(atoms: Atoms, seed: int = 0) -> Atoms:
    """The same structure turned, moved and with its atoms in another order."""
    generator = np.random.default_rng(seed)
    copy = atoms[generator.permutation(len(atoms))]
    copy.rotate(37.0, (1, 2, 3), rotate_cell=True)
    copy.positions += generator.normal(size=3)
    return copy


@pytest.mark.parametrize("atoms", [bulk("NaCl", "rocksalt", 5.64, cubic=True), molecule("CH3CH2OH")], ids=str)
def test_a_fingerprint_sees_the_structure_and_nothing_else(atoms: Atoms) -> None:
    atoms.rattle(0.1, seed=1)
    found = structure_fingerprint(atoms)
    # Sums of some hundred float64 terms in another order, positions that were turned: 1e-12.
    np.testing.assert_allclose(structure_fingerprint(_rotated(atoms)), found, rtol=1e-9)
    if atoms.pbc.all():
        np.testing.assert_allclose(structure_fingerprint(atoms * (2, 1, 1)), found, rtol=1e-9)
    swapped = atoms.copy()
    swapped.numbers[[0, -1]] = swapped.numbers[[-1, 0]]
    moved = atoms.copy()
    moved.positions[0] += 0.1
    for other in (swapped, moved):
        assert np.linalg.norm(structure_fingerprint(other) - found) > 1e-3 * np.linalg.norm(found)


def test_a_digest_sees_exact_duplicates_only(entries: Make) -> None:
    entry = entries(1)[0]
    digest = structure_digest(entry)
    order = replace(entry, atoms=entry.atoms[[3, 1, 0, 2]])
    rounded = replace(entry, atoms=entry.atoms.copy())
    rounded.atoms.positions[0, 0] = round(rounded.atoms.positions[0, 0], 8)
    assert structure_digest(order) == structure_digest(rounded) == digest
    for change in ("position", "cell", "charge", "pbc", "element"):
        other = replace(entry, atoms=entry.atoms.copy())
        if change == "position":
            other.atoms.positions[0, 0] += 1e-6
        elif change == "cell":
            other.atoms.cell[0, 0] += 1e-6
        elif change == "charge":
            other.atoms.info["charge"] = 1
        elif change == "pbc":
            other.atoms.pbc = (True, True, False)
        else:
            other.atoms.numbers[0] = 28
        assert structure_digest(other) != digest, change


def test_planted_leaks_are_counted(entries: Make) -> None:
    made = entries(12)
    train = [replace(entry, trajectory="run", frame=10 * k) for k, entry in enumerate(made[:8])]
    test = [
        replace(made[3], trajectory="", frame=0),  # an exact duplicate
        replace(made[5], atoms=_nudged(made[5].atoms), trajectory="", frame=0),  # nearly one
        replace(made[8], trajectory="run", frame=34),  # four frames from a frame of training
        replace(made[9], trajectory="other", frame=30),  # another trajectory
    ]
    test[3].atoms.numbers[:2] = 28  # and another composition
    data = ListDataset([*train, *test])
    (leak,) = find_leaks(
        data, gather_facts(data), [("train", np.arange(8)), ("test", np.arange(8, 12))], gap=5
    )
    assert leak == Leak(
        "train", "test", exact=1, near=2, in_time=1, same_formula=3, n_entries=4, n_compared=4
    )
    none = find_leaks(data, gather_facts(data), [("a", np.arange(4)), ("b", np.arange(4, 8))], gap=5)
    assert (none[0].exact, none[0].near, none[0].in_time) == (0, 0, 0)


def _nudged(atoms: Atoms) -> Atoms:
    copy = _rotated(atoms)
    copy.positions += np.random.default_rng(0).normal(0, 0.002, copy.positions.shape)
    return copy


def test_a_split_by_scaffold(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    names = ["C6H6", "C5H5N", "C4H4NH", "C4H4O", "C4H4S", "CH3CH2OH", "CH3OH", "C2H6"]
    generator = np.random.default_rng(0)
    made = []
    for name in names:
        for _ in range(5):  # conformers stay together
            atoms = molecule(name)
            atoms.positions += generator.normal(0, 0.02, atoms.positions.shape)
            made.append(Entry(atoms, Labels(0.0), group=name))
    write_store(tmp_path / "a.lmdb", made)
    split_data(tmp_path / "a.lmdb", tmp_path / "s", SplitOptions(fractions=THIRDS, by="scaffold"))
    sets = [
        {e.group for e in open_dataset(tmp_path / "s" / f"{name}.lmdb")}
        for name in ("train", "valid", "test")
    ]
    assert set().union(*sets) == set(names)
    assert sum(map(len, sets)) == len(names)


def test_scaffolds_are_rings_and_linkers() -> None:
    pytest.importorskip("rdkit")
    from atomml.data.scaffolds import scaffold

    benzene, phenol, toluene = molecule("C6H6"), _substituted("O"), _substituted("F")
    assert scaffold(benzene) == scaffold(phenol) == scaffold(toluene)
    assert len({scaffold(molecule(name)) for name in ("C6H6", "C5H5N", "CH3OH", "CH4", "H2")}) == 5
    with pytest.raises(InputError, match=r"a\.xyz is periodic and has no scaffold"):
        scaffold(bulk("Cu"), "a.xyz")


def _substituted(element: str) -> Atoms:
    """Benzene with one hydrogen replaced, at the length of that bond."""
    atoms = molecule("C6H6")
    hydrogen = int(np.flatnonzero(atoms.numbers == 1)[0])
    atoms.symbols[hydrogen] = element
    atoms.positions[hydrogen] *= (np.linalg.norm(atoms.positions[hydrogen]) + 0.3) / np.linalg.norm(
        atoms.positions[hydrogen]
    )
    return atoms


def test_the_command_writes_sets_and_a_record(
    entries: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [replace(entry, trajectory="run") for entry in entries(60)]
    write_store(tmp_path / "a.lmdb", made)
    folder = tmp_path / "sets"
    call = [
        "data",
        "split",
        str(tmp_path / "a.lmdb"),
        "--to",
        str(folder),
        "--by",
        "trajectory",
        "--gap",
        "3",
    ]
    assert main([*call, "--fractions", "0.6,0.2,0.2", "--seed", "7"]) == 0
    out = capsys.readouterr().out
    assert "6 entries lie in the gaps" in out
    record = json.loads((folder / "split.json").read_bytes())
    assert (record["options"]["seed"], record["options"]["by"], record["n_left_out"]) == (7, "trajectory", 6)
    for name, indices in record["indices"].items():
        found = open_dataset(folder / f"{name}.lmdb")
        assert [entry.frame for entry in found] == indices
        assert found.digest == record["digests"][name]
    assert [leak["in_time"] for leak in record["leaks"]] == [0, 0, 0]
    assert main(call) == 2
    assert "exists: give another --to, or --overwrite" in capsys.readouterr().err
    assert main([*call, "--overwrite", "--fractions", "0.7,0.3", "--json"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["split.json", "train.lmdb", "valid.lmdb"]
    assert json.loads(capsys.readouterr().out)["leaks"][0]["in_time"] == 0
    assert main([*call, "--overwrite", "--fractions", "0.4,0.3,0.2,0.1"]) == 2


def test_a_random_split_of_a_trajectory_is_reported_as_leaking(entries: Make, tmp_path: Path) -> None:
    made = [replace(entry, trajectory="run") for entry in entries(60)]
    write_store(tmp_path / "a.lmdb", made)
    result = split_data(tmp_path / "a.lmdb", tmp_path / "s", SplitOptions(fractions=(0.5, 0.5)))
    assert result.leaks[0].in_time == 30
