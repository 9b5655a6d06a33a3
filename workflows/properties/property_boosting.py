"""Growing boosted trees with the files of every training: a log, a restart file, the same bits after a kill.

Rounds go in chunks. After each the trees become bytes and the next chunk starts from these, with a seed that
follows from its place: so a run that was killed and one that never stopped do the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atomml.checkpoint import load_state, save_state
from atomml.errors import CheckpointError, OptionError
from atomml.files import write_atomic
from atomml.interruption import deferred_signals
from atomml.potentials.boosted import BoostedTrees, xgboost_module

if TYPE_CHECKING:
    from atomml.train.processes import Processes

__all__ = ["Boosting", "BoostingSettings", "Rows"]

Floats = NDArray[np.float64]

RESTART, LOG = "restart.safetensors", "log.csv"
CHUNK = 50


@dataclass(frozen=True)
class BoostingSettings:
    """How trees grow; the names on the right are XGBoost's.

    Attributes:
        rounds: At most.
        patience: Rounds without a better validation before it ends.
        learning_rate: eta.
        depth: max_depth.
        subsample: Share of structures that a tree sees.
        columns: colsample_bytree.
        child_weight: min_child_weight.
        penalty: lambda.
        seed: Of the shares.
        threads: nthread.
    """

    rounds: int = 800
    patience: int = 100
    learning_rate: float = 0.04
    depth: int = 6
    subsample: float = 0.8
    columns: float = 0.4
    child_weight: float = 4.0
    penalty: float = 1.0
    seed: int = 0
    threads: int = 1

    @classmethod
    def of(cls, shape: Mapping[str, Any], **more: Any) -> BoostingSettings:
        """From what a user gives.

        Raises:
            OptionError: A setting that there is not.
        """
        try:
            return cls(**{**more, **shape})
        except TypeError as error:
            raise OptionError(f"xgboost has no such setting ({error}): see BoostingSettings.") from None


@dataclass(frozen=True)
class Rows:
    """Descriptors ``(n, width)`` and labels ``(n, n_targets)`` of a set."""

    rows: Floats
    labels: Floats


@dataclass
class _State:
    """Where the growing is: target, rounds done of it, best validation so far and its rounds."""

    target: int = 0
    done: int = 0
    best: float | None = None
    best_rounds: int = 0
    lines: list[str] = field(default_factory=list)


class Boosting:
    """Grows the trees of a model in a folder.

    Args:
        model: Takes the trees.
        train, valid: What is learned, and what decides how many rounds; None for no validation.
        settings: How.
        folder: An existing folder.
        event: ``event(kind, **data)``.
        identity: What must be the same for a resumed run to give the same bits.
        processes: Who trains.

    Attributes:
        rounds: Rounds kept for each target.
    """

    def __init__(
        self,
        model: BoostedTrees,
        train: Rows,
        valid: Rows | None,
        settings: BoostingSettings,
        folder: Path,
        event: Callable[..., None],
        identity: Mapping[str, str],
        processes: Processes,
    ) -> None:
        self.model, self.train, self.valid = model, train, valid
        self.settings, self.folder, self.event = settings, folder, event
        self.identity, self.processes = dict(identity), processes
        self.rounds: list[int] = []
        self._state = _State(lines=["target,rounds,train_loss,valid_loss"])
        self._grown: dict[int, bytes] = {}
        self._xgboost = xgboost_module()

    def run(self, *, resume: bool = False) -> None:
        """Grow every target's trees.

        Raises:
            CheckpointError: The restart file is damaged or of another run.
            KeyboardInterrupt: After Ctrl-C, with a restart file.
        """
        if resume and self.processes.is_first and (self.folder / RESTART).exists():
            self._resume()
        with deferred_signals() as received:
            while self.processes.agree(self._state.target) < len(self.model.targets):
                if self.processes.is_first:
                    self._chunk()
                    self._save()
                if self.processes.agree(bool(received)):
                    return
        self._grown = self.processes.agree(self._grown)
        for number in range(len(self.model.targets)):
            booster = self._booster(self._grown[number])
            self.model.set_trees(number, booster)
            self.rounds.append(booster.num_boosted_rounds())
        self.model.set_shares()

    def _chunk(self) -> None:
        """Some rounds of the present target; at its end the best of them are kept."""
        state, settings = self._state, self.settings
        k = state.target
        n = min(CHUNK, settings.rounds - state.done)
        before = self._booster(self._grown[k]) if k in self._grown else None
        matrices = [(self._matrix(self.train, k), "train")]
        if self.valid is not None and np.isfinite(self.valid.labels[:, k]).any():
            matrices.append((self._matrix(self.valid, k), "valid"))
        losses: dict[str, Any] = {}
        booster = self._xgboost.train(
            self._parameters(k),
            matrices[0][0],
            num_boost_round=n,
            evals=matrices,
            evals_result=losses,
            verbose_eval=False,
            xgb_model=before,
        )
        self._grown[k] = bytes(booster.save_raw("ubj"))
        curves = {name: next(iter(one.values())) for name, one in losses.items()}
        for place, loss in enumerate(curves.get("valid", []), start=1):
            if state.best is None or loss < state.best:
                state.best, state.best_rounds = float(loss), state.done + place
        state.done += n
        last = [repr(float(curves[name][-1])) if name in curves else "" for name in ("train", "valid")]
        state.lines.append(",".join([self.model.targets[k].key, str(state.done), *last]))
        self.event("progress", step=state.done, of=settings.rounds, loss=float(curves["train"][-1]))
        waited = state.best is not None and state.done - state.best_rounds >= settings.patience
        if state.done >= settings.rounds or waited:
            kept = state.best_rounds if state.best is not None else state.done
            self._grown[k] = bytes(booster[:kept].save_raw("ubj"))
            state.target, state.done, state.best, state.best_rounds = k + 1, 0, None, 0

    def _parameters(self, k: int) -> dict[str, Any]:
        s, target = self.settings, self.model.targets[k]
        chunk = self._state.done // CHUNK
        common = {
            "eta": s.learning_rate,
            "max_depth": s.depth,
            "subsample": s.subsample,
            "colsample_bytree": s.columns,
            "min_child_weight": s.child_weight,
            "lambda": s.penalty,
            "nthread": s.threads,
            "tree_method": "hist",
            "seed": (s.seed * 1009 + k) * 10007 + chunk,
        }
        if target.classes:
            return {**common, "objective": "multi:softprob", "num_class": target.width}
        return {**common, "objective": "reg:squarederror", "base_score": 0.0}

    def _matrix(self, rows: Rows, k: int) -> Any:
        """Labelled structures of a target, labels around zero."""
        target = self.model.targets[k]
        known = np.isfinite(rows.labels[:, k])
        labels = rows.labels[known, k]
        if not target.classes:
            labels = (labels - target.mean) / target.scale
        return self._xgboost.DMatrix(rows.rows[known], label=labels, missing=np.nan)

    def _booster(self, data: bytes) -> Any:
        booster = self._xgboost.Booster()
        booster.load_model(bytearray(data))
        return booster

    def _save(self) -> None:
        arrays = {f"trees_{k}": np.frombuffer(data, dtype=np.uint8) for k, data in self._grown.items()}
        header = {"format": "atomml boosting 1", "identity": self.identity, "state": vars(self._state)}
        save_state(self.folder / RESTART, arrays, json.loads(json.dumps(header)))
        write_atomic(self.folder / LOG, "\n".join(self._state.lines) + "\n")

    def _resume(self) -> None:
        path = self.folder / RESTART
        found = load_state(path)
        if found.header.get("format") != "atomml boosting 1":
            raise CheckpointError(f"{path} is not a restart file of boosted trees: start with --overwrite.")
        self._state = _State(**found.header["state"])
        self._grown = {int(name.partition("_")[2]): data.tobytes() for name, data in found.arrays.items()}
        self.event("restart read", step=self._state.done)
