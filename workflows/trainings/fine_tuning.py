"""Fine-tuning a potential on one's own calculations: ``atomml finetune`` and :func:`finetune`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from atomml.errors import OptionError
from atomml.options import option
from atomml.workflows.inputs import DEFAULT_MODEL
from atomml.workflows.trainings.training import TrainingOptions, TrainResult

if TYPE_CHECKING:
    from atomml.model import Potential
    from atomml.workflows.trainings.training_heads import Files
    from atomml.workflows.trainings.training_session import Session

__all__ = ["METHODS", "FineTuneOptions", "finetune", "plan_finetune"]

AnySession = TypeVar("AnySession", bound="Session")

METHODS = ("full", "frozen", "lora", "replay")
_BELONGS = {"replay": ("replay_", "drift_"), "lora": ("lora_",)}  # options by how their names begin


@dataclass(frozen=True)
class FineTuneOptions(TrainingOptions):
    """Options of a fine-tuning; each field's help, unit and range are its metadata."""

    method: str = option(
        "full",
        "full: all weights learn; frozen: some; lora: low-rank changes; replay: all, beside old knowledge",
        choices=METHODS,
    )
    freeze: tuple[str, ...] = option(
        (),
        "blocks that do not learn; with frozen, all but the last interaction and the heads if none is named",
    )
    layer_decay: float = option(
        1.0, "factor on the learning rate from each block to the one before it", above=0.0, maximum=1.0
    )
    references: str = option(
        "refit",
        "reference energies: refitted to what the model misses, from isolated atoms, or kept",
        choices=("refit", "isolated", "keep"),
    )
    lora_rank: int = option(8, "rank of lora's changes of each linear map", minimum=1)
    lora_alpha: float = option(8.0, "lora's changes are multiplied by alpha over rank", above=0.0)
    replay: tuple[str, ...] = option((), "files with structures to replay; generated if none is named")
    replay_labels: str = option(
        "model", "labels of replayed files: the model's own, or the file's", choices=("model", "file")
    )
    replay_size: int = option(128, "structures that are generated for replay", minimum=1)
    replay_batch: int = option(8, "replayed structures in every step", minimum=1)
    replay_weight: float = option(1.0, "weight of their loss", above=0.0)
    drift_energy: float = option(
        20.0, "how far replay may let old energies move (mean); beyond, exit 3", unit="meV/atom", above=0.0
    )
    drift_forces: float = option(100.0, "the same of old forces", unit="meV/Å", above=0.0)


def finetune(
    model: str | Path | Potential = DEFAULT_MODEL,
    train: Files = (),
    valid: Files = (),
    *,
    test: Files = (),
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> TrainResult:
    """Train a model further on labelled structures and leave a run folder that can be resumed.

    Args:
        model: A registered name or a checkpoint.
        train: Files with labelled structures; ``HEAD=FILE``, or a mapping from heads to files, where heads
            are to learn by name. A name that the model does not have is a new head, which starts as a copy
            of the one that answers.
        valid: Files to validate on, likewise; a seeded part of ``train`` is held out if none.
        test: Files to report errors on at the end.
        out: The run folder; ``finetune-STEM`` in the current folder if None.
        resume: Go on in the folder.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`FineTuneOptions`.

    Raises:
        InputError: A file, label, model or option that cannot be used.
        RunFailedError: The training failed; the restart file holds the last good state.
    """
    started = time.perf_counter()
    from atomml.workflows.trainings.training_session import Session

    settings, parent, given = _resolved(model, train, valid, test, out, options)
    with Session(*given, resume=resume, overwrite=overwrite, started=started) as session:
        return _prepared(session, parent, settings).go(settings.method)


def plan_finetune(
    model: str | Path | Potential = DEFAULT_MODEL,
    train: Files = (),
    valid: Files = (),
    *,
    test: Files = (),
    out: str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What :func:`finetune` would do and cost; everything is read and checked, nothing is written.

    Raises:
        InputError: As :func:`finetune`.
    """
    from atomml.workflows.trainings.training_plan import Rehearsal

    settings, parent, given = _resolved(model, train, valid, test, out, options)
    with Rehearsal(*given, started=time.perf_counter()) as session:
        return _prepared(session, parent, settings).plan(settings.method)


def _resolved(
    model: str | Path | Potential,
    train: Files,
    valid: Files,
    test: Files,
    out: str | Path | None,
    options: Mapping[str, Any],
) -> tuple[FineTuneOptions, Potential, tuple[Any, ...]]:
    """Options, foundation model, and what a session is made of."""
    from atomml.config import build_options
    from atomml.workflows.trainings.training_session import Paths

    settings = build_options(FineTuneOptions, options)
    check_method(settings)
    paths = Paths.of("finetune", train, valid, test, out)
    parent = load_parent(model, settings)
    config = {"model": str(model) if isinstance(model, str | Path) else parent.info.name}
    return settings, parent, ("finetune", settings, FineTuneOptions, paths, config)


def _prepared(session: AnySession, parent: Potential, options: FineTuneOptions) -> AnySession:
    """The session with data, model, folder, references and replay in place, in this order."""
    from atomml.train.low_rank import adaptable

    info, old = parent.info, parent.head or ""
    session.open_data(info)
    session.parent_record = parent.training_record
    parent = _with_heads(session, parent, options)
    parent.info = replace(info, name=options.name or f"{info.name}-finetuned", sha256="")
    session.take_model(parent, parent=info)
    session.freeze(frozen_blocks(parent, options))
    session.check_references(options.references)
    if options.method == "replay":
        session.open_replay(options)
    if options.method == "lora":
        adaptable(parent)
    session.begin()
    session.set_references(options.references)
    if options.method == "replay":
        session.set_replay(options, old)
    _warn_of_loose_heads(session, parent.heads, old, options.method)
    if options.method == "lora":
        session.adapt(options.lora_rank, options.lora_alpha)
    return session


def _with_heads(session: Session, parent: Potential, options: FineTuneOptions) -> Potential:
    """The model with the heads that the files name; which ones learn is said.

    Raises:
        OptionError: Several heads, and nobody said which one learns, is kept, or is copied.
    """
    from atomml.workflows.trainings.training_heads import grown

    if parent.heads and parent.head is None and (not session.heads or options.method == "replay"):
        does = "is kept by replay" if session.heads else "learns"
        raise OptionError(
            f"{parent.info.name} has the heads {', '.join(parent.heads)}, and nobody said which one {does}: "
            f"write the model as MODEL@HEAD{'' if session.heads else ', or the files as HEAD=FILE'}."
        )
    if parent.heads and not session.heads:
        session.tell("head", f"The head {parent.head} learns: no file names another.")
    start = parent.head or "the only one"
    parent, new = grown(parent, session.heads)
    for head in new:
        session.tell("new head", f"The head {head} starts as a copy of {start}.")
    return parent


def _warn_of_loose_heads(session: Session, heads: Sequence[str], old: str, method: str) -> None:
    """Say which heads neither learn nor are replayed: they share weights with those that do."""
    learning = session.heads or (old,)
    loose = [head for head in heads if head not in learning and not (method == "replay" and head == old)]
    if not loose:
        return
    many = len(loose) > 1
    what = f"The heads {', '.join(loose)} are" if many else f"The head {loose[0]} is"
    session.folder.warn(
        f"{what} not held while {', '.join(learning)} learns, and {'their' if many else 'its'} drift is not "
        + ("measured." if method == "replay" else "measured: --method replay does both for MODEL@HEAD.")
    )


def check_method(options: FineTuneOptions) -> None:
    """Refuse options that the method would pass over in silence.

    Raises:
        OptionError: Says what to do instead.
    """
    if options.freeze and options.method == "lora":
        raise OptionError("--freeze names blocks, but --method lora freezes all of them: leave one out.")
    if options.method != "replay" and options.replay:
        raise OptionError(
            f"--replay names structures, but --method {options.method} replays none: take --method replay."
        )
    if options.replay and options.replay_size != FineTuneOptions.replay_size:
        raise OptionError(
            "--replay-size is of generated structures, but --replay names files: leave one out."
        )
    if not options.replay and options.replay_labels == "file":
        raise OptionError("--replay-labels file needs files that hold labels: name them with --replay.")
    for method, prefixes in _BELONGS.items():
        for field in fields(FineTuneOptions) if options.method != method else ():
            if field.name.startswith(prefixes) and getattr(options, field.name) != field.default:
                raise OptionError(
                    f"--{field.name.replace('_', '-')} is of --method {method} alone, and the method is "
                    f"{options.method}: take --method {method}, or leave it out."
                )


def load_parent(model: str | Path | Potential, options: FineTuneOptions) -> Potential:
    """The foundation model in the precision of the training; a model of the caller's stays untouched.

    Raises:
        ModelError: No such model, or one that no file can hold.
    """
    from copy import deepcopy

    from atomml.model import Potential
    from atomml.registry import load_model

    dtype = "float64" if options.precision == "float64" else "float32"
    parent = deepcopy(model) if isinstance(model, Potential) else load_model(model, dtype, device="cpu")
    parent.hyperparameters()  # a committee has none: it could be trained, but no file could hold it
    return parent


def frozen_blocks(model: Potential, options: FineTuneOptions) -> tuple[str, ...]:
    """The blocks that do not learn."""
    if options.method != "frozen" or options.freeze:
        return options.freeze
    return tuple(block for block in model.blocks() if block not in model.tuned_blocks())
