"""One model of a committee, trained from its parent or from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atomml.workflows.learning import LearnOptions

__all__ = ["train_member"]

_VALIDATIONS = 10
_HELD_OUT = 0.1


def train_member(
    parent: str,
    files: Sequence[str],
    out: Path,
    options: LearnOptions,
    *,
    seed: int,
    dtype: str,
    device: str,
) -> None:
    """Train in a folder, or go on there; the number of steps is fixed, so that a resumed run ends the same.

    Args:
        parent: A model, or a preset.
        files: Labelled structures.
        out: The folder.
        options: Those of the loop.
        seed: Of this model: what it holds out, its order, and its fresh weights.
        dtype, device: Of the model.
    """
    from atomml.data.dataset import open_dataset
    from atomml.data.label_keys import LabelKeys
    from atomml.workflows.fine_tuning import finetune
    from atomml.workflows.training import train
    from atomml.workflows.training_presets import preset_of

    n = len(open_dataset(list(files), LabelKeys()))
    batches = -(-max(1, n - round(_HELD_OUT * n)) // options.batch_size)
    told: dict[str, Any] = {
        "max_steps": options.train_steps,
        "epochs": -(-options.train_steps // batches),
        "valid_every": max(1, options.train_steps // batches // _VALIDATIONS),
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
        "forces_weight": options.forces_weight,
        "energy_weight": options.energy_weight,
        "valid_fraction": _HELD_OUT,
        "precision": dtype,
        "device": device,
        "seed": seed,
        "name": out.name,
        "resume": out.exists(),
    }
    shape = preset_of(parent)
    if shape is not None:
        train(shape, list(files), out=out, **told)
    else:
        finetune(parent, list(files), out=out, method=options.method, **told)
