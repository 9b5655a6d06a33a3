"""What a person sees while a run goes and when it is done: progress, log lines, tables."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = [
    "Progress",
    "logging_to_stderr",
    "print_json",
    "print_matrices",
    "print_results",
    "run_shown",
    "say",
    "table",
]

_PLAIN_INTERVAL_S = 5.0


class Progress:
    """Listens to the events of a run: a bar on a terminal, a line now and then elsewhere.

    Args:
        title: What runs.
        quiet: Show nothing.
    """

    def __init__(self, title: str, quiet: bool = False) -> None:
        self.title = title
        self.quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._last = -float("inf")
        self._started = time.monotonic()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take one event; those with ``step`` and ``of`` move the bar."""
        step, of = event.get("step"), event.get("of")
        if self.quiet or not isinstance(step, int):
            return
        if sys.stderr.isatty():
            self._move_bar(step, of if isinstance(of, int) else None, _facts(event))
        elif step == of or time.monotonic() - self._last >= _PLAIN_INTERVAL_S:
            self._last = time.monotonic()
            total = f"/{of}" if of else ""
            sys.stderr.write(f"{self.title}: {step}{total} {_facts(event)} ({self._elapsed():.0f} s)\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _move_bar(self, step: int, of: int | None, facts: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self.title, total=of, facts=facts)
            self._bar.start()
        self._bar.update(self._task, completed=step, total=of, facts=facts)


def _facts(event: Mapping[str, Any]) -> str:
    """The first numbers of an event, short."""
    shown = [
        f"{key} {value:.5g}"
        for key, value in event.items()
        if isinstance(value, float) and not isinstance(value, bool)
    ]
    return "  ".join(shown[:3])


@contextmanager
def logging_to_stderr(quiet: bool, debug: bool) -> Iterator[None]:
    """What the library logs, as lines on stderr while a command runs."""
    logger = logging.getLogger("atomml")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("atomml: %(levelname)s: %(message)s"))
    level = logging.DEBUG if debug else logging.ERROR if quiet else logging.INFO
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@contextmanager
def run_shown(title: str, flags: argparse.Namespace) -> Iterator[None]:
    """Progress and log of whatever runs inside, as ``--quiet``, ``--json`` and ``--debug`` ask for."""
    from atomml.run import listening

    progress = Progress(title, quiet=flags.quiet or flags.json)
    with logging_to_stderr(flags.quiet, flags.debug), listening(progress):
        try:
            yield
        finally:
            progress.close()


def say(text: str) -> None:
    """One line to stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """A value as JSON to stdout."""
    import json

    from atomml.run import plain

    say(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def print_results(results: Mapping[str, Any], units: Mapping[str, str]) -> None:
    """Numbers, short texts and counts, one a line with its unit; tables and long lists stay in the files."""
    rows = []
    for key, value in results.items():
        if _is_matrix(value):
            continue
        if isinstance(value, Mapping) and _are_counts(value):
            value = [f"{count} {name}" for name, count in value.items()]
        if isinstance(value, Mapping) or (isinstance(value, list) and not _is_short(value)):
            continue
        unit = units.get(key, "")
        name = key.replace("_", " ")
        for suffix in (
            unit,
            unit.replace("Å", "A")
            .replace("^", "")
            .replace("/", " per ")
            .replace("μ", "mu")
            .replace("°", "deg"),
        ):
            name = name.removesuffix(f" {suffix}")
        rows.append([name, _cell(value), unit])
    sys.stdout.write(table([], rows))


def _are_counts(values: Mapping[Any, Any]) -> bool:
    return bool(values) and all(type(value) is int for value in values.values())


def _is_short(values: list[Any]) -> bool:
    return 0 < len(values) <= 9 and not any(isinstance(value, Mapping) for value in values)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Text columns: numbers to the right, the rest to the left."""
    cells = [[_cell(value) for value in row] for row in rows]
    everything = [list(columns), *cells] if columns else cells
    if not everything:
        return ""
    widths = [max(len(row[i]) for row in everything) for i in range(len(everything[0]))]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(widths))]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in everything
    ]
    if columns:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines) + "\n"


def print_matrices(results: Mapping[str, Any], units: Mapping[str, str]) -> None:
    """Each matrix of the results (an elastic tensor) as a block of columns, to two decimals."""
    for key, value in results.items():
        if _is_matrix(value):
            unit = units.get(key, "")
            say(f"{key.removesuffix(f'_{unit}').replace('_', ' ')} ({unit})" if unit else key)
            rows = [[f"{cell + 0.0:10.2f}" for cell in row] for row in value]
            sys.stdout.write("\n".join("".join(row) for row in rows) + "\n")


def _is_matrix(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, list) for row in value)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6f}" if 1e-3 <= abs(value) < 1e6 else f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return str(value)
