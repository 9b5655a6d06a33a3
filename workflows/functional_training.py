"""Training of a density functional on energies, each of them self-consistent: ``atomml dft train``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options
from atomml.errors import CheckpointError, OptionError, RunFailedError
from atomml.files import write_table
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    import numpy as np

    from atomml.electronic.functional import DensityFunctional
    from atomml.electronic.reactions import Reaction, Species
    from atomml.potentials.xc.learned import LearnedFunctional
    from atomml.run import RunFolder

__all__ = ["FunctionalTrainOptions", "FunctionalTrainResult", "evaluate_functional", "train_functional"]

_KCAL = 627.5094740631
_RESTART = "restart.safetensors"


@dataclass(frozen=True)
class SelfConsistent:
    """Options of whatever converges many species."""

    basis: str = option("def2-svp", "basis set, as PySCF names it")
    grid: int = option(3, "level of PySCF's integration grid", minimum=0, maximum=9)
    conv_tol: float = option(1e-9, "change of the energy at which an SCF has converged", unit="Eh", above=0)
    max_cycle: int = option(100, "most cycles of an SCF", minimum=1)


@dataclass(frozen=True)
class FunctionalTrainOptions(SelfConsistent):
    """Options of ``dft train``."""

    widths: tuple[int, ...] = option((16, 16), "hidden layers of the networks")
    exact_exchange: float = option(0.0, "share of exact exchange", minimum=0.0, maximum=1.0)
    one_electron: bool = option(True, "correlation vanishes for one electron, whatever the weights")
    epochs: int = option(30, "passes over the reactions", minimum=1)
    learning_rate: float = option(0.01, "largest step of Adam in a weight; falls to a hundredth", above=0.0)
    weight_decay: float = option(1e-4, "decoupled weight decay: towards PBE", minimum=0.0)
    valid_every: int = option(5, "epochs between two validations", minimum=1)
    seed: int = option(0, "seed of the networks and of the order", minimum=0)


@dataclass(kw_only=True)
class FunctionalTrainResult(Result):
    """Errors of reaction energies, self-consistent throughout, before and after.

    Attributes:
        functional: The file of the best weights.
        train_mae, valid_mae: Mean absolute errors at the end, of the best weights.
        train_before, valid_before: Of PBE, which training starts from.
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


class Fields:
    """Converges species by a functional, each from its last density; nothing but those is remembered.

    Args:
        functional: The functional.
        species: By name.
        options: Basis, grid and convergence.
    """

    def __init__(
        self, functional: DensityFunctional, species: Mapping[str, Species], options: SelfConsistent
    ) -> None:
        from atomml.electronic.mean_field import MeanFieldLevel
        from atomml.electronic.scf_settings import ScfSettings

        settings = ScfSettings(grid=options.grid, conv_tol=options.conv_tol, max_cycle=options.max_cycle)
        self.level = MeanFieldLevel(functional, options.basis.lower(), settings)
        self.species = species
        self.densities: dict[str, np.ndarray[Any, Any]] = {}
        self.failed: set[str] = set()

    def __call__(self, name: str) -> Any | None:
        """The converged field of a species; None where the SCF does not converge."""
        import numpy as np

        from atomml.electronic.mean_field import quiet
        from atomml.errors import LabelError

        with quiet():
            start = self.level.mean_field(self.species[name].atoms)
            try:
                found, _ = self.level.converge(start, self.densities.get(name))
            except LabelError:
                self.failed.add(name)
                self.densities.pop(name, None)
                return None
        self.failed.discard(name)
        self.densities[name] = np.asarray(found.make_rdm1())
        return found


def errors_of(fields: Fields, reactions: Sequence[Reaction]) -> list[float | None]:
    """Error of each reaction energy, kcal/mol; None where a species does not converge."""
    energies: dict[str, float | None] = {}
    for reaction in reactions:
        for name in reaction.species:
            if name not in energies:
                found = fields(name)
                energies[name] = None if found is None else float(found.e_tot)
    errors: list[float | None] = []
    for reaction in reactions:
        parts = [(coefficient, energies[name]) for name, coefficient in reaction.species.items()]
        if any(energy is None for _, energy in parts):
            errors.append(None)
            continue
        total = sum(coefficient * (energy or 0.0) for coefficient, energy in parts)
        errors.append(_KCAL * (total - reaction.energy))
    return errors


def _row(reaction: Reaction, error: float | None) -> dict[str, Any]:
    reference = _KCAL * reaction.energy
    return {
        "reaction": reaction.name,
        "reference_kcal_per_mol": reference,
        "error_kcal_per_mol": error,
    }


def mean_error(errors: Sequence[float | None]) -> float | None:
    """Mean absolute error of those that there are."""
    known = [abs(error) for error in errors if error is not None]
    return sum(known) / len(known) if known else None


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
        valid: Another one to choose the best weights by; the training's own errors if None.
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
    with open_with_options(folder, "dft train", settings, overwrite=overwrite, resume=resume, **facts) as run:
        result = _Training(run, settings, sets).go(run.resumed)
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
        sets: Mapping[str, tuple[dict[str, Species], list[Reaction]]],
    ) -> None:
        import torch

        from atomml.potentials.xc.learned import LearnedConfig, LearnedFunctional
        from atomml.registry import seeded_generator

        self.run, self.options, self.sets = run, options, sets
        config = LearnedConfig(options.widths, options.exact_exchange, options.one_electron)
        with seeded_generator(options.seed):
            self.functional: LearnedFunctional = LearnedFunctional(config)
        self.parameters = list(self.functional.parameters())
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.fields = {what: Fields(self.functional, species, options) for what, (species, _) in sets.items()}
        self.epoch, self.best, self.best_epoch = 0, float("inf"), 0
        self.before: dict[str, float | None] = {}
        self.log: list[dict[str, Any]] = []

    def go(self, resumed: bool) -> FunctionalTrainResult:
        """Train to the end, from the restart file if there is one."""
        if not (resumed and self._restored()):
            for what in self.sets:
                errors = errors_of(self.fields[what], self.sets[what][1])
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
        """One step for each reaction, in an order of this epoch; returns the root mean square error."""
        import math

        import numpy as np
        import torch

        from atomml.electronic.functional_gradients import energy_gradient

        reactions, fields = self.sets["train"][1], self.fields["train"]
        order = np.random.default_rng([self.options.seed, self.epoch]).permutation(len(reactions))
        x = self.epoch / max(self.options.epochs, 1)
        rate = self.options.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * x)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        squares = []
        for index in order:
            reaction = reactions[int(index)]
            found: dict[str, Any] = {name: fields(name) for name in reaction.species}
            if any(one is None for one in found.values()):
                continue
            total = sum(c * float(found[name].e_tot) for name, c in reaction.species.items())
            error = _KCAL * (total - reaction.energy)
            squares.append(error**2)
            gradient = [torch.zeros_like(p) for p in self.parameters]
            for name, coefficient in reaction.species.items():
                for mine, part in zip(gradient, energy_gradient(found[name]), strict=True):
                    mine.add_(part, alpha=coefficient)
            # Huber's slope: an error beyond 5 kcal/mol pulls no harder than one of 5
            pull = reaction.weight * max(-5.0, min(error, 5.0)) * _KCAL
            for parameter, mine in zip(self.parameters, gradient, strict=True):
                parameter.grad = mine * pull
            torch.nn.utils.clip_grad_norm_(self.parameters, 100.0)
            self.optimiser.step()
        return float(np.sqrt(np.mean(squares))) if squares else float("nan")

    def _judge(self, loss: float | None = None) -> None:
        """Errors with the present weights, and the file of the best ones."""
        from atomml.potentials.xc.files import save_functional

        means = {what: mean_error(errors_of(self.fields[what], self.sets[what][1])) for what in self.sets}
        failed = {what: len(self.fields[what].failed) for what in self.sets}
        row = {"epoch": self.epoch, "train_rms_kcal_per_mol": loss}
        row |= {f"{what}_mae_kcal_per_mol": value for what, value in means.items()}
        self.log.append(row | {f"{what}_failed": n for what, n in failed.items()})
        chosen = means.get("valid", means["train"])
        if chosen is not None and not any(failed.values()) and chosen < self.best:
            self.best, self.best_epoch = chosen, self.epoch
            extra = {"options": as_config(self.options), "epoch": self.epoch}
            save_functional(self.functional, self.run.file("functional.safetensors"), extra)

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
        for what, (species, reactions) in self.sets.items():
            fields = Fields(best, species, self.options)
            errors = errors_of(fields, reactions)
            setattr(result, f"{what}_mae", mean_error(errors))
            setattr(result, f"{what}_before", self.before.get(what))
            n_species, n_failed = n_species + len(species), n_failed + len(fields.failed)
            result.rows += [
                {
                    "set": what,
                    "reaction": r.name,
                    "reference_kcal_per_mol": _KCAL * r.energy,
                    "error_kcal_per_mol": e,
                }
                for r, e in zip(reactions, errors, strict=True)
            ]
        result.converged_share = 1 - n_failed / max(n_species, 1)
        result.folder = self.run.path
        write_table(self.run.file("reactions.csv"), result.rows, list(result.rows[0]))
        return result


@dataclass(kw_only=True)
class FunctionalEvaluateResult(Result):
    """Errors of a functional's reaction energies.

    Attributes:
        functional: Its name.
        mae: Mean absolute error of the reactions that converge.
        converged_share: Share of species whose SCF converges.
        rows: A row for each reaction; an error that is missing is one of a species that did not converge.
    """

    functional: str = ""
    mae: float | None = quantity("kcal/mol", default=None)
    converged_share: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


def evaluate_functional(
    functional: str | Path | DensityFunctional,
    reactions: str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> FunctionalEvaluateResult:
    """Self-consistent errors of a functional on reaction energies.

    Args:
        functional: A closed form by name, a file, or a functional.
        reactions: A file of :func:`~atomml.electronic.reactions.read_reactions`.
        out: The run folder; None leaves nothing behind.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`SelfConsistent`.

    Raises:
        InputError: A file, functional or option that is wrong.
    """
    from atomml.electronic.functional import DensityFunctional
    from atomml.electronic.reactions import read_reactions
    from atomml.potentials.xc.files import load_functional
    from atomml.workflows.inputs import input_record

    started = time.perf_counter()
    settings = build_options(SelfConsistent, options)
    own = functional if isinstance(functional, DensityFunctional) else load_functional(functional)
    species, known = read_reactions(reactions)
    if not known:
        raise OptionError(f"{reactions} holds no reaction.")
    with open_with_options(
        out,
        "dft evaluate",
        settings,
        overwrite=overwrite,
        reactions=str(reactions),
        functional=str(functional),
    ) as run:
        fields = Fields(own, species, settings)
        errors = errors_of(fields, known)
        result = FunctionalEvaluateResult(functional=own.name, mae=mean_error(errors))
        result.converged_share = 1 - len(fields.failed) / max(len(species), 1)
        result.rows = [_row(reaction, error) for reaction, error in zip(known, errors, strict=True)]
        result.folder = run.path if run.kept else None
        write_table(run.file("reactions.csv"), result.rows, list(result.rows[0]))
        inputs = [input_record(Path(reactions))]
        finish_run(run, result, model=None, inputs=inputs, seconds=time.perf_counter() - started)
    return result
