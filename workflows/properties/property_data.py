"""Labelled structures of a training of properties, with labels in their files or in a table beside them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from atomml.data.label import structure_digest
from atomml.errors import FileFormatError, InputError, OptionError, StructureError
from atomml.manifest import digest_of
from atomml.property.targets import Target, class_name
from atomml.workflows.inputs import input_record, sources_of, split_index, structures_of

__all__ = ["LabelledSet", "label_table", "names_of", "read_labelled", "stem_source", "with_classes"]

_PLAIN = (str, int, float, np.generic)


@dataclass(frozen=True)
class LabelledSet:
    """Structures with their labels as the files say them.

    Attributes:
        atoms: The structures.
        ids: What each is called: its ``id``, else file and frame.
        wheres: File and frame, for errors.
        values: Labels of each by name.
        sources: ``path`` and ``sha256`` of each file.
    """

    atoms: list[Atoms]
    ids: list[str]
    wheres: list[str]
    values: list[dict[str, Any]]
    sources: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.atoms)

    def subset(self, places: Iterable[int]) -> LabelledSet:
        """Some of them, in this order."""
        chosen = [int(k) for k in places]
        return LabelledSet(
            [self.atoms[k] for k in chosen],
            [self.ids[k] for k in chosen],
            [self.wheres[k] for k in chosen],
            [self.values[k] for k in chosen],
            self.sources,
        )

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that occur."""
        return sorted({int(z) for atoms in self.atoms for z in atoms.numbers})

    def encoded(self, targets: Sequence[Target]) -> NDArray[np.float64]:
        """``(n, n_targets)`` labels on the learned scale; NaN for none.

        Raises:
            StructureError: A label that cannot be.
        """
        rows = [
            [target.encode(values.get(target.name), where) for target in targets]
            for values, where in zip(self.values, self.wheres, strict=True)
        ]
        return np.array(rows, dtype=np.float64).reshape(len(self), len(targets))

    def digest(self, targets: Sequence[Target]) -> str:
        """SHA-256 over structures, with charge and spin, and labels, in order."""
        labels = [[str(values.get(target.name)) for target in targets] for values in self.values]
        return digest_of(*(structure_digest(atoms) for atoms in self.atoms), repr(labels))


def read_labelled(
    paths: Any, targets: Sequence[Target], labels: str | Path | None = None, *, needed: bool = True
) -> LabelledSet:
    """Read structures and their labels.

    Args:
        paths: Files, folders, patterns, ``FILE@INDEX``, ``ase.Atoms`` with labels in ``info``, or several.
        targets: What must be labelled.
        labels: A CSV file whose first column names structures by ``id``, file name or stem, and whose other
            columns are labels; they stand over those in the files.
        needed: Whether each target must be labelled somewhere.

    Raises:
        InputError: A file that cannot be read, a target that nothing is labelled with, a table that does not
            fit.
    """
    table = label_table(labels) if labels else {}
    found = LabelledSet([], [], [], [], [])
    sources = sources_of(paths)
    used: set[str] = set()
    for source in sources:
        own = f"structure {len(found)}"  # of Python, which has no file and frame
        for given in structures_of(source) if isinstance(source, str) else [replace(source, label=own)]:
            names = _names(given.atoms, given.path, given.frame, given.label)
            row: Mapping[str, Any] = {}
            for name in names:
                if name in table:
                    row = table[name]
                    used.add(name)
                    break
            _check(given.atoms, given.label)
            found.atoms.append(given.atoms)
            found.ids.append(names[0])
            found.wheres.append(given.label)
            found.values.append({**given.atoms.info, **row})
    if not len(found):
        raise InputError("There is no structure: name files.")
    if table and not used:
        raise OptionError(
            f"{labels} names none of the structures: its first column must hold their id, file name or stem "
            f"(such as {found.ids[0]})."
        )
    files = dict.fromkeys(str(split_index(source)[0]) for source in sources if isinstance(source, str))
    found.sources.extend(input_record(Path(name)) for name in files)
    objects = [source.atoms for source in sources if not isinstance(source, str)]
    if objects:
        more = {"sha256": _digest_of(objects), "structures": len(objects)}
        found.sources.append(input_record(None, **more))
    if labels:
        found.sources.append(input_record(Path(labels), role="labels"))
    if needed:
        _check_labelled(found, targets)
    return found


def names_of(structures: Any) -> list[str]:
    """What to call given structures in ``config.yaml``: files by their names, others together by a digest.

    So a run that is resumed with other structures, or other labels, is told apart.

    Raises:
        InputError: What is no structure, or a pattern or folder without files.
    """
    sources = sources_of(structures)
    names = [source for source in sources if isinstance(source, str)]
    objects = [source.atoms for source in sources if not isinstance(source, str)]
    if objects:
        count = f"{len(objects)} structure{'s' if len(objects) > 1 else ''}"
        names.append(f"{count}, sha256 {_digest_of(objects)[:16]}")
    return names


def stem_source(structures: Any, sources: Sequence[Any]) -> str | None:
    """What a run folder is called after: the folder that was given, else the first file; None without any.

    Args:
        structures: As they were given.
        sources: The same, by :func:`~atomml.workflows.inputs.sources_of`.
    """
    if isinstance(structures, str | Path) and Path(structures).is_dir():
        return str(structures)
    return next((str(split_index(source)[0]) for source in sources if isinstance(source, str)), None)


def _digest_of(structures: Sequence[Atoms]) -> str:
    """SHA-256 over structures and the plain values that their ``info`` has of them, in order."""
    facts = [
        sorted((str(key), str(value)) for key, value in atoms.info.items() if isinstance(value, _PLAIN))
        for atoms in structures
    ]
    return digest_of(*(structure_digest(atoms) for atoms in structures), repr(facts))


def _names(atoms: Atoms, path: Path | None, frame: int, label: str) -> list[str]:
    """What a structure may be called, the best name first."""
    known = [str(atoms.info[key]) for key in ("id", "material_id") if atoms.info.get(key) is not None]
    if path is not None:
        known += [path.name, path.stem] if frame == 0 else []
        known += [f"{path.name}@{frame}"]
    if not known or (path is not None and len(known) > 1 and known[0] == path.name):
        known.insert(0, path.stem if path is not None and frame == 0 else label)
    return known


def _check(atoms: Atoms, where: str) -> None:
    from atomml.graph.validate import validate_atoms

    validate_atoms(atoms, where=where)


def _check_labelled(found: LabelledSet, targets: Sequence[Target]) -> None:
    from atomml.config import close_match

    for target in targets:
        if not any(values.get(target.name) is not None for values in found.values):
            names = sorted({str(name) for values in found.values for name in values})
            hint = close_match(target.name, names, f"there are {', '.join(names) or 'none'}.")
            raise OptionError(f"No structure is labelled with {target.name!r}; {hint}")


def label_table(path: str | Path) -> dict[str, dict[str, str]]:
    """Rows of a CSV file by their first column.

    Raises:
        FileFormatError: It cannot be read, has one column, or names a structure twice.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path} cannot be read as a table of labels ({error}).") from error
    if not rows or len(rows[0]) < 2:
        raise FileFormatError(f"{path} needs a header: a column that names structures, and one of labels.")
    header = [name.strip() for name in rows[0]]
    found: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row or not any(row):
            continue
        if len(row) != len(header):
            raise FileFormatError(
                f"{path}, line {number} has {len(row)} cells, and the header {len(header)}."
            )
        if row[0].strip() in found:
            raise FileFormatError(f"{path}, line {number} names {row[0].strip()} a second time.")
        found[row[0].strip()] = dict(zip(header[1:], row[1:], strict=True))
    return found


def with_classes(targets: Sequence[Target], names: Sequence[str], data: LabelledSet) -> list[Target]:
    """The targets, those among ``names`` with the classes that the data hold.

    Raises:
        StructureError: Fewer than two classes.
    """
    made = []
    for target in targets:
        if target.name not in names:
            made.append(target)
            continue
        labels = [values.get(target.name) for values in data.values]
        classes = sorted({class_name(one) for one in labels if one is not None and class_name(one) != ""})
        if len(classes) < 2:
            raise StructureError(f"{target.name} has {len(classes)} class in the data: two are needed.")
        if len(classes) > 100:
            raise StructureError(
                f"{target.name} has {len(classes)} classes: is it a number? Leave --classes out."
            )
        made.append(replace(target, classes=tuple(classes)))
    return made
