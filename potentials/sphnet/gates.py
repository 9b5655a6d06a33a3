"""Adaptive sparsity: which paths of a tensor product stay, and which pairs a layer looks at.

Luo et al., arXiv:2502.01171, section 4: at first at random, so that every one learns something; then the
best by their scores, step by step; at last those that were best stay, and the product is a smaller one. A
path's score may be divided by a power of its cost. Pairs are chosen within each molecule, so that a
prediction does not depend on what else is in the batch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["PairGate", "PathGate", "Schedule"]

RANDOM, ADAPTIVE, FIXED = 0, 1, 2


class Schedule:
    """The three phases of a training; in a short one too, the paths that stay are chosen by their scores.

    Args:
        random_until: Share of the training with a random choice.
        adaptive_until: Share after which the choice stays.
    """

    def __init__(self, random_until: float, adaptive_until: float) -> None:
        self.random_until, self.adaptive_until = random_until, adaptive_until

    def phase(self, step: int, n_steps: int) -> int:
        """:data:`RANDOM`, :data:`ADAPTIVE` or :data:`FIXED`."""
        if step < self.random_until * n_steps:
            return RANDOM
        first = math.ceil(self.random_until * n_steps)
        return ADAPTIVE if step == first or step < self.adaptive_until * n_steps else FIXED


class PathGate(nn.Module):
    """A learned factor for each path, and which paths are computed.

    The best path to each kind of result stays, whatever the others score: without it that degree would be
    lost to all that follows.

    Args:
        costs: ``(n_paths,)`` what each path costs.
        sparsity: Share that is dropped.
        exponent: Power of the costs by which scores are divided.
        results: ``(n_paths,)`` number of the kind of each path's result; all of one kind if None.
    """

    kept: Tensor

    def __init__(
        self,
        costs: NDArray[np.float64],
        sparsity: float,
        exponent: float,
        results: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__()
        n = len(costs)
        self.results = np.zeros(n, np.int64) if results is None else results
        self.n_kept = max(n - int(sparsity * n), len(np.unique(self.results)))
        self.factor = nn.Parameter(torch.ones(n))
        self.register_buffer("kept", torch.ones(n, dtype=torch.bool))
        self._penalty = (costs / costs.mean()) ** exponent

    def begin_step(self, phase: int, random: np.random.Generator) -> None:
        """Choose the paths of a step of a training; the state is what :attr:`kept` holds."""
        n = len(self.factor)
        if self.n_kept == n or (phase == FIXED and int(self.kept.sum()) == self.n_kept):
            return
        if phase == RANDOM:
            order = random.permutation(n)
        else:
            score = self.factor.detach().abs().cpu().double().numpy() / self._penalty
            order = np.argsort(-score, kind="stable")
        _, best = np.unique(self.results[order], return_index=True)
        others = np.delete(order, best)
        chosen = np.concatenate([order[best], others])[: self.n_kept]
        kept = torch.zeros(n, dtype=torch.bool)
        kept[torch.from_numpy(chosen.copy())] = True
        self.kept.copy_(kept)

    def indices(self) -> tuple[int, ...]:
        """Positions of the paths that are computed."""
        return tuple(torch.nonzero(self.kept)[:, 0].tolist())


class PairGate(nn.Module):
    """Which pairs of each molecule a layer looks at, and a factor on each that lets the choice learn.

    Args:
        n_invariants: Of a pair.
        sparsity: Share of each molecule's pairs that is passed over.
    """

    def __init__(self, n_invariants: int, sparsity: float) -> None:
        super().__init__()
        self.sparsity = sparsity
        self.score = nn.Linear(n_invariants, 1)
        self.random: np.random.Generator | None = None

    def forward(self, invariants: Tensor, molecule: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the pairs that are kept, ascending, and their factors ``(n_kept, 1)``.

        Args:
            invariants: ``(n_pairs, n_invariants)``.
            molecule: ``(n_pairs,)`` ascending.
        """
        score = self.score(invariants)[:, 0]
        ranked = score.detach()
        if self.training and self.random is not None:
            ranked = torch.from_numpy(self.random.random(len(score))).to(ranked)
        order = torch.argsort(ranked, descending=True, stable=True)
        order = order[torch.argsort(molecule[order], stable=True)]
        counts = torch.bincount(molecule)
        last = torch.cumsum(counts, 0) - torch.floor(self.sparsity * counts).long() - 1
        quantile = ranked[order[last.clamp(min=0)]]
        # pairs that symmetry makes alike are kept or passed over together, however they are rounded
        slack = 100 * torch.finfo(ranked.dtype).eps * ranked.abs().clamp(min=1.0)
        kept = torch.nonzero(ranked + slack >= quantile[molecule])[:, 0]
        least = score.new_full((len(counts),), float("inf"))
        least = least.scatter_reduce(0, molecule[kept], score[kept].detach(), "amin", include_self=True)
        return kept, torch.sigmoid(score[kept] - least[molecule[kept]])[:, None]
