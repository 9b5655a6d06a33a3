"""A tensor product whose paths are weighted by networks, behind a gate that says which are computed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from atomml.potentials.sphnet.config import SPHNetConfig
from atomml.potentials.sphnet.degrees import Couplings, Path, couplings
from atomml.potentials.sphnet.gates import PathGate
from atomml.potentials.sphnet.layers import Network
from atomml.potentials.sphnet.products import Pairing, tensor_product

__all__ = ["GatedProduct"]

_HIDDEN = 32


class PathWeights(nn.Module):
    """A network whose last map has rows of its own for each path: only those that are kept are computed."""

    def __init__(self, n_in: int, n_paths: int, channels: int) -> None:
        super().__init__()
        self.hidden = Network(n_in, _HIDDEN, _HIDDEN)
        self.last = nn.Parameter(torch.randn(n_paths, _HIDDEN, channels) / _HIDDEN**0.5)
        self.bias = nn.Parameter(torch.ones(n_paths, channels))

    def forward(self, x: Tensor, kept: Tensor | None = None, factor: Tensor | None = None) -> Tensor:
        """``(n, n_in)`` to ``(n, n_kept, channels)``; ``factor`` is one for each path that is kept."""
        last, bias = (self.last, self.bias) if kept is None else (self.last[kept], self.bias[kept])
        if factor is not None:
            last, bias = last * factor[:, None, None], bias * factor[:, None]
        n_kept, n_hidden, channels = last.shape
        hidden = nn.functional.silu(self.hidden(x))
        flat = last.permute(1, 0, 2).reshape(n_hidden, n_kept * channels)
        return torch.addmm(bias.reshape(-1), hidden, flat).view(-1, n_kept, channels)


class GatedProduct(nn.Module):
    """The product, its weights, and the gate that says which paths are computed.

    Args:
        paths: All paths.
        config: Degrees, channels, radial functions, sparsity.
        n_invariants: Of a pair; 0 for weights that all rows share.
        sparse: Whether paths may be dropped.
    """

    def __init__(
        self, paths: tuple[Path, ...], config: SPHNetConfig, n_invariants: int, *, sparse: bool = True
    ) -> None:
        super().__init__()
        self.paths, self.max_degree = paths, config.max_degree
        table = couplings(paths, config.max_degree)
        results = np.array([2 * path.result + path.natural for path in paths])
        sparsity = config.sparsity if sparse else 0.0
        self.gate = PathGate(table.costs, sparsity, config.path_cost, results)
        # what arrives in one component must not grow with the number of paths that lead there
        share = np.array([sum(p.result == q.result and p.natural == q.natural for q in paths) for p in paths])
        self.register_buffer("_scale", torch.from_numpy(share**-0.5), persistent=False)
        self._scale: Tensor
        self.shared = n_invariants == 0
        if self.shared:
            self.weight = nn.Parameter(torch.randn(len(paths), config.channels))
        else:
            self.by_distance = PathWeights(config.radial, len(paths), config.channels)
            self.by_invariants = PathWeights(n_invariants, len(paths), config.channels)

    def table(self) -> tuple[Couplings, Tensor | None]:
        """The couplings of the paths that are kept, and their positions; None for all of them."""
        if bool(self.gate.kept.all()):
            return couplings(self.paths, self.max_degree), None
        kept = self.gate.indices()
        chosen = couplings(tuple(self.paths[i] for i in kept), self.max_degree)
        return chosen, torch.tensor(kept, device=self.gate.kept.device)

    def forward(
        self,
        first: Tensor,
        second: Tensor,
        pairing: Pairing,
        radial: Tensor | None = None,
        invariants: Tensor | None = None,
    ) -> Tensor:
        """Products ``(components, n, channels)``.

        Args:
            first: ``(components, rows, channels)``.
            second: The same, or with one channel.
            pairing: Which rows.
            radial: ``(n, n_radial)``; None where weights are shared.
            invariants: ``(n, n_invariants)``; likewise.
        """
        table, kept = self.table()
        factor = self.gate.factor * self._scale.to(first.dtype)
        factor = factor if kept is None else factor[kept]
        if self.shared:
            own = self.weight if kept is None else self.weight[kept]
            weight = (own * factor[:, None]).expand(len(pairing.first), -1, -1)
        else:
            assert radial is not None
            assert invariants is not None
            weight = self.by_distance(radial, kept, factor) * self.by_invariants(invariants, kept)
        return tensor_product(first, second, weight, pairing, table)
