"""DM21 in torch, on the published weights: Kirkpatrick et al., Science 374, 1385 (2021).

The weights (DeepMind, CC BY 4.0) are the user's to bring, as a ``.npz`` of the published module's 28 arrays;
nothing in the file is executed.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from atomml.electronic.functional import GridFeatures, GridFunctional
from atomml.errors import CheckpointError

__all__ = ["DM21", "load_dm21"]

_WIDTH, _BLOCKS, _INPUTS, _OUTPUTS = 256, 6, 11, 3
_SMALL = 1e-4
"""Inputs are ``log(|x| + 1e-4)`` (supplement, section 1.3)."""
_SCOPE = "hub_wrapper/local_functional_v2/"


class DM21(GridFunctional):
    """A network weighs local, exact and long-range exact exchange at each point.

    ``E = sum w (f_1 e_LDA + f_2 x_0 + f_3 x_0.4)`` : each ``f`` is between 0 and 2, a function of densities,
    squared gradients, kinetic-energy densities and local exact exchange. The network is not symmetric in
    the spins, as published: the first one is that of the majority.
    """

    name = "dm21"
    omegas = (0.0, 0.4)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(_INPUTS, _WIDTH)
        self.blocks = nn.ModuleList(nn.Linear(_WIDTH, _WIDTH) for _ in range(_BLOCKS))
        self.norms = nn.ModuleList(nn.LayerNorm(_WIDTH, eps=1e-5) for _ in range(_BLOCKS))
        self.last = nn.Linear(_WIDTH, _OUTPUTS)
        self.double()

    def energy(self, features: GridFeatures) -> Tensor:
        """Hartree."""
        rho, exchange = features.rho, features.exchange
        closed = rho.ndim == 2
        up, down = (rho / 2, rho / 2) if closed else (rho[0], rho[1])
        x_up, x_down = (exchange / 2, exchange / 2) if closed else (exchange[0], exchange[1])
        factors = self._factors(_inputs(up, down, x_up, x_down))
        slater = -0.75 * (6 / torch.pi) ** (1 / 3) * sum(n[0].clamp(min=1e-30) ** (4 / 3) for n in (up, down))
        densities = torch.stack([slater, *(x_up + x_down)], dim=1)
        return (factors * densities).sum(dim=1) @ features.weights

    def _factors(self, inputs: Tensor) -> Tensor:
        """``(n_points, 3)`` between 0 and 2."""
        x = torch.tanh(self.first(torch.log(inputs.abs() + _SMALL)))
        for linear, norm in zip(self.blocks, self.norms, strict=True):
            x = nn.functional.elu(norm(x + linear(x)))
        factors: Tensor = 2 * torch.sigmoid(self.last(x) / 2)
        return factors


def _inputs(up: Tensor, down: Tensor, x_up: Tensor, x_down: Tensor) -> Tensor:
    """``(n_points, 11)`` in the order of the published network."""
    squares = [(g**2).sum(dim=0) for g in (up[1:4] + down[1:4], up[1:4], down[1:4])]
    return torch.stack([up[0], down[0], *squares, up[4], down[4], *x_up, *x_down], dim=1)


def load_dm21(path: str | Path) -> DM21:
    """The functional with the weights of a ``.npz``.

    Raises:
        CheckpointError: The file is damaged, or holds other arrays.
    """
    functional = DM21()
    names = _names()
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            found = {ours: _tensor(arrays[_SCOPE + theirs], ours) for ours, theirs in names.items()}
        functional.load_state_dict(found)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} does not hold DM21's 28 arrays ({first:.120}): get it again."
        ) from error
    return functional.requires_grad_(False)


def _tensor(array: np.ndarray, name: str) -> Tensor:
    """In float64; the published matrices are applied from the right."""
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite")
    matrix = array.T if array.ndim == 2 else array
    return torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float64))


def _names() -> dict[str, str]:
    """Our names of the arrays to the published ones."""
    found: dict[str, str] = {}
    for ours, theirs in (("first", "SquashUnprocessedData"), ("last", "OutputLayer")):
        found |= {f"{ours}.weight": f"{theirs}/linear/w", f"{ours}.bias": f"{theirs}/linear/b"}
    for k in range(_BLOCKS):
        block = "MLP/ResidualBlock" + (f"_{k}" if k else "")
        found |= {f"blocks.{k}.weight": f"{block}/linear/w", f"blocks.{k}.bias": f"{block}/linear/b"}
        found |= {
            f"norms.{k}.weight": f"{block}/layer_norm/gamma",
            f"norms.{k}.bias": f"{block}/layer_norm/beta",
        }
    return found
