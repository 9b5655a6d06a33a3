"""Error statistics of every line of a table in every resample of the structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.data.bootstrap import Bootstrap
from atomml.data.error_statistics import SUMS, Block, statistics_of
from atomml.data.error_tally import SHIFTED_ENERGY, ShiftedEnergies

__all__ = ["resampled_statistics"]

_N_SUMS = len(SUMS)
_EIGENVALUE_LIMIT = 1e-12  # the square of the relative singular value at which the fit itself stops


def resampled_statistics(
    blocks: Sequence[Block], energies: ShiftedEnergies | None, bootstrap: Bootstrap
) -> dict[tuple[str, str, str], NDArray[np.float64]]:
    """``(n_resamples, 4)`` statistics of each block, by its key.

    The shifts of the elements are fitted anew in each resample, so that intervals of the shifted
    energy hold what the fit itself does not know.

    Args:
        blocks: Lines of a table.
        energies: What the blocks of the shifted energy were made from.
        bootstrap: The resamples.
    """
    linear = [block for block in blocks if block.quantity != SHIFTED_ENERGY]
    shifted = [block for block in blocks if block.quantity == SHIFTED_ENERGY]
    n_structures = len(bootstrap.clusters)
    matrix = _stacked(linear, n_structures)
    refit = _Refit(energies, shifted, n_structures) if energies is not None and shifted else None
    pieces = []
    for weights in bootstrap.weights():
        sums = np.asarray(matrix @ weights.T).reshape(len(linear), _N_SUMS, len(weights))
        if refit is not None:
            sums = np.concatenate([sums, refit.sums(weights)])
        pieces.append(statistics_of(sums.transpose(0, 2, 1)))
    everything = np.concatenate(pieces, axis=1)
    return {block.key: everything[i] for i, block in enumerate([*linear, *shifted])}


def _stacked(blocks: Sequence[Block], n_structures: int) -> Any:
    """A sparse matrix ``(6 n_blocks, n_structures)``, six rows of sums for each block."""
    from scipy.sparse import csr_array

    columns = [np.tile(block.structures, _N_SUMS) for block in blocks]
    values = [block.rows[:, :_N_SUMS].T.ravel() for block in blocks]
    lengths = [len(block.structures) for block in blocks for _ in range(_N_SUMS)]
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    joined = (
        np.concatenate([*values, np.zeros(0)]),
        np.concatenate([*columns, np.zeros(0, dtype=np.int64)]),
        starts,
    )
    return csr_array(joined, shape=(len(lengths), n_structures))


class _Refit:
    """Sums of shifted errors in resamples, with the shifts that each resample gives."""

    def __init__(self, energies: ShiftedEnergies, lines: Sequence[Block], n_structures: int) -> None:
        place = np.full(n_structures, -1)
        place[energies.structures] = np.arange(len(energies.structures))
        self.energies = energies
        self.member = np.zeros((len(lines), len(energies.structures)))
        self.labels = np.zeros((2, len(energies.structures)))
        for number, line in enumerate(lines):
            self.member[number, place[line.structures]] = 1.0
            self.labels[:, place[line.structures]] = line.rows[:, 4:6].T

    def sums(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(n_lines, 6, n_resamples)`` for weights ``(n_resamples, n_structures)``."""
        given = weights[:, self.energies.structures]
        fractions, errors = self.energies.fractions, self.energies.errors
        normal = np.einsum("bn,ni,nj->bij", given, fractions, fractions, optimize=True)
        right = (given * errors) @ fractions
        inverse = np.linalg.pinv(normal, rcond=_EIGENVALUE_LIMIT, hermitian=True)
        shifts = np.einsum("bij,bj->bi", inverse, right)
        left = errors - shifts @ fractions.T
        columns = (given, given * np.abs(left), given * left**2, given * left)
        labels = [given * row for row in self.labels]
        return np.stack([self.member @ column.T for column in (*columns, *labels)], axis=1)
