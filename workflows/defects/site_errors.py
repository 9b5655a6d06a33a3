"""How far off a regressor of sites is where it has not seen them, beside guesses that look at less."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from atomml.workflows.defects.site_labels import TrainingSites

    Array = NDArray[np.float64]

__all__ = ["from_composition", "groups_of", "half_width", "interval_over_groups", "out_of_fold"]

_NOMINAL = 0.9


def groups_of(sites: TrainingSites) -> dict[str, NDArray[Any]]:
    """What is left out together: all sites of an element, all of a composition, or each site for itself."""
    return {
        "new_element": sites.elements,
        "new_crystal": sites.crystals,
        "new_site": np.random.default_rng(0).permutation(len(sites.labels)),
    }


def out_of_fold(sites: TrainingSites, groups: NDArray[Any], folds: int, most_anchors: int) -> Array:
    """Predictions ``(n,)`` of sites whose group was left out of the fit and of the choice of its smoothness.

    Groups are dealt to the folds by size, the largest first, each to the smallest fold. Features
    are standardised, and length and ridge chosen, by what is left.

    Args:
        sites: All sites.
        groups: ``(n,)`` what is left out together.
        folds: Parts that the groups are dealt to.
        most_anchors: Sites that the fit is centred on.
    """
    from atomml.potentials.site_regressor import fitted_to

    found = np.full(len(sites.labels), np.nan)
    for left in _folds(groups, folds):
        kept = ~left
        fit = fitted_to(sites.features[kept], sites.labels[kept], groups[kept], most_anchors)
        found[left] = fit.predict(sites.features[left])
    return found


def from_composition(sites: TrainingSites) -> TrainingSites:
    """The same sites, of which nothing is known but their element and the shares of elements around."""
    own = np.zeros_like(sites.compositions)
    own[np.arange(len(own)), sites.elements] = 1.0
    both = np.concatenate([own, sites.compositions], axis=1)
    return replace(sites, features=both[:, both.any(axis=0)])


def _folds(groups: NDArray[Any], count: int) -> list[NDArray[np.bool_]]:
    names, sizes = np.unique(groups, return_counts=True)
    parts: list[list[Any]] = [[] for _ in range(min(count, len(names)))]
    filled = [0] * len(parts)
    for n in np.argsort(-sizes, kind="stable"):
        smallest = int(np.argmin(filled))
        parts[smallest].append(names[n])
        filled[smallest] += int(sizes[n])
    return [np.isin(groups, part) for part in parts]


def interval_over_groups(error: Array, groups: NDArray[Any]) -> tuple[float, float]:
    """95% bootstrap interval of a mean over whole groups."""
    from atomml.data.bootstrap import Bootstrap, interval

    _, member = np.unique(groups, return_inverse=True)
    means = [w @ error / w.sum(axis=1) for w in Bootstrap(member, 2000).weights()]
    return interval(np.concatenate(means), int(member.max()) + 1)


def half_width(error: Array) -> float:
    """The split-conformal quantile: what 90% of new errors are meant to stay below."""
    rank = int(np.ceil(_NOMINAL * (len(error) + 1)))
    return float(np.sort(error)[min(rank, len(error)) - 1])
