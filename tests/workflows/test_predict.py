"""Predictions of many structures: each is its own, whatever it is batched with and however often it dies."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from atomml.calculator import AtomMLCalculator
from atomml.errors import InputError, ModelError, OptionError, RunFailedError
from atomml.potentials.lennard_jones import LennardJones
from atomml.workflows import predict

DIES = """
import os, signal, sys
from atomml.workflows import predict
from atomml.workflows.predicting.prediction_files import PredictionFiles
commit = PredictionFiles.commit
def dying(self, of, **facts):
    if self.done >= int(sys.argv[1]):  # the batch is written, and nothing says so yet
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self, of, **facts)
PredictionFiles.commit = dying
predict("six.extxyz", "lj-argon", out="broken", resume=True, batch_edges=1, device="cpu")
"""


def test_a_structure_is_answered_alike_alone_in_any_batch_and_by_ase(
    crystals: list[Atoms], lj: LennardJones
) -> None:
    one = predict(crystals, lj, batch_edges=1)
    for found in (predict(crystals, lj, batch_edges=300), predict(crystals[::-1], lj)):
        order = range(6) if found.rows[0]["formula"] == "Ar" else range(5, -1, -1)
        for k, mine in zip(order, found.predictions, strict=True):
            alone = one.predictions[k]
            assert mine is not None
            assert alone is not None
            for name in ("energy", "forces", "stress"):  # sums of some 500 pairs of 1e-2 eV, in another order
                np.testing.assert_allclose(mine[name], alone[name], rtol=1e-12, atol=1e-14)
    for atoms, alone in zip(crystals, one.predictions, strict=True):
        atoms.calc = AtomMLCalculator(lj)
        assert alone is not None
        assert alone["energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(alone["forces"], atoms.get_forces(), atol=1e-13)


def test_a_foreign_calculator_answers_as_it_would_by_itself(crystals: list[Atoms], lj: LennardJones) -> None:
    ours, foreign = predict(crystals, lj), predict(crystals, AtomMLCalculator(lj))
    for mine, other in zip(ours.predictions, foreign.predictions, strict=True):
        assert mine is not None
        assert other is not None
        for name in ("energy", "forces", "stress"):
            np.testing.assert_allclose(mine[name], other[name], rtol=1e-12, atol=1e-14)


def test_numbers_of_the_whole_are_there_for_one_structure_only(
    crystals: list[Atoms], lj: LennardJones
) -> None:
    one, all_six = predict(crystals[3], lj), predict(crystals, lj)
    assert one.energy == pytest.approx(8 * one.energy_per_atom)
    assert one.max_force == pytest.approx(np.linalg.norm(one.predictions[0]["forces"], axis=1).max())
    trace = one.predictions[0]["stress"][:3].mean()
    assert one.pressure == pytest.approx(-160.21766208 * trace, rel=1e-9)  # GPa in eV/Å³
    assert (all_six.energy, all_six.max_force, all_six.pressure) == (None, None, None)
    assert all_six.n_atoms == sum(map(len, crystals))
    assert all_six.rows[3]["energy_eV"] == pytest.approx(one.energy, rel=1e-12)


def test_the_files_hold_what_is_returned_without_them(
    crystals: list[Atoms], lj: LennardJones, tmp_path: Path
) -> None:
    returned, kept = predict(crystals, lj), predict(crystals, lj, out=tmp_path / "run")
    assert kept.predictions == []
    with (tmp_path / "run" / "results.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    written = read(tmp_path / "run" / "predictions.extxyz", ":")
    for row, atoms, found in zip(rows, written, returned.predictions, strict=True):
        assert found is not None
        assert float(row["energy_eV"]) == found["energy"] == atoms.get_potential_energy()
        # Arrays are written with 8 decimals or more.
        np.testing.assert_allclose(atoms.get_forces(), found["forces"], atol=1e-8)
        np.testing.assert_allclose(atoms.get_stress(), found["stress"], atol=1e-8)


def test_killed_before_a_commit_and_resumed_gives_the_files_of_an_unbroken_run(file: str) -> None:
    """SIGKILL for real where a batch is written and not yet counted: twice, then to the end."""
    for done in (2, 4):
        process = subprocess.run([sys.executable, "-c", DIES, str(done)], check=False)
        assert process.returncode == -9
    settings = {"batch_edges": 1, "device": "cpu"}
    with Path("broken/results.csv").open("a", encoding="utf-8") as stream:
        stream.write("torn")
    resumed = predict(file, "lj-argon", out="broken", resume=True, **settings)
    whole = predict(file, "lj-argon", out="whole", **settings)
    for name in ("results.csv", "predictions.extxyz"):
        assert Path("broken", name).read_bytes() == Path("whole", name).read_bytes(), name
    assert resumed.results() == whole.results()
    again = predict(file, "lj-argon", out="broken", resume=True, **settings)  # it is done: only read back
    assert again.results() == whole.results()
    assert again.rows == whole.rows


def test_files_that_were_shortened_behind_the_run_are_refused(file: str) -> None:
    subprocess.run([sys.executable, "-c", DIES, "3"], check=False)
    Path("broken/results.csv").write_text("input\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"results\.csv is shorter than the run left it"):
        predict(file, "lj-argon", out="broken", resume=True, batch_edges=1, device="cpu")
    Path("broken/results.csv").unlink()
    with pytest.raises(InputError, match=r"results\.csv is missing"):
        predict(file, "lj-argon", out="broken", resume=True, batch_edges=1, device="cpu")


def test_a_bad_structure_stops_before_anything_is_written_or_is_skipped_and_named(
    crystals: list[Atoms], lj: LennardJones, tmp_path: Path
) -> None:
    spoilt = [*crystals, Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]])]
    with pytest.raises(InputError, match=r"atom 0 is Na .*--on-error skip"):
        predict(spoilt, lj, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    found = predict(spoilt, lj, on_error="skip")
    assert (found.n_structures, found.n_failed, found.converged) == (6, 1, False)
    assert found.predictions[-1] is None
    assert "atom 0 is Na" in found.rows[-1]["error"]
    assert "was skipped" in found.warnings[0]
    with pytest.raises(InputError, match="atom 0 is Na"):  # nothing is left to predict
        predict(spoilt[-1:], lj, on_error="skip")


def test_a_file_that_breaks_off_is_named_with_its_frame(file: str, lj: LennardJones) -> None:
    text = Path(file).read_text(encoding="utf-8")
    Path(file).write_text(text + "4\nLattice=", encoding="utf-8")
    with pytest.raises(InputError, match=r"six\.extxyz"):
        predict(file, lj)
    found = predict(file, lj, on_error="skip")
    assert (found.n_structures, found.n_failed, found.rows[-1]["frame"]) == (6, 1, 6)


def test_a_charge_asked_for_is_set_on_every_structure_and_refused_by_a_blind_model(
    crystals: list[Atoms], lj: LennardJones
) -> None:
    with pytest.raises(InputError, match="has charge 2 and spin 0, which lj-argon cannot see"):
        predict(crystals, lj, charge=2.0)
    found = predict(crystals, lj, charge=2.0, allow_charge_mismatch=True)
    assert found.n_structures == 6
    assert all("those of the neutral system" in warning for warning in found.warnings)


def test_a_number_that_is_none_fails_the_run_and_names_the_batch(sick: LennardJones) -> None:
    neon = Atoms("Ne2", [[0, 0, 0], [0, 0, 3.1]])
    with pytest.raises(
        RunFailedError, match=r"not finite \(in the batch that starts with structure frame 0\)\.$"
    ):
        predict([neon], sick)


def test_what_cannot_be_done_is_refused_in_one_sentence(crystals: list[Atoms], lj: LennardJones) -> None:
    with pytest.raises(InputError, match="There is no structure to predict"):
        predict([], lj)
    with pytest.raises(ModelError, match="has no features: run without --features"):
        predict(crystals, lj, features=True)
    with pytest.raises(ModelError, match="has no features"):
        predict(crystals, AtomMLCalculator(lj), features=True)
    with pytest.raises(OptionError, match="batch_edges"):
        predict(crystals, lj, batch_edges=0)


def test_features_of_each_structure_lie_between_its_offsets(tmp_path: Path) -> None:
    """A row per atom; a crystal twice as large has the same atoms' features and twice the structure's sum."""
    from ase.build import bulk

    small = bulk("NaCl", "rocksalt", a=5.7)
    large = small * (2, 1, 1)
    write(tmp_path / "two.extxyz", [small, large])
    predict(tmp_path / "two.extxyz", "chgnet-0.3.0", out=tmp_path / "run", features=True, device="cpu")
    held = np.load(tmp_path / "run" / "features.npz")
    assert held["offsets"].tolist() == [0, 2, 6]
    assert held["atom_features"].shape == (6, 64)
    first, second = held["atom_features"][:2], held["atom_features"][2:]
    # float32 sums over some 100 neighbours of features of order 1
    np.testing.assert_allclose(second, np.concatenate([first, first]), atol=2e-5)
    np.testing.assert_allclose(held["structure_features"][1], 2 * held["structure_features"][0], atol=1e-3)
    assert list((tmp_path / "run").glob(".*.part")) == []
