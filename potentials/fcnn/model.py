"""A fully connected network on a row of descriptors of each structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from atomml.base_model import ModelInfo
from atomml.errors import ModelError
from atomml.graph.validate import validate_atoms
from atomml.nn.seeded_dropout import SeededDropout
from atomml.property.describer import Describer
from atomml.property.property_model import (
    PropertyBatch,
    PropertyInput,
    PropertyModel,
    PropertyOutputs,
    bare_graph,
    property_info,
)
from atomml.property.targets import Target

__all__ = ["FCNN", "FCNNConfig"]

_FAR = 8.0
"""Standard deviations at which a descriptor is cut off: a network is no judge of what lies beyond."""


@dataclass(frozen=True)
class FCNNConfig:
    """The shape of a network.

    Attributes:
        hidden: Channels of each hidden layer.
        dropout: Share of hidden channels that is left out in training.
    """

    hidden: tuple[int, ...] = (256, 128)
    dropout: float = 0.1


class FCNN(PropertyModel):
    """Standardised descriptors, hidden layers with SiLU, one linear layer.

    Args:
        info: Its description.
        targets: What it predicts.
        describer: Makes the rows.
        width: Descriptors in a row.
        config: Its shape.
    """

    kept_double = ("centre", "spread")
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        info: ModelInfo,
        targets: Sequence[Target],
        describer: Describer,
        width: int,
        config: FCNNConfig | None = None,
    ) -> None:
        super().__init__(info, targets)
        self.config = c = config or FCNNConfig()
        self.describer, self.width = describer, width
        self.register_buffer("centre", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(width, dtype=torch.float64))
        widths = [width, *c.hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.out = nn.Linear(widths[-1], self.n_outputs)
        self.dropout = SeededDropout(c.dropout)

    def hyperparameters(self) -> dict[str, Any]:
        """Shape, descriptors and targets."""
        return {
            **asdict(self.config),
            "hidden": list(self.config.hidden),
            "width": self.width,
            "describer": self.describer.hyperparameters(),
            "targets": [target.hyperparameters() for target in self.targets],
        }

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """A network of this shape with fresh weights."""
        shape = dict(hyperparameters)
        targets = [Target.from_hyperparameters(one) for one in shape.pop("targets")]
        describer = Describer.from_hyperparameters(shape.pop("describer"))
        width = shape.pop("width")
        config = FCNNConfig(**{**shape, "hidden": tuple(shape["hidden"])})
        return cls(info, targets, describer, width, config)

    @classmethod
    def fresh(cls, name: str, elements: Sequence[int], settings: Mapping[str, Any]) -> Self:
        """A network to be trained; ``settings`` hold ``targets``, ``describer``, ``width``, and its shape.

        Raises:
            ModelError: A setting that there is not.
        """
        given = dict(settings)
        targets, describer, width = (given.pop(key) for key in ("targets", "describer", "width"))
        try:
            shape: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
            config = FCNNConfig(**shape)
        except TypeError as error:
            raise ModelError(f"A fully connected network has no such setting ({error}).") from None
        return cls(property_info(name, "fcnn", elements), targets, describer, width, config)

    def fit_rows(self, rows: NDArray[np.float64]) -> None:
        """Take centre and spread of the ``(n, width)`` rows of the training set."""
        centre, spread = row_statistics(rows)
        self.centre.copy_(torch.from_numpy(centre))
        self.spread.copy_(torch.from_numpy(spread))

    def input_of(self, atoms: Atoms, where: str = "structure") -> PropertyInput:
        """The row of descriptors."""
        return described(self.describer, atoms, where)

    def outputs(self, given: PropertyBatch) -> PropertyOutputs:
        """Hidden layers of the standardised row."""
        assert given.row is not None
        h = standardised(given.row, self.centre, self.spread).clamp(-_FAR, _FAR).to(self.dtype)
        for layer in self.layers:
            h = self.dropout(F.silu(layer(h)))
        return PropertyOutputs(self.out(h), h)

    def begin_step(self, step: int, n_steps: int, seed: int) -> None:
        """What dropout draws follows from seed and step."""
        self.dropout.begin_step(step, seed)


def described(describer: Describer, atoms: Atoms, where: str) -> PropertyInput:
    """The row of descriptors of a structure, checked.

    Raises:
        StructureError: A structure that no model can take.
    """
    validate_atoms(atoms, where=where)
    return PropertyInput(bare_graph(atoms), torch.from_numpy(describer.row(atoms, where))[None])


def standardised(rows: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
    """Rows less their centre over their spread, float64; what is not known counts as usual: zero."""
    return torch.nan_to_num((rows.double() - centre) / spread, nan=0.0, posinf=0.0, neginf=0.0)


def row_statistics(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each descriptor, of the rows that know it; 0 and 1 for none."""
    known = np.isfinite(rows)
    n = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, rows, 0.0)
    centre = filled.sum(axis=0) / n
    spread = np.sqrt((np.where(known, rows - centre, 0.0) ** 2).sum(axis=0) / n)
    return centre, np.where(spread > 1e-12 * np.maximum(np.abs(centre), 1e-300), spread, 1.0)
