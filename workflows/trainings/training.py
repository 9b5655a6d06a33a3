"""Training a potential from nothing: ``atomml train`` and :func:`train`; options shared with fine-tuning."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from atomml.data.label_keys import LabelKeys
from atomml.errors import OptionError
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.trainings.loop_options import LoopOptions

if TYPE_CHECKING:
    from atomml.model import Potential
    from atomml.workflows.trainings.training_heads import Files
    from atomml.workflows.trainings.training_session import Session

__all__ = ["TrainOptions", "TrainResult", "TrainingOptions", "plan_train", "train"]

AnySession = TypeVar("AnySession", bound="Session")


@dataclass(frozen=True)
class TrainingOptions(LoopOptions, LabelKeys):
    """Options that training and fine-tuning share; each field's help, unit and range are its metadata."""

    loss: str = option("huber", "loss", choices=("mse", "l1", "huber", "conditional-huber", "deepmd"))
    huber_delta: float = option(
        0.01, "where Huber's loss becomes linear, in eV/atom, eV/Å, eV/Å³, μB", above=0.0
    )
    energy_weight: str = option(
        "1:20@0.7", "weight, START:END for a ramp, or FIRST:SECOND@SHARE", metavar="W"
    )
    forces_weight: str = option("1", "weight of forces, likewise", metavar="W")
    stress_weight: str = option("1", "weight of stresses, likewise", metavar="W")
    magmoms_weight: str = option("0", "weight of magnetic moments, likewise", metavar="W")
    group_weights: tuple[str, ...] = option((), "factors on groups, such as Surface=2,Elastic=0.5")
    head_shares: tuple[str, ...] = option(
        (), "parts of the loss by head, such as water=2,ice=1; by their numbers of structures if none"
    )
    cache_gb: float = option(2.0, "memory for graphs that are kept", unit="GB", minimum=0.0)


@dataclass(frozen=True)
class TrainOptions(TrainingOptions):
    """Options of a training from nothing."""

    references: str = option(
        "least-squares",
        "reference energies of elements: fitted to the data, or those of isolated atoms in it",
        choices=("least-squares", "isolated"),
    )


@dataclass(kw_only=True)
class TrainResult(Result):
    """What a training wrote and how good it is; errors are mean absolute ones on the validation set.

    Attributes:
        model: The file of the best weights.
        last_model: The file of the last weights.
        name: What the model calls itself.
        method: How it was trained.
        steps: Steps of the optimiser.
        best_step: Step of the best weights.
        stopped_early: Why the run ended before its last step; "" if it did not.
        before: The errors before the first step.
        test: The errors on the test files.
        labels: Structures and labels of each set.
        reference_shifts: What was added to reference energies, eV by element; of several heads by head.
        heads: The errors on the validation set by head, where files name heads.
        n_low_rank: Numbers that learned in place of the weights.
        drift: How far old answers moved where structures were replayed, and what was allowed.
    """

    model: str = quantity()
    last_model: str = quantity()
    name: str = quantity()
    method: str = quantity()
    steps: int = quantity()
    best_step: int = quantity()
    best_epoch: int = quantity()
    energy_mae: float | None = quantity("meV/atom", default=None)
    forces_mae: float | None = quantity("meV/Å", default=None)
    stress_mae: float | None = quantity("GPa", default=None)
    magmoms_mae: float | None = quantity("μB", default=None)
    before: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    reference_shifts: dict[str, Any] = field(default_factory=dict)
    heads: dict[str, dict[str, float]] = field(default_factory=dict)
    n_frozen: int = quantity(default=0)
    n_low_rank: int = quantity(default=0)
    n_replayed: int = quantity(default=0)
    drift: dict[str, Any] = field(default_factory=dict)
    stopped_early: str = quantity(default="")


def train(
    model: str | Mapping[str, Any],
    train: Files,
    valid: Files = (),
    *,
    test: Files = (),
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> TrainResult:
    """Train a potential from fresh weights and leave a run folder that can be resumed.

    Args:
        model: A family (``chgnet``), a preset (``mace-small``), or a mapping with ``family`` or ``preset``
            and hyperparameters.
        train: Files with labelled structures; ``HEAD=FILE``, or a mapping from heads to files, for a model
            that learns several data sets, each by a head of its own.
        valid: Files to validate on, likewise; a seeded part of ``train`` is held out if none.
        test: Files to report errors on at the end.
        out: The run folder; ``train-STEM`` in the current folder if None.
        resume: Go on in the folder.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`TrainOptions`.

    Raises:
        InputError: A file, label or option that cannot be used.
        RunFailedError: The training failed; the restart file holds the last good state.
    """
    from atomml.workflows.trainings.training_session import Session

    started = time.perf_counter()
    settings, given = _resolved(model, train, valid, test, out, options)
    with Session(*given, resume=resume, overwrite=overwrite, started=started) as session:
        return _prepared(session, model, settings).go("fresh")


def plan_train(
    model: str | Mapping[str, Any],
    train: Files,
    valid: Files = (),
    *,
    test: Files = (),
    out: str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What :func:`train` would do and cost; everything is read and checked, nothing is written.

    Raises:
        InputError: As :func:`train`.
    """
    from atomml.workflows.trainings.training_plan import Rehearsal

    settings, given = _resolved(model, train, valid, test, out, options)
    with Rehearsal(*given, started=time.perf_counter()) as session:
        return _prepared(session, model, settings).plan("fresh")


def _resolved(
    model: str | Mapping[str, Any],
    train: Files,
    valid: Files,
    test: Files,
    out: str | Path | None,
    options: Mapping[str, Any],
) -> tuple[TrainOptions, tuple[Any, ...]]:
    """Options, and what a session is made of."""
    from atomml.config import build_options
    from atomml.workflows.trainings.training_session import Paths

    settings = build_options(TrainOptions, options)
    paths = Paths.of("train", train, valid, test, out)
    config = {"model": model if isinstance(model, str) else dict(model)}
    return settings, ("train", settings, TrainOptions, paths, config)


def _prepared(session: AnySession, model: str | Mapping[str, Any], options: TrainOptions) -> AnySession:
    """The session with data, model, folder and references in place, in this order."""
    from atomml.workflows.trainings.training_heads import with_heads

    family, shape = _family(model)
    session.open_data(None)
    shape = with_heads(shape, session.heads, family)
    session.take_model(_fresh(family, shape, session.elements(), options), parent=None)
    session.freeze(())
    session.check_references(options.references)
    session.begin()
    session.set_references(options.references)
    session.set_scales()
    return session


def _family(model: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Family and hyperparameters.

    Raises:
        OptionError: No family is named.
    """
    from atomml.workflows.trainings.training_presets import PRESETS, preset_of

    if isinstance(model, str):
        preset = preset_of(model)
        if preset is None:
            return model, {}
        model = preset
    shape = dict(model)
    base = shape.pop("preset", None)
    if base is not None:
        known = preset_of(str(base))
        if known is None:
            raise OptionError(f"There is no preset {base!r}: there are {', '.join(PRESETS)}.")
        shape = {**known, **shape}
    family = shape.pop("family", None)
    if not isinstance(family, str):
        raise OptionError("model names no family: write 'family: chgnet' below it.")
    return family, shape


def _fresh(
    family: str, shape: Mapping[str, Any], elements: Sequence[int], options: TrainOptions
) -> Potential:
    from atomml.model import Potential
    from atomml.registry import family_class, seeded_generator

    kind = family_class(family, "The configuration")
    if not issubclass(kind, Potential):
        raise OptionError(f"{family} is no family of potentials: see atomml {family} --help.")
    name = options.name or f"{family}-trained"
    with seeded_generator(options.seed):
        return kind.fresh(name, elements, shape)
