"""Gradient-boosted trees as a model of the suite: XGBoost's own bytes among the tensors, nothing pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from atomml.base_model import ModelInfo
from atomml.errors import CheckpointError, MissingExtraError
from atomml.potentials.fcnn.model import described, row_statistics, standardised
from atomml.property.describer import Describer
from atomml.property.property_model import (
    PropertyBatch,
    PropertyInput,
    PropertyModel,
    PropertyOutputs,
    property_info,
)
from atomml.property.targets import Target

__all__ = ["BoostedTrees", "xgboost_module"]

Floats = NDArray[np.float64]


class BoostedTrees(PropertyModel):
    """Trees for each target, as XGBoost's binary JSON in a tensor of bytes.

    Structures are compared by their standardised descriptors, each times the root of its share of the gain.

    Args:
        info: Its description.
        targets: What it predicts.
        describer: Makes the rows.
        width: Descriptors in a row.
        sizes: Bytes of the trees of each target.
    """

    kept_double = ("centre", "spread", "shares")
    centre: Tensor
    spread: Tensor
    shares: Tensor

    def __init__(
        self,
        info: ModelInfo,
        targets: Sequence[Target],
        describer: Describer,
        width: int,
        sizes: Sequence[int] = (),
    ) -> None:
        super().__init__(info, targets)
        self.describer, self.width = describer, width
        self.register_buffer("centre", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(width, dtype=torch.float64))
        self.register_buffer("shares", torch.ones(width, dtype=torch.float64))
        for number, size in enumerate(sizes or [0] * len(self.targets)):
            self.register_buffer(f"trees_{number}", torch.zeros(size, dtype=torch.uint8))
        self._loaded: dict[int, tuple[int, Any]] = {}

    @property
    def dtype(self) -> torch.dtype:
        """Of what it is given; trees have no precision of their own."""
        return torch.float64

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Nothing moves: trees are asked on the CPU."""
        return self

    def hyperparameters(self) -> dict[str, Any]:
        """Descriptors, targets, and how many bytes the trees take."""
        return {
            "width": self.width,
            "describer": self.describer.hyperparameters(),
            "targets": [target.hyperparameters() for target in self.targets],
            "sizes": [len(self._bytes(k)) for k in range(len(self.targets))],
        }

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """Room for trees of these sizes."""
        targets = [Target.from_hyperparameters(one) for one in hyperparameters["targets"]]
        describer = Describer.from_hyperparameters(hyperparameters["describer"])
        return cls(info, targets, describer, hyperparameters["width"], hyperparameters["sizes"])

    @classmethod
    def fresh(cls, name: str, elements: Sequence[int], settings: Mapping[str, Any]) -> Self:
        """No trees yet; ``settings`` hold ``targets``, ``describer`` and ``width``."""
        return cls(
            property_info(name, "xgboost", elements, citation="Chen and Guestrin, KDD 785 (2016)"),
            settings["targets"],
            settings["describer"],
            settings["width"],
        )

    def fit_rows(self, rows: Floats) -> None:
        """Take centre and spread of the ``(n, width)`` rows of the training set."""
        centre, spread = row_statistics(rows)
        self.centre.copy_(torch.from_numpy(centre))
        self.spread.copy_(torch.from_numpy(spread))

    def set_trees(self, number: int, booster: Any) -> None:
        """Take the trees of a target."""
        data = np.frombuffer(bytes(booster.save_raw("ubj")), dtype=np.uint8).copy()
        setattr(self, f"trees_{number}", torch.from_numpy(data))

    def set_shares(self) -> None:
        """Take each descriptor's share of the gain, over all targets."""
        total = np.zeros(self.width)
        for number in range(len(self.targets)):
            total += self.importance(number)
        total = total / max(total.sum(), 1e-300) * self.width
        self.shares.copy_(torch.from_numpy(np.sqrt(total)))

    def importance(self, number: int) -> Floats:
        """``(width,)`` share of each descriptor in the gain of a target's trees; they add up to one."""
        gains = self.booster(number).get_score(importance_type="total_gain")
        found = np.zeros(self.width)
        for name, gain in gains.items():
            found[int(name[1:])] = gain
        return found / max(found.sum(), 1e-300)

    def booster(self, number: int) -> Any:
        """XGBoost's own object for a target.

        Raises:
            MissingExtraError: xgboost is not installed.
            CheckpointError: The bytes are no trees.
        """
        stored = self._bytes(number)
        kept = self._loaded.get(number)
        if kept is None or kept[0] != stored.data_ptr():
            xgboost = xgboost_module()
            booster = xgboost.Booster()
            try:
                booster.load_model(bytearray(stored.numpy().tobytes()))
            except xgboost.core.XGBoostError as error:
                raise CheckpointError(f"{self.info.name} holds no readable trees: make it again.") from error
            booster.set_param({"nthread": 1})
            kept = self._loaded[number] = (stored.data_ptr(), booster)
        return kept[1]

    def input_of(self, atoms: Atoms, where: str = "structure") -> PropertyInput:
        """The row of descriptors."""
        return described(self.describer, atoms, where)

    def outputs(self, given: PropertyBatch) -> PropertyOutputs:
        """What the trees say, target after target."""
        assert given.row is not None
        rows = given.row.double().cpu()
        matrix = xgboost_module().DMatrix(rows.numpy(), missing=np.nan)
        parts = []
        for number, target in enumerate(self.targets):
            margin = self.booster(number).predict(matrix, output_margin=True)
            parts.append(
                torch.from_numpy(np.asarray(margin, dtype=np.float64)).reshape(len(rows), target.width)
            )
        near = standardised(rows, self.centre, self.spread).clamp(-8.0, 8.0) * self.shares
        return PropertyOutputs(torch.cat(parts, dim=1), near)

    def _bytes(self, number: int) -> Tensor:
        stored: Tensor = getattr(self, f"trees_{number}")
        return stored


def xgboost_module() -> Any:
    """The module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import xgboost
    except ImportError as error:
        raise MissingExtraError.for_extra("xgboost", "property") from error
    return xgboost
