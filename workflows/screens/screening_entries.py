"""The structures of a screen: what each is called, where it came from, and what its result depends on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from atomml.errors import InputError
from atomml.manifest import digest_of
from atomml.run import plain
from atomml.workflows.inputs import GivenStructure, sources_of
from atomml.workflows.predicting.prediction_items import Item, items_of

__all__ = ["Entry", "entries_of", "screened_sources"]


@dataclass(frozen=True)
class Entry:
    """One structure of a screen.

    Attributes:
        item: Its name in the manifest.
        head: The columns that say where it came from: ``input``, ``frame``, ``id`` ...
        given: The structure; None where it could not be read.
        error: Why it could not.
        digest: Of all that the workflow sees of it.
    """

    item: str
    head: dict[str, Any]
    given: GivenStructure | None
    error: str | None
    digest: str


def screened_sources(structures: Any) -> list[Any]:
    """Files as text, each once, patterns and folders expanded; then other structures as they are.

    Raises:
        FileFormatError: A pattern or folder without files.
    """
    sources = sources_of(structures)
    files = dict.fromkeys(source for source in sources if isinstance(source, str))
    return [*files, *(source for source in sources if not isinstance(source, str))]


def entries_of(sources: list[Any]) -> list[Entry]:
    """Every structure of every source; a file that cannot be read is one entry with its error.

    Raises:
        InputError: There is none.
    """
    found = [_entry(number, item) for number, item in enumerate(items_of(sources))]
    if not found:
        raise InputError("There is no structure to screen: give at least one.")
    return found


def _entry(number: int, item: Item) -> Entry:
    head: dict[str, Any] = {"input": item.source, "frame": item.frame}
    given = item.given
    name = f"{item.source}@{item.frame}" if given is None or given.path is not None else f"structure@{number}"
    if given is None:
        return Entry(name, head, None, item.error, digest_of(item.source, str(item.error)))
    head |= {"formula": str(given.atoms.get_chemical_formula()), "n_atoms": len(given.atoms)}
    for key in ("id", "material_id", "identifier"):
        value = given.atoms.info.get(key)
        if isinstance(value, str | int):
            head["id"] = str(value)
            break
    return Entry(name, head, given, None, _digest(given.atoms))


def _digest(atoms: Any) -> str:
    """Of everything that a workflow can see of a structure."""
    arrays = (
        atoms.numbers,
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        atoms.get_initial_magnetic_moments(),
    )
    facts = {key: plain(atoms.info.get(key)) for key in ("charge", "spin")}
    held = [constraint.todict() for constraint in atoms.constraints]
    parts = [np.ascontiguousarray(array).tobytes() for array in arrays]
    return digest_of(*parts, json.dumps(plain([facts, held]), sort_keys=True))
