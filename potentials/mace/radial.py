"""What a MACE knows of distances: transforms, bases, cutoff, radial networks, short-range repulsion.

Distances are columns ``(n_edges, 1)`` in Å. Constants that published models carry as buffers are buffers
here, so that a converted model has their very digits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from ase.data import covalent_radii
from torch import Tensor, nn
from torch.nn import functional as F

from atomml.nn import polynomial_cutoff, segment_sum
from atomml.potentials.mace.config import MACEConfig

__all__ = ["ACTIVATIONS", "PairRepulsion", "RadialBasis", "RadialNetwork", "RadialNormNetwork"]

ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "silu": (F.silu, 1.6791767923989418),
    "sigmoid": (torch.sigmoid, 1.8467055342154763),
    "tanh": (torch.tanh, 1.5937334472592695),
    "abs": (torch.abs, 1.001110600838467),
    "none": (lambda x: x, 1.0),
}
"""Non-linearities with the factor that brings their second moment to one.

The factors are those that e3nn finds by a million random numbers (``normalize2mom``), which published
models were trained with; silu's exact one is 1.676532.
"""


def activate(name: str, x: Tensor) -> Tensor:
    """A non-linearity of :data:`ACTIVATIONS`, normalised."""
    function, factor = ACTIVATIONS[name]
    return function(x) * factor


class RadialBasis(nn.Module):
    """Functions of the distance, and the polynomial cutoff.

    Bessel functions ``sqrt(2/c) sin(n pi d/c)/d``, Gaussians on an even grid, or Chebyshev polynomials; the
    distance may go through the Agnesi transform (Witt et al., J. Chem. Phys. 159, 164101, 2023) or a soft
    clamp, both with the covalent radii of the two elements.
    """

    covalent_radii: Tensor
    frequencies: Tensor
    centres: Tensor
    transform: Tensor

    def __init__(self, config: MACEConfig) -> None:
        super().__init__()
        self.config = config
        n, cutoff = config.n_radial, config.cutoff
        self.register_buffer("covalent_radii", torch.tensor(covalent_radii, dtype=torch.float64))
        if config.radial == "bessel":
            self.register_buffer(
                "frequencies", math.pi / cutoff * torch.linspace(1.0, n, n, dtype=torch.float64)
            )
        elif config.radial == "gaussian":
            self.register_buffer("centres", torch.linspace(0.0, cutoff, n, dtype=torch.float64))
        constants = {"none": [], "agnesi": [0.9183, 4.5791, 1.0805], "soft": [4.0]}[config.distance_transform]
        self.register_buffer("transform", torch.tensor(constants, dtype=torch.float64))

    def forward(self, distances: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The basis ``(n_edges, n_radial)``, uncut, and the cutoff ``(n_edges, 1)``.

        Args:
            distances: ``(n_edges, 1)`` Å.
            pairs: ``(2, n_edges)`` atomic numbers of both ends.
        """
        cut = polynomial_cutoff(distances / self.config.cutoff, self.config.cutoff_power)
        if self.config.distance_transform != "none":
            radii = (self.covalent_radii[pairs[0]] + self.covalent_radii[pairs[1]])[:, None]
            distances = (
                self._agnesi(distances, radii) if len(self.transform) > 1 else self._soft(distances, radii)
            )
        return self._basis(distances), cut

    def _agnesi(self, distances: Tensor, radii: Tensor) -> Tensor:
        q, p, a = self.transform
        scaled = distances / (0.5 * radii)
        return 1 / (1 + a * scaled**q / (1 + scaled ** (q - p)))

    def _soft(self, distances: Tensor, radii: Tensor) -> Tensor:
        low, high = 0.75 * radii, 4 / 3 * radii
        step = 0.5 * (1 + torch.tanh(self.transform[0] / (high - low) * (distances - 0.5 * (low + high))))
        return low + (distances - low) * step

    def _basis(self, distances: Tensor) -> Tensor:
        config = self.config
        if config.radial == "bessel":
            return math.sqrt(2 / config.cutoff) * torch.sin(self.frequencies * distances) / distances
        if config.radial == "gaussian":
            width = config.cutoff / (config.n_radial - 1)
            return torch.exp(-0.5 * ((distances - self.centres) / width) ** 2)
        return _chebyshev(distances, config.n_radial)


def _chebyshev(x: Tensor, n: int) -> Tensor:
    """Polynomials T_1 ... T_n by their recurrence; differentiable, which torch's own are not."""
    before, now = torch.ones_like(x), x
    found = []
    for _ in range(n):
        found.append(now)
        before, now = now, 2 * x * now - before
    return torch.cat(found, dim=1)


class RadialNetwork(nn.Module):
    """Layers without biases, weights of unit variance over the root of the width, normalised SiLU between."""

    linear_weights = ("weights",)

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(n_in, n_out)) for n_in, n_out in itertools.pairwise(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(n, widths[0])`` to ``(n, widths[-1])``."""
        for layer, weight in enumerate(self.weights):
            x = x @ (weight / math.sqrt(len(weight)))
            if layer < len(self.weights) - 1:
                x = activate("silu", x)
        return x


class RadialNormNetwork(nn.Module):
    """Linear layers with biases, layer norm and SiLU between."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths[1:-1])

    def forward(self, x: Tensor) -> Tensor:
        """``(n, widths[0])`` to ``(n, widths[-1])``."""
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = F.silu(norm(layer(x)))
        result: Tensor = self.layers[-1](x)
        return result


class PairRepulsion(nn.Module):
    """Ziegler, Biersack and Littmark's screened repulsion of nuclei, cut off at the sum of covalent radii.

    The Stopping and Range of Ions in Solids (1985); eV, half of each pair on either atom.
    """

    covalent_radii: Tensor
    amplitudes: Tensor
    screening: Tensor

    def __init__(self, power: int) -> None:
        super().__init__()
        self.power = power
        amplitudes = torch.tensor([0.1818, 0.5099, 0.2802, 0.02817], dtype=torch.float64)
        self.register_buffer("amplitudes", amplitudes)
        self.register_buffer(
            "screening", torch.tensor([0.4543, 0.3], dtype=torch.float64)
        )  # prefactor, exponent
        self.register_buffer("covalent_radii", torch.tensor(covalent_radii, dtype=torch.float64))

    def forward(self, distances: Tensor, pairs: Tensor, centre: Tensor, n_atoms: int) -> Tensor:
        """Energies of atoms ``(n_atoms,)``."""
        return segment_sum(self.halves(distances, pairs), centre, n_atoms)

    def halves(self, distances: Tensor, pairs: Tensor) -> Tensor:
        """Half of each pair's energy, ``(n_edges,)``."""
        charges = pairs.to(distances.dtype)
        length = self.screening[0] * 0.529 / (charges ** self.screening[1]).sum(dim=0)
        r = distances[:, 0]
        rates = (-3.2, -0.9423, -0.4028, -0.2016)
        screened = sum(c * torch.exp(k * r / length) for c, k in zip(self.amplitudes, rates, strict=True))
        ends = self.covalent_radii[pairs[0]] + self.covalent_radii[pairs[1]]
        energy = 14.3996 * charges[0] * charges[1] / r * screened
        return 0.5 * energy * polynomial_cutoff(r / ends, self.power)
