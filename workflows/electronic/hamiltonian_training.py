"""Training of a Hamiltonian predictor: ``atomml hamiltonian train`` and :func:`train_hamiltonian`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options
from atomml.errors import OptionError
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.trainings.loop_options import LoopOptions

if TYPE_CHECKING:
    from pathlib import Path

    from atomml.workflows.trainings.training_heads import Files

__all__ = ["HamiltonianTrainOptions", "HamiltonianTrainResult", "train_hamiltonian"]


@dataclass(frozen=True)
class HamiltonianTrainOptions(LoopOptions):
    """Options of the training of a Hamiltonian predictor."""

    epochs: int = option(300, "passes over the training set", minimum=1)
    batch_size: int = option(10, "molecules in a step, over all processes", minimum=1)
    prior: str = option(
        "minao-pbe",
        "what is subtracted before learning, as it was kept with the labels",
        choices=("minao-pbe", "minao", "none"),
    )
    alignment: float = option(
        0.0, "weight of errors between the reference's own orbitals (wavefunction alignment)", minimum=0.0
    )
    orthogonal: float = option(
        0.0, "weight of errors in the basis that Löwdin's transformation makes orthonormal", minimum=0.0
    )


@dataclass(kw_only=True)
class HamiltonianTrainResult(Result):
    """What a training wrote and how good it is; errors are mean absolute ones over the numbers of matrices.

    Attributes:
        model: The file of the best weights.
        last_model: The file of the last weights.
        name: What the model calls itself.
        level: The exact method of the labels.
        steps: Steps of the optimiser.
        best_step: Step of the best weights.
        valid_mae: On the validation set.
        prior_mae: What the prior alone leaves there.
        test_mae: On the test files.
        n_weights: Numbers that were learned.
        molecules: Molecules of each set.
        stopped_early: Why the run ended before its last step; "" if it did not.
    """

    model: str = quantity()
    last_model: str = quantity()
    name: str = quantity()
    level: str = quantity()
    steps: int = quantity()
    best_step: int = quantity()
    valid_mae: float | None = quantity("µEh", default=None)
    prior_mae: float | None = quantity("µEh", default=None)
    test_mae: float | None = quantity("µEh", default=None)
    n_weights: int = quantity(default=0)
    molecules: dict[str, int] = field(default_factory=dict)
    stopped_early: str = quantity(default="")


def train_hamiltonian(
    train: Files,
    valid: Files = (),
    *,
    test: Files = (),
    model: str | Mapping[str, Any] = "sphnet-small",
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> HamiltonianTrainResult:
    """Train a predictor of Kohn-Sham matrices and leave a run folder that can be resumed.

    Args:
        train: Stores of ``atomml hamiltonian label``.
        valid: Stores to validate on; a seeded part of ``train`` is held out if none.
        test: Stores to report errors on at the end.
        model: ``sphnet-small`` for some hundreds of geometries, ``sphnet`` for the published shape, or a
            mapping with ``family`` (one of both) and hyperparameters; basis set, level and elements come
            from the data.
        out: The run folder; ``hamiltonian-train-STEM`` in the current folder if None.
        resume: Go on in the folder.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`HamiltonianTrainOptions`.

    Raises:
        InputError: A file, label or option that cannot be used.
        RunFailedError: The training failed; the restart file holds the last good state.
    """
    from atomml.workflows.electronic.hamiltonian_session import HamiltonianSession, family_of
    from atomml.workflows.trainings.training_run import Paths

    started = time.perf_counter()
    settings = build_options(HamiltonianTrainOptions, options)
    family, shape = family_of(model)
    paths = Paths.of("hamiltonian-train", train, valid, test, out)
    config = {"model": model if isinstance(model, str) else dict(model)}
    with HamiltonianSession(
        settings, paths, config, resume=resume, overwrite=overwrite, started=started
    ) as session:
        session.open_data()
        session.make_model(family, shape)
        session.begin()
        return session.go()


def check_level(methods: set[str]) -> str:
    """The one method of all labels, without which solver they needed.

    Raises:
        OptionError: Several, or none.
    """
    found = {
        " ".join(part for part in method.split() if not part.startswith("solver=")) for method in methods
    }
    if len(found) != 1:
        told = "; ".join(sorted(found)) or "none"
        raise OptionError(
            f"Matrices of one level of theory make a predictor, and the files hold {len(found)}: {told}."
        )
    method = found.pop()
    if "/" not in method.partition(" ")[0]:
        raise OptionError(
            "The labels do not say their level of theory: make them with atomml hamiltonian label."
        )
    return method


def resolved(options: HamiltonianTrainOptions) -> dict[str, Any]:
    """What the checkpoints say of the options."""
    told = as_config(options)
    for key in ("device", "tensorboard", "save_every"):
        told.pop(key, None)
    return told
