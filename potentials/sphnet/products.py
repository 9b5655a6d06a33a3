"""The channel-wise tensor product: a plain form for any device, and kernels on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomml.electronic.orbitals import coupling
from atomml.kernels.threads import run_ranges
from atomml.potentials.sphnet.degrees import Couplings, n_components

__all__ = ["Pairing", "plain_product", "tensor_product"]


class Pairing:
    """Which rows are multiplied.

    Args:
        first: ``(n,)`` rows of the first factor.
        second: ``(n,)`` rows of the second.
        bounds: First product of each structure, and their number: structures share no rows.
    """

    def __init__(self, first: Tensor, second: Tensor, bounds: Tensor) -> None:
        self.first, self.second = first, second
        self.rows = first.cpu().numpy(), second.cpu().numpy()
        self.bounds: NDArray[np.int64] = np.unique(bounds.cpu().numpy())


def tensor_product(
    first: Tensor, second: Tensor, weight: Tensor, pairing: Pairing, table: Couplings
) -> Tensor:
    """Products of rows by all paths of a table, ``(components, n, channels)``.

    On the CPU it can be differentiated once.

    Args:
        first: ``(components, rows, channels)``.
        second: The same, or with one channel that all share; that has no gradient then.
        weight: ``(n, paths, channels)``.
        pairing: Which rows.
        table: The paths.
    """
    if first.device.type != "cpu":
        return plain_product(first, second, weight, pairing, table)
    return _Product.apply(first, second, weight, pairing, table)  # type: ignore[no-untyped-call]


def plain_product(
    first: Tensor, second: Tensor, weight: Tensor, pairing: Pairing, table: Couplings
) -> Tensor:
    """The same path by path, differentiable any number of times."""
    n, channels = weight.shape[0], first.shape[2]
    one, two = first[:, pairing.first], second[:, pairing.second]
    out = first.new_zeros(table.n_results, n, channels)
    split = n_components(table.max_degree)
    for number, path in enumerate(table.paths):
        c = torch.from_numpy(coupling(path.first, path.second, path.result)).to(first)
        a = one[path.first**2 : (path.first + 1) ** 2]
        b = two[path.second**2 : (path.second + 1) ** 2].expand(-1, -1, channels)
        offset = path.result**2 + (0 if path.natural else split - 1)
        part = torch.einsum("abc,anr,bnr->cnr", c, a, b) * weight[:, number]
        out = torch.cat([out[:offset], out[offset : offset + len(part)] + part, out[offset + len(part) :]])
    return out


class _Product(torch.autograd.Function):
    """The kernels with their derivative."""

    @staticmethod
    def forward(
        ctx: Any, first: Tensor, second: Tensor, weight: Tensor, pairing: Pairing, table: Couplings
    ) -> Tensor:
        """The products."""
        from atomml.potentials.sphnet.fast import products

        first, second, weight = first.contiguous(), second.contiguous(), weight.contiguous()
        ctx.save_for_backward(first, second, weight)
        ctx.pairing, ctx.table = pairing, table
        n, channels = weight.shape[0], first.shape[2]
        out = first.new_empty(table.n_results, n, channels)
        shared = second.shape[2] != channels
        function = products.scalar_product if shared else products.product
        bounds = np.unique(np.linspace(0, n, 9).astype(np.int64))
        run_ranges(function, bounds, *_arguments(first, second, weight, pairing, table), out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of both factors and of the weights."""
        from atomml.potentials.sphnet.fast import products

        first, second, weight = ctx.saved_tensors
        pairing, table = ctx.pairing, ctx.table
        shared = second.shape[2] != first.shape[2]
        function = products.scalar_product_backward if shared else products.product_backward
        back = [torch.zeros_like(first), torch.zeros_like(second), torch.empty_like(weight)]
        gradient = gradients[0].contiguous().numpy()
        arguments = _arguments(first, second, weight, pairing, table)
        run_ranges(function, pairing.bounds, *arguments, gradient, *(b.numpy() for b in back))
        return back[0], None if shared else back[1], back[2], None, None


def _arguments(
    first: Tensor, second: Tensor, weight: Tensor, pairing: Pairing, table: Couplings
) -> list[Any]:
    x, y, w = (tensor.detach().numpy() for tensor in (first, second, weight))
    indices = [table.start, table.path, table.result, table.first, table.second]
    return [x, pairing.rows[0], y, pairing.rows[1], w, *indices, table.value.astype(x.dtype)]
