"""Whether a model is asked for what it has learned: data by digest, as its file says of its training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atomml.ancestry import lessons
from atomml.data.dataset import Dataset

if TYPE_CHECKING:
    from atomml.data.entry import Entry
    from atomml.workflows.inputs import GivenModel

__all__ = ["known_data", "sentence_of"]


def known_data(models: Iterable[GivenModel], entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Files that a model, one of its members or one that it descends from was trained on or chosen by.

    Files and stores are compared whole, by their digest; a part of one, or the same structures in another
    file, is not recognised.

    Returns:
        ``input``, ``model`` and ``role`` (``train``, ``valid`` or ``replay``) of each.
    """
    told = [
        (one.training_record, one.info.name)
        for given in models
        if given.potential is not None
        for one in (*getattr(given.potential, "members", ()), given.potential)
        if one.training_record
    ]
    if not told or not isinstance(entries, Dataset):
        return []
    origins = [*entries.origins, ("", entries.digest)]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for record, name in told:
        by_digest = lessons(record, name)
        for path, digest in origins:
            if digest in by_digest:
                role, who = by_digest[digest]
                found.setdefault((path, who), {"input": path or None, "model": who, "role": role})
    named = {who for path, who in found if path}
    return [line for (path, who), line in found.items() if path or who not in named]


def sentence_of(line: Mapping[str, Any]) -> str:
    """What a reader of the errors should know of it."""
    what = line["input"] or "The data"
    if line["role"] == "valid":
        return f"{what}: the weights of {line['model']} were chosen by these data, so errors flatter it."
    return f"{what}: {line['model']} learned from these data, so errors say nothing of new structures."
