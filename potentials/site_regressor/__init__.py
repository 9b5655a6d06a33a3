"""A property of a site from the features that a potential has learned of it: kernel ridge regression."""

from __future__ import annotations

from atomml.potentials.site_regressor.fitting import Fit, Smoother, anchors_of, choose_smoother
from atomml.potentials.site_regressor.model import SiteRegressor

__all__ = ["Fit", "SiteRegressor", "Smoother", "anchors_of", "choose_smoother"]
