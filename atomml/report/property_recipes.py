"""Reports of models of properties: scores, parity, importances, how far structures lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from atomml.report.plots import bar_plot, histogram, parity_plot
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run
from atomml.report.sections import MAX_ROWS

__all__ = [
    "SHOWN_EVALUATION",
    "SHOWN_STUDY",
    "SHOWN_TRAINING",
    "evaluation",
    "prediction",
    "study",
    "training",
]

SHOWN_TRAINING = ("scores",)
"""Results of ``property train`` that its report shows as tables."""

SHOWN_EVALUATION = ("scores", "scores_new", "scores_inside", "scores_outside")
"""Those of ``property evaluate``."""

SHOWN_STUDY = ("table", "weights")
"""Those of ``property study``."""

_BARS = 15
_PARITY = "Labels against predictions, on the scale on which they were learned."


def training(run: Run, report: Report) -> None:
    """Scores of what chose nothing, parity, importances."""
    for name, scores in (run.results.get("scores") or {}).items():
        _scores(f"Errors on the {name} set", scores, report)
    _parity(run, report, ("set",))
    _importances(run, report)


def evaluation(run: Run, report: Report) -> None:
    """Scores of all, of the new, of those inside and outside the domain; parity."""
    for key, title in zip(
        SHOWN_EVALUATION,
        ("All structures", "Without training structures", "Inside the domain", "Outside the domain"),
        strict=True,
    ):
        _scores(title, run.results.get(key) or {}, report)
    _parity(run, report, ("set",))


def study(run: Run, report: Report) -> None:
    """The comparison, the families' weights, parity of each model, importances, prototypes."""
    for scheme, models in (run.results.get("table") or {}).items():
        title = "Random folds" if scheme == "random" else "Folds that keep prototypes whole"
        flat = {f"{target}, {model}": scores for model, by in models.items() for target, scores in by.items()}
        order = sorted(flat, key=lambda name: name.partition(",")[0])
        _scores(title, {name: flat[name] for name in order}, report, "target, model")
    weights = [
        [scheme, target, family, share]
        for scheme, targets in (run.results.get("weights") or {}).items()
        for target, shares in targets.items()
        for family, share in shares.items()
    ]
    if weights:
        report.table("Weights in the combined model", ["folds", "target", "family", "weight"], weights)
    _parity(run, report, ("scheme", "model"))
    _importances(run, report)
    table = run.tables.get("prototypes")
    if table is not None:
        report.table("Errors of prototypes that training never saw", table.names, table.rows(MAX_ROWS))


def prediction(run: Run, report: Report) -> None:
    """How the answers are spread, how far structures lie, and the table."""
    table = run.tables.get("results")
    if table is None:
        return
    skipped = ("frame", "n_atoms")
    for name, values in table.numeric.items():
        if name in skipped or name.endswith(("_90", "_spread", "_probability")):
            continue
        known = values[np.isfinite(values)]
        if len(known) > 5:
            title = "Distance to the training set over its reach" if name == "domain" else name
            report.plot(title, histogram(known, title))
    report.table("Structures", table.names, table.rows(MAX_ROWS), total=table.total)


def _scores(
    title: str, scores: Mapping[str, Mapping[str, Any]], report: Report, first: str = "target"
) -> None:
    if not scores:
        return
    names = list(dict.fromkeys(name for one in scores.values() for name in one if name != "n"))
    rows = [[key, one["n"], *(_cell(one.get(name)) for name in names)] for key, one in scores.items()]
    report.table(title, [first, "structures", *(name.replace("_", " ") for name in names)], rows)


def _cell(value: Any) -> str:
    if not isinstance(value, list):
        return ""
    known, low, high = (float("nan") if one is None else float(one) for one in value)
    return f"{known:.3g} ({low:.3g} to {high:.3g})"


def _parity(run: Run, report: Report, by: tuple[str, ...]) -> None:
    """One plot for each target and each value of the columns in ``by``."""
    table = run.tables.get("parity")
    if table is None or "label" not in table.numeric or "prediction" not in table.numeric:
        return
    keys = list(zip(*(table.cells[name] for name in ("target", *by)), strict=True))
    for key in dict.fromkeys(keys):
        chosen = np.array([one == key for one in keys])
        label, found = table.numeric["label"][chosen], table.numeric["prediction"][chosen]
        if chosen.sum() < 3 or not (np.isfinite(label) & np.isfinite(found)).all():
            continue
        title = ", ".join(str(part) for part in key)
        report.plot(title, parity_plot(label, found, "label", "prediction", title), _PARITY)


def _importances(run: Run, report: Report) -> None:
    table: Columns | None = run.tables.get("importances")
    if table is None:
        return
    targets = table.cells["target"]
    for target in dict.fromkeys(targets):
        places = [k for k, one in enumerate(targets) if one == target][:_BARS]
        names = [table.cells["descriptor"][k] for k in places]
        shares = [float(table.numeric["share_of_gain"][k]) for k in places]
        report.plot(
            f"What the trees lean on: {target}",
            bar_plot(names, shares, "share of the gain"),
            "The most important descriptors; that one is used does not say that it is a cause.",
        )
