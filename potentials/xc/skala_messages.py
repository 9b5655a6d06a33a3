"""Skala's messages: from points to nuclei in spherical harmonics, and from nuclei back to points."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["HIDDEN", "REACH", "Messages", "harmonics"]

HIDDEN = 16
REACH = 5.0
"""Bohr: how far points and nuclei hear each other."""
_DEGREES = 4
_ANGSTROM = 1.88973
_WIDTHS = (0.32 * _ANGSTROM / 2, 2.32 * _ANGSTROM / 2)
"""Bohr: the narrowest and widest Gaussian, from covalent radii: Pyykkö, Chem. Eur. J. 15, 186 (2009)."""


class Messages(nn.Module):
    """From features of points ``(n_points, 16)`` to others of the same shape.

    Args:
        width: Features of a point before they are made 16.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, HIDDEN)
        self.leave = nn.Linear(HIDDEN, HIDDEN)
        self.down = nn.ParameterList(torch.zeros(HIDDEN, HIDDEN) for _ in range(_DEGREES))
        self.up = nn.ParameterList(torch.zeros(HIDDEN, HIDDEN) for _ in range(_DEGREES))

    def before(self, hidden: Tensor) -> Tensor:
        """``(n_points, 16)`` of ``(n_points, width)``."""
        return nn.functional.silu(self.enter(hidden))

    def forward(self, given: Tensor, coords: Tensor, centres: Tensor, weights: Tensor) -> Tensor:
        """What points hear: down to each nucleus, weighted by the quadrature, and up again.

        Args:
            given: ``(n_points, 16)``.
            coords: ``(n_points, 3)`` bohr.
            centres: ``(n_atoms, 3)`` bohr.
            weights: ``(n_points,)`` of the quadrature.
        """
        near = [_near(coords, centre) for centre in centres]
        nearness = torch.zeros_like(weights)
        for index, _, distance in near:
            nearness = nearness.index_add(0, index, _share(distance))
        heard = torch.zeros_like(given)
        for index, direction, distance in near:
            radial, angular = _radial(distance), harmonics(direction)
            up = self._through(given[index], radial * weights[index][:, None], angular)
            share = _share(distance) / (nearness[index] + 0.1)
            heard = heard.index_add(0, index, up * radial * share[:, None])
        return nn.functional.silu(self.leave(heard))

    def _through(self, given: Tensor, radial: Tensor, angular: Tensor) -> Tensor:
        """Down to one nucleus and up again, in each degree; ``sqrt(2 l + 1)`` divides each way."""
        total = torch.zeros_like(given)
        for degree in range(_DEGREES):
            part = angular[:, degree**2 : (degree + 1) ** 2]
            at_nucleus = part.T @ ((given @ self.down[degree]) * radial)
            total = total + part @ (at_nucleus @ self.up[degree]) / (2 * degree + 1)
        return total


def _near(coords: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points within reach of a nucleus: their index, direction and distance."""
    with torch.no_grad():
        index = torch.nonzero(((coords - centre) ** 2 + 1e-20).sum(dim=1).sqrt() <= REACH)[:, 0]
    away = coords[index] - centre
    distance = (away**2 + 1e-20).sum(dim=1).sqrt()
    return index, away / distance[:, None], distance


def _share(distance: Tensor) -> Tensor:
    """1 at a nucleus, 0 at its reach, in two parabolas."""
    x = (distance / REACH).clamp(0, 1)
    return 1 - torch.where(x < 0.5, 2 * x**2, -2 * x**2 + 4 * x - 1)


def _radial(distance: Tensor) -> Tensor:
    """``(n, 16)`` functions ``r² exp(-r²)`` of 16 widths, normalised, that end smoothly at the reach."""
    squares = 2 * torch.linspace(*_WIDTHS, HIDDEN, dtype=distance.dtype) ** 2
    x = distance[:, None] ** 2 / squares
    x_reach = (distance / REACH).clamp(0, 1)
    y = x_reach - 1
    # Gasteiger et al., arXiv:2003.03123, eq. 8 with p = 8
    end = (1 - 0.5 * x_reach**8 * (72 * y**2 - 16 * y + 2)).clamp(min=0)
    return torch.exp(-x) * (2 / 3) * x / (math.pi * squares) ** 1.5 * end[:, None]


def harmonics(direction: Tensor) -> Tensor:
    """``(n, 16)`` real spherical harmonics of unit vectors up to degree 3; each degree has norm 1."""
    x, y, z = direction.unbind(dim=1)
    three, five, fifteen = math.sqrt(3), math.sqrt(5 / 8), math.sqrt(15)
    slope = math.sqrt(3 / 8) * (5 * z**2 - 1)
    return torch.stack(
        [
            torch.ones_like(x),
            x,
            y,
            z,
            three * x * y,
            three * y * z,
            1.5 * z**2 - 0.5,
            three * x * z,
            three / 2 * (x**2 - y**2),
            five * y * (3 * x**2 - y**2),
            fifteen * x * y * z,
            y * slope,
            0.5 * z * (5 * z**2 - 3),
            x * slope,
            fifteen / 2 * z * (x**2 - y**2),
            five * x * (x**2 - 3 * y**2),
        ],
        dim=1,
    )
