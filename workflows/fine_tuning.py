"""Fine-tuning a potential on one's own calculations: ``atomml finetune`` and :func:`finetune`."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from atomml.errors import OptionError
from atomml.options import option
from atomml.workflows.inputs import DEFAULT_MODEL
from atomml.workflows.training import Files, TrainingOptions, TrainResult

if TYPE_CHECKING:
    from typing import Any

    from atomml.model import Potential

__all__ = ["METHODS", "FineTuneOptions", "finetune"]

METHODS = ("full", "frozen", "replay")


@dataclass(frozen=True)
class FineTuneOptions(TrainingOptions):
    """Options of a fine-tuning; each field's help, unit and range are its metadata."""

    # not limited by choices=, so that lora can be refused with its reason
    method: str = option("full", "full: all weights learn; frozen: some; replay: all, beside old knowledge")
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
    replay: tuple[str, ...] = option((), "files with structures to replay; generated if none is named")
    replay_labels: str = option(
        "model", "labels of replayed files: the model's own, or the file's", choices=("model", "file")
    )
    replay_size: int = option(256, "structures that are generated for replay", minimum=1)
    replay_batch: int = option(8, "replayed structures in every step", minimum=1)
    replay_weight: float = option(1.0, "weight of their loss", above=0.0)


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
        train: Files with labelled structures.
        valid: Files to validate on; a seeded part of ``train`` is held out if none.
        test: Files to report errors on at the end.
        out: The run folder; ``finetune-STEM`` in the current folder if None.
        resume: Go on in the folder.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`FineTuneOptions`.

    Raises:
        InputError: A file, label, model or option that cannot be used.
        RunFailedError: The training failed; the restart file holds the last good state.
    """
    from atomml.config import build_options
    from atomml.workflows.training_session import Paths, Session

    started = time.perf_counter()
    settings = build_options(FineTuneOptions, options)
    check_method(settings)
    paths = Paths.of("finetune", train, valid, test, out)
    parent = load_parent(model, settings)
    config = {"model": model if isinstance(model, str | Path) else parent.info.name}
    with Session(
        "finetune",
        settings,
        FineTuneOptions,
        paths,
        config,
        resume=resume,
        overwrite=overwrite,
        started=started,
    ) as session:
        session.open_data(parent.info)
        name = settings.name or f"{parent.info.name}-finetuned"
        parent_info = parent.info
        parent.info = replace(parent_info, name=name, sha256="")
        session.take_model(parent, parent=parent_info)
        session.set_references(settings.references)
        if settings.method == "replay":
            session.set_replay(settings)
        session.freeze(frozen_blocks(parent, settings))
        return session.go(settings.method)


def check_method(options: FineTuneOptions) -> None:
    """Refuse methods that there are not, and options that the method would pass over in silence.

    Raises:
        OptionError: Says what to do instead.
    """
    if options.method == "lora":
        raise OptionError("--method lora is not in this release: take frozen or replay.")
    if options.method not in METHODS:
        raise OptionError(f"method must be one of {', '.join(METHODS)}, not {options.method!r}.")
    if options.method != "replay" and options.replay:
        raise OptionError(
            f"--replay names structures, but --method {options.method} replays none: take --method replay."
        )


def load_parent(model: str | Path | Potential, options: FineTuneOptions) -> Potential:
    """The foundation model in the precision of the training; a model of the caller's stays untouched.

    Raises:
        ModelError: No such model.
    """
    from copy import deepcopy

    from atomml.model import Potential
    from atomml.registry import load_model

    dtype = "float64" if options.precision == "float64" else "float32"
    if isinstance(model, Potential):
        return deepcopy(model)
    return load_model(model, dtype=dtype, device="cpu")


def frozen_blocks(model: Potential, options: FineTuneOptions) -> tuple[str, ...]:
    """The blocks that do not learn."""
    if options.method != "frozen" or options.freeze:
        return options.freeze
    return tuple(block for block in model.blocks() if block not in model.tuned_blocks())
