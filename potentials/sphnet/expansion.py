"""From features to blocks of orbitals: coefficients of degrees, then the change of basis."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atomml.electronic.orbitals import BlockLayout, Shells, block_layout
from atomml.potentials.sphnet.layers import Network

__all__ = ["Expansion"]


class Expansion(nn.Module):
    """Blocks of one pair of elements, or of one element with itself.

    Which features make which coefficient is said by a network of the invariants, as in Luo et al. (and Yu et
    al., QHNet, ICML 2023): its weights differ from pair to pair. What comes out is scaled to the size that
    the data have.

    Args:
        first, second: Shells of both elements.
        max_degree: Of the natural features.
        n_invariants: Of the networks' input.
        bottleneck: Channels of the features.
        centred: Whether invariant coefficients have a mean, as those of an element with itself.
    """

    scale: Tensor
    mean: Tensor

    def __init__(
        self,
        first: Shells,
        second: Shells,
        max_degree: int,
        n_invariants: int,
        bottleneck: int,
        *,
        centred: bool,
    ) -> None:
        super().__init__()
        self.shells, self.max_degree, self.bottleneck = (first, second), max_degree, bottleneck
        n_paths = self.layout.n_paths
        self.weights = Network(n_invariants, n_invariants, bottleneck * n_paths)
        self.bias = nn.Parameter(torch.zeros(n_paths)) if centred else None
        self.register_buffer("scale", torch.ones(n_paths, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(n_paths, dtype=torch.float64))

    @property
    def layout(self) -> BlockLayout:
        """Of the blocks."""
        return block_layout(*self.shells)

    def forward(self, features: Tensor, invariants: Tensor) -> Tensor:
        """Blocks ``(n, rows, columns)``.

        Args:
            features: ``(components, n, bottleneck)``, both parities.
            invariants: ``(n, n_invariants)``.
        """
        layout = self.layout
        weights: Tensor = self.weights(invariants).view(-1, self.bottleneck, layout.n_paths)
        weights = weights / self.bottleneck**0.5
        parts = []
        sizes = [2 * d + 1 for d in range(self.max_degree + 1)] + [
            2 * d + 1 for d in range(1, self.max_degree)
        ]
        own = torch.split(features, sizes)
        for degree, natural, begin, end in layout.groups:
            rows = own[degree if natural else self.max_degree + degree].transpose(0, 1)
            found = (rows @ weights[:, :, begin:end]).transpose(1, 2) * self.scale[begin:end, None].to(rows)
            if degree == 0 and self.bias is not None:
                shift = self.bias[begin:end] * self.scale[begin:end].to(rows)
                found = found + (shift + self.mean[begin:end].to(rows))[:, None]
            parts.append(found.flatten(1))
        flat = torch.cat(parts, dim=1) @ layout.basis.to(features).T
        return flat.view(-1, layout.rows, layout.columns)

    @torch.no_grad()
    def fit(self, blocks: Tensor) -> None:
        """Take mean and size of the coefficients from blocks ``(n, rows, columns)`` of data."""
        layout = self.layout
        coefficients = blocks.double().flatten(1) @ layout.basis
        for path, degree in enumerate(layout.degrees):
            own = coefficients[:, layout.start[path] : layout.start[path + 1]]
            if degree == 0 and self.bias is not None:
                self.mean[path] = own.mean()
                own = own - own.mean()
            size = float(own.square().mean().sqrt())
            self.scale[path] = max(size, 1e-4)
