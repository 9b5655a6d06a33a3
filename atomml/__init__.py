"""atomml: atomistic machine learning in one suite.

Importing the package is cheap: what needs torch or ase is loaded at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomml.calculator import AtomMLCalculator
    from atomml.errors import AtomMLError
    from atomml.graph import AtomGraph
    from atomml.model import Potential, Prediction
    from atomml.registry import load_model

__version__ = "0.1.0"

__all__ = [
    "AtomGraph",
    "AtomMLCalculator",
    "AtomMLError",
    "Potential",
    "Prediction",
    "__version__",
    "load_model",
]

_HOME = {
    "AtomGraph": "atomml.graph",
    "AtomMLCalculator": "atomml.calculator",
    "AtomMLError": "atomml.errors",
    "Potential": "atomml.model",
    "Prediction": "atomml.model",
    "load_model": "atomml.registry",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home at first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'atomml' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
