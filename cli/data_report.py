"""``atomml data report PATHS``: the audit of a labelled set; exit code 3 where it found an error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from atomml.cli.data import parse_options, refuse_no_paths
from atomml.cli.parsing import Parser

__all__ = ["run"]

EXIT_WITH_ERRORS = 3


def run(name: str, argv: Sequence[str]) -> int:
    """Parse, audit, print the findings; returns the exit code."""
    from atomml.workflows.datasets.data_report import DataReportOptions

    parser = Parser(
        "atomml data report",
        "Look for the mistakes that labelled sets are known for: units, signs, missing and mixed labels.",
    )
    parser.add_argument("paths", nargs="*", metavar="FILE", help="stores and files; one set together")
    parser.add_argument("--out", metavar="FOLDER", help="run folder; data-report-STEM if not given")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder of an earlier run")
    found, values = parse_options(name, parser, DataReportOptions, argv, beside=("paths", "out"))
    refuse_no_paths(name, found, "a set: name a store or a file")
    from atomml.cli.display import logging_to_stderr, print_json, say
    from atomml.run import default_folder
    from atomml.workflows.datasets.data_report import report_data

    folder = Path(found.out) if found.out else default_folder("data-report", found.paths[0])
    with logging_to_stderr(found.quiet, found.debug):
        result = report_data(found.paths, out=folder, overwrite=found.overwrite, **values)
    if found.json:
        print_json(result.summary)
    elif not found.quiet:
        for finding in result.findings:
            say(f"{finding['severity'].upper()} {finding['trap']}: {finding['sentence']}")
            say(f"  {finding['advice']}")
        sys.stdout.write(
            f"{result.n_entries} entries, {result.n_atoms} atoms: {result.n_errors} errors, "
            f"{result.n_warnings} warnings, {result.n_notes} notes\nwritten to {folder}/ (report.html)\n"
        )
    return 0 if result.converged else EXIT_WITH_ERRORS
