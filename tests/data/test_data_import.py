"""``data import``: everything in, once, with its provenance; what is left out is listed."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dft_outputs
import lmdb
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io.jsonio import encode
from ase.io.trajectory import Trajectory
from ase.stress import voigt_6_to_full_3x3_stress
from ase.units import GPa

from atomml.cli.main import main
from atomml.data.dataset import ListDataset, open_dataset
from atomml.data.entry import Entry
from atomml.data.label_keys import LabelKeys
from atomml.data.structures import write_structures
from atomml.errors import FileFormatError, InputError, OptionError, RunFailedError
from atomml.train.survey import survey
from atomml.workflows.datasets.data_import import ImportOptions, import_data
from atomml.workflows.trainings.fine_tuning import FineTuneOptions
from atomml.workflows.trainings.training_settings import loss_of

Frames = Callable[..., list[Atoms]]
SERIAL = ImportOptions(workers=1)


def _assert_labelled_as(
    found: Any, frames: list[Atoms], energy: float, force: float, stress: float | None
) -> None:
    """The labels of the frames, to what the format's decimals keep (eV, eV/Å, eV/Å³)."""
    assert len(found) == len(frames)
    for entry, atoms in zip(found, frames, strict=True):
        np.testing.assert_array_equal(entry.atoms.numbers, atoms.numbers)
        assert entry.labels.energy == pytest.approx(atoms.get_potential_energy(), abs=energy)
        np.testing.assert_allclose(entry.labels.forces, atoms.get_forces(), atol=force)
        if stress is not None:
            np.testing.assert_allclose(entry.labels.stress, atoms.get_stress(voigt=False), atol=stress)


def _in_one_cell(frames: list[Atoms]) -> list[Atoms]:
    """The same labels in the first one's cell, which pw.x prints but once."""
    moved = []
    for atoms in frames:
        copy = Atoms(atoms.numbers, atoms.positions, cell=frames[0].cell, pbc=True)
        results = {name: atoms.calc.results[name] for name in ("energy", "forces")}
        copy.calc = SinglePointCalculator(copy, **results)
        moved.append(copy)
    return moved


def test_each_format_gives_the_labels_that_were_written(frames: Frames, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("vasp", "outcar", "qe"):
        (runs / name).mkdir(parents=True)
    made = {
        name: frames(2, seed)
        for seed, name in enumerate(("vasp", "outcar", "qe", "extxyz", "traj", "db", "deepmd"))
    }
    made["qe"] = _in_one_cell(made["qe"])
    dft_outputs.vasprun(runs / "vasp" / "vasprun.xml", made["vasp"], [9, 9])
    dft_outputs.outcar(runs / "outcar" / "OUTCAR", made["outcar"], [True, True])
    dft_outputs.pwo(runs / "qe" / "pw.out", made["qe"], [True, True])
    write_structures(runs / "a.extxyz", made["extxyz"])
    with Trajectory(str(runs / "a.traj"), "w") as trajectory:
        for atoms in made["traj"]:
            trajectory.write(atoms)
    with connect(str(runs / "a.db")) as database:
        for atoms in made["db"]:
            database.write(atoms, group="rows")
    _deepmd(runs / "deepmd", made["deepmd"])
    (runs / "INCAR").write_text("ENCUT = 520\n", encoding="utf-8")
    result = import_data(runs, tmp_path / "a.lmdb", SERIAL)
    store = open_dataset(tmp_path / "a.lmdb")
    by_name: dict[str, list[Entry]] = {name: [] for name in made}
    for entry in store:
        place = Path(entry.source)
        by_name[place.parent.name if place.parent != runs else place.suffix[1:] or place.name].append(entry)
    # Half of the last decimal of each format; QE prints Ry and Ry/bohr with eight decimals.
    _assert_labelled_as(by_name["vasp"], made["vasp"], 1e-8, 1e-12, 1e-12)
    _assert_labelled_as(by_name["outcar"], made["outcar"], 1e-8, 1e-6, 1e-8)
    _assert_labelled_as(by_name["qe"], made["qe"], 2e-7, 1e-6, None)
    for name in ("extxyz", "traj", "db", "deepmd"):
        _assert_labelled_as(by_name[name], made[name], 1e-8, 1e-8, 1e-9)
    assert {e.group for e in by_name["db"]} == {"rows"}
    assert [e.frame for e in by_name["vasp"]] == [0, 1]
    assert by_name["vasp"][1].trajectory == f"{runs / 'vasp' / 'vasprun.xml'}#0"
    assert {e.trajectory for e in by_name["db"]} == {""}
    assert by_name["outcar"][0].method == "VASP ENCUT=520.0 GGA=PE"
    assert [(Path(path).name, reason) for path, reason in result.passed_over] == [
        ("INCAR", "not a kind of file that holds labels")
    ]
    assert {Path(source["path"]).name: source["n_entries"] for source in store.sources} == {
        "vasprun.xml": 2, "OUTCAR": 2, "pw.out": 2, "a.extxyz": 2, "a.traj": 2, "a.db": 2, "deepmd": 2
    }  # fmt: skip


def _deepmd(folder: Path, frames: list[Atoms]) -> Path:
    """A tree of DeePMD-kit of one set."""
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0\n" * len(frames[0]), encoding="utf-8")
    (folder / "type_map.raw").write_text(f"{frames[0].symbols[0]}\n", encoding="utf-8")
    arrays = {
        "coord": [atoms.positions.ravel() for atoms in frames],
        "box": [atoms.cell.array.ravel() for atoms in frames],
        "energy": [atoms.get_potential_energy() for atoms in frames],
        "force": [atoms.get_forces().ravel() for atoms in frames],
        "virial": [(-atoms.get_stress(voigt=False) * atoms.get_volume()).ravel() for atoms in frames],
    }
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", np.array(array))
    return folder


def test_deepmd_trees_are_read_as_dpdata_reads_them(frames: Frames, tmp_path: Path) -> None:
    pytest.importorskip("dpdata")
    made = frames(3)
    _deepmd(tmp_path / "tree", made)
    own = import_data(tmp_path / "tree", tmp_path / "a.lmdb", SERIAL)
    peer = import_data(tmp_path / "tree", tmp_path / "b.lmdb", ImportOptions(format="dpdata:deepmd/npy"))
    assert own.header["n_entries"] == peer.header["n_entries"] == 3
    for one, other in zip(open_dataset(own.store), open_dataset(peer.store), strict=True):
        assert one.labels.energy == pytest.approx(other.labels.energy, abs=1e-6)
        np.testing.assert_allclose(one.labels.stress, other.labels.stress, atol=1e-7)  # dpdata keeps float32
        np.testing.assert_allclose(one.atoms.positions, other.atoms.positions, atol=1e-6)


def _save(name: str, array: object) -> Callable[[Path], object]:
    return lambda tree: np.save(tree / "set.000" / name, array, allow_pickle=True)  # type: ignore[arg-type]


def _text(name: str, text: str) -> Callable[[Path], object]:
    return lambda tree: (tree / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: (tree / "type_map.raw").unlink(), "has no type_map.raw"),
        (_text("type_map.raw", "Xx\n"), "'Xx', which is no element"),
        (_text("type.raw", "0\n1\n0\n0\n"), "type 1 is not in type_map"),
        (_text("type.raw", "0\n0\n"), "where 6 numbers a frame are meant"),
        (_save("force.npy", np.zeros((1, 12))), r"1 frames where coord\.npy has 2"),
        (_save("box.npy", np.array([{}, {}])), "no plain array"),
    ],
)
def test_trees_that_contradict_themselves_are_refused(
    frames: Frames, tmp_path: Path, change: Callable[[Path], object], words: str
) -> None:
    tree = _deepmd(tmp_path / "tree", frames(2))
    change(tree)
    with pytest.raises(FileFormatError, match=words):
        import_data(tree, tmp_path / "a.lmdb", SERIAL)
    assert not (tmp_path / "a.lmdb").exists()


def _aselmdb(path: Path, frames: list[Atoms], damaged: bool = False) -> Path:
    """Rows as fairchem's data bases hold them; the second was deleted."""
    from ase.db.row import atoms2dict

    with (
        lmdb.open(str(path), subdir=False, lock=False) as environment,
        environment.begin(write=True) as table,
    ):
        for number, atoms in enumerate(frames, 1):
            row = atoms2dict(atoms) | {"unique_id": f"{number:032x}", "ctime": 0.0, "mtime": 0.0}
            row |= {"key_value_pairs": {"group": "omat"}, "data": {"charge": 0, "spin": 0}}
            packed = zlib.compress(encode(row).encode())
            table.put(str(number).encode(), packed[:-20] if damaged else packed)
        table.put(b"nextid", zlib.compress(str(len(frames) + 1).encode()))
        table.put(b"deleted_ids", zlib.compress(b"[2]"))
    return path


def test_rows_of_an_aselmdb(frames: Frames, tmp_path: Path) -> None:
    made = frames(3)
    import_data(_aselmdb(tmp_path / "x.aselmdb", made), tmp_path / "a.lmdb", SERIAL)
    store = open_dataset(tmp_path / "a.lmdb")
    _assert_labelled_as(store, [made[0], made[2]], 1e-12, 1e-12, 1e-12)
    assert [(e.group, e.frame, e.atoms.info["charge"]) for e in store] == [("omat", 0, 0), ("omat", 1, 0)]


def test_a_damaged_aselmdb_is_refused(frames: Frames, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"x\.aselmdb: row 1 cannot be read"):
        import_data(_aselmdb(tmp_path / "x.aselmdb", frames(1), damaged=True), tmp_path / "a.lmdb", SERIAL)


def test_what_did_not_converge_is_refused_and_listed(frames: Frames, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("a", "b", "c", "d"):
        (runs / name).mkdir(parents=True)
    dft_outputs.vasprun(runs / "a" / "vasprun.xml", frames(3, 0), [9, 60, 9])
    dft_outputs.outcar(runs / "b" / "OUTCAR", frames(2, 1), [False, True], version=5)
    dft_outputs.pwo(runs / "c" / "pw.out", frames(1, 2), [False])
    dft_outputs.vasprun(runs / "d" / "vasprun.xml", frames(3, 3), [9, 9, 9], finished=False)
    dft_outputs.outcar(runs / "d" / "OUTCAR", frames(3, 3), [True, True, True])
    result = import_data(runs, tmp_path / "a.lmdb", SERIAL)
    found = {
        Path(s["path"]).parent.name: (s["n_entries"], s["unconverged"], s["unfinished"])
        for s in result.sources
    }
    assert found == {"a": (2, [1], False), "b": (1, [0], False), "c": (0, [0], False), "d": (2, [], True)}
    assert [(e.frame, Path(e.source).parent.name) for e in open_dataset(result.store)] == [
        (0, "a"), (2, "a"), (1, "b"), (0, "d"), (1, "d")
    ]  # fmt: skip
    assert result.n_unconverged == 3
    assert ("OUTCAR", "the same run as vasprun.xml") in [(Path(p).name, why) for p, why in result.passed_over]
    kept = import_data(
        runs, tmp_path / "b.lmdb", ImportOptions(workers=1, keep_unconverged=True, unlabelled=True)
    )
    assert kept.header["n_entries"] == 3 + 2 + 1 + 2


def test_nothing_converged_is_an_error(frames: Frames, tmp_path: Path) -> None:
    path = dft_outputs.outcar(tmp_path / "OUTCAR", frames(2), [False, False])
    with pytest.raises(InputError, match=r"none of 2 calculations converged .*--keep-unconverged"):
        import_data(path, tmp_path / "a.lmdb", SERIAL)


def _shuffled(atoms: Atoms, change: float = 0.0) -> Atoms:
    """The same structure and labels with its atoms in another order, and another energy if asked for."""
    order = [2, 0, 3, 1]
    copy = atoms[order]
    results = {"energy": atoms.get_potential_energy() + change, "forces": atoms.get_forces()[order]}
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def test_duplicates_are_counted_and_conflicts_listed(frames: Frames, tmp_path: Path) -> None:
    made = frames(4)
    again = [made[1], _shuffled(made[2]), _shuffled(made[3], change=0.1)]
    write_structures(tmp_path / "a.xyz", made)
    write_structures(tmp_path / "b.xyz", again)
    result = import_data([tmp_path / "a.xyz", tmp_path / "b.xyz"], tmp_path / "a.lmdb", SERIAL)
    assert (result.duplicates, result.header["n_entries"]) == (2, 5)
    assert [source["n_duplicates"] for source in result.sources] == [0, 2]
    (conflict,) = result.conflicts
    assert (conflict["first"], conflict["second"]) == (
        f"{tmp_path / 'a.xyz'}, frame 3",
        f"{tmp_path / 'b.xyz'}, frame 2",
    )
    assert conflict["energies_eV"][1] - conflict["energies_eV"][0] == pytest.approx(0.1, abs=1e-7)
    options = ImportOptions(workers=1, keep_duplicates=True)
    assert import_data(tmp_path, tmp_path / "b.lmdb", options).header["n_entries"] == 7


def test_a_duplicate_that_says_more_is_kept(frames: Frames, tmp_path: Path) -> None:
    atoms = frames(1)[0]
    less = Atoms(atoms)
    less.calc = SinglePointCalculator(less, energy=atoms.get_potential_energy())
    write_structures(tmp_path / "a.xyz", [less, atoms, less])
    result = import_data(tmp_path / "a.xyz", tmp_path / "a.lmdb", SERIAL)
    assert (result.header["n_entries"], result.duplicates, result.conflicts) == (2, 1, [])


@pytest.fixture(scope="module")
def many(frames: Frames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve files with a duplicate, one that is wrong, one that did not converge."""
    folder = tmp_path_factory.mktemp("many")
    for k in range(12):
        write_structures(folder / f"{k:02d}.xyz", frames(25, seed=k % 11))
    (folder / "05.xyz").write_text(
        "1\nProperties=species:S:1:pos:R:3 energy=nan\nCu 0 0 0\n", encoding="utf-8"
    )
    dft_outputs.outcar(folder / "OUTCAR", frames(3, seed=20), [True, False, True])
    return folder


def test_the_result_does_not_depend_on_the_number_of_workers(many: Path, tmp_path: Path) -> None:
    one = import_data(many, tmp_path / "1.lmdb", ImportOptions(workers=1))
    three = import_data(many, tmp_path / "3.lmdb", ImportOptions(workers=3))
    assert one.header == three.header
    assert (tmp_path / "1.lmdb").read_bytes() == (tmp_path / "3.lmdb").read_bytes()
    assert (one.header["n_entries"], one.duplicates, one.n_unconverged) == (10 * 25 + 2, 25, 1)
    assert [Path(source["path"]).name for source in one.failed] == ["05.xyz"]
    assert "energy" in one.failed[0]["error"]


def test_a_worker_that_is_killed_is_said_and_the_import_goes_on_after(many: Path, tmp_path: Path) -> None:
    whole = import_data(many, tmp_path / "whole.lmdb", SERIAL)

    def kill(_: object) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(RunFailedError, match=r"was killed.*give the same command again"):
        import_data(many, tmp_path / "a.lmdb", ImportOptions(workers=2), listen=kill)
    assert not (tmp_path / "a.lmdb").exists()
    import_data(many, tmp_path / "a.lmdb", SERIAL)
    assert (tmp_path / "a.lmdb").read_bytes() == whole.store.read_bytes()


def test_forces_under_a_name_that_nobody_expects_are_pointed_out(
    write: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:grad_x:R:3 energy=-1.0'
    path = write("a.xyz", f"1\n{head}\nCu 0 0 0 1 2 3\n")
    assert main(["data", "import", str(path), "--to", str(tmp_path / "a.lmdb"), "--workers", "1"]) == 0
    assert "no forces; columns not read: grad_x (--forces-key)" in capsys.readouterr().out
    assert open_dataset(tmp_path / "a.lmdb")[0].atoms.info == {"unread_columns": "grad_x"}
    seen = survey(open_dataset(path), "training", loss_of(FineTuneOptions()))
    assert "(not read: grad_x; --forces-key names one)" in seen.sentences(loss_of(FineTuneOptions()))[0]
    options = ImportOptions(workers=1, forces_key="grad_x")
    assert import_data(path, tmp_path / "b.lmdb", options).header["label_counts"]["forces"] == 1


KILLED = """
import os, pathlib, random, signal, sys, time
from atomml.data import import_parts
from atomml.workflows.datasets.data_import import ImportOptions, import_data

source, target, generator = sys.argv[1], sys.argv[2], random.Random(1)
for kill in range(100):
    child = os.fork()
    if not child:
        import_data(source, target, ImportOptions(workers=1))
        os._exit(0)
    time.sleep(generator.uniform(0.0, 0.2 + 0.2 * kill))  # longer each time: a slow machine gets through too
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(len(list(pathlib.Path(target).parent.glob(".*.parts/*.json"))), flush=True)
    if os.path.exists(target):
        break
"""


def test_a_killed_import_goes_on_and_gives_the_same_file(many: Path, tmp_path: Path) -> None:
    whole = import_data(many, tmp_path / "whole.lmdb", SERIAL)
    target = tmp_path / "a.lmdb"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(many), str(target)], capture_output=True, text=True, check=True
    )
    parts = [int(word) for word in done.stdout.split()]
    assert len(parts) > 1  # it was killed before it was through
    assert parts[:-1] == sorted(parts[:-1])  # nothing that was finished was lost
    assert target.read_bytes() == whole.store.read_bytes()
    for name in (".a.lmdb.half.tmp", ".a.lmdb.json.half.tmp"):  # of a kill before the rename
        (tmp_path / name).write_text("{")
    import_data(many, target, ImportOptions(workers=1, overwrite=True))
    assert not list(tmp_path.glob(".*"))


def test_finished_files_are_not_read_again(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atomml.data import import_parts
    from atomml.workflows.datasets import data_import

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(data_import, "_merge", fail)
        with pytest.raises(KeyboardInterrupt):
            import_data(many, tmp_path / "a.lmdb", SERIAL)
    assert not (tmp_path / "a.lmdb").exists()
    monkeypatch.setattr(import_parts, "read_source", fail)
    result = import_data(many, tmp_path / "a.lmdb", SERIAL)
    assert result.header["n_entries"] == 252
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.lmdb", "a.lmdb.json"]


def test_a_report_outlives_no_part(frames: Frames, tmp_path: Path) -> None:
    """Killed while it cleans up: what is left is never a report without its part."""
    from atomml.data.import_parts import remove_parts

    removed = []

    class Folder(type(Path())):  # type: ignore[misc]
        def unlink(self, missing_ok: bool = False) -> None:
            removed.append(self.suffix)
            super().unlink(missing_ok)

    for name in ("b.part", "b.json", "a.part", "a.json", "lock"):
        (tmp_path / name).touch()
    remove_parts(Folder(tmp_path))
    assert removed[:2] == [".json", ".json"]
    assert not tmp_path.exists()


def test_what_changed_since_is_read_again(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atomml.workflows.datasets import data_import

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    write_structures(tmp_path / "a.xyz", frames(2))
    with monkeypatch.context() as patch:
        patch.setattr(data_import, "_merge", fail)
        with pytest.raises(KeyboardInterrupt):
            import_data(tmp_path / "a.xyz", tmp_path / "a.lmdb", SERIAL)
    write_structures(tmp_path / "a.xyz", frames(3, seed=5))
    assert import_data(tmp_path / "a.xyz", tmp_path / "a.lmdb", SERIAL).header["n_entries"] == 3


def test_a_second_import_into_the_same_store_is_refused_while_one_runs(many: Path, tmp_path: Path) -> None:
    import fcntl

    parts = tmp_path / ".a.lmdb.parts"
    parts.mkdir()
    with (parts / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(OptionError, match="Another import writes"):
            import_data(many, tmp_path / "a.lmdb", SERIAL)


def test_a_store_can_be_imported_into_another(frames: Frames, tmp_path: Path) -> None:
    write_structures(tmp_path / "a.xyz", frames(3))
    write_structures(tmp_path / "b.xyz", [*frames(3), *frames(2, seed=1)])
    import_data(tmp_path / "a.xyz", tmp_path / "a.lmdb", SERIAL)
    result = import_data([tmp_path / "a.lmdb", tmp_path / "b.xyz"], tmp_path / "b.lmdb", SERIAL)
    assert (result.header["n_entries"], result.duplicates) == (5, 3)
    assert [Path(e.source).name for e in open_dataset(result.store)] == ["a.xyz"] * 3 + ["b.xyz"] * 2


def test_the_command(many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "a.lmdb"
    call = ["data", "import", str(many), "--to", str(target), "--workers", "1"]
    assert main([*call, "--dry-run"]) == 0
    assert "OUTCAR" in capsys.readouterr().out
    assert not target.exists()
    assert main([*call, "--quiet"]) == 3  # one file was not taken
    assert capsys.readouterr().out == ""
    assert main(call) == 2
    assert "exists: give another --to, or --overwrite" in capsys.readouterr().err
    assert main([*call, "--overwrite", "--json"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert (summary["n_entries"], summary["n_failed"], summary["n_unconverged"]) == (252, 1, 1)
    assert summary == json.loads((tmp_path / "a.lmdb.json").read_bytes())
    assert main([*call, "--overwrite"]) == 3
    out = capsys.readouterr().out
    assert "NOT TAKEN" in out
    assert "252 entries, 1008 atoms; energy 252, forces 252, stress 252, magmoms 0" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["import", "nowhere", "--to", "a.lmdb"], "nowhere is neither file nor folder"),
        (["import", "*.nothing", "--to", "a.lmdb"], "matches no file"),
        (["import", "x", "--to", "a.h5"], "is no name of a store"),
        (["import", "x"], "Say where to write with --to"),
        (["import", "--to", "a.lmdb"], "needs paths"),
        (["import", "x", "--to", "a.lmdb", "--energy-unit", "erg"], "energy-unit"),
        (["import", "x", "--to", "a.lmdb", "--energy-kye", "E"], "did you mean '--energy-key'"),
        (["imprt"], "no 'atomml data imprt'"),
        (["split"], "needs a set"),
    ],
)
def test_wrong_calls_are_one_sentence_and_exit_code_2(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_help_imports_nothing_that_computes() -> None:
    code = """
import sys
from atomml.cli.main import main
for words in ([], ["--help"], ["import", "--help"], ["split", "--help"]):
    main(["data", *words])
print([name for name in ("numpy", "ase", "torch", "lmdb", "pymatgen", "yaml", "rich") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_units_that_text_files_have_are_not_put_on_a_programs_output(frames: Frames, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    dft_outputs.vasprun(runs / "vasprun.xml", frames(2), [9, 9])
    old = frames(2, 5)
    for atoms in old:  # what VASP prints: kbar, positive under compression
        atoms.info["stress"] = -10 * atoms.calc.results.pop("stress") / GPa
    write_structures(runs / "z.extxyz", old)
    options = ImportOptions(workers=1, stress_unit="kbar", stress_sign="compression")
    found = list(open_dataset(import_data(runs, tmp_path / "set.lmdb", options).store))
    expected = [atoms.get_stress(voigt=False) for atoms in frames(2)]
    for entry, stress in zip(found[:2], expected, strict=True):
        np.testing.assert_allclose(entry.labels.stress, stress, atol=1e-6)
    direct = open_dataset(runs / "vasprun.xml", LabelKeys(energy_unit="Ha", stress_unit="GPa"))
    np.testing.assert_allclose(direct[0].labels.stress, expected[0], atol=1e-6)
    assert direct[0].labels.energy == pytest.approx(frames(2)[0].get_potential_energy(), abs=1e-6)
    again = [atoms.get_stress(voigt=False) for atoms in frames(2, 5)]
    for entry, stress in zip(found[2:], again, strict=True):
        np.testing.assert_allclose(entry.labels.stress, stress, atol=1e-6)


def test_what_did_not_converge_is_no_set_without_an_import(frames: Frames, tmp_path: Path) -> None:
    """Training and evaluation read files by the same function: it takes nothing that an import leaves out."""
    path = dft_outputs.vasprun(tmp_path / "vasprun.xml", frames(3), [9, 60, 9])
    with pytest.raises(FileFormatError, match=r"vasprun\.xml: 1 of 3 .* did not converge: .*data import"):
        open_dataset(path)
    good = open_dataset(dft_outputs.vasprun(path, frames(3), [9, 9, 9]))
    assert (len(good), good[0].method) == (3, "VASP ENCUT=520.0 GGA=PE")


def test_a_store_loses_a_label_and_says_which_keys_do_not_apply(
    frames: Frames, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_structures(tmp_path / "a.extxyz", frames(3))
    store = import_data(tmp_path / "a.extxyz", tmp_path / "a.lmdb", SERIAL).store
    whole, part = open_dataset(store), open_dataset(store, LabelKeys(stress_key="none"))
    assert whole.label_counts == {"energy": 3, "forces": 3, "stress": 3, "magmoms": 0}
    assert part.label_counts == {"energy": 3, "forces": 3, "stress": 0, "magmoms": 0}
    assert part.digest == ListDataset(part).digest != whole.digest
    again = import_data(store, tmp_path / "b.lmdb", ImportOptions(workers=1, stress_key="none"))
    assert again.header["label_counts"] == part.label_counts
    assert not caplog.records
    open_dataset(store, LabelKeys(energy_key="E_scan", forces_unit="Ha/bohr"))
    assert "--energy-key, --forces-unit" in caplog.text


def test_a_run_that_was_cut_in_its_first_step_is_called_that(
    frames: Frames, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = dft_outputs.vasprun(tmp_path / "vasprun.xml", frames(1), [9], finished=False)
    with pytest.raises(InputError, match=r"no calculation is finished in 1 files .*vasprun\.xml"):
        import_data(cut, tmp_path / "a.lmdb", SERIAL)
    write_structures(tmp_path / "z.extxyz", frames(2))
    assert main(["data", "import", str(tmp_path), "--to", str(tmp_path / "b.lmdb"), "--workers", "1"]) == 0
    assert "cut short in its first step" in capsys.readouterr().out


def test_options_for_stresses_are_not_passed_over_for_virials(frames: Frames, tmp_path: Path) -> None:
    old = frames(1)
    stress = old[0].calc.results.pop("stress")
    tensor = old[0].get_volume() * voigt_6_to_full_3x3_stress(stress)
    write_structures(tmp_path / "a.extxyz", [Atoms(old[0], info={"virial": -tensor, "energy": -1.0})])
    write_structures(tmp_path / "b.extxyz", [Atoms(old[0], info={"w": tensor, "energy": -1.0})])
    for wrong in ({"stress_unit": "kbar"}, {"stress_sign": "compression"}):
        with pytest.raises(InputError, match=r"a\.extxyz, frame 0: virial is taken for a virial"):
            open_dataset(tmp_path / "a.extxyz", LabelKeys(**wrong))
    keys = LabelKeys(stress_key="w", stress_quantity="virial", stress_sign="compression")
    for found in (open_dataset(tmp_path / "a.extxyz"), open_dataset(tmp_path / "b.extxyz", keys)):
        np.testing.assert_allclose(found[0].labels.stress, tensor / old[0].get_volume(), rtol=1e-12)


def test_labels_too_large_for_their_unit_are_doubted(
    frames: Frames, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_structures(tmp_path / "a.extxyz", frames(4))
    wrong = frames(4)
    for atoms in wrong:
        atoms.calc.results["stress"] = atoms.calc.results["stress"] / (0.1 * GPa)  # kbar
        atoms.calc.results["forces"] = atoms.calc.results["forces"] * 1e4
    write_structures(tmp_path / "b.extxyz", wrong)
    for name, said in (("a", False), ("b", True)):
        words = ["data", "import", str(tmp_path / f"{name}.extxyz"), "--to", str(tmp_path / f"{name}.lmdb")]
        assert main([*words, "--workers", "1"]) == 0
        told = capsys.readouterr().out
        assert "energy, eV/atom: " in told
        assert ("check --stress-unit" in told) is said
        assert ("check --forces-unit" in told) is said


def test_folders_that_are_not_walked_are_listed(frames: Frames, tmp_path: Path) -> None:
    """A link to a folder could lead anywhere, round in a circle too; that it was left out is said."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_structures(tmp_path / "runs" / "a.extxyz", frames(2))
    write_structures(tmp_path / "elsewhere" / "b.extxyz", frames(2, 5))
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    result = import_data(tmp_path / "runs", tmp_path / "set.lmdb", SERIAL)
    assert result.header["n_entries"] == 2
    assert [(Path(path).name, "where it is named" in why) for path, why in result.passed_over] == [
        ("link", True)
    ]
    named = import_data([tmp_path / "runs", tmp_path / "runs" / "link"], tmp_path / "both.lmdb", SERIAL)
    assert named.header["n_entries"] == 4
