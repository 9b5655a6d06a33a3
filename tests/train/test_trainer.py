"""The loop: it fits, stops at any moment, goes on to the same bits, and never lies about where it is."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atomml.checkpoint import load_state
from atomml.data.dataset import ListDataset
from atomml.data.entry import Entry
from atomml.errors import CheckpointError
from atomml.model import Potential
from atomml.registry import load_model
from atomml.train.batches import Limits
from atomml.train.losses import Loss
from atomml.train.optimiser import LearningRate
from atomml.train.potential_objective import PotentialObjective
from atomml.train.processes import Processes
from atomml.train.samples import Samples
from atomml.train.settings import TrainSettings
from atomml.train.trainer import BEST, LAST, LOG, Data, Hooks, Replay, Trainer
from atomml.train.weights import WeightSchedule

FILES = (BEST, LAST, LOG, "restart.safetensors")
WEIGHTS = {"energy": 1.0, "forces": 1.0, "stress": 1.0, "magmoms": 0.0}


class PulledPlug(BaseException):
    """Stands for the end of the process: nothing in the library may catch it."""


def settings(**changes: Any) -> TrainSettings:
    loss = Loss("huber", 0.05, {name: WeightSchedule.parse(w, name) for name, w in WEIGHTS.items()})
    base = TrainSettings(
        objective=PotentialObjective(loss),
        epochs=3,
        batch_size=3,
        limits=Limits(1000, 10**6),
        rate=5e-3,
        schedule=LearningRate("cosine", 2, 0.01),
        average=0.9,
        save_every=4,
    )
    return replace(base, **changes)


@pytest.fixture(scope="module")
def alone() -> Processes:
    return Processes("cpu")


Make = Callable[..., Trainer]


@pytest.fixture
def make(tiny: Callable[..., Potential], entries: list[Entry], alone: Processes) -> Make:
    """Makes a trainer on seven crystals, two for validation and one replayed, in a folder."""

    def trainer(folder: Path, told: TrainSettings | None = None, **parts: Any) -> Trainer:
        folder.mkdir(exist_ok=True)
        model = tiny().requires_grad_(True)
        data = Data(
            Samples(ListDataset(entries[:7]), model),
            Samples(ListDataset(entries[7:9]), model) if parts.get("valid", True) else None,
            Replay(Samples(ListDataset(entries[9:]), model), 1, 0.5) if parts.get("replay", True) else None,
        )
        hooks = parts.get("hooks", Hooks())
        return Trainer(model, data, told or settings(), folder, alone, header={"seed": 0}, hooks=hooks)

    return trainer


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def unplug(trainer: Trainer, at_call: int) -> None:
    """Let the run die in its ``at_call``-th gradient."""
    compute, calls = trainer.gradients._part, 0

    def dying(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at_call:
            raise PulledPlug
        return compute(*args)

    trainer.gradients._part = dying  # type: ignore[method-assign]


@pytest.mark.parametrize("at_call", [1, 8, 12, 17])
@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_same_bits_after_any_stop(make: Make, at_call: int, schedule: str, tmp_path: Path) -> None:
    """Before the first step, in the middle of an epoch, right before and after a restart file."""
    told = settings(schedule=LearningRate(schedule, 2, 0.01), plateau_patience=1)
    make(tmp_path / "whole", told).run()
    broken = make(tmp_path / "broken", told)
    unplug(broken, at_call)
    with pytest.raises(PulledPlug):
        broken.run()
    make(tmp_path / "broken", told).run(resume=True)
    assert digests(tmp_path / "whole") == digests(tmp_path / "broken")


def test_a_log_written_after_the_restart_file_is_cut_back(make: Make, tmp_path: Path) -> None:
    told = settings(save_every=100)
    make(tmp_path / "whole", told).run()
    broken = make(tmp_path / "broken", told)
    unplug(broken, 16)
    with pytest.raises(PulledPlug):
        broken.run()
    with (tmp_path / "broken" / LOG).open("ab") as stream:
        stream.write(b"3,9,0.001")
    make(tmp_path / "broken", told).run(resume=True)
    assert digests(tmp_path / "whole") == digests(tmp_path / "broken")


def test_resuming_a_finished_run_changes_nothing(make: Make, tmp_path: Path) -> None:
    make(tmp_path).run()
    before = digests(tmp_path)
    again = make(tmp_path)
    unplug(again, 1)  # not one gradient is computed
    again.run(resume=True)
    assert digests(tmp_path) == before


def test_starting_again_from_the_first_step_is_said(make: Make, tmp_path: Path) -> None:
    """A run killed before its first restart file has nothing to go on from; it must not be silent."""
    said: list[str] = []
    make(tmp_path, hooks=Hooks(warn=said.append)).run(resume=True)
    assert any("first step" in sentence for sentence in said)


def test_a_lost_restart_file_is_an_error_and_not_a_new_start(make: Make, tmp_path: Path) -> None:
    make(tmp_path).run()
    (tmp_path / "restart.safetensors").unlink()
    before = (tmp_path / LAST).read_bytes()
    with pytest.raises(CheckpointError, match="overwrite"):
        make(tmp_path).run(resume=True)
    assert (tmp_path / LAST).read_bytes() == before


def test_a_restart_file_of_other_weights_is_refused(make: Make, tmp_path: Path) -> None:
    make(tmp_path).run()
    with pytest.raises(CheckpointError, match="overwrite"):
        make(tmp_path, settings(average=0.0)).run(resume=True)


@pytest.mark.parametrize("valid", [True, False])
def test_best_and_last_models_are_always_written(make: Make, valid: bool, tmp_path: Path) -> None:
    """They load, and the best one has the lowest loss of the log; without validation it is the last one."""
    progress = make(tmp_path, valid=valid, replay=False).run()
    assert progress.step == 9
    best, last = (load_model(tmp_path / name, dtype="float64") for name in (BEST, LAST))
    assert best.info.name == last.info.name == "tiny"
    with (tmp_path / LOG).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    if not valid:
        for a, b in zip(best.parameters(), last.parameters(), strict=True):
            assert bool((a == b).all())
        return
    losses = [float(row["valid_loss"]) for row in rows]
    assert progress.best_loss == min(losses)
    assert progress.best_epoch == losses.index(min(losses))


def test_one_structure_is_learned(make: Make, tiny: Callable[..., Potential], entries: list[Entry]) -> None:
    """Overfitting one crystal to a tenth of its first errors shows that every gradient has its sign."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        trainer = make(
            Path(folder),
            settings(epochs=250, batch_size=1, average=0.0, rate=0.02),
            valid=False,
            replay=False,
        )
        model = trainer.model
        one = Samples(ListDataset(entries[:1]), model)
        trainer = Trainer(model, Data(one), trainer.settings, Path(folder), trainer.processes)
        trainer.run()
        with (Path(folder) / LOG).open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    for key in ("train_energy_mae_meV_per_atom", "train_forces_mae_meV_per_A"):
        assert float(rows[-1][key]) < 0.1 * float(rows[1][key]), key


def test_early_stopping_says_why(make: Make, tmp_path: Path) -> None:
    """A learning rate of nearly nothing: no validation after the first is better by construction."""
    told = settings(epochs=50, rate=1e-30, patience=3, schedule=LearningRate("constant", 0, 1.0))
    progress = make(tmp_path, told, replay=False).run()
    assert progress.epoch == 3
    assert "3 validations" in progress.stopped
    assert load_state(tmp_path / "restart.safetensors").header["progress"]["stopped"] == progress.stopped


def test_a_limit_of_time_becomes_a_number_of_steps_once(make: Make, tmp_path: Path) -> None:
    """The schedule ends where the steps do; a resumed run keeps the number, however fast it is now."""
    told = settings(epochs=10_000, max_time_s=60.0)
    trainer = make(tmp_path, told)
    unplug(trainer, 15)
    with pytest.raises(PulledPlug):
        trainer.run()
    first = load_state(tmp_path / "restart.safetensors").header["progress"]["n_steps"]
    assert 10 < first < 30_000
    again = make(tmp_path, told)
    again.cost_per_step = lambda: 1e-9  # type: ignore[method-assign]
    again._resume()
    assert again.progress.n_steps == first


def test_replay_stands_in_every_batch(make: Make, tmp_path: Path) -> None:
    trainer = make(tmp_path)
    for step in range(5):
        trainer.progress.step = trainer.progress.position = step % 3
        groups = trainer._groups(trainer.progress)
        assert [len(group.samples) for group in groups][1] == 1
        assert groups[1].weight == 0.5
