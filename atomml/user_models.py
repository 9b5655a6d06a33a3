"""Models that the user added under a name: a copy of the checkpoint with its digest, in one folder."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from atomml.errors import CheckpointError, ModelError
from atomml.files import write_atomic

__all__ = ["check_name", "check_record", "forget", "keep", "models_folder", "user_models"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}", re.ASCII)


def models_folder() -> Path:
    """Where added models are kept: below ``ATOMML_HOME``, ``XDG_DATA_HOME`` or ``~/.local/share``."""
    home = os.environ.get("ATOMML_HOME")
    if home:
        return Path(home) / "models"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "atomml" / "models"


def check_name(name: str) -> None:
    """Refuse what cannot name a model.

    Raises:
        ModelError: Says what can.
    """
    if not _NAME.fullmatch(name) or name.endswith(".safetensors"):
        raise ModelError(f"{name!r} cannot name a model: use up to 64 of a-z, 0-9, '.', '_', '+', '-'.")


def user_models() -> dict[str, Path]:
    """The checkpoint of each added model by its name; those without a record are none."""
    folder = models_folder()
    records = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return {
        record.stem: record.with_suffix(".safetensors") for record in records if _NAME.fullmatch(record.stem)
    }


def keep(file: Path, name: str, digest: str) -> None:
    """Copy a checkpoint to the added models.

    The record of name and digest is written last: without it there is no model, so that a
    process killed on the way leaves nothing half added.
    """
    folder = models_folder()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{name}.safetensors", file.read_bytes())
    write_atomic(folder / f"{name}.json", json.dumps({"name": name, "sha256": digest}, indent=1) + "\n")


def forget(name: str) -> None:
    """Delete the record and then the copy of an added model."""
    (models_folder() / f"{name}.json").unlink(missing_ok=True)
    (models_folder() / f"{name}.safetensors").unlink(missing_ok=True)


def check_record(name: str, checkpoint: Path, digest: str) -> None:
    """Refuse a checkpoint that is not the one that was added.

    Raises:
        CheckpointError: Its digest is not the recorded one, or the record is damaged.
    """
    record = checkpoint.with_suffix(".json")
    try:
        recorded = json.loads(record.read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{record} is damaged: remove {name} and add it again.") from error
    if recorded != digest:
        raise CheckpointError(
            f"{checkpoint} is not the file that was added as {name} (its digest differs): "
            "remove it and add it again."
        )
