"""What networks on the graph of a crystal's nearest neighbours have in common: shape, targets, elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Self

from torch import Tensor

from atomml.base_model import ModelInfo
from atomml.errors import ModelError
from atomml.property.element_bins import check_binned, element_bins
from atomml.property.property_model import PropertyModel, property_info
from atomml.property.targets import Target

__all__ = ["CrystalNetwork"]


class CrystalNetwork(PropertyModel):
    """A network whose shape is a dataclass of plain values with a ``cutoff``, on the bins of elements.

    Args:
        info: Its description.
        targets: What it predicts.
        config: Its shape; the published one if None.
    """

    family: ClassVar[str]
    shape: ClassVar[type[Any]]
    citation: ClassVar[str]
    on_bonds: ClassVar[bool] = False

    inputs: Tensor

    def __init__(self, info: ModelInfo, targets: Sequence[Target], config: Any = None) -> None:
        super().__init__(info, targets)
        self.config = config or self.shape()
        self.register_buffer("inputs", element_bins().float())

    def hyperparameters(self) -> dict[str, Any]:
        """Shape and targets."""
        return {**asdict(self.config), "targets": [target.hyperparameters() for target in self.targets]}

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """A network of this shape with fresh weights."""
        shape = dict(hyperparameters)
        targets = [Target.from_hyperparameters(one) for one in shape.pop("targets")]
        return cls(info, targets, cls.shape(**shape))

    @classmethod
    def fresh(cls, name: str, elements: Sequence[int], settings: Mapping[str, Any]) -> Self:
        """A network to be trained.

        Raises:
            ModelError: A setting that there is not, or an element above fermium.
        """
        shape = {key: value for key, value in settings.items() if key != "targets"}
        try:
            config = cls.shape(**shape)
        except TypeError as error:
            known = cls.shape.__name__
            raise ModelError(f"{cls.__name__} has no such setting ({error}): see {known}.") from None
        check_binned(elements, cls.__name__)
        bonds = {"bond_cutoff": config.cutoff} if cls.on_bonds else {}
        info = property_info(name, cls.family, elements, cutoff=config.cutoff, citation=cls.citation, **bonds)
        return cls(info, settings["targets"], config)
