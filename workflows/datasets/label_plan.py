"""What ``data label`` will do: structures read, checked against the method, and named, before it computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.data.label import METHODS, Engine, LabelSettings
from atomml.data.label_keys import LabelKeys
from atomml.errors import InputError, OptionError
from atomml.options import option

if TYPE_CHECKING:
    from atomml.data.entry import Entry
    from atomml.manifest import Shard

__all__ = ["DataLabelOptions", "LabelPlan", "input_records", "place_of", "plan_labels"]


@dataclass(frozen=True)
class DataLabelOptions(LabelSettings, LabelKeys):
    """Options of ``data label``; keys and units say what the files hold, for groups, charges and spins."""

    method: str = option("", "what to label with: pbe/def2-svp, gfn2, a model ...", metavar="METHOD")
    charge: int | None = option(None, "total charge of every structure; else as the file says", unit="e")
    spin: int | None = option(None, "unpaired electrons of every structure; else as the file says", minimum=0)
    drop_cell: bool = option(False, "label molecules that stand in a periodic box as molecules")
    on_error: str = option(
        "stop",
        "what to do with a structure that the method cannot take: refuse before anything runs, or skip it",
        choices=("stop", "skip"),
    )
    workers: int | None = option(None, "processes that compute; as many as there are CPUs if none", minimum=1)
    threads: int = option(1, "CPU threads of each; with more than 1 the last bits may vary", minimum=1)
    retries: int = option(2, "how often a structure is tried again after its worker died", minimum=0)
    redo_failed: bool = option(False, "on --resume, try again what failed")
    shard: str | None = option(None, "label part i of N of the structures, chosen by digest", metavar="i/N")

    def settings(self) -> LabelSettings:
        """The part that the engines read."""
        return LabelSettings(**{entry.name: getattr(self, entry.name) for entry in fields(LabelSettings)})


@dataclass(frozen=True)
class LabelPlan:
    """What will be labelled, read and checked once.

    Attributes:
        sources: Files with their index, and entries given in Python.
        options: The options.
        engine: The method, ready.
        shard: Which part; None for all.
        n_structures: Structures of this part.
        n_refused: Structures of this part that the method cannot take.
        smallest_cell: Smallest distance between faces of a periodic cell, Å; infinity without one.
    """

    sources: list[Any]
    options: DataLabelOptions
    engine: Engine
    shard: Shard | None
    n_structures: int = 0
    n_refused: int = 0
    smallest_cell: float = float("inf")

    @property
    def names(self) -> list[str]:
        """The sources, as the configuration names them."""
        return [source if isinstance(source, str) else "structure" for source in self.sources]

    def entries(self) -> Iterator[tuple[str, str, Entry]]:
        """Id, digest and entry of each structure of this part, in the order given."""
        from atomml.data.label import structure_digest

        for place, (name, entry) in enumerate(_entries(self.sources, self.options)):
            entry = _as_asked(entry, self.options)
            digest = structure_digest(entry.atoms)
            if self.shard is None or self.shard.holds(digest):
                yield f"{place:07d} {name}", digest, entry

    def problem(self, entry: Entry, where: str) -> str | None:
        """Why the method cannot take the structure; None if it can."""
        try:
            self.engine.check(entry.atoms, where)
        except InputError as error:
            return str(error)
        return None


def plan_labels(structures: Any, options: DataLabelOptions) -> LabelPlan:
    """Read and check everything before anything is computed.

    Raises:
        InputError: A wrong option, an unreadable file, or, with ``on_error`` stop, a structure that
            the method cannot take.
    """
    from atomml.data.label import engine_of
    from atomml.manifest import Shard

    if not options.method:
        raise OptionError(f"Say what to label with, --method: {', '.join(METHODS)}.")
    shard = Shard.parse(options.shard) if options.shard is not None else None
    plan = LabelPlan(_sources(structures), options, engine_of(options.method, options.settings()), shard)
    n_structures = n_refused = 0
    first, thinnest = "", float("inf")
    for name, _, entry in plan.entries():
        n_structures += 1
        thinnest = min(thinnest, _thickness(entry))
        problem = plan.problem(entry, place_of(name))
        if problem is not None:
            n_refused += 1
            first = first or problem
            if options.on_error == "stop":
                raise InputError(f"{problem.rstrip('.')} (--on-error skip goes on without it).")
    if n_structures and n_refused == n_structures:
        raise InputError(first)
    if not n_structures and shard is None:
        raise InputError("There is no structure to label: give at least one.")
    return replace(plan, n_structures=n_structures, n_refused=n_refused, smallest_cell=thinnest)


def place_of(name: str) -> str:
    """The id without the number that keeps it unique."""
    return name.partition(" ")[2]


def input_records(sources: Sequence[Any]) -> list[dict[str, Any]]:
    """``path`` and ``sha256`` of the files behind the sources."""
    from atomml.workflows.inputs import input_record, split_index

    files = dict.fromkeys(str(split_index(source)[0]) for source in sources if isinstance(source, str))
    return [input_record(Path(file)) for file in files] or [input_record(None)]


def _sources(structures: Any) -> list[Any]:
    """Files as text with their index, entries for what was given in Python."""
    from ase import Atoms

    from atomml.data.entry import Entry
    from atomml.workflows.inputs import expand_sources

    alone = isinstance(structures, str | Path | Atoms | Entry)
    found: list[Any] = []
    for given in [structures] if alone else list(structures):
        if isinstance(given, str | Path):
            found += expand_sources([given])
        elif isinstance(given, Atoms):
            found.append(Entry(given.copy()))
        elif isinstance(given, Entry):
            found.append(given)
        else:
            raise InputError(f"{type(given).__name__} is no structure: give files, Atoms or entries.")
    return found


def _entries(sources: Sequence[Any], options: DataLabelOptions) -> Iterator[tuple[str, Entry]]:
    from atomml.data.label_keys import entries_of
    from atomml.data.structures import read_structures
    from atomml.workflows.inputs import split_index

    keys = LabelKeys.of(options)
    for source in sources:
        if not isinstance(source, str):
            yield source.where, source
        elif source.endswith(".lmdb"):
            from atomml.data.store import StoreDataset

            for index, entry in enumerate(StoreDataset(source)):
                yield f"{source}, entry {index}", entry
        else:
            path, index_text = split_index(source)
            frames = read_structures(path, index=index_text, validate=False)
            for entry in entries_of(frames, keys, unlabelled=True):
                yield entry.where, entry


def _as_asked(entry: Entry, options: DataLabelOptions) -> Entry:
    """The entry with the charge, spin and periodicity that the options ask for; labels of its own go."""
    from atomml.data.entry import Labels

    atoms = entry.atoms.copy()
    given = {"charge": options.charge, "spin": options.spin}
    atoms.info.update({name: value for name, value in given.items() if value is not None})
    if options.drop_cell:
        atoms.pbc = False
        atoms.cell = None
    return replace(entry, atoms=atoms, labels=Labels(), method="")


def _thickness(entry: Entry) -> float:
    if not entry.atoms.pbc.all() or entry.atoms.cell.rank < 3:
        return float("inf")
    from atomml.data.label_tblite import thickness

    return thickness(entry.atoms)
