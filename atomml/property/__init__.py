"""Properties of structures: targets, inputs of models, descriptors, intervals, and how far to trust them."""

from __future__ import annotations

from atomml.property.property_model import PropertyInput, PropertyModel, PropertyOutputs
from atomml.property.targets import Target

__all__ = ["PropertyInput", "PropertyModel", "PropertyOutputs", "Target"]
