"""Where a model's weights come from: each training that they went through, as checkpoints say it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomml.base_model import ModelInfo

__all__ = ["ancestors", "card_lines", "training_record"]

_KEPT = ("method", "data", "seed", "heads", "low_rank")


def training_record(name_or_path: str | Path) -> dict[str, Any] | None:
    """What the checkpoint of a model says of its training; None where it says nothing, or there is no file.

    Raises:
        CheckpointError: A damaged file.
    """
    from atomml.checkpoint import read_header
    from atomml.registry import find_entry

    name = str(name_or_path)
    for candidate in (name, name.rpartition("@")[0]):
        entry = find_entry(candidate) if candidate else None
        path = Path(entry.target) if entry is not None and entry.source == "user" else Path(candidate)
        if candidate and path.is_file() and path.suffix == ".safetensors":
            found = read_header(path).get("extra", {}).get("training")
            return found if isinstance(found, dict) else None
    return None


def ancestors(parent: ModelInfo, record: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The generations before a model, oldest first; the last is its parent.

    Args:
        parent: What it was fine-tuned from.
        record: The :func:`training_record` of the parent.
    """
    known = dict(record or {})
    own: dict[str, Any] = {"name": parent.name, "sha256": parent.sha256}
    own |= {key: known[key] for key in _KEPT if key in known}
    return [*known.get("ancestors", []), own]


def card_lines(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of a model card: how it was trained, on what, and from what."""
    lines = [("method", str(record.get("method", "unknown")))]
    if record.get("low_rank"):
        lines.append(
            ("low rank", f"rank {record['low_rank']['rank']}, alpha {record['low_rank']['alpha']:g}")
        )
    if "seed" in record:
        lines.append(("seed", str(record["seed"])))
    for key in ("step", "epoch"):
        if key in record:
            lines.append((f"of {key}", str(record[key])))
    lines += [(f"data, {role}", str(digest)) for role, digest in record.get("data", {}).items()]
    for generation in reversed(record.get("ancestors") or [record["parent"]] if record.get("parent") else []):
        text = f"{generation['name']}, sha256 {generation['sha256'] or 'unknown'}"
        if "method" in generation:
            data = ", ".join(f"{role} {digest[:12]}" for role, digest in generation.get("data", {}).items())
            text += f" ({generation['method']}, seed {generation.get('seed', '?')}; data: {data})"
        lines.append(("descends from", text))
    return lines
