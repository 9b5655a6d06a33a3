"""Parts of SPHNet that act on features of one parity: linear maps, gates by norm, normalisation."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from atomml.potentials.sphnet.degrees import degree_slices, n_components

__all__ = ["Bernstein", "DegreeLinear", "DegreeNorm", "Network", "NormGate", "norms", "smooth_cutoff"]


class Network(nn.Sequential):
    """Affine maps with SiLU between them."""

    def __init__(self, *widths: int) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.SiLU()]
        super().__init__(*layers[:-1])


class DegreeLinear(nn.Module):
    """A linear map of channels for each degree, with a bias for invariants.

    Args:
        max_degree: Highest degree.
        lowest: Lowest degree: 0 of natural features, 1 of unnatural ones.
        n_in, n_out: Channels.
    """

    def __init__(self, max_degree: int, n_in: int, n_out: int, lowest: int = 0) -> None:
        super().__init__()
        self.slices = degree_slices(max_degree, lowest)
        self.weight = nn.Parameter(torch.randn(len(self.slices), n_in, n_out) / math.sqrt(n_in))
        self.bias = nn.Parameter(torch.zeros(n_out)) if lowest == 0 else None

    def forward(self, x: Tensor) -> Tensor:
        """``(components, rows, n_in)`` to ``(components, rows, n_out)``."""
        parts = [x[s] @ w for s, w in zip(self.slices, self.weight, strict=True)]
        if self.bias is not None:
            parts[0] = parts[0] + self.bias
        return torch.cat(parts)


def norms(x: Tensor, max_degree: int, lowest: int = 0) -> Tensor:
    """Mean square of each degree's components, ``(degrees, rows, channels)``: invariant and smooth."""
    return torch.stack([x[s].square().mean(dim=0) for s in degree_slices(max_degree, lowest)])


class NormGate(nn.Module):
    """Scales each degree's channels by a network of the invariants and of the others' norms.

    Args:
        natural: Highest natural degree.
        unnatural: Highest unnatural degree; 0 for none.
        channels: Of the features.
    """

    def __init__(self, natural: int, unnatural: int, channels: int) -> None:
        super().__init__()
        self.natural, self.unnatural = natural, unnatural
        n_gates = natural + 1 + unnatural
        self.network = Network(n_gates * channels, channels, n_gates * channels)
        sizes = [2 * d + 1 for d in range(1, natural + 1)] + [2 * d + 1 for d in range(1, unnatural + 1)]
        self.register_buffer("_sizes", torch.tensor(sizes), persistent=False)
        self._sizes: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """``(components, rows, channels)``, the natural ones first."""
        split, channels = n_components(self.natural), x.shape[2]
        sizes = norms(x[1:split], self.natural, 1)
        if self.unnatural:
            sizes = torch.cat([sizes, norms(x[split:], self.unnatural, 1)])
        sizes = torch.sqrt(sizes + 1e-5)  # smooth where a norm vanishes
        invariants = torch.cat([x[0], *sizes], dim=1)
        gates = self.network(invariants).unflatten(1, (-1, channels)).transpose(0, 1)
        scaled = x[1:] * gates[1:].repeat_interleave(self._sizes, dim=0)
        return torch.cat([gates[:1], scaled])


class DegreeNorm(nn.Module):
    """Divides each degree by its root mean square over components and channels; centres invariants."""

    def __init__(self, max_degree: int, channels: int) -> None:
        super().__init__()
        self.slices = degree_slices(max_degree)
        self.scale = nn.Parameter(torch.ones(len(self.slices), channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(components, rows, channels)``."""
        parts = []
        for degree, where in enumerate(self.slices):
            part = x[where]
            if degree == 0:
                part = part - part.mean(dim=2, keepdim=True)
            size = torch.sqrt(part.square().mean(dim=(0, 2), keepdim=True) + 1e-5)
            parts.append(part / size * self.scale[degree])
        parts[0] = parts[0] + self.shift
        return torch.cat(parts)


class Bernstein(nn.Module):
    """Exponential Bernstein polynomials of the distance, times a smooth cutoff.

    Unke et al., "SE(3)-equivariant prediction of molecular wavefunctions and electronic densities", NeurIPS
    2021, appendix: ``b_v(r) = C(n, v) exp(-v g r) (1 - exp(-g r))^(n - v)`` with a learned ``g > 0``.

    Args:
        n: How many.
        cutoff: Å.
    """

    def __init__(self, n: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        logs = [math.lgamma(n) - math.lgamma(v + 1) - math.lgamma(n - v) for v in range(n)]
        self.register_buffer("_logs", torch.tensor(logs, dtype=torch.float64), persistent=False)
        self.register_buffer("_powers", torch.arange(n, dtype=torch.float64), persistent=False)
        self._logs: Tensor
        self._powers: Tensor
        self.steepness = nn.Parameter(torch.tensor(math.log(math.expm1(0.5 / 0.529177))))

    def forward(self, distance: Tensor) -> Tensor:
        """``(n_edges,)`` Å to ``(n_edges, n)``."""
        scaled = nn.functional.softplus(self.steepness) * distance[:, None]
        low = torch.log(-torch.expm1(-scaled).clamp(max=-1e-12))
        n = len(self._powers)
        values = torch.exp(self._logs - self._powers * scaled + (n - 1 - self._powers) * low)
        return values * smooth_cutoff(distance, self.cutoff)[:, None]


def smooth_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    """``exp(-r² / ((c - r) (c + r)))`` within the cutoff ``c``, 0 beyond: all derivatives vanish there."""
    inside = distance < cutoff
    r = torch.where(inside, distance, torch.zeros_like(distance))
    return torch.where(inside, torch.exp(-r.square() / ((cutoff - r) * (cutoff + r))), torch.zeros_like(r))
