"""``atomml check MODEL``: the conformance kit as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atomml.cli.parsing import Parser

if TYPE_CHECKING:
    from atomml.testing import CheckResult

__all__ = ["run"]

EXIT_FAILED = 1


def run(name: str, argv: Sequence[str]) -> int:
    """Hold a model to the laws of its kind; returns 0 if it passes all, 1 if not."""
    found = _parser().parse(argv)
    from atomml.cli.workflow import set_threads

    set_threads(found.threads)
    from dataclasses import asdict

    from atomml.cli.display import logging_to_stderr, print_json, say, table
    from atomml.testing import run_conformance

    with logging_to_stderr(found.quiet, found.debug):
        results = run_conformance(
            found.model, kind=found.kind, dtype=found.dtype, quick=found.quick, only=found.only
        )
    passed = all(result.passed for result in results)
    if found.json:
        print_json(
            {"model": found.model, "passed": passed, "results": [asdict(result) for result in results]}
        )
        return 0 if passed else EXIT_FAILED
    shown = [result for result in results if not (found.quiet and result.passed)]
    if shown:
        heads = ["law", "verdict", "found", "allowed", "unit", "where"]
        say(table(heads, [_row(result) for result in shown]).rstrip("\n"))
    if not found.quiet:
        say(f"{sum(result.passed for result in results)} of {len(results)} passed.")
    return 0 if passed else EXIT_FAILED


def _parser() -> Parser:
    parser = Parser("atomml check", "The physics that every model must pass, measured.")
    parser.add_argument("model", metavar="MODEL", help="registered name or file")
    parser.add_argument("--kind", default="potential", help="kind of model [default potential]")
    parser.add_argument(
        "--dtype", default="float64", metavar="float32|float64", help="precision [default float64]"
    )
    parser.add_argument("--quick", action="store_true", help="fewer structures, no law that takes long")
    parser.add_argument(
        "--only", action="append", default=[], metavar="LAW", help="this law; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--quiet", action="store_true", help="print failures only")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--debug", action="store_true", help="show where an error was raised")
    return parser


def _row(result: CheckResult) -> list[str]:
    verdict = "pass" if result.passed else "FAIL"
    figures = [f"{result.value:.2g}", f"{result.tolerance:.2g}"]
    return [result.name, verdict, *figures, result.unit, result.detail]
