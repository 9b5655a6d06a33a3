"""Edge-gated graph convolutions, on atoms with bonds and on bonds with angles alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atomml.nn.batch_norm import BatchNorm
from atomml.nn.segment import gather, segment_sum

__all__ = ["EdgeGatedConvolution", "LineGraphConvolution", "NormedLayer"]

_SMALL = 1e-6  # in the denominator of the gates, as published


class NormedLayer(nn.Module):
    """``silu(norm(linear(x)))``."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.norm = BatchNorm(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """``(n_rows, n_in)`` to ``(n_rows, n_out)``."""
        return F.silu(self.norm(self.linear(x)))


class EdgeGatedConvolution(nn.Module):
    """Dwivedi et al., arXiv:2003.00982, as ALIGNN uses it (its equations 1 to 3).

    ``m = A h_source + B h_target + C e``; each target takes the mean of ``V h_source`` with gates
    ``sigmoid(m)``; targets and edges get ``silu(norm(.))`` added.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.src_gate = nn.Linear(channels, channels)
        self.dst_gate = nn.Linear(channels, channels)
        self.edge_gate = nn.Linear(channels, channels)
        self.bn_edges = BatchNorm(channels)
        self.src_update = nn.Linear(channels, channels)
        self.dst_update = nn.Linear(channels, channels)
        self.bn_nodes = BatchNorm(channels)

    def forward(
        self, nodes: Tensor, edges: Tensor, source: Tensor, target: Tensor, *, last: bool = False
    ) -> tuple[Tensor, Tensor]:
        """New nodes and edges.

        Args:
            nodes: ``(n_nodes, channels)``.
            edges: ``(n_edges, channels)``.
            source, target: ``(n_edges,)`` where each edge comes from and goes to.
            last: Whether nobody reads the new edges; the old ones are given back.
        """
        m = gather(self.src_gate(nodes), source) + gather(self.dst_gate(nodes), target)
        m = m + self.edge_gate(edges)
        gates = torch.sigmoid(m)
        n_nodes = len(nodes)
        taken = segment_sum(gather(self.dst_update(nodes), source) * gates, target, n_nodes)
        taken = taken / (segment_sum(gates, target, n_nodes) + _SMALL)
        new = nodes + F.silu(self.bn_nodes(self.src_update(nodes) + taken))
        return new, edges if last else edges + F.silu(self.bn_edges(m))


class LineGraphConvolution(nn.Module):
    """One convolution on the atoms, then one on the line graph of their bonds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.node_update = EdgeGatedConvolution(channels)
        self.edge_update = EdgeGatedConvolution(channels)
