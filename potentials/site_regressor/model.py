"""The regressor as a model of the suite: it is saved, verified and described as any other."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from atomml.base_model import Model, ModelInfo
from atomml.errors import ModelError
from atomml.potentials.site_regressor.fitting import SiteFit, Smoother, kernel, nearest

__all__ = ["SiteAnswer", "SiteRegressor", "SiteRegressorConfig"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SiteRegressorConfig:
    """What a regressor is beside its numbers.

    Attributes:
        n_features: Features of a site.
        n_anchors: Sites that the kernel is centred on.
        smoother: Length and ridge.
        target: What is predicted.
        unit: Of the target.
        potential: ``name`` and ``sha256`` of the model that the features are of.
        known: Half width of the interval that holds 90% of sites of elements among the training sites,
            from crystals that were left out.
        new: The same of sites of an element that was left out.
        reach: Distance to the nearest training site that 95% of them keep from those of other crystals.
    """

    n_features: int
    n_anchors: int
    smoother: Smoother
    target: str
    unit: str
    potential: dict[str, str] = field(default_factory=dict)
    known: float = float("nan")
    new: float = float("nan")
    reach: float = float("nan")


@dataclass(frozen=True)
class SiteAnswer:
    """What a regressor says of sites, ``(n,)`` each.

    Attributes:
        value: The target.
        half_width: Of the interval that is meant to hold 90%.
        distance: To the nearest training site, in spreads of a feature.
        outside: Whether that is farther than training sites are from one another, or the element is new.
    """

    value: Array
    half_width: Array
    distance: Array
    outside: NDArray[np.bool_]


class SiteRegressor(Model):
    """Kernel ridge regression on features of sites; see :mod:`atomml.potentials.site_regressor.fitting`.

    Args:
        config: Its shape and what is known of its errors.
        info: Its description; its elements are those of the training sites.
    """

    kept_double = ("centre", "scale", "anchors", "coefficients")

    def __init__(self, config: SiteRegressorConfig, info: ModelInfo) -> None:
        super().__init__(info)
        self.config = config
        d, m = config.n_features, config.n_anchors
        self.register_buffer("centre", torch.zeros(d, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(d, dtype=torch.float64))
        self.register_buffer("anchors", torch.zeros((m, d), dtype=torch.float64))
        self.register_buffer("coefficients", torch.zeros(m, dtype=torch.float64))
        self.shift = nn.Parameter(torch.zeros(1))  # a model has a type, which is that of a parameter
        self.centre: torch.Tensor
        self.scale: torch.Tensor
        self.anchors: torch.Tensor
        self.coefficients: torch.Tensor

    def hyperparameters(self) -> dict[str, Any]:
        """The configuration as JSON holds it."""
        return asdict(self.config)

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """A regressor of this shape that answers 0."""
        given = dict(hyperparameters)
        return cls(SiteRegressorConfig(**given | {"smoother": Smoother(**given["smoother"])}), info)

    @classmethod
    def fitted(cls, fit: SiteFit, info: ModelInfo, **facts: Any) -> Self:
        """From a fit.

        Args:
            fit: To sites.
            info: Description.
            **facts: Further fields of :class:`SiteRegressorConfig`.
        """
        n_anchors, n_features = fit.anchors.shape
        model = cls(SiteRegressorConfig(n_features, n_anchors, fit.smoother, **facts), info)
        for name in ("centre", "scale", "anchors", "coefficients"):
            getattr(model, name).copy_(torch.from_numpy(getattr(fit, name)))
        return model

    def answer(self, features: Array, elements: NDArray[Any]) -> SiteAnswer:
        """Of sites with features ``(n, d)`` and atomic numbers ``(n,)``.

        Raises:
            ModelError: Another number of features than it was trained on.
        """
        if features.shape[1] != self.config.n_features:
            raise ModelError(
                f"{self.info.name} takes {self.config.n_features} features a site, not {features.shape[1]}."
            )
        centre, scale, anchors, weights = (
            tensor.cpu().numpy() for tensor in (self.centre, self.scale, self.anchors, self.coefficients)
        )
        z = (features.astype(np.float64) - centre) / scale
        value = kernel(z, anchors, self.config.smoother.length) @ weights
        seen = np.isin(elements, self.info.elements)
        distance = nearest(z, anchors)
        half = np.where(seen, self.config.known, self.config.new)
        return SiteAnswer(value, half, distance, ~seen | (distance > self.config.reach))
