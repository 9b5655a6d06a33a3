"""``data split``: training, validation and test sets in a folder, with what leaks from one to another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.data.label_keys import LabelKeys
from atomml.errors import OptionError
from atomml.options import option

if TYPE_CHECKING:
    from atomml.data.leakage import Leak

__all__ = ["SPLIT_FILE", "SplitOptions", "SplitResult", "split_data"]

SPLIT_FILE = "split.json"
"""What a folder of sets holds beside them: options, seed, indices, leaks."""

_NAMES = {2: ("train", "valid"), 3: ("train", "valid", "test")}


@dataclass(frozen=True)
class SplitOptions(LabelKeys):
    """Options of ``data split``."""

    fractions: tuple[float, ...] = option((0.8, 0.1, 0.1), "share of train, valid and test")
    by: str = option(
        "random",
        "what must not be shared: exact duplicates only, compositions, stretches of time, scaffolds",
        choices=("random", "composition", "trajectory", "scaffold"),
    )
    seed: int = option(0, "seed; the same one gives the same split", minimum=0)
    gap: int = option(10, "frames of a trajectory left out between two sets", minimum=0)
    compare: int = option(20_000, "most entries of a set that are compared for near duplicates", minimum=0)
    overwrite: bool = option(False, "replace the sets of an earlier split")


@dataclass
class SplitResult:
    """What ``data split`` returns.

    Attributes:
        folder: Where the sets are: ``train.lmdb``, ``valid.lmdb``, ``test.lmdb``.
        sizes: Entries of each set.
        n_left_out: Entries in no set: the gaps between stretches of time.
        leaks: What each pair of sets shares.
        record: Everything, as ``split.json`` holds it.
    """

    folder: Path
    sizes: dict[str, int]
    n_left_out: int
    leaks: list[Leak]
    record: dict[str, Any]


def split_data(
    paths: str | Path | Sequence[str | Path], to: str | Path, options: SplitOptions | None = None
) -> SplitResult:
    """Split sets of labelled structures; each part is a store.

    ``split.json`` holds the options, the seed, the digest of what was split, the index of each
    entry by set, and the leaks; it is written last and says that the split is whole.

    Args:
        paths: Stores and files, one set together.
        to: A folder; made if it does not exist.
        options: As on the command line; the defaults if None.

    Raises:
        InputError: Something cannot be read; too few units for the sets; the folder holds a split.
    """
    from atomml.data.dataset import open_dataset
    from atomml.data.leakage import find_leaks
    from atomml.data.split import gather_facts, split_entries
    from atomml.data.store import write_store
    from atomml.files import write_atomic

    options = options or SplitOptions()
    names = _set_names(options.fractions)
    folder = _prepared(Path(to), names, options.overwrite)
    data = open_dataset(paths, LabelKeys.of(options))
    facts = gather_facts(data, scaffolds=options.by == "scaffold")
    parts = split_entries(facts, options.fractions, options.by, options.seed, options.gap)
    sets = list(zip(names, parts, strict=True))
    leaks = find_leaks(data, facts, sets, gap=options.gap, most_compared=options.compare, seed=options.seed)
    digests = {
        name: write_store(folder / f"{name}.lmdb", data.subset(indices), data.sources)["digest"]
        for name, indices in sets
    }
    sizes = {name: len(indices) for name, indices in sets}
    record: dict[str, Any] = {
        "command": "data split",
        "options": asdict(options),
        "sources": data.sources,
        "digest": data.digest,
        "sizes": sizes,
        "n_left_out": len(data) - sum(sizes.values()),
        "digests": digests,
        "leaks": [asdict(leak) for leak in leaks],
        "indices": {name: indices.tolist() for name, indices in sets},
    }
    write_atomic(folder / SPLIT_FILE, json.dumps(record, ensure_ascii=False, allow_nan=False))
    return SplitResult(folder, sizes, record["n_left_out"], leaks, record)


def _set_names(fractions: Sequence[float]) -> tuple[str, ...]:
    if len(fractions) not in _NAMES:
        raise OptionError("Give two fractions (train, valid) or three (train, valid, test).")
    return _NAMES[len(fractions)]


def _prepared(folder: Path, names: Sequence[str], overwrite: bool) -> Path:
    """The folder, without the sets of an earlier split."""
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is a file: give --to a folder.")
    if not folder.parent.is_dir():
        raise OptionError(f"{folder.parent} is no folder: make it first.")
    ours = [folder / SPLIT_FILE, *(folder / f"{name}.lmdb" for name in ("train", "valid", "test"))]
    there = [path for path in ours if path.exists()]
    if there and not overwrite:
        raise OptionError(f"{there[0]} exists: give another --to, or --overwrite to replace the sets.")
    from atomml.files import remove_leftovers

    folder.mkdir(exist_ok=True)
    for path in there:  # split.json first: without it, what is left is no split
        path.unlink()
    for path in ours:
        remove_leftovers(path)
    return folder
