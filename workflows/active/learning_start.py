"""What ``learn`` is given, looked at before the first label is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atomml.errors import ModelError
from atomml.files import sha256_file

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.dataset import Dataset
    from atomml.model import ModelInfo
    from atomml.workflows.active.learning import LearnOptions

__all__ = ["Start", "look_at"]


@dataclass(frozen=True)
class Start:
    """What a run must find again when it is resumed.

    Attributes:
        model_sha256: Of the weights, or of the configuration of a model that is trained from nothing.
        facts: Digests of structures, files, model and labelling program, fit for JSON.
        warnings: What the reader of the errors should know.
    """

    model_sha256: str
    facts: dict[str, Any]
    warnings: tuple[str, ...] = ()


def look_at(options: LearnOptions, structures: Sequence[tuple[str, Atoms]], model: str, dtype: str) -> Start:
    """Open everything that the loop will need.

    Args:
        options: The options.
        structures: Name and structure of each that dynamics starts from.
        model: What all models start from.
        dtype: Their precision.

    Raises:
        InputError: A model that does not exist, cannot be trained, has several heads and none named, or
            lacks an element; a file that cannot be read, or has no labels.
    """
    from atomml.data.dataset import open_dataset
    from atomml.data.label import engine_of, structure_digest
    from atomml.data.label_keys import LabelKeys
    from atomml.data.label_outside import is_command

    digest, info = _model(model, dtype)
    named = [(name, path) for name in ("train", "test") if (path := getattr(options, name))]
    sets = {name: open_dataset(list(path), LabelKeys()) for name, path in named}
    if info is not None:
        _check_covered(info, structures, sets)
    facts: dict[str, Any] = {name: [one for _, one in data.origins] for name, data in sets.items()}
    facts |= {"structures": [structure_digest(atoms) for _, atoms in structures], "model": digest}
    if is_command(options.label):
        facts["label"] = engine_of(options.label).method
    shared = set(facts.get("train", ())) & set(facts.get("test", ()))
    said = "A file of --test is one of --train too: errors on it say nothing of new structures."
    return Start(digest, facts, (said,) if shared else ())


def _model(model: str, dtype: str) -> tuple[str, ModelInfo | None]:
    """Digest of the model, and what it is; None for one that is trained from nothing."""
    from pathlib import Path

    from atomml.registry import family_class, load_model
    from atomml.workflows.trainings.training_presets import preset_of, preset_path

    shape = preset_of(model)
    if shape is not None:
        family_class(str(shape.get("family")), model)
        return sha256_file(preset_path(model) or Path(model)), None
    loaded = load_model(model, dtype, "cpu")
    loaded.hyperparameters()  # a committee has none, and cannot be trained
    if loaded.heads and loaded.head is None:
        raise ModelError(
            f"{loaded.info.name} has the heads {', '.join(loaded.heads)}: write the one that is to learn as "
            "MODEL@HEAD."
        )
    return loaded.info.sha256, loaded.info


def _check_covered(
    info: ModelInfo, structures: Sequence[tuple[str, Atoms]], sets: dict[str, Dataset]
) -> None:
    from atomml.data.entry import Entry
    from atomml.train.survey import check_covered

    for name, atoms in structures:
        check_covered(Entry(atoms, source=name), info)
    for data in sets.values():
        for entry in data:
            check_covered(entry, info)
