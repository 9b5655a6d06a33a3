"""Published shapes of models, to be trained from nothing: short configurations that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atomml.errors import OptionError

__all__ = ["PRESETS", "preset_of", "preset_path"]

PRESETS = ("mace-small", "mace-medium", "dpa3-l6")
"""Names of the configurations in this package's ``presets``."""


def preset_path(name: str) -> Path | None:
    """The configuration of a preset; None for any other name, and for a file of that name."""
    if name not in PRESETS or Path(name).exists():
        return None
    return Path(__file__).parent / "presets" / f"{name}.yaml"


def preset_of(name: str) -> dict[str, Any] | None:
    """The model of a preset or of a configuration file, in the words of :func:`~atomml.workflows.train`.

    Returns:
        None for any other name.

    Raises:
        OptionError: A configuration that says nothing of a model.
    """
    import yaml

    path = preset_path(name)
    if path is None and Path(name).suffix in (".yaml", ".yml") and Path(name).is_file():
        path = Path(name)
    if path is None:
        return None
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        raise OptionError(f"{path} names no model: write its family and shape below 'model:'.") from None
    return {"family": found} if isinstance(found, str) else dict(found)
