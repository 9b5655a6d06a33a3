"""Families of models side by side on the same folds: ``atomml property study`` and :func:`study_property`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.config import build_options
from atomml.errors import OptionError
from atomml.options import option
from atomml.result import Result
from atomml.workflows.properties.property_training import PropertyTrainOptions, check_families

__all__ = ["SCHEMES", "PropertyStudyOptions", "PropertyStudyResult", "study_property"]

SCHEMES = ("random", "prototype")
"""How structures are dealt to folds: each for itself, or with all others of its prototype."""


@dataclass(frozen=True)
class PropertyStudyOptions(PropertyTrainOptions):
    """Options of ``property study``: those of a training, and the folds."""

    family: tuple[str, ...] = option(
        ("cgcnn", "fcnn", "xgboost"), "families that are compared, and combined: cgcnn, alignn, fcnn, xgboost"
    )
    folds: int = option(5, "folds; each is the test set once", minimum=2, maximum=50)
    schemes: tuple[str, ...] = option(
        SCHEMES, "random folds, and folds that keep each prototype (ratio of elements, space group) whole"
    )
    resamples: int = option(1000, "resamples for the intervals", minimum=100)


@dataclass(kw_only=True)
class PropertyStudyResult(Result):
    """What was found.

    Attributes:
        n_structures: Structures of the study.
        n_prototypes: Prototypes among them.
        n_duplicates: Pairs of structures that are, or nearly are, the same.
        table: Per scheme, model and target: errors with 95% intervals, coverage of the 90% intervals.
        weights: Mean weight of each family in the combined model, per scheme and target.
    """

    n_structures: int = 0
    n_prototypes: int = 0
    n_duplicates: int = 0
    table: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    weights: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)


def study_property(
    data: Any,
    *,
    shape: Mapping[str, Mapping[str, Any]] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> PropertyStudyResult:
    """Train families of models, and their combination, on the same folds, and compare them.

    Of what a fold does not test, parts are held out to choose weights by and to calibrate intervals with.
    Writes ``comparison.csv``, ``parity.csv``, ``prototypes.csv`` and ``importances.csv``; a fold that is
    done is kept, so that a study that was killed goes on.

    Args:
        data: Labelled structures: files, folders, patterns, ``FILE@INDEX``, ``ase.Atoms`` or pymatgen
            structures with labels in ``info`` (``properties``), or several of these.
        shape: Hyperparameters by family.
        out: The run folder.
        resume: Go on in the folder.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`PropertyStudyOptions`.

    Raises:
        InputError: A file, label or option that cannot be used.
        RunFailedError: A training failed.
    """
    from atomml.property.targets import parse_targets
    from atomml.run import RunFolder, default_folder
    from atomml.workflows.inputs import sources_of
    from atomml.workflows.properties.property_data import names_of, read_labelled, stem_source, with_classes
    from atomml.workflows.properties.property_folds import Study
    from atomml.workflows.run_record import finish_run
    from atomml.workflows.trainings.training_folder import TrainingFolder

    started = time.perf_counter()
    settings = build_options(PropertyStudyOptions, options)
    check_families(settings.family, shape or {})
    if unknown := set(settings.schemes) - set(SCHEMES):
        raise OptionError(f"There is no scheme {sorted(unknown)[0]!r}: there are {', '.join(SCHEMES)}.")
    targets = parse_targets(settings.target, settings.classes)
    sources = sources_of(data)
    labelled = read_labelled(sources, targets, settings.labels)
    targets = with_classes(targets, settings.classes, labelled)
    labelled.encoded(targets)
    if len(labelled) < 5 * settings.folds:
        raise OptionError(f"{len(labelled)} structures are too few for {settings.folds} folds: give more.")
    names = names_of(sources)
    stem = stem_source(data, sources)
    folder = Path(out) if out is not None else default_folder("property-study", stem)
    facts: dict[str, Any] = {"structures": names, "shape": {k: dict(v) for k, v in (shape or {}).items()}}
    how: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "started": started}
    with TrainingFolder("property study", settings, PropertyStudyOptions, folder, facts, **how) as run:
        run.begin()
        result = Study(run, settings, targets, labelled, shape or {}).go()
        if isinstance(run.folder, RunFolder):
            seconds = time.perf_counter() - started
            finish_run(run.folder, result, model=None, inputs=labelled.sources, seconds=seconds)
    return result
