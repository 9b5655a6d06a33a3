"""Models that learn as they run: ``atomml learn`` and :func:`learn`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.errors import OptionError
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LearnOptions", "LearnResult", "evaluations", "learn"]


@dataclass(frozen=True)
class LearnOptions:
    """Options of ``learn``; each field's help, unit and range are its metadata."""

    label: str = option(
        "",
        "what labels: gfn2, pbe/def2-svp, a model, a program (COMMAND IN OUT), ase:MODULE:CLASS",
        metavar="METHOD",
    )
    budget: int = option(100, "labels that may be computed in all", minimum=1)
    committee: int = option(3, "models, whose spread is the uncertainty", minimum=2)
    uncertainty: float = option(
        0.2, "spread of the force on any atom at which a run stops", unit="eV/Å", above=0.0
    )
    stable_time: float = option(
        1.0, "the loop ends when every run has stayed below that for so long", unit="ps", above=0.0
    )
    per_round: int = option(10, "labels in a round, at most", minimum=1)
    initial: int = option(10, "displaced structures that are labelled before the first round", minimum=0)
    displacement: float = option(
        0.1, "their displacement, the standard deviation of each coordinate", unit="Å", above=0.0
    )
    train: tuple[str, ...] = option((), "files with labels that there are already; then initial may be 0")
    test: tuple[str, ...] = option((), "files with labels: the fixed test set")
    test_size: int = option(
        10, "displaced structures that are labelled as the test set where there is no file", minimum=1
    )
    choice: str = option(
        "uncertain",
        "frames to label: uncertain ones that differ most, or drawn at random from whole runs",
        choices=("uncertain", "random"),
    )
    ensemble: str = option(
        "nvt-langevin", "ensemble of the runs", choices=("nvt-langevin", "nvt-bussi", "nvt-nhc", "nve")
    )
    temperature: str = option("300", "temperature of the runs, or START:END for a ramp", unit="K")
    timestep: float = option(1.0, "time step", unit="fs", above=0.0, maximum=10.0)
    every: int = option(10, "steps between two frames that may be chosen", minimum=1)
    runs: int = option(2, "runs of each structure in a round", minimum=1)
    method: str = option("full", "which weights learn: see finetune", choices=("full", "frozen", "lora"))
    train_steps: int = option(300, "steps of each training", minimum=1)
    learning_rate: float = option(2e-3, "learning rate", above=0.0)
    batch_size: int = option(4, "structures in a step", minimum=1)
    forces_weight: str = option("1", "weight of forces in the loss, as in finetune", metavar="W")
    energy_weight: str = option("1:20@0.7", "weight of energies, likewise", metavar="W")
    max_rounds: int = option(50, "rounds, at most", minimum=1)
    workers: int = option(1, "processes that label", minimum=1)
    time_limit: float = option(
        0.0, "time after which a labelling program is stopped: no label; 0 for never", unit="s", minimum=0
    )
    allow_code: bool = option(False, "let a configuration file name a program or a class that labels")


@dataclass(kw_only=True)
class LearnResult(Result):
    """What ``learn`` returns; errors are those of the committee's mean on the test set, in the last round.

    Attributes:
        committee: The models of the last round, as ``--model`` of any command takes them.
        n_rounds: Trainings of the committee.
        n_labels: Labels that were computed, those of the test set and those that failed included.
        n_failed: Of them, structures that got none.
        stable: Whether every run of the last round stayed below the uncertainty for the time asked for.
        rows: Each round: labels so far, errors, runs that stopped, shortest run, largest uncertainty.
    """

    committee: str = ""
    n_rounds: int = 0
    n_labels: int = 0
    n_failed: int = 0
    stable: bool = False
    mae_energy: float | None = quantity("meV/atom", default=None)
    mae_forces: float | None = quantity("meV/Å", default=None)
    rmse_forces: float | None = quantity("meV/Å", default=None)
    rows: list[dict[str, Any]] = field(default_factory=list)


def learn(
    structures: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    seed: int | None = None,
    **options: Any,
) -> LearnResult:
    """Train a committee on labels that it asks for itself, round after round.

    A round trains each model (all start from ``model``, and go on from their own last round; seeds, held-out
    structures and order differ), measures errors on a fixed test set, runs molecular dynamics until the
    models disagree, and has the most different of the uncertain frames labelled. It ends when the budget is
    spent, or when no run was uncertain for :attr:`LearnOptions.stable_time`. Every stage is in the manifest
    of the folder; after a kill, ``resume`` goes on to the files that an unbroken run would have left.

    Args:
        structures: Files, ``ase.Atoms``, or several of them, from which dynamics starts.
        model: A registered name, a file, or, to be trained from nothing, a preset (``mace-small``) or a
            configuration of ``train``.
        out: The run folder; ``learn-STEM`` in the current folder if None.
        resume: Go on in the folder.
        overwrite: Replace what an earlier run left in the folder.
        dtype: Precision of the models.
        device: Their device.
        seed: Of everything that is drawn; 0 if None.
        **options: Fields of :class:`LearnOptions`.

    Raises:
        InputError: A structure, model, method or option that cannot be used.
        RunFailedError: Nothing could be labelled, or a training failed.
    """
    from atomml.config import build_options
    from atomml.run import default_folder
    from atomml.workflows.active.learning_rounds import Loop, given_structures
    from atomml.workflows.active.learning_start import look_at
    from atomml.workflows.run_record import finish_run, open_with_options

    started = time.perf_counter()
    chosen = build_options(LearnOptions, options)
    given = given_structures(structures)
    check(chosen, [atoms for _, atoms in given])
    start = look_at(chosen, given, str(model), dtype)
    path = Path(out) if out is not None else default_folder("learn", given[0][0])
    with open_with_options(
        path,
        "learn",
        chosen,
        resume=resume,
        overwrite=overwrite,
        may_change=("workers", "time_limit", "budget", "max_rounds"),
        structures=[name for name, _ in given],
        model=str(model),
        dtype=dtype,
        device=device,
        seed=seed,
    ) as folder:
        folder.check_inputs(
            "What it was given (structures, files, model or labelling program) has", **start.facts
        )
        for sentence in start.warnings:
            folder.warn(sentence)
        loop = Loop(folder, given, str(model), chosen, dtype=dtype, device=device, seed=seed or 0)
        result = loop.go()
        finish_run(
            folder,
            result,
            model={"name": str(model), "sha256": start.model_sha256},
            inputs=loop.inputs(),
            seconds=time.perf_counter() - started,
        )
        return result


def check(options: LearnOptions, structures: list[Atoms]) -> None:
    """Refuse what can be refused before anything is computed.

    Raises:
        OptionError: No method, nothing to train on, or a budget that the first labels would spend.
        InputError: A method that does not exist, or a structure that it cannot label.
    """
    from atomml.data.label import METHODS, engine_of

    if not options.label:
        raise OptionError(f"Say what labels with --label: {', '.join(METHODS)}.")
    if not options.train and options.initial < 2:
        raise OptionError("There is nothing to train on first: name files with --train, or raise --initial.")
    first = options.initial + (0 if options.test else options.test_size)
    if first >= options.budget:
        raise OptionError(
            f"The first {first} labels (--initial, and --test-size where --test names no file) spend the "
            f"budget of {options.budget}: raise it."
        )
    engine = engine_of(options.label)
    for number, atoms in enumerate(structures):
        engine.check(atoms, f"structure {number}")


def evaluations(options: LearnOptions, atoms: Atoms) -> int:
    """How many times the committee is asked in one round, for ``--dry-run``."""
    return round(1000 * options.stable_time / options.timestep) * options.runs * options.committee
