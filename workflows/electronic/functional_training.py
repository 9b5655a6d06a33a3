"""Training of a density functional, every number self-consistent: ``atomml dft train``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.config import as_config, build_options
from atomml.electronic.reactions import ReactionSet
from atomml.errors import CheckpointError, RunFailedError
from atomml.files import write_table
from atomml.options import option
from atomml.result import Result, quantity
from atomml.run import RunFolder
from atomml.workflows.electronic.functional_fields import (
    Fields,
    SelfConsistent,
    errors_of,
    mean_error,
    reaction_row,
)
from atomml.workflows.electronic.functional_terms import Term, terms_of
from atomml.workflows.run_record import finish_run, open_with_options

__all__ = ["FunctionalTrainOptions", "FunctionalTrainResult", "train_functional"]

_RESTART = "restart.safetensors"


@dataclass(frozen=True)
class FunctionalTrainOptions(SelfConsistent):
    """Options of ``dft train``."""

    start: str = option("pbe", "what the functional is before it learns", choices=("pbe", "r2scan"))
    widths: tuple[int, ...] = option((16, 16), "hidden layers of the networks")
    exact_exchange: float = option(0.0, "share of exact exchange", minimum=0.0, maximum=1.0)
    one_electron: bool = option(True, "correlation vanishes for one electron, whatever the weights")
    epochs: int = option(30, "passes over the reactions", minimum=1)
    batch_size: int = option(
        1, "reactions and other terms of one step; species they share converge once", minimum=1
    )
    learning_rate: float = option(0.01, "largest step of Adam in a weight; falls to a hundredth", above=0.0)
    weight_decay: float = option(1e-4, "decoupled weight decay: towards the start", minimum=0.0)
    dipole_weight: float = option(
        1.0, "weight of a squared Debye of a dipole, beside a squared kcal/mol", minimum=0.0
    )
    density_weight: float = option(
        1.0, "weight of a thousandth of a density's squared error, e²/bohr³", minimum=0.0
    )
    self_interaction_weight: float = option(
        0.0, "weight of a squared kcal/mol of one electron's energy with itself", minimum=0.0
    )
    convergence_weight: float = option(
        0.0,
        "weight of a kcal/mol that an SCF would still gain at PBE's density",
        minimum=0.0,
    )
    valid_every: int = option(5, "epochs between two validations", minimum=1)
    seed: int = option(0, "seed of the networks and of the order", minimum=0)


@dataclass(kw_only=True)
class FunctionalTrainResult(Result):
    """Errors of reaction energies, self-consistent throughout, before and after.

    Attributes:
        functional: The file of the best weights.
        train_mae, valid_mae: Mean absolute errors at the end, of the best weights.
        train_before, valid_before: Of the functional that training starts from.
        converged_share: Of all species, those whose SCF converges with the best weights.
        best_epoch: When they were.
        n_weights: Numbers that were learned.
        rows: A row for each reaction.
    """

    functional: str = ""
    train_mae: float = quantity("kcal/mol", default=0.0)
    valid_mae: float | None = quantity("kcal/mol", default=None)
    train_before: float = quantity("kcal/mol", default=0.0)
    valid_before: float | None = quantity("kcal/mol", default=None)
    converged_share: float = 0.0
    best_epoch: int = 0
    n_weights: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)


def train_functional(
    reactions: str | Path,
    valid: str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> FunctionalTrainResult:
    """Train a functional on reaction energies; every energy is that of its own self-consistent field.

    Args:
        reactions: A file of :func:`~atomml.electronic.reactions.read_reactions`.
        valid: Another one to choose the best weights by; the training's own errors if None. Where there are
            losses beside reactions, their mean with their weights is added.
        out: The run folder; ``dft-train-STEM`` in the current folder if None.
        resume: Go on in the folder, to the bits of an unbroken run.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`FunctionalTrainOptions`.

    Raises:
        InputError: A file or option that is wrong.
        RunFailedError: No species of the training converges.
    """
    from atomml.electronic.reactions import read_reactions
    from atomml.run import default_folder
    from atomml.workflows.inputs import input_record

    started = time.perf_counter()
    settings = build_options(FunctionalTrainOptions, options)
    sets = {"train": read_reactions(reactions)}
    if valid is not None:
        sets["valid"] = read_reactions(valid)
    folder = Path(out) if out is not None else default_folder("dft-train", str(reactions))
    facts: dict[str, Any] = {"reactions": str(reactions), "valid": None if valid is None else str(valid)}
    terms = {what: terms_of(one, settings) for what, one in sets.items()}
    with open_with_options(folder, "dft train", settings, overwrite=overwrite, resume=resume, **facts) as run:
        result = _Training(run, settings, sets, terms).go(run.resumed)
        inputs = [input_record(Path(path)) for path in (reactions, valid) if path is not None]
        seconds = time.perf_counter() - started
        finish_run(run, result, model=None, inputs=inputs, seconds=seconds)
    return result


class _Training:
    """One training in its folder."""

    def __init__(
        self,
        run: RunFolder,
        options: FunctionalTrainOptions,
        sets: Mapping[str, ReactionSet],
        terms: Mapping[str, list[Term]],
    ) -> None:
        import torch

        from atomml.potentials.xc.learned import LearnedConfig, LearnedFunctional
        from atomml.registry import seeded_generator

        self.run, self.options, self.sets = run, options, sets
        config = LearnedConfig(options.widths, options.exact_exchange, options.one_electron, options.start)
        with seeded_generator(options.seed):
            self.functional: LearnedFunctional = LearnedFunctional(config)
        self.parameters = list(self.functional.parameters())
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.fields = {what: Fields(self.functional, one.species, options) for what, one in sets.items()}
        self.terms: list[Term] = terms["train"]
        self.others = {what: [one for one in every if not one.is_reaction] for what, every in terms.items()}
        self.epoch, self.best, self.best_epoch = 0, float("inf"), 0
        self.before: dict[str, float | None] = {}
        self.log: list[dict[str, Any]] = []

    def go(self, resumed: bool) -> FunctionalTrainResult:
        """Train to the end, from the restart file if there is one."""
        if not (resumed and self._restored()):
            for what in self.sets:
                errors = errors_of(self.fields[what], self.sets[what].reactions)
                self.before[what] = mean_error(errors)
                if what == "train" and self.before[what] is None:
                    raise RunFailedError("No reaction of the training has converged: check its species.")
            self._judge()
            self._save()
        while self.epoch < self.options.epochs:
            loss = self._pass()
            self.epoch += 1
            if self.epoch % self.options.valid_every == 0 or self.epoch == self.options.epochs:
                self._judge(loss)
            self._save()
            failed = sorted(self.fields["train"].failed)
            self.run.event("epoch", step=self.epoch, of=self.options.epochs, loss=loss, failed=failed)
        return self._result()

    def _pass(self) -> float:
        """A step for each batch, in an order of this epoch; root mean square error of the reactions."""
        import math

        import numpy as np
        import torch

        order = np.random.default_rng([self.options.seed, self.epoch]).permutation(len(self.terms))
        x = self.epoch / max(self.options.epochs, 1)
        rate = self.options.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * x)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        squares = []
        for start in range(0, len(order), self.options.batch_size):
            chosen = [self.terms[int(index)] for index in order[start : start + self.options.batch_size]]
            with self.fields["train"].held():
                found = [(term, term(self.fields["train"])) for term in chosen]
            known = [(term, loss) for term, loss in found if loss is not None]  # no slope without an SCF
            squares += [loss.value**2 for term, loss in known if term.is_reaction]
            if not known:
                continue
            for k, parameter in enumerate(self.parameters):
                parameter.grad = torch.stack([loss.slopes[k] for _, loss in known]).mean(dim=0)
            torch.nn.utils.clip_grad_norm_(self.parameters, 100.0)
            self.optimiser.step()
        return float(np.sqrt(np.mean(squares))) if squares else float("nan")

    def _judge(self, loss: float | None = None) -> None:
        """Errors with the present weights, and the file of the best ones."""
        from atomml.potentials.xc.files import save_functional

        means = {
            what: mean_error(errors_of(self.fields[what], self.sets[what].reactions)) for what in self.sets
        }
        failed = {what: len(self.fields[what].failed) for what in self.sets}
        row = {"epoch": self.epoch, "train_rms_kcal_per_mol": loss}
        row |= {f"{what}_mae_kcal_per_mol": value for what, value in means.items()}
        self.log.append(row | {f"{what}_failed": n for what, n in failed.items()})
        score = self._score("valid" if "valid" in means else "train", means)
        if score is not None and not any(failed.values()) and score < self.best:
            self.best, self.best_epoch = score, self.epoch
            extra = {"options": as_config(self.options), "epoch": self.epoch}
            save_functional(self.functional, self.run.file("functional.safetensors"), extra)

    def _score(self, what: str, means: Mapping[str, float | None]) -> float | None:
        """What the best weights have least of: the mean error, and the mean of the other terms if any."""
        mean = means[what]
        losses = [term(self.fields[what]) for term in self.others[what]]
        if mean is None or any(loss is None for loss in losses):
            return None
        return mean + sum(loss.value for loss in losses if loss is not None) / max(len(losses), 1)

    def _save(self) -> None:
        """The restart file: weights, optimiser, densities, log."""
        from atomml.checkpoint import save_state
        from atomml.train.optimiser import optimiser_arrays

        arrays = {f"weights.{k}": v.detach().numpy() for k, v in self.functional.state_dict().items()}
        arrays |= {f"optimiser.{k}": v.numpy() for k, v in optimiser_arrays(self.optimiser).items()}
        for what, fields in self.fields.items():
            arrays |= {f"density.{what}.{name}": dm for name, dm in fields.densities.items()}
        header = {
            "epoch": self.epoch,
            "best": None if self.best == float("inf") else self.best,
            "best_epoch": self.best_epoch,
            "before": self.before,
            "log": self.log,
            "failed": {what: sorted(fields.failed) for what, fields in self.fields.items()},
        }
        save_state(self.run.file(_RESTART), arrays, header)
        if self.log:
            write_table(self.run.file("log.csv"), self.log, list(self.log[0]))

    def _restored(self) -> bool:
        """Take up the restart file; False where there is none yet.

        Raises:
            CheckpointError: It does not fit these options.
        """
        import torch

        from atomml.checkpoint import load_state
        from atomml.train.optimiser import load_optimiser

        path = self.run.file(_RESTART)
        if not path.exists():
            return False
        state = load_state(path)
        parts: dict[str, dict[str, Any]] = {"weights": {}, "optimiser": {}, "density": {}}
        for name, array in state.arrays.items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = array
        try:
            self.functional.load_state_dict({k: torch.from_numpy(v) for k, v in parts["weights"].items()})
        except RuntimeError as error:
            raise CheckpointError(
                f"{path} does not fit these options: start again with --overwrite."
            ) from error
        if parts["optimiser"]:
            load_optimiser(self.optimiser, {k: torch.from_numpy(v) for k, v in parts["optimiser"].items()})
        for name, dm in parts["density"].items():
            what, _, species = name.partition(".")
            self.fields[what].densities[species] = dm
        header = state.header
        self.epoch, self.best_epoch = int(header["epoch"]), int(header["best_epoch"])
        self.best = float("inf") if header["best"] is None else float(header["best"])
        self.before, self.log = dict(header["before"]), list(header["log"])
        for what, names in header["failed"].items():
            self.fields[what].failed = set(names)
        return True

    def _result(self) -> FunctionalTrainResult:
        """The best weights, judged once more from PySCF's own guesses."""
        from atomml.potentials.xc.files import load_functional

        path = self.run.file("functional.safetensors")
        if not path.exists():
            raise RunFailedError("No weights made every species converge: take a smaller --learning-rate.")
        best = load_functional(path)
        result = FunctionalTrainResult(functional=str(path), best_epoch=self.best_epoch)
        result.n_weights = sum(p.numel() for p in self.parameters)
        n_species = n_failed = 0
        for what, one in self.sets.items():
            fields = Fields(best, one.species, self.options)
            errors = errors_of(fields, one.reactions)
            setattr(result, f"{what}_mae", mean_error(errors))
            setattr(result, f"{what}_before", self.before.get(what))
            n_species, n_failed = n_species + len(one.species), n_failed + len(fields.failed)
            pairs = zip(one.reactions, errors, strict=True)
            result.rows += [{"set": what, **reaction_row(r, e)} for r, e in pairs]
        result.converged_share = 1 - n_failed / max(n_species, 1)
        write_table(self.run.file("reactions.csv"), result.rows, list(result.rows[0]))
        return result
