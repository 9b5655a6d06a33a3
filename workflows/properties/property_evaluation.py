"""Errors and coverage of a model of properties on labelled structures: ``atomml property evaluate``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.config import build_options
from atomml.errors import InputError, ModelError, StructureError
from atomml.files import write_table
from atomml.options import option
from atomml.result import Result
from atomml.workflows.run_record import finish_run, open_with_options

__all__ = ["PropertyEvaluateOptions", "PropertyEvaluateResult", "evaluate_property"]


@dataclass(frozen=True)
class PropertyEvaluateOptions:
    """Options of ``property evaluate``."""

    labels: str | None = option(None, "CSV table of labels; its first column names the structures")
    resamples: int = option(2000, "resamples for the intervals", minimum=100)
    device: str = option("auto", "device of the model")


@dataclass(kw_only=True)
class PropertyEvaluateResult(Result):
    """How far off a model is.

    Attributes:
        n_structures: Structures that were answered for.
        n_skipped: Structures with elements that the model does not know.
        n_known: Structures that the model was trained on.
        n_outside: Structures outside its domain.
        scores: Per target errors with 95% intervals, and coverage, of all structures.
        scores_new: The same without those it was trained on; empty where there are none such.
        scores_inside, scores_outside: The new ones inside and outside its domain.
    """

    n_structures: int = 0
    n_skipped: int = 0
    n_known: int = 0
    n_outside: int = 0
    scores: dict[str, Any] = field(default_factory=dict)
    scores_new: dict[str, Any] = field(default_factory=dict)
    scores_inside: dict[str, Any] = field(default_factory=dict)
    scores_outside: dict[str, Any] = field(default_factory=dict)


def evaluate_property(
    model: Any,
    data: Any,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> PropertyEvaluateResult:
    """Errors of a model on labelled structures, and how often its intervals hold.

    Args:
        model: A checkpoint of ``atomml property train``, or the model.
        data: Labelled structures, in files or as ``ase.Atoms`` or pymatgen structures.
        out: The run folder; None leaves nothing behind.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`PropertyEvaluateOptions`.

    Raises:
        InputError: A file, label, model or option that is wrong.
    """
    from atomml.property.ensemble import load_property_model
    from atomml.workflows.inputs import sources_of
    from atomml.workflows.properties.property_data import names_of, read_labelled

    started = time.perf_counter()
    settings = build_options(PropertyEvaluateOptions, options)
    ensemble = load_property_model(model, settings.device)
    sources = sources_of(data)
    labelled = read_labelled(sources, ensemble.targets, settings.labels, needed=False)
    if not any(values.get(t.name) is not None for values in labelled.values for t in ensemble.targets):
        wanted = ", ".join(target.name for target in ensemble.targets)
        raise StructureError(f"No structure is labelled with {wanted}, which {ensemble.info.name} predicts.")
    covered = [k for k, atoms in enumerate(labelled.atoms) if _is_covered(ensemble, atoms)]
    if not covered:
        ensemble.check_atoms(labelled.atoms[0], labelled.wheres[0])
        raise InputError("No structure can be evaluated.")
    facts: dict[str, Any] = {
        "structures": names_of(sources),
        "model": str(model) if isinstance(model, str | Path) else ensemble.info.name,
    }
    with open_with_options(out, "property evaluate", settings, overwrite=overwrite, **facts) as run:
        skipped = len(labelled) - len(covered)
        if skipped:
            run.warn(f"{skipped} of {len(labelled)} structures hold elements that the model does not know.")
        result, rows = _evaluated(ensemble, labelled.subset(covered), settings.resamples, run.event)
        result.n_skipped = skipped
        if result.n_known:
            run.warn(
                f"{result.n_known} structures are, or nearly are, training structures: scores_new leaves "
                "them out."
            )
        write_table(run.file("parity.csv"), rows, list(rows[0]))
        info = ensemble.info
        record = {"name": info.name, "sha256": info.sha256, "family": info.family}
        seconds = time.perf_counter() - started
        finish_run(run, result, model=record, inputs=labelled.sources, seconds=seconds)
    return result


def _is_covered(ensemble: Any, atoms: Any) -> bool:
    try:
        ensemble.check_atoms(atoms, "structure")
    except ModelError:
        return False
    return True


def _evaluated(
    ensemble: Any, data: Any, resamples: int, event: Any
) -> tuple[PropertyEvaluateResult, list[dict[str, Any]]]:
    """Scores of all, of the new, and of those inside and outside; rows of the parity table."""
    import numpy as np

    from atomml.property.ensemble import Answers
    from atomml.property.judgement import judge
    from atomml.workflows.properties.property_fitting import InputStore, answers_for
    from atomml.workflows.properties.property_rows import parity_rows

    answers = answers_for(ensemble, data, InputStore(event))
    labels = data.encoded(ensemble.targets)
    known = ensemble.known
    same = np.array([known is not None and known.same_as(atoms) is not None for atoms in data.atoms])
    domain = ensemble.domain
    far = np.zeros(len(data), bool) if domain is None else domain.distance(answers.features) > 1.0

    def of(chosen: Any) -> dict[str, Any]:
        """Scores of some structures."""
        if not chosen.any():
            return {}
        part = Answers(
            [one[chosen] for one in answers.learned],
            [one[chosen] for one in answers.spread],
            [one[:, chosen] for one in answers.members],
            answers.features[chosen],
        )
        return judge(ensemble, part, labels[chosen], resamples=resamples)

    everything = np.ones(len(data), bool)
    result = PropertyEvaluateResult(
        n_structures=len(data),
        n_known=int(same.sum()),
        n_outside=int(far.sum()),
        scores=of(everything),
        scores_new=of(~same) if same.any() else {},
        scores_inside=of(~same & ~far) if far.any() else {},
        scores_outside=of(~same & far),
    )
    rows = parity_rows(ensemble, data, answers, "evaluated")
    again = dict(zip(data.ids, same.tolist(), strict=True))
    for row in rows:
        row["trained_on"] = again[row["id"]]
    return result, rows
