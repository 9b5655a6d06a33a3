"""Edge-gated graph convolutions, on atoms with bonds and on bonds with angles alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atomml.nn.batch_norm import BatchNorm
from atomml.nn.segment import gather, segment_sum

__all__ = ["EdgeGatedConvolution", "LineGraphConvolution", "NormedLayer", "Ways"]

_SMALL = 1e-6  # in the denominator of the gates, as published


@dataclass(frozen=True)
class Ways:
    """How messages go.

    Attributes:
        source, target: ``(n_edges,)`` nodes.
        count: ``(n_edges,)`` edges that each stands for at its target, in the network's type.
        node_times, edge_times: How many nodes and edges of the whole graph each stands for, float64.
    """

    source: Tensor
    target: Tensor
    count: Tensor
    node_times: Tensor
    edge_times: Tensor


class NormedLayer(nn.Module):
    """``silu(norm(linear(x)))``."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.norm = BatchNorm(n_out)

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        """``(n_rows, n_in)`` to ``(n_rows, n_out)``; rows count ``times`` in the norm."""
        return F.silu(self.norm(self.linear(x), times))


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
        self, nodes: Tensor, edges: Tensor, ways: Ways, *, last: bool = False
    ) -> tuple[Tensor, Tensor]:
        """New nodes and edges.

        Args:
            nodes: ``(n_nodes, channels)``.
            edges: ``(n_edges, channels)``.
            ways: Where edges go, and how many each stands for.
            last: Whether nobody reads the new edges; the old ones are given back.
        """
        m = gather(self.src_gate(nodes), ways.source) + gather(self.dst_gate(nodes), ways.target)
        m = m + self.edge_gate(edges)
        gates = torch.sigmoid(m) * ways.count[:, None]
        n_nodes = len(nodes)
        taken = segment_sum(gather(self.dst_update(nodes), ways.source) * gates, ways.target, n_nodes)
        taken = taken / (segment_sum(gates, ways.target, n_nodes) + _SMALL)
        new = nodes + F.silu(self.bn_nodes(self.src_update(nodes) + taken, ways.node_times))
        return new, edges if last else edges + F.silu(self.bn_edges(m, ways.edge_times))


class LineGraphConvolution(nn.Module):
    """One convolution on the atoms, then one on the line graph of their bonds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.node_update = EdgeGatedConvolution(channels)
        self.edge_update = EdgeGatedConvolution(channels)
