"""Parts of SPHNet that act on features of one parity: linear maps, gates by norm, normalisation."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from atomml.potentials.sphnet.degrees import by_degree, n_components

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
        self.max_degree, self.lowest = max_degree, lowest
        self.weight = nn.Parameter(torch.randn(max_degree + 1 - lowest, n_in, n_out) / math.sqrt(n_in))
        self.bias = nn.Parameter(torch.zeros(n_out)) if lowest == 0 else None

    def forward(self, x: Tensor) -> Tensor:
        """``(components, rows, n_in)`` to ``(components, rows, n_out)``."""
        own = by_degree(x, self.max_degree, self.lowest)
        parts = [part @ w for part, w in zip(own, self.weight.unbind(), strict=True)]
        if self.bias is not None:
            parts[0] = parts[0] + self.bias
        return torch.cat(parts)


def norms(x: Tensor, max_degree: int, lowest: int = 0) -> Tensor:
    """Mean square of each degree's components, ``(degrees, rows, channels)``: invariant and smooth."""
    return torch.stack([part.square().mean(dim=0) for part in by_degree(x, max_degree, lowest)])


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
        n_others, n = n_components(self.natural, 1), x.shape[1]
        scalars, natural, unnatural = torch.split(x, [1, n_others, len(x) - 1 - n_others])
        sizes = norms(natural, self.natural, 1)
        if self.unnatural:
            sizes = torch.cat([sizes, norms(unnatural, self.unnatural, 1)])
        sizes = torch.sqrt(sizes + 1e-5)  # smooth where a norm vanishes
        n_gates = 1 + self.natural + self.unnatural  # not -1: an atom alone has no pairs
        gates = self.network(torch.cat([scalars[0], *sizes], dim=1)).view(n, n_gates, x.shape[2])
        first, others = torch.split(gates, [1, gates.shape[1] - 1], dim=1)
        factors = others.transpose(0, 1).repeat_interleave(self._sizes, dim=0)
        return torch.cat([first.transpose(0, 1), torch.cat([natural, unnatural]) * factors])


class DegreeNorm(nn.Module):
    """Divides each degree by its root mean square over components and channels; centres invariants."""

    def __init__(self, max_degree: int, channels: int) -> None:
        super().__init__()
        self.max_degree = max_degree
        self.scale = nn.Parameter(torch.ones(max_degree + 1, channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(components, rows, channels)``."""
        parts = []
        own, scales = by_degree(x, self.max_degree), self.scale.unbind()
        for degree, (part, scale) in enumerate(zip(own, scales, strict=True)):
            centred = part - part.mean(dim=2, keepdim=True) if degree == 0 else part
            size = torch.sqrt(centred.square().mean(dim=(0, 2), keepdim=True) + 1e-5)
            parts.append(centred / size * scale)
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
