"""Readouts with their weights folded, forwards and back."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atomml.potentials.mace.fast.linear import Array, Matrix
from atomml.potentials.mace.radial import activate
from atomml.potentials.mace.readout import LinearReadout, NonlinearReadout

__all__ = ["FoldedReadout"]


class FoldedReadout:
    """Energies of atoms by one head, from their invariants."""

    def __init__(self, readout: nn.Module, head: int) -> None:
        self.gate = "none"
        if isinstance(readout, LinearReadout):
            column = readout.weights[:, head].detach().double() / math.sqrt(len(readout.weights))
            self.first, self.second = None, column.float().numpy()
        else:
            assert isinstance(readout, NonlinearReadout)
            own = slice(head * readout.width, (head + 1) * readout.width)
            self.gate = readout.gate
            self.first = Matrix(readout.first[:, own].detach().double() / math.sqrt(len(readout.first)))
            second = readout.second[own, head].detach().double() / math.sqrt(len(readout.second))
            self.second = second.float().numpy()

    def __call__(self, scalars: Array) -> NDArray[np.float64]:
        """``(n_atoms, channels)`` to ``(n_atoms,)``."""
        if self.first is None:
            return np.einsum("ic,c->i", scalars, self.second).astype(np.float64)
        values = activate(self.gate, torch.from_numpy(self.first(scalars))).numpy()
        return np.einsum("ic,c->i", values, self.second).astype(np.float64)

    def back(self, scalars: Array) -> Array:
        """Derivative of each atom's energy with respect to its invariants."""
        if self.first is None:
            return np.broadcast_to(self.second, scalars.shape)
        hidden: Tensor = torch.from_numpy(self.first(scalars)).requires_grad_()
        with torch.enable_grad():  # whoever asks may have turned it off
            (slope,) = torch.autograd.grad(activate(self.gate, hidden).sum(), hidden)
        return self.first.back(np.ascontiguousarray(slope.numpy() * self.second))
