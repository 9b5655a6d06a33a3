"""Where a model's weights come from: each training that they went through, as checkpoints say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomml.base_model import ModelInfo

__all__ = ["ancestors", "card_lines", "lessons"]

_KEPT = ("method", "data", "files", "seed", "heads", "low_rank")


def ancestors(parent: ModelInfo, record: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The generations before a model, oldest first; the last is its parent.

    Args:
        parent: What it was fine-tuned from.
        record: What the parent's file says of its training.
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


def lessons(record: Mapping[str, Any], name: str) -> dict[str, tuple[str, str]]:
    """What a model and its ancestors were given: role and name of the one that was, by digest of the data.

    Args:
        record: What its file says of its training.
        name: Of the model.
    """
    found: dict[str, tuple[str, str]] = {}
    for generation in ({**record, "name": name}, *reversed(record.get("ancestors") or [])):
        for role, digest in _digests(generation):
            known = found.setdefault(digest, (role, str(generation.get("name"))))
            if known[0] == "valid" and role != "valid":  # to learn from it says more than to be chosen by it
                found[digest] = (role, known[1])
    return found


def _digests(generation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Role and digest of the data of one training, whole and file by file."""
    for role, digest in generation.get("data", {}).items():
        yield role, str(digest)
    for role, digests in generation.get("files", {}).items():
        yield from ((role, str(digest)) for digest in digests)
