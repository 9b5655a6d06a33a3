"""Files of CGCNN's public code (``*.pth.tar``) as models of ours; nothing in them is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atomml.errors import CheckpointError, InputError
from atomml.potentials.cgcnn.model import CGCNN
from atomml.property.element_bins import N_BINS, element_bins
from atomml.property.ensemble import PropertyEnsemble
from atomml.property.property_model import property_info
from atomml.property.targets import Target
from atomml.untrusted_json import parse_json

__all__ = ["convert_cgcnn"]

_SHAPE = {"channels": "atom_fea_len", "convolutions": "n_conv", "hidden": "h_fea_len", "hidden_layers": "n_h"}


def convert_cgcnn(file: str | Path, elements: str | Path) -> PropertyEnsemble:
    """The network of a file that CGCNN's ``main.py`` wrote, or of one published with the paper.

    The file says neither property nor unit nor elements: the target is named by the file's stem, and every
    element that the table of inputs knows is taken. It holds no training structures, so the model has
    neither intervals nor a domain.

    Args:
        file: The checkpoint.
        elements: The inputs of elements that the network was trained with, ``atom_init.json`` of that code.

    Raises:
        CheckpointError: It cannot be read without running code, or is no such file.
        InputError: The table of elements cannot be read.
    """
    path = Path(file)
    inputs = _element_inputs(Path(elements))
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
        model.load_state_dict(state | {"inputs": inputs, "centres": model.centres})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        what = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} is no checkpoint of CGCNN's public code ({what}).") from error
    info = property_info(name, "property", model.info.elements, properties=(target.key,))
    return PropertyEnsemble(info, [model.eval()])


def _element_inputs(path: Path) -> Tensor:
    """``(101, 92)`` from a JSON object of 92 numbers for each atomic number."""
    table = torch.zeros(len(element_bins()), N_BINS)
    try:
        for number, row in parse_json(path.read_bytes()).items():
            values = torch.tensor([float(value) for value in row])
            if not 0 < int(number) < len(table) or len(values) != N_BINS or not values.isfinite().all():
                raise ValueError(f"element {number} has no {N_BINS} numbers, or lies beyond fermium")
            table[int(number)] = values
    except (OSError, ValueError, TypeError, AttributeError) as error:
        what = " ".join(str(error).split())[:120]
        raise InputError(f"{path} is no table of CGCNN's inputs of elements ({what}).") from error
    return table


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
