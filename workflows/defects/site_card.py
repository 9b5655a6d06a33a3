"""The card of a regressor of vacancies: what it learned from, how far off it is, where it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomml.workflows.defects.site_regression_training import SiteRegressionOptions, SiteRegressionResult

__all__ = ["site_card"]

_LEFT_OUT = {
    "new_element": "all sites of the element left out",
    "new_crystal": "the composition left out",
    "new_site": "single sites left out at random",
}


def site_card(
    result: SiteRegressionResult,
    options: SiteRegressionOptions,
    inputs: Sequence[Mapping[str, Any]],
    potential: Mapping[str, Any],
) -> dict[str, Any]:
    """What ``atomml property cards`` prints, fit for JSON.

    Args:
        result: Counts and errors.
        options: Of the training.
        inputs: ``path`` and ``sha256`` of each file with labels.
        potential: ``name`` and ``sha256`` of the model whose features are used.
    """
    errors = {
        text: {
            "n": result.n_sites,
            "mae": [getattr(result, f"mae_{key}{end}") for end in ("", "_low", "_high")],
            "r": getattr(result, f"r_{key}"),
            "mae_from_composition": getattr(result, f"mae_composition_{key}"),
        }
        for key, text in _LEFT_OUT.items()
    }
    files = [
        {"name": Path(str(one["path"])).name if one["path"] else "structures given in Python"}
        | {"sha256": one["sha256"]}
        for one in inputs
    ]
    return {
        "members": ["site-regressor"],
        "targets": [{"name": options.label, "scale": options.label, "unit": "eV", "classes": []}],
        "data": {
            "files": files,
            "notes": [
                f"{result.n_sites} sites of {result.n_elements} elements in {result.n_crystals} compositions",
                f"features of {potential['name']}, sha256 `{potential['sha256']}`",
                f"the mean of the other elements' labels errs by {result.mae_of_mean:.3g} eV",
            ],
        },
        "splits": {
            "sizes": {"labelled sites": result.n_sites},
            "how": f"each error is of sites left out of the fit, in {options.folds} parts; eV.",
        },
        "errors": {"left-out": errors},
        "limits": [
            "It predicts what its labels are: energies of unrelaxed vacancies by a model, if they are such.",
            "Where the column outside says True, element or surroundings are new, and the interval may "
            "be too narrow.",
            f"Its intervals held 90% of sites left out: {result.interval_new_crystal:.2f} eV to either side "
            f"in new crystals, {result.interval_new_element:.2f} eV at new elements.",
        ],
        "citation": [],
    }
