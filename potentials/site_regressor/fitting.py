"""Kernel ridge regression with anchors, and what it predicts of groups that are left out, in closed form.

Features are standardised, ``z = (x - centre) / scale``. The kernel is a constant plus a Gaussian,
``k(z, z') = c + exp(-|z - z'|² / (2 d l²))`` with d features, so that far from all training sites the
answer falls back to a constant. With anchors a (all training sites, or some that cover them) the
coefficients w minimise ``|y - K w|² + r wᵀ A w``, ``K = k(z, a)``, ``A = k(a, a)`` (the subset of
regressors: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 8.3.1).

The fit is linear in the labels, ``f = H y``, and its penalty does not depend on them. So what it would
predict of a group g had the group not been among the training sites follows from the one fit:
``y_g - f_g(without g) = (1 - H_gg)⁻¹ (y_g - f_g)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONSTANT", "Fit", "SiteFit", "Smoother", "anchors_of", "choose_smoother", "fitted_to", "kernel"]

Array = NDArray[np.float64]

CONSTANT = 100.0
"""c of the kernel: large beside 1, so that a constant costs next to nothing."""

_LENGTHS = (0.3, 0.6, 1.2, 2.5, 5.0)
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_JITTER = 1e-9  # of the anchors' kernel, whose eigenvalues fall below rounding
_LEAST_SCALE = 1e-8
_CHOSEN_BY = 400  # anchors of the fits that length and ridge are chosen by
_PIECE = 4096  # rows whose distances are held at once


def kernel(left: Array, right: Array, length: float) -> Array:
    """``(n, m)`` of standardised features ``(n, d)`` and ``(m, d)``."""
    width = left.shape[1] * length**2
    return np.asarray(CONSTANT + np.exp(-squares(left, right) / (2 * width)))


def squares(left: Array, right: Array) -> Array:
    """Squared distances ``(n, m)`` of features ``(n, d)`` and ``(m, d)``."""
    product = left @ right.T
    total = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * product
    return np.maximum(total, 0.0)


def anchors_of(features: Array, most: int) -> NDArray[np.int64]:
    """Rows that cover all: each the farthest from those before it, the first nearest the middle.

    Rows that are taken already, or equal one that is, are never taken again.

    Args:
        features: ``(n, d)``, standardised.
        most: How many at most.
    """
    first = int(np.argmin((features**2).sum(axis=1)))
    chosen = [first]
    gap = ((features - features[first]) ** 2).sum(axis=1)
    while len(chosen) < most and gap.max() > 1e-12:
        new = int(gap.argmax())
        chosen.append(new)
        gap = np.minimum(gap, ((features - features[new]) ** 2).sum(axis=1))
    return np.array(sorted(chosen))


@dataclass(frozen=True)
class Smoother:
    """How smooth a fit is: length of the Gaussian in units of the features' spread, and the ridge."""

    length: float
    ridge: float


class Fit:
    """A fit for one length, at any ridge: normal equations in the basis that makes them diagonal.

    Args:
        features: ``(n, d)`` standardised features of the training sites.
        anchors: ``(m, d)``.
        length: Of the Gaussian.
    """

    def __init__(self, features: Array, anchors: Array, length: float) -> None:
        from scipy.linalg import cholesky, eigh, solve_triangular

        own = kernel(anchors, anchors, length)
        own[np.diag_indices_from(own)] += _JITTER * len(own)
        self._lower = cholesky(own, lower=True)
        design = solve_triangular(self._lower, kernel(features, anchors, length).T, lower=True).T
        self._values, self._vectors = eigh(design.T @ design)
        self._rotated = design @ self._vectors

    def coefficients(self, labels: Array, ridge: float) -> Array:
        """``(m,)`` w for labels ``(n,)``."""
        from scipy.linalg import solve_triangular

        inner = (self._rotated.T @ labels) / (self._values + ridge)
        return np.asarray(solve_triangular(self._lower.T, self._vectors @ inner, lower=False))

    def left_out(self, labels: Array, groups: NDArray[Any], ridge: float) -> Array:
        """What is predicted of each training site ``(n,)`` by the fit without its whole group.

        Args:
            labels: ``(n,)``.
            groups: ``(n,)`` equal for sites that are left out together.
            ridge: r.
        """
        damped = self._rotated / (self._values + ridge)
        fitted = damped @ (self._rotated.T @ labels)
        found = np.empty(len(labels))
        for rows in rows_of(groups):
            hat = damped[rows] @ self._rotated[rows].T
            off = np.linalg.solve(np.eye(len(rows)) - hat, labels[rows] - fitted[rows])
            found[rows] = labels[rows] - off
        return found


def rows_of(groups: NDArray[Any]) -> list[NDArray[np.int64]]:
    """The rows of each group."""
    _, member = np.unique(groups, return_inverse=True)
    order = np.argsort(member, kind="stable")
    return [np.asarray(part) for part in np.split(order, np.cumsum(np.bincount(member))[:-1])]


def choose_smoother(
    features: Array,
    anchors: Array,
    labels: Array,
    groups: NDArray[Any],
    lengths: Sequence[float] = _LENGTHS,
    ridges: Sequence[float] = _RIDGES,
) -> Smoother:
    """The length and ridge with the least mean absolute error of groups that are left out.

    Args:
        features: ``(n, d)`` standardised.
        anchors: ``(m, d)``.
        labels: ``(n,)``.
        groups: ``(n,)``.
        lengths: Those that are tried.
        ridges: Those that are tried.
    """
    best = (np.inf, Smoother(lengths[-1], ridges[-1]))
    for length in lengths:
        fit = Fit(features, anchors, length)
        for ridge in ridges:
            error = float(np.abs(fit.left_out(labels, groups, ridge) - labels).mean())
            if error < best[0]:
                best = (error, Smoother(length, ridge))
    return best[1]


@dataclass(frozen=True)
class SiteFit:
    """A fit to sites, ready to answer.

    Attributes:
        centre, scale: ``(d,)`` of the features.
        anchors: ``(m, d)``, standardised.
        coefficients: ``(m,)``.
        smoother: Length and ridge.
    """

    centre: Array
    scale: Array
    anchors: Array
    coefficients: Array
    smoother: Smoother

    def predict(self, features: Array) -> Array:
        """``(n,)`` of sites with features ``(n, d)``."""
        z = (features - self.centre) / self.scale
        return np.asarray(kernel(z, self.anchors, self.smoother.length) @ self.coefficients)


def fitted_to(features: Array, labels: Array, groups: NDArray[Any], most_anchors: int) -> SiteFit:
    """A fit whose length and ridge are those that predict groups best that are left out.

    They are chosen by a fit with few anchors, which costs little and says nearly the same.

    Args:
        features: ``(n, d)``.
        labels: ``(n,)``.
        groups: ``(n,)`` equal for sites that are left out together.
        most_anchors: Sites that the fit is centred on, at most.
    """
    z, centre, scale = standardised(features)
    anchors = z[anchors_of(z, most_anchors)]
    few = anchors if len(anchors) <= _CHOSEN_BY else z[anchors_of(z, _CHOSEN_BY)]
    smoother = choose_smoother(z, few, labels, groups)
    coefficients = Fit(z, anchors, smoother.length).coefficients(labels, smoother.ridge)
    return SiteFit(centre, scale, anchors, coefficients, smoother)


def standardised(features: Array) -> tuple[Array, Array, Array]:
    """Features ``(n, d)`` with mean 0 and spread 1, their means and their spreads; a constant one stays 0."""
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > _LEAST_SCALE, scale, 1.0)
    return (features - centre) / scale, centre, scale


def nearest(features: Array, anchors: Array) -> Array:
    """Distance of each row ``(n, d)`` to the nearest anchor ``(m, d)``: root mean square over features."""
    found = [
        squares(features[first : first + _PIECE], anchors).min(axis=1)
        for first in range(0, len(features), _PIECE)
    ]
    return np.sqrt(np.concatenate(found) / features.shape[1]) if found else np.empty(0)
