"""Functionals by name or file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomml.checkpoint import load_checkpoint, save_checkpoint
from atomml.electronic.functional import DensityFunctional
from atomml.errors import CheckpointError, OptionError
from atomml.potentials.xc.closed_forms import CLOSED_FORMS, closed_form
from atomml.potentials.xc.learned import LearnedConfig, LearnedFunctional

__all__ = ["load_functional", "save_functional"]

_FAMILY = "xc-learned"


def save_functional(
    functional: LearnedFunctional, path: str | Path, extra: Mapping[str, Any] | None = None
) -> str:
    """Write weights and shape; returns the digest."""
    header = {
        "family": _FAMILY,
        "hyperparameters": functional.config.to_json(),
        "info": {"name": functional.name, "kind": "functional"},
        "extra": dict(extra or {}),
    }
    return save_checkpoint(path, functional.state_dict(), header)


def load_functional(name_or_path: str | Path) -> DensityFunctional:
    """A closed form by name, or a learned functional by its file.

    Raises:
        OptionError: Neither.
        CheckpointError: A damaged file, or one of something else.
    """
    name = str(name_or_path)
    if name.lower() in CLOSED_FORMS:
        return closed_form(name.lower())
    if not Path(name).is_file():
        raise OptionError(
            f"There is no functional {name!r:.80}: name a file, or one of {', '.join(CLOSED_FORMS)}."
        )
    checkpoint = load_checkpoint(name)
    header = checkpoint.header
    if header.get("family") != _FAMILY:
        raise CheckpointError(f"{name} holds no functional, but {header.get('family', 'something else')}.")
    functional = LearnedFunctional(LearnedConfig.from_json(header["hyperparameters"]), header["info"]["name"])
    try:
        functional.load_state_dict(checkpoint.tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{name} does not hold a complete functional: make it again.") from error
    return functional.requires_grad_(False)
