"""Errors as sums over structures, from which means, root mean squares and R² follow for any selection.

A structure enters with seven numbers whatever its size, so a data set of a million structures is
summed up in memory, and a bootstrap over structures is a weighted sum of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ANGLE_FLOOR",
    "STATISTICS",
    "SUMS",
    "Block",
    "angles_between",
    "error_sums",
    "fit_element_shifts",
    "fractions_of",
    "largest_error",
    "statistics_of",
]

SUMS = ("count", "absolute", "squared", "signed", "reference", "reference_squared")
"""Columns of a row of sums; the largest absolute error stands behind them."""

STATISTICS = ("mae", "rmse", "mean_signed_error", "r_squared")
"""What :func:`statistics_of` gives, in this order along its last axis."""

ANGLE_FLOOR = 0.05
"""eV/Å: the direction of a force below this is noise of the calculation, and its angle is left out."""

_RANK_LIMIT = 1e-6  # relative size of a singular value below which compositions do not differ


def error_sums(
    predicted: ArrayLike, reference: ArrayLike, *, origin: float = 0.0, of_reference: bool = True
) -> NDArray[np.float64]:
    """The row ``(7,)`` of one structure: :data:`SUMS` and the largest absolute error.

    Args:
        predicted: Values of the model, any shape.
        reference: Labels, the same shape.
        origin: Taken from the labels before they are summed, so that R² of numbers that are large
            beside their spread (energies) keeps its digits; the same for all structures.
        of_reference: False where a spread of the labels has no meaning (norms of differences).
    """
    labels = np.asarray(reference, dtype=np.float64).ravel()
    errors = np.asarray(predicted, dtype=np.float64).ravel() - labels
    size = np.abs(errors)
    offset = labels - origin if of_reference else np.zeros(0)
    return np.array(
        [
            errors.size,
            size.sum(),
            (errors**2).sum(),
            errors.sum(),
            offset.sum(),
            (offset**2).sum(),
            size.max(initial=0.0),
        ]
    )


def statistics_of(sums: ArrayLike) -> NDArray[np.float64]:
    """Sums ``(..., 6)`` to :data:`STATISTICS` ``(..., 4)``; NaN where there is nothing to average.

    R² is 1 - Σ(p - r)²/Σ(r - r̄)²: zero for a model that always says the mean of the labels, negative
    for a worse one; NaN where the labels do not vary.
    """
    rows = np.asarray(sums, dtype=np.float64)
    count, absolute, squared, signed, reference, reference_squared = (rows[..., i] for i in range(6))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = reference_squared - reference**2 / count
        varies = spread > 1e-10 * reference_squared
        r_squared = np.where(varies, 1 - squared / np.where(varies, spread, 1.0), np.nan)
        found = (absolute / count, np.sqrt(squared / count), signed / count, r_squared)
    return np.stack([np.where(count > 0, values, np.nan) for values in found], axis=-1)


def largest_error(rows: NDArray[np.float64]) -> float:
    """Largest absolute error of rows ``(n, 7)``; NaN where there are none."""
    return float(rows[:, len(SUMS)].max()) if len(rows) else float("nan")


@dataclass(frozen=True)
class Block:
    """Rows of sums of those structures that have a part in one line of a table.

    Attributes:
        quantity: What is compared, with its unit (``forces_meV_per_A``).
        kind: How the line was selected: ``all``, ``element``, ``group`` ...
        name: Which one: ``Si``, ``AIMD-NVT`` ...
        structures: ``(n,)`` place of each structure, ascending.
        rows: ``(n, 7)`` its sums, as :func:`error_sums` gives them.
    """

    quantity: str
    kind: str
    name: str
    structures: NDArray[np.int64]
    rows: NDArray[np.float64]

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from other blocks."""
        return self.quantity, self.kind, self.name

    def of(self, kind: str, name: str, chosen: NDArray[np.bool_]) -> Block:
        """The part of the structures that ``chosen`` ``(n_structures,)`` holds."""
        keep = chosen[self.structures]
        return Block(self.quantity, kind, name, self.structures[keep], self.rows[keep])


def angles_between(predicted: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Angles ``(n,)`` in degrees between vectors ``(n, 3)``; NaN below :data:`ANGLE_FLOOR` in the labels.

    A predicted zero vector has no direction and counts as 90°, what a random direction has on average.
    """
    p, r = np.asarray(predicted, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    # atan2 keeps its digits at 0° and 180°, where the arc cosine loses half of them
    sine = np.linalg.norm(np.cross(p, r), axis=-1)
    cosine = (p * r).sum(axis=-1)
    angles = np.degrees(np.arctan2(sine, cosine))
    angles = np.where((sine == 0) & (cosine == 0), 90.0, angles)
    return np.where(np.linalg.norm(r, axis=-1) >= ANGLE_FLOOR, angles, np.nan)


def fit_element_shifts(fractions: ArrayLike, errors: ArrayLike) -> tuple[NDArray[np.float64], int]:
    """Constants ``(n_elements,)`` per element that explain most of the errors, and how many are determined.

    Least squares of errors ``(n,)`` in eV/atom over fractions of the elements ``(n, n_elements)``:
    where two calculations differ by a constant energy of each kind of atom, these are the constants.
    The shortest solution is taken where compositions do not tell the elements apart; the second
    value, the rank, is then below the number of elements.
    """
    matrix = np.asarray(fractions, dtype=np.float64)
    target = np.asarray(errors, dtype=np.float64)
    shifts, _, rank, _ = np.linalg.lstsq(matrix, target, rcond=_RANK_LIMIT)
    return np.asarray(shifts, dtype=np.float64), int(rank)


def fractions_of(counts: Sequence[dict[int, int]]) -> tuple[list[int], NDArray[np.float64]]:
    """The atomic numbers that occur, ascending, and ``(n, n_elements)`` their fractions in each structure."""
    numbers = sorted({number for one in counts for number in one})
    place = {number: column for column, number in enumerate(numbers)}
    table = np.zeros((len(counts), len(numbers)))
    for row, one in enumerate(counts):
        for number, count in one.items():
            table[row, place[number]] = count
    return numbers, table / np.maximum(table.sum(axis=1, keepdims=True), 1)
