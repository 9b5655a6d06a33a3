"""A property of a site from the features that a potential has learned of it: kernel ridge regression."""

from __future__ import annotations

from atomml.potentials.site_regressor.fitting import (
    Fit,
    SiteFit,
    Smoother,
    anchors_of,
    choose_smoother,
    fitted_to,
)
from atomml.potentials.site_regressor.model import SiteRegressor

__all__ = [
    "Fit",
    "SiteFit",
    "SiteRegressor",
    "Smoother",
    "anchors_of",
    "choose_smoother",
    "fitted_to",
]
