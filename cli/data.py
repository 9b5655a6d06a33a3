"""``atomml data import|split``: labelled data in, checked, and shared out.

One line in the table adds a subcommand: the function that does it and its help.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from atomml.cli.parsing import Parser, add_flags, resolve_flags
from atomml.cli.subcommands import Subcommand, run_subcommand
from atomml.config import option_specs
from atomml.errors import OptionError

__all__ = ["SUBCOMMANDS", "parse_options", "refuse_no_paths", "run"]

EXIT_WITH_FAILURES = 3


SUBCOMMANDS = {
    "import": Subcommand("atomml.cli.data:run_import", "files and folders of calculations into one store"),
    "label": Subcommand("atomml.cli.data_label:run_label", "energies and forces by PySCF, xTB or a model"),
    "report": Subcommand("atomml.cli.data_report:run", "what a set holds, and what is wrong with it"),
    "split": Subcommand("atomml.cli.data:run_split", "training, validation and test sets without leaks"),
}


def run(name: str, argv: Sequence[str]) -> int:
    """Find the subcommand and run it; returns the exit code."""
    return run_subcommand("data", "Labelled data: read, checked, labelled and split.", SUBCOMMANDS, argv)


def parse_options(
    name: str, parser: Parser, options: type, argv: Sequence[str], beside: tuple[str, ...]
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The head of every subcommand: what was parsed, and every option's value by name.

    Args:
        name: The subcommand.
        parser: Knows the subcommand's own arguments; flags of its options and of control are added.
        options: The dataclass of its options.
        argv: Its arguments.
        beside: Keys that its configuration may hold beside the options.

    Raises:
        OptionError: A flag or option that does not exist, or a wrong value.
    """
    specs = option_specs(options)
    add_flags(parser, specs, f"options of data {name}")
    _add_control_flags(parser)
    found = parser.parse(argv)
    return found, resolve_flags(specs, found, f"data {name}", extra=beside)


def refuse_no_paths(name: str, found: argparse.Namespace, needs: str) -> None:
    """Refuse a subcommand that was given nothing to read.

    Raises:
        OptionError: There are no paths; says what the subcommand ``needs``.
    """
    if not found.paths:
        raise OptionError(f"atomml data {name} needs {needs}.")


def _add_control_flags(parser: Parser) -> None:
    """How a subcommand behaves; none of it is an option of what it does."""
    group = parser.add_argument_group("the command itself")
    group.add_argument("--config", metavar="FILE.yaml", help="options from a file")
    group.add_argument(
        "--set", action="append", default=[], metavar="A=B", help="one option; over --config, under flags"
    )
    group.add_argument("--json", action="store_true", help="print JSON instead of a table")
    group.add_argument("--quiet", action="store_true", help="no progress, no table")
    group.add_argument("--debug", action="store_true", help="log everything; show where an error was raised")


def run_import(name: str, argv: Sequence[str]) -> int:
    """``atomml data import PATHS --to set.lmdb``."""
    from atomml.workflows.datasets.data_import import ImportOptions

    parser = Parser(
        "atomml data import",
        "Read labelled structures into one store. Folders are walked; what did not converge is refused.",
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files, folders, patterns")
    parser.add_argument("--to", metavar="SET.lmdb", help="the store to write")
    parser.add_argument("--dry-run", action="store_true", help="list what would be read; write nothing")
    found, values = parse_options(name, parser, ImportOptions, argv, beside=("paths", "to"))
    refuse_no_paths(name, found, "paths: name files or folders")
    if found.dry_run:
        return _plan(found, values["format"])
    if not found.to:
        raise OptionError("Say where to write with --to NAME.lmdb.")
    from atomml.cli.display import Progress, logging_to_stderr
    from atomml.workflows.datasets.data_import import import_data

    progress = Progress("import", quiet=found.quiet)
    try:
        with logging_to_stderr(found.quiet, found.debug):
            result = import_data(found.paths, found.to, ImportOptions(**values), listen=progress)
    finally:
        progress.close()
    _show_import(found, result)
    return EXIT_WITH_FAILURES if result.failed else 0


def _plan(found: argparse.Namespace, file_format: str) -> int:
    from atomml.cli.display import print_json, say, table
    from atomml.workflows.datasets.data_import import planned_sources

    sources, passed_over = planned_sources(found.paths, file_format)
    if found.json:
        kinds = [{"path": str(source.path), "kind": source.kind} for source in sources]
        passed = [{"path": path, "reason": reason} for path, reason in passed_over]
        print_json({"command": "data import", "files": kinds, "passed_over": passed})
        return 0
    rows = [[source.kind, str(source.path)] for source in sources]
    rows += [[f"passed over: {reason}", path] for path, reason in passed_over]
    say(table(["read as", "path"], rows).rstrip("\n"))
    return 0


def _show_import(found: argparse.Namespace, result: Any) -> None:
    from atomml.cli.display import print_json, say, table

    if found.json:
        print_json(result.summary())
        return
    if found.quiet:
        return
    rows = [
        [
            source["path"],
            source["n_entries"],
            source["n_duplicates"],
            len(source["unconverged"]),
            _remark(source),
        ]
        for source in result.sources
    ]
    say(table(["file", "entries", "duplicates", "unconverged", ""], rows[:_MOST_ROWS]).rstrip("\n"))
    if len(rows) > _MOST_ROWS:
        say(f"... and {len(rows) - _MOST_ROWS} more in {result.store}.json")
    for source in result.failed:
        say(f"not taken: {source['error']}")
    for conflict in result.conflicts[:_MOST_ROWS]:
        say(f"the same structure with other labels: {conflict['first']} and {conflict['second']} (both kept)")
    if result.passed_over:
        say(f"passed over: {len(result.passed_over)} files (listed in {result.store}.json)")
    header = result.header
    labels = ", ".join(f"{name} {n}" for name, n in header["label_counts"].items())
    say(f"{header['n_entries']} entries, {header['n_atoms']} atoms; {labels}")
    for line in (*_ranges(header["statistics"]), *(f"warning: {doubt}" for doubt in result.doubts)):
        say(line)
    say(f"written to {result.store} (digest {header['digest']})")


def _ranges(statistics: Mapping[str, Any]) -> Iterator[str]:
    """Ranges of the labels, in which a wrong unit shows."""
    names = {
        "energy_eV_per_atom": "energy, eV/atom",
        "largest_force_eV_per_A": "largest force, eV/Å",
        "pressure_GPa": "pressure, GPa",
    }
    known = {title: statistics[name] for name, title in names.items() if name in statistics}
    if known:
        told = (f"{title}: {found['min']:.4g} to {found['max']:.4g}" for title, found in known.items())
        yield "; ".join(told)


_MOST_ROWS = 40


def _remark(source: Mapping[str, Any]) -> str:
    if source["error"]:
        return "NOT TAKEN"
    if source["unread"]:
        return f"no forces; columns not read: {source['unread']} (--forces-key)"
    if not source["unfinished"]:
        return ""
    return "cut short: what was finished is taken" if source["n_frames"] else "cut short in its first step"


def run_split(name: str, argv: Sequence[str]) -> int:
    """``atomml data split FILES --to FOLDER``."""
    from atomml.workflows.datasets.data_split import SplitOptions

    parser = Parser(
        "atomml data split",
        "Deal a set out to train.lmdb, valid.lmdb and test.lmdb, and say what one shares with another.",
    )
    parser.add_argument("paths", nargs="*", metavar="FILE", help="stores and files; one set together")
    parser.add_argument("--to", metavar="FOLDER", help="where the sets go")
    found, values = parse_options(name, parser, SplitOptions, argv, beside=("paths", "to"))
    refuse_no_paths(name, found, "a set: name a store or a file")
    if not found.to:
        raise OptionError("Say where the sets go with --to FOLDER.")
    from atomml.cli.display import logging_to_stderr
    from atomml.workflows.datasets.data_split import split_data

    with logging_to_stderr(found.quiet, found.debug):
        result = split_data(found.paths, found.to, SplitOptions(**values))
    _show_split(found, result)
    return 0


def _show_split(found: argparse.Namespace, result: Any) -> None:
    from atomml.cli.display import print_json, say, table

    if found.json:
        print_json({key: value for key, value in result.record.items() if key != "indices"})
    elif not found.quiet:
        say(table(["set", "entries"], [list(pair) for pair in result.sizes.items()]).rstrip("\n"))
        if result.n_left_out:
            say(f"{result.n_left_out} entries lie in the gaps between stretches of time and are left out")
        columns = ["from", "to", "exact", "near", "near in time", "same formula", "of"]
        rows = [
            [leak.first, leak.second, leak.exact, leak.near, leak.in_time, leak.same_formula, leak.n_entries]
            for leak in result.leaks
        ]
        say("entries with a counterpart in another set:")
        say(table(columns, rows).rstrip("\n"))
        say(f"written to {result.folder}/ (split.json)")
