"""Skala's energy and first derivatives, block by block, with the derivatives of its wide layers written out.

Wide layers cost all the time there is: each point goes once forward and once backward through them, points
that hold nothing are left out, blocks fit into the cache, and nothing is kept that a product can do without.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from atomml.electronic.functional import GridFeatures
from atomml.potentials.xc.skala_messages import HIDDEN, REACH

if TYPE_CHECKING:
    from atomml.potentials.xc.skala import Skala

__all__ = ["Stack", "energy_and_slopes"]

_NOTHING = 1e-16
"""Hartree: a point beyond every nucleus's reach whose exchange is less than this is left out."""
_BLOCK = 2048
_KEPT = 1.5e9
"""Bytes of slopes of the first layers that are kept between the ways; beyond it they are made again."""


class Stack(nn.Module):
    """Linear layers, each followed by SiLU.

    Args:
        widths: Of the input, then of each layer.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """``(n, widths[-1])``, differentiable."""
        for layer in self.layers:
            x = nn.functional.silu(layer(x))
        return x

    def with_slopes(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The same, and each SiLU's derivative; no history."""
        slopes = []
        for layer in self.linears:
            z = torch.addmm(layer.bias, x, layer.weight.T)
            s = torch.sigmoid(z)
            x = z.mul_(s)
            slopes.append(torch.addcmul(s, x, 1 - s))
        return x, slopes

    def back(self, g: Tensor, slopes: list[Tensor]) -> Tensor:
        """From derivatives in the output to those in the input; ``g`` is overwritten."""
        for layer, slope in zip(reversed(self.linears), reversed(slopes), strict=True):
            g = g.mul_(slope) @ layer.weight
        return g


def energy_and_slopes(
    skala: Skala, features: GridFeatures, given: Mapping[str, Tensor]
) -> tuple[float, dict[str, Tensor]]:
    """Energy in Hartree, and its derivatives in the tensors ``given`` (fields of the features, by name)."""
    with torch.enable_grad():
        rho, weights, coords = features.rho, features.weights, features.coords
        active = _active(skala, features)
        rho, weights, coords = rho[..., active], weights[active], coords[active]
        density, inputs = skala.prepared(rho)
        slater, damping = skala.slater(density), torch.exp(-density.sum(dim=0))
    first = _First(skala, inputs.detach(), open_shell=rho.ndim == 3)
    with torch.enable_grad():
        told_in = skala.messages.before(first.hidden).detach().requires_grad_()
        told = skala.messages(told_in, coords, features.centres, weights) * damping[:, None]
    energy_density, to_hidden, to_told, factor = _second(skala, first.hidden, told.detach(), slater, weights)
    (to_told_in,) = torch.autograd.grad(told, told_in, to_told, retain_graph=True)
    to_inputs = first.back(to_hidden, to_told_in)
    names = list(given)
    with torch.enable_grad():
        # what each part's derivative is already known of, as one number to differentiate
        ends = (
            (inputs * to_inputs).sum() + (told * to_told).sum() + (slater * (factor * weights.detach())).sum()
        )
        ends = ends + (weights * energy_density).sum()
    slopes = torch.autograd.grad(ends, list(given.values()), materialize_grads=True)
    return float(energy_density @ weights.detach()), dict(zip(names, slopes, strict=True))


def _active(skala: Skala, features: GridFeatures) -> Tensor:
    """Points that hold something, or that a nucleus hears."""
    with torch.no_grad():
        density = features.rho[0] if features.rho.ndim == 2 else features.rho[:, 0].sum(dim=0)
        holds = density.clamp(min=0) ** (4 / 3) * features.weights.abs() > _NOTHING
        for centre in features.centres:
            holds |= ((features.coords - centre) ** 2).sum(dim=1) <= REACH**2 + 1e-9
        return torch.nonzero(holds)[:, 0]


class _First:
    """The first layers of all points, forward at once and backward when asked."""

    def __init__(self, skala: Skala, inputs: Tensor, *, open_shell: bool) -> None:
        from atomml.potentials.xc.skala import SWAPPED

        self.skala, self.inputs = skala, inputs
        self.orders = [list(range(7)), SWAPPED] if open_shell else [list(range(7))]
        self.blocks = [slice(k, k + _BLOCK) for k in range(0, len(inputs), _BLOCK)]
        self.kept: list[list[list[Tensor]] | None] = []
        hidden, left = [], _KEPT
        for block in self.blocks:
            value, slopes = self._forward(block)
            hidden.append(value)
            left -= sum(s.numel() * 8 for one in slopes for s in one)
            self.kept.append(slopes if left > 0 else None)
        self.hidden = torch.cat(hidden)

    def _forward(self, block: slice) -> tuple[Tensor, list[list[Tensor]]]:
        found = [self.skala.entry.with_slopes(self.inputs[block][:, order]) for order in self.orders]
        mean = found[0][0] if len(found) == 1 else (found[0][0] + found[1][0]) * 0.5
        return mean, [slopes for _, slopes in found]

    def back(self, to_hidden: Tensor, to_told: Tensor) -> Tensor:
        """Derivatives in the inputs from those in the hidden features and in what goes into the messages."""
        enter, share = self.skala.messages.enter, 1 / len(self.orders)
        found = torch.empty_like(self.inputs)
        for k, block in enumerate(self.blocks):
            slopes = self.kept[k] or self._forward(block)[1]
            z = torch.addmm(enter.bias, self.hidden[block], enter.weight.T)
            s = torch.sigmoid(z)
            narrow = to_told[block] * (s + z * s * (1 - s))
            g = torch.addmm(to_hidden[block], narrow, enter.weight)
            total = torch.zeros_like(found[block])
            for order, one in zip(self.orders, slopes, strict=True):
                # exchanging the spins twice changes nothing: the same order leads back
                total += self.skala.entry.back(g * share, one)[:, order]
            found[block] = total
        return found


def _second(
    skala: Skala, hidden: Tensor, told: Tensor, slater: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The last layers, both ways: energy densities, derivatives in their two inputs, and the factors."""
    n = len(hidden)
    factor, to_hidden, to_told = hidden.new_empty(n), torch.empty_like(hidden), torch.empty_like(told)
    weight = skala.last.weight[0]
    scale = (slater * weights).detach()
    for start in range(0, n, _BLOCK):
        block = slice(start, start + _BLOCK)
        x, slopes = skala.exit.with_slopes(torch.cat([hidden[block], told[block]], dim=1))
        s = torch.sigmoid((x @ weight + skala.last.bias) / 2)
        factor[block] = 2 * s
        g = skala.exit.back((scale[block] * s * (1 - s))[:, None] * weight, slopes)
        to_hidden[block], to_told[block] = g[:, :-HIDDEN], g[:, -HIDDEN:]
    return factor * slater.detach(), to_hidden, to_told, factor
