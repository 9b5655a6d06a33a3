"""From sums of errors to tables: each quantity as a whole and by part, with intervals and comparisons."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atomml.data.bootstrap import Bootstrap, interval, verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from atomml.data.entry import Entry
    from atomml.data.error_statistics import Block
    from atomml.data.error_tally import ErrorTally

__all__ = ["COLUMNS", "Structures", "error_tables", "shown_rows"]

LINES = 50
"""Most lines of one kind in a table; what is rarer is put together."""

OTHERS = "(others)"
_KINDS = ("all", "element", "group", "force_range", "composition", "n_atoms")
_GROUP_WORDS = {"": "(none)"}
_INTERVALS = ("mae", "rmse", "mean_signed_error", "r_squared")
COLUMNS = (
    *("quantity", "kind", "name", "n_structures", "n_values"),
    *(f"{name}{end}" for name in _INTERVALS for end in ("", "_low", "_high")),
    *("max_error", "trivial_mae", "skill", "baseline_mae", "baseline_rmse"),
    *("mae_difference", "mae_difference_low", "mae_difference_high", "verdict"),
)
"""Columns of ``groups.csv``; ``kind`` is ``all``, ``element``, ``group``, ``composition`` ..."""
_HEADINGS = {"mae": "MAE", "mae_low": "from", "mae_high": "to", "rmse": "RMSE", "r_squared": "R2"}
_FURTHER = ("mean_signed_error", "max_error", "trivial_mae", "baseline_mae", "verdict")


@dataclass
class Structures:
    """What the tables need to know of the structures that were evaluated, in the order of evaluation."""

    groups: list[str] = field(default_factory=list)
    compositions: list[str] = field(default_factory=list)
    sizes: list[str] = field(default_factory=list)
    trajectories: list[str] = field(default_factory=list)
    keys: list[tuple[Any, ...]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, entry: Entry) -> None:
        """Take the next structure."""
        atoms, labels = entry.atoms, entry.labels
        self.groups.append(_GROUP_WORDS.get(entry.group, entry.group))
        self.compositions.append(str(atoms.symbols.formula.reduce()[0]))
        self.sizes.append(str(len(atoms)))
        self.trajectories.append(entry.trajectory)
        energy = math.inf if labels.energy is None else labels.energy
        place = float(atoms.positions.sum())  # tells copies in memory, which have no file, apart
        self.keys.append((entry.source, entry.frame, len(atoms), self.compositions[-1], energy, place))

    def clusters(self, by_trajectory: bool) -> NDArray[np.int64]:
        """Which structures are drawn together; their numbers do not depend on the order of the files."""
        import numpy as np

        order = sorted(range(len(self)), key=lambda place: self.keys[place])
        names: dict[Any, int] = {}
        clusters = np.zeros(len(self), dtype=np.int64)
        for place in order:
            run = self.trajectories[place]
            name = (run,) if by_trajectory and run else place
            clusters[place] = names.setdefault(name, len(names))
        return clusters

    def kinds(self) -> dict[str, list[str]]:
        """A name for each structure by kind of line; kinds that do not divide the structures are left out."""
        kinds = {"group": self.groups, "composition": self.compositions, "n_atoms": self.sizes}
        kept = {kind: _common(names) for kind, names in kinds.items() if len(set(names)) > 1}
        if set(self.groups) not in ({"(none)"}, set()):
            kept["group"] = _common(self.groups)
        return {kind: kept[kind] for kind in kinds if kind in kept}


def error_tables(
    model: ErrorTally, baseline: ErrorTally | None, structures: Structures, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """One record with :data:`COLUMNS` for each line: first each quantity as a whole, then by part.

    Args:
        model: Errors of the model.
        baseline: Errors of the model that it is compared with, for the same structures.
        structures: The structures, in the order in which both were told of them.
        bootstrap: The resamples; both models see the same ones, so that what makes a structure hard
            for either cancels in the difference.
    """
    from atomml.data.error_tally import STRESS
    from atomml.data.resampled_errors import resampled_statistics
    from atomml.units import GPA

    blocks = _lines(model, structures)
    samples = resampled_statistics(blocks, model.energies(), bootstrap)
    theirs = {block.key: block for block in _lines(baseline, structures)} if baseline is not None else {}
    their_samples = {}
    if baseline is not None:
        their_samples = resampled_statistics(list(theirs.values()), baseline.energies(), bootstrap)
    trivial = model.trivial()
    records = []
    for block in blocks:
        n_units = len(set(bootstrap.clusters[block.structures].tolist()))
        record = _record(block, samples[block.key], n_units)
        if block.kind == "all" and block.quantity in trivial:
            record["trivial_mae"] = trivial[block.quantity]
            record["skill"] = 1 - record["mae"] / trivial[block.quantity] if trivial[block.quantity] else None
        if block.key in theirs:
            pair = samples[block.key], their_samples[block.key]
            record |= _comparison(record, theirs[block.key], pair, n_units)
        records.append(_without_nan(record))
        if record["quantity"] == STRESS and record["kind"] == "all":
            records.append(_without_nan(_scaled(record, "stress_meV_per_A3", 1000 / GPA)))
    return [{name: record.get(name) for name in COLUMNS} for record in records]


def _common(names: Sequence[str]) -> list[str]:
    """The names, the rare ones of very many put together."""
    counts = Counter(names)
    if len(counts) <= LINES:
        return list(names)
    kept = {name for name, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[: LINES - 1]}
    return [name if name in kept else OTHERS for name in names]


def _lines(tally: ErrorTally, structures: Structures) -> list[Block]:
    """Every line of the tables, in the order in which they are shown."""
    import numpy as np

    from atomml.data.error_tally import QUANTITIES

    blocks = {block.key: block for block in tally.blocks()}
    for whole in [block for block in blocks.values() if block.kind == "all"]:
        for kind, names in structures.kinds().items():
            column = np.asarray(names)
            for name in sorted(set(names)):
                part = whole.of(kind, name, column == name)
                if len(part.structures):
                    blocks[part.key] = part
    order = {name: place for place, name in enumerate(QUANTITIES)}
    kinds = {kind: place for place, kind in enumerate(_KINDS)}
    return sorted(blocks.values(), key=lambda b: (kinds[b.kind], order[b.quantity], _natural(b.name)))


def _natural(name: str) -> tuple[int, float, str]:
    """An order for names in which 2 comes before 10, ``>5`` after all ranges, and the others last."""
    if name == OTHERS:
        return 3, 0.0, name
    if name.startswith(">"):
        return 1, float(name[1:]), name
    head = name.split("-")[0]
    try:
        return 0, float(head), name
    except ValueError:
        return 2, 0.0, name


def _record(block: Block, samples: NDArray[np.float64], n_units: int) -> dict[str, Any]:
    from atomml.data.error_statistics import SUMS, largest_error, statistics_of

    sums = block.rows.sum(axis=0)
    record: dict[str, Any] = {
        "quantity": block.quantity,
        "kind": block.kind,
        "name": block.name,
        "n_structures": len(block.structures),
        "n_values": int(sums[0]),
        "max_error": largest_error(block.rows),
    }
    for number, (name, value) in enumerate(zip(_INTERVALS, statistics_of(sums[: len(SUMS)]), strict=True)):
        if name == "mean_signed_error" and not _has_sign(block):
            continue
        record[name] = float(value)
        if math.isfinite(value):
            record[f"{name}_low"], record[f"{name}_high"] = interval(samples[:, number], n_units)
    return record


def _has_sign(block: Block) -> bool:
    """Whether a mean of errors says more than that lengths are positive or that a fit has no bias."""
    if block.quantity.startswith("shifted"):
        return block.kind != "all"
    return not block.quantity.startswith(("force_vectors", "force_angles"))


def _comparison(
    record: Mapping[str, Any],
    block: Block,
    samples: tuple[NDArray[np.float64], NDArray[np.float64]],
    n_units: int,
) -> dict[str, Any]:
    """The baseline's errors and the difference of the MAE: negative where the model is better."""
    from atomml.data.error_statistics import SUMS, statistics_of

    mae, rmse = statistics_of(block.rows.sum(axis=0)[: len(SUMS)])[:2]
    low, high = interval(samples[0][:, 0] - samples[1][:, 0], n_units)
    return {
        "baseline_mae": float(mae),
        "baseline_rmse": float(rmse),
        "mae_difference": record["mae"] - float(mae),
        "mae_difference_low": low,
        "mae_difference_high": high,
        "verdict": verdict(low, high),
    }


def _scaled(record: Mapping[str, Any], quantity: str, factor: float) -> dict[str, Any]:
    """The same line in another unit."""
    same = ("r_squared", "skill")
    return {
        name: value * factor if isinstance(value, float) and not name.startswith(same) else value
        for name, value in record.items()
    } | {"quantity": quantity}


def _without_nan(record: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }


def _rounded(value: Any, mae: float) -> Any:
    """Four significant digits, an error has no more; 0 for what rounding leaves of a mean that is none."""
    if not isinstance(value, float):
        return value
    return "0" if abs(value) < 1e-6 * mae else f"{value:.4g}"


def shown_rows(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lines of whole quantities for a terminal; ``from`` and ``to`` bound the MAE."""
    columns = {**_HEADINGS, **{name: name.replace("_", " ") for name in _FURTHER}}
    return [
        {"quantity": line["quantity"], "structures": line["n_structures"]}
        | {heading: _rounded(line[name], line["mae"]) for name, heading in columns.items()}
        for line in errors
    ]
