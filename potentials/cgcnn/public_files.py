"""Files of CGCNN's public code (``*.pth.tar``) as models of ours; nothing in them is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from atomml.errors import CheckpointError
from atomml.potentials.cgcnn.model import CGCNN
from atomml.property.ensemble import PropertyEnsemble
from atomml.property.property_model import property_info
from atomml.property.targets import Target

__all__ = ["convert_cgcnn"]

_SHAPE = {"channels": "atom_fea_len", "convolutions": "n_conv", "hidden": "h_fea_len", "hidden_layers": "n_h"}


def convert_cgcnn(file: str | Path) -> PropertyEnsemble:
    """The network of a file that CGCNN's ``main.py`` wrote, or of one published with the paper.

    The file says neither property nor unit nor elements: the target is named by the file's stem, and every
    element that the table of inputs knows is taken. It holds no training structures, so the model has
    neither intervals nor a domain.

    Raises:
        CheckpointError: It cannot be read without running code, or is no such file.
    """
    path = Path(file)
    found = _read(path)
    try:
        arguments, state, scale = found["args"], dict(found["state_dict"]), found["normalizer"]
        shape = {ours: int(arguments[theirs]) for ours, theirs in _SHAPE.items()}
        name = path.name.partition(".")[0]
        if arguments["task"] == "classification":
            target = Target(name, classes=("0", "1"))
        else:
            target = Target(name, mean=float(scale["mean"]), scale=float(scale["std"]))
        model = CGCNN.fresh(name, list(range(1, 101)), {**shape, "targets": [target]})
        own = {k: v for k, v in model.state_dict().items() if k in ("inputs", "centres")}
        model.load_state_dict(state | own)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        what = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} is no checkpoint of CGCNN's public code ({what}).") from error
    info = property_info(name, "property", model.info.elements, properties=(target.key,))
    return PropertyEnsemble(info, [model.eval()])


def _read(path: Path) -> dict[str, Any]:
    """The file's dictionary; only tensors, numbers and texts are made."""
    scalar = getattr(np, "_core", np).multiarray.scalar
    known: list[Any] = [
        (scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 called it
        (scalar, "numpy._core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
        *(type(np.dtype(kind)) for kind in ("f4", "f8", "i8")),
    ]
    try:
        with torch.serialization.safe_globals(known):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or foreign file makes of the reader
        what = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path} cannot be read as a checkpoint of CGCNN ({what}).") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is no checkpoint of CGCNN's public code.")
    return found
