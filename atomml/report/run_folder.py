"""What a run folder holds, read back for its report."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.errors import FileFormatError
from atomml.report.trajectory import Sample, sample_extxyz

__all__ = ["Columns", "Run", "read_columns", "read_run"]

FRAMES = 150
KEPT_ROWS = 200_000
_UNIT_COMMENT = re.compile(r"^(\w+): .*  # ([^'\"\n]{1,16})$", re.MULTILINE)
_TRAJECTORIES = ("trajectory", "structures", "predictions", "relaxed", "final")


@dataclass(frozen=True)
class Columns:
    """A CSV file by column.

    Attributes:
        names: The header.
        cells: Per column its cells as text; a shorter last line, left by a kill, is passed over.
        total: How many rows the file has; of a very long one not all are here.
    """

    names: list[str]
    cells: dict[str, list[str]]
    total: int

    def __len__(self) -> int:
        return len(self.cells[self.names[0]]) if self.names else 0

    def __contains__(self, name: str) -> bool:
        return name in self.cells

    @cached_property
    def numeric(self) -> dict[str, NDArray[np.float64]]:
        """The columns in which every cell is a number or empty (NaN), and one at least is a number."""
        found = {}
        for name in self.names:
            try:
                values = np.array([float(cell) if cell else np.nan for cell in self.cells[name]])
            except ValueError:
                continue
            if values.size and not all(cell == "" for cell in self.cells[name]):
                found[name] = values
        return found

    def rows(self, limit: int, names: Sequence[str] | None = None) -> list[list[Any]]:
        """The first rows of all columns or of some, numbers as numbers, an empty cell as None."""
        columns = [self._typed(name, limit) for name in names or self.names]
        return [list(row) for row in zip(*columns, strict=True)]

    def _typed(self, name: str, limit: int) -> list[Any]:
        cells = self.cells[name][:limit]
        if name not in self.numeric:
            return [cell or None for cell in cells]
        whole = all(cell == "" or cell.lstrip("-").isdigit() for cell in cells)
        return [None if cell == "" else (int(cell) if whole else float(cell)) for cell in cells]


@dataclass(frozen=True)
class Run:
    """A run folder's content.

    Attributes:
        folder: Where it is.
        summary: ``summary.json``; empty if the run has not finished.
        config: ``config.yaml``; empty if there is none.
        config_units: Unit of a key of ``config``, from the comment behind its value.
        log: ``log.csv``; without columns if there is none.
        tables: The other CSV files, by stem, in alphabetical order.
    """

    folder: Path
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    config_units: Mapping[str, str]
    log: Columns
    tables: Mapping[str, Columns] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command that wrote the folder; "run" if nothing says which."""
        return str(self.summary.get("command") or self.config.get("command") or "run")

    @property
    def results(self) -> Mapping[str, Any]:
        """The numbers of the summary; empty if the run has not finished."""
        found = self.summary.get("results")
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def structures(self) -> Sample | None:
        """Frames of the folder's trajectory, or of what other extended-XYZ file it has; None without one."""
        files = {path.stem: path for path in sorted(self.folder.glob("*.extxyz"))}
        for stem in (*_TRAJECTORIES, *files):
            if stem in files and (sample := sample_extxyz(files[stem], FRAMES)).frames:
                return sample
        return None


def read_run(folder: Path) -> Run:
    """The run folder ``folder``, finished or not.

    Raises:
        FileFormatError: It is no run folder, or one of its files is damaged.
    """
    folder = Path(folder)
    summary, (config, units) = _summary(folder / "summary.json"), _config(folder / "config.yaml")
    if not summary and not config:
        raise FileFormatError(f"{folder} is not a run folder: it has no summary.json and no config.yaml.")
    log = folder / "log.csv"
    tables = {path.stem: read_columns(path) for path in sorted(folder.glob("*.csv")) if path != log}
    columns = read_columns(log, spread=True) if log.exists() else Columns([], {}, 0)
    return Run(folder, summary, config, units, columns, tables)


def read_columns(path: Path, *, spread: bool = False, limit: int = KEPT_ROWS) -> Columns:
    """A CSV file with one line of names.

    Args:
        path: The file.
        spread: Of a file with more than ``limit`` rows, take evenly spaced ones, not the first.
        limit: About how many rows to keep in memory.

    Raises:
        FileFormatError: It is not UTF-8, repeats a name, or a line before the last is too short or long.
    """
    try:
        lines, total = _lines(path, spread, limit)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path}: not a CSV file in UTF-8 ({error}).") from error
    names = lines[0][1] if lines else []
    if len(set(names)) != len(names):
        raise FileFormatError(f"{path}: a column's name occurs twice; give each column its own.")
    rows = [row for _, row in lines[1:]]
    if rows and len(rows[-1]) < len(names) and lines[-1][0] == total + 1:
        rows, total = rows[:-1], total - 1
    for (number, _), row in zip(lines[1:], rows, strict=False):
        if len(row) != len(names):
            raise FileFormatError(f"{path}, line {number}: {len(row)} cells under {len(names)} names.")
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return Columns(names, {name: list(cells) for name, cells in zip(names, columns, strict=True)}, total)


def _lines(path: Path, spread: bool, limit: int) -> tuple[list[tuple[int, list[str]]], int]:
    """Numbered lines to keep, the header first and the last line among them if ``spread``; rows in all."""
    with path.open("rb") as binary:
        total = sum(1 for line in binary if line.strip()) - 1
    stride = max(1, -(-total // limit)) if spread else 1
    with path.open(encoding="utf-8", newline="") as stream:
        lines = ((number, line) for number, line in enumerate((row for row in csv.reader(stream) if row), 1))
        if spread:
            kept = [(n, line) for n, line in lines if n == 1 or (n - 2) % stride == 0 or n == total + 1]
        else:
            kept = list(islice(lines, limit + 1))
    return kept, max(0, total)


def _summary(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileFormatError(f"{path}: not JSON ({error}); run the command again.") from error
    if not isinstance(summary, dict):
        raise FileFormatError(f"{path}: not a summary; run the command again.")
    return summary


def _config(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings, and the units that stand behind them as comments."""
    import yaml

    if not path.exists():
        return {}, {}
    try:
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise FileFormatError(f"{path}: not YAML ({error}); run the command again.") from error
    return (config if isinstance(config, dict) else {}), dict(_UNIT_COMMENT.findall(text))
