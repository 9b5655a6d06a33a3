"""One model of a committee, trained from its parent or from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atomml.workflows.active.learning import LearnOptions

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
        dtype: Of the model.
        device: Of the model.
    """
    from atomml.workflows.trainings.fine_tuning import finetune
    from atomml.workflows.trainings.training import train
    from atomml.workflows.trainings.training_presets import preset_of

    train_file, valid_file, n = _split(files, out, seed)
    batches = -(-n // options.batch_size)
    told: dict[str, Any] = {
        "max_steps": options.train_steps,
        "epochs": -(-options.train_steps // batches),
        "valid_every": max(1, options.train_steps // batches // _VALIDATIONS),
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
        "forces_weight": options.forces_weight,
        "energy_weight": options.energy_weight,
        "precision": dtype,
        "device": device,
        "seed": seed,
        "name": out.name,
        "resume": out.exists(),
    }
    shape = preset_of(parent)
    if shape is not None:
        train(shape, train_file, valid_file, out=out, **told)
    else:
        finetune(parent, train_file, valid_file, out=out, method=options.method, **told)


def _split(files: Sequence[str], out: Path, seed: int) -> tuple[str, str, int]:
    """Two files beside the folder: what this model learns from, and the tenth of it that it is validated on.

    Frames were chosen because they differ, so they are drawn one by one, and not in stretches of time.
    """
    from atomml.data.dataset import open_dataset
    from atomml.data.entry_files import write_entries
    from atomml.data.label_keys import LabelKeys

    whole = open_dataset(list(files), LabelKeys())
    order = np.random.default_rng([seed, 14]).permutation(len(whole)).tolist()
    n_held = max(1, round(_HELD_OUT * len(whole)))
    out.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for role, places in (("train", order[n_held:]), ("valid", order[:n_held])):
        file = out.parent / f"{out.name}-{role}.extxyz"
        write_entries(file, (whole[place] for place in sorted(places)))
        written.append(str(file))
    return written[0], written[1], len(whole) - n_held
