"""``atomml report RUN``: ``report.html`` of a run folder, finished or not, written anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atomml.cli.parsing import Parser

__all__ = ["run"]


def run(name: str, argv: Sequence[str]) -> int:
    """Render the report of each run folder; returns 0."""
    parser = Parser("atomml report", "Write report.html of run folders anew, from the files in them.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("--quiet", action="store_true", help="say nothing")
    parser.add_argument("--debug", action="store_true", help="show where an error was raised")
    found = parser.parse(argv)
    from atomml.cli.display import say
    from atomml.report import render_run
    from atomml.run import read_config

    for folder in map(Path, found.runs):
        read_config(folder)
        render_run(folder)
        if not found.quiet:
            say(str(folder / "report.html"))
    return 0
