"""Training of models of properties: ``atomml property train`` and :func:`train_property`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.config import build_options
from atomml.errors import OptionError
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.trainings.loop_options import LoopOptions

__all__ = ["FAMILIES", "PropertyTrainOptions", "PropertyTrainResult", "train_property"]

FAMILIES = ("cgcnn", "alignn", "fcnn", "xgboost")
"""Families that can be trained on properties."""


@dataclass(frozen=True)
class PropertyTrainOptions(LoopOptions):
    """Options of the training of models of properties."""

    target: tuple[str, ...] = option((), "labels to learn: NAME, or NAME:abs, NAME:log, NAME:signed-log")
    family: tuple[str, ...] = option(
        ("cgcnn",), "cgcnn, alignn, fcnn, xgboost, or several: members that answer together"
    )
    descriptors: tuple[str, ...] = option(
        ("magpie", "structure"),
        "what fcnn and xgboost see: magpie, structure, and models whose learned features are taken",
    )
    classes: tuple[str, ...] = option((), "targets that are classes and no numbers")
    labels: str | None = option(None, "CSV table of labels; its first column names the structures")
    ensemble: int = option(1, "members of each family, from different seeds", minimum=1, maximum=100)
    calibration_fraction: float = option(
        0.15,
        "share that neither trains nor chooses weights, for intervals; 0 for none",
        minimum=0.0,
        maximum=0.5,
    )
    loss: str = option("huber", "loss of standardised labels", choices=("huber", "mse", "l1"))
    epochs: int = option(100, "passes over the training set", minimum=1)
    batch_size: int = option(64, "structures in a step", minimum=1)
    optimiser: str = option("adamw", "optimiser of networks", choices=("soap", "adamw"))
    learning_rate: float = option(2e-3, "learning rate after the warm-up", above=0.0)
    weight_decay: float = option(1e-4, "decoupled weight decay", minimum=0.0)
    rounds: int = option(800, "trees for each target, at most, of xgboost", minimum=1)
    patience_rounds: int = option(100, "rounds without a better validation before xgboost ends", minimum=1)


@dataclass(kw_only=True)
class PropertyTrainResult(Result):
    """What a training wrote and how good it is.

    Attributes:
        model: The file.
        name: What the model calls itself.
        families: Of its members, in order.
        targets: What it predicts, on which scale.
        structures: How many each set has.
        steps: Steps of the optimiser, or rounds of trees, of each member.
        n_weights: Numbers that were learned by networks.
        scores: Per set and target: errors with 95% intervals, coverage of the 90% intervals.
        duplicates: Test structures that are, or nearly are, training structures.
        weights: Of the members in the mean, per target.
    """

    model: str = quantity()
    name: str = quantity()
    families: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    structures: dict[str, int] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    n_weights: int = quantity(default=0)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    duplicates: int = quantity(default=0)
    weights: dict[str, list[float]] = field(default_factory=dict)


def train_property(
    train: Any,
    valid: Any = (),
    *,
    test: Any = (),
    shape: Mapping[str, Mapping[str, Any]] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> PropertyTrainResult:
    """Train a model of one or several properties and leave a run folder that can be resumed.

    Args:
        train: Labelled structures: files, folders, patterns, ``FILE@INDEX``, ``ase.Atoms`` or pymatgen
            structures with labels in ``info`` (``properties``), or several of these.
        valid: Structures to choose weights by, likewise; a seeded part of ``train`` is held out if none.
        test: Structures to report errors on at the end, likewise.
        shape: Hyperparameters by family (``{"cgcnn": {"channels": 32}}``); the published ones otherwise.
        out: The run folder; ``property-train-STEM`` in the current folder if None.
        resume: Go on in the folder.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`PropertyTrainOptions`.

    Raises:
        InputError: A file, label or option that cannot be used.
        RunFailedError: The training failed; the restart file holds the last good state.
    """
    from atomml.property.targets import parse_targets
    from atomml.run import default_folder
    from atomml.workflows.inputs import sources_of
    from atomml.workflows.properties.property_data import names_of, stem_source
    from atomml.workflows.properties.property_session import GivenSets, PropertySession

    started = time.perf_counter()
    settings = build_options(PropertyTrainOptions, options)
    check_families(settings.family, shape or {})
    targets = parse_targets(settings.target, settings.classes)
    given_train, train = train, sources_of(train)
    valid, test = sources_of(valid), sources_of(test)
    names = {"train": names_of(train), "valid": names_of(valid), "test": names_of(test)}
    if not names["train"]:
        raise OptionError("atomml property train needs structures to train on: give files or structures.")
    stem = stem_source(given_train, train)
    folder = Path(out) if out is not None else default_folder("property-train", stem)
    config = {**names, "shape": {family: dict(values) for family, values in (shape or {}).items()}}
    given = GivenSets(train, valid if names["valid"] else None, test if names["test"] else None)
    how: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "started": started}
    with PropertySession(settings, targets, given, folder, config, **how) as session:
        session.open_data()
        session.begin()
        return session.go()


def check_families(families: tuple[str, ...], shape: Mapping[str, Any]) -> None:
    """Refuse families that there are not.

    Raises:
        OptionError: Names it.
    """
    from atomml.config import close_match

    for name in (*families, *shape):
        if name not in FAMILIES:
            hint = close_match(name, FAMILIES, f"there are {', '.join(FAMILIES)}.")
            raise OptionError(f"There is no family {name!r} of models of properties; {hint}")
    if not families or len(set(families)) < len(families):
        raise OptionError("--family names one or several families, each once.")
