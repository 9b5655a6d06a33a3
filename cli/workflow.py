"""``atomml predict|relax|md``: flags from the workflow's options, its function, its result as a table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.cli.catalogue import WORKFLOWS, Workflow
from atomml.cli.parsing import Parser, add_flags, calculator_settings, layers_of, resolve_flags
from atomml.config import option_specs
from atomml.errors import OptionError
from atomml.options import option
from atomml.workflows.inputs import DEFAULT_MODEL

__all__ = [
    "Plan",
    "SharedOptions",
    "add_control_flags",
    "marked_for_ordering",
    "named_structures",
    "run",
    "set_threads",
    "show_result",
    "told",
]

EXIT_NOT_CONVERGED = 3


@dataclass(frozen=True)
class SharedOptions:
    """Options that every workflow has."""

    model: str = option(
        DEFAULT_MODEL,
        "registered name, file, or ase:MODULE:CLASS (its keywords: --set calculator.NAME=VALUE)",
        metavar="MODEL",
    )
    dispersion: str | None = option(
        None, "D3 added to the model, as damping and functional: d3bj:pbe", metavar="D3:METHOD"
    )
    out: str | None = option(None, "run folder; COMMAND-STEM if not given", metavar="FOLDER")
    device: str = option("auto", "auto, cpu, cuda, cuda:1 ...")
    dtype: str = option("float32", "precision of the model", choices=("float32", "float64"))
    seed: int | None = option(None, "seed, where something is random", minimum=0)
    order: bool = option(
        False, "put partly occupied sites of a CIF in order, by electrostatic energy (pymatgen)"
    )
    orderings: int = option(1, "how many arrangements, lowest first, --order gives", minimum=1, maximum=1000)
    threads: int | None = option(None, "CPU threads; else as the machine offers", minimum=1)


def run(name: str, argv: Sequence[str]) -> int:
    """Parse, check, and run the workflow ``name``; returns the exit code."""
    workflow = WORKFLOWS[name]
    own = workflow.specs()
    skip = {*own, *(("order", "orderings") if workflow.reads_data else ())}
    shared = {key: spec for key, spec in option_specs(SharedOptions).items() if key not in skip}
    parser = Parser(f"atomml {name}", workflow.description)
    if workflow.reads_data:
        parser.add_argument("structures", nargs="*", metavar="DATA", help=_DATA_HELP)
    else:
        parser.add_argument("structures", nargs="*", metavar="STRUCTURE", help=_STRUCTURE_HELP)
    add_flags(parser, own, f"options of {name}")
    add_flags(parser, shared, "model and folder")
    add_control_flags(parser)
    found = parser.parse(argv)
    values = resolve_flags(own | shared, found, name, extra=("structure", "structures", "calculator"))
    structures = marked_for_ordering(_structures(found, name, workflow), values)
    set_threads(values.pop("threads"))
    values["model"] = with_dispersion(values["model"], values.pop("dispersion"))
    settings = calculator_settings(found, name, [values["model"]])
    plan = Plan(name, workflow, structures, values, found, found.allow_code, settings)
    if found.dry_run:
        from atomml.cli.dry_run import dry_run

        return dry_run(plan)
    return _carry_out(plan)


def with_dispersion(model: str, correction: str | None) -> str:
    """The model's name with its dispersion behind it, as every function takes it.

    Raises:
        OptionError: Dispersion for an ASE calculator, or twice.
    """
    if correction is None:
        return model
    from atomml.registry import METHODS

    if model.startswith("ase:"):
        raise OptionError(f"--dispersion belongs to models of the suite: {model} is an ASE calculator.")
    if model in METHODS:
        raise OptionError(f"--dispersion belongs to models of the suite: {model} is a method of its own.")
    if "+d3" in model:
        raise OptionError(f"{model} has its dispersion already: leave --dispersion out.")
    return f"{model}+{correction}"


@dataclass
class Plan:
    """A command line, understood.

    Attributes:
        name: The command.
        workflow: What it runs.
        structures: Files, patterns expanded; ``FILE@INDEX`` names a frame.
        values: Every option's value, the shared ones included.
        flags: How the command itself behaves: ``json``, ``quiet``, ``resume`` ...
        allow_code: Whether ``ase:MODULE:CLASS`` may import its module even if no flag names it.
        calculator: Keyword arguments for the class of ``--model ase:MODULE:CLASS``.
    """

    name: str
    workflow: Workflow
    structures: list[str]
    values: dict[str, Any]
    flags: argparse.Namespace
    allow_code: bool
    calculator: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The run folder."""
        from atomml.run import default_folder

        out = self.values.get("out")
        several = len(self.structures) > 1 and not self.workflow.together
        stem = (
            Path(self.structures[0]).resolve().parent.name
            if several
            else self.structures[0].rpartition("@")[0]
        )
        return Path(out) if out else default_folder(self.name, stem or self.structures[0])

    def model(self, role: str = "model") -> Any:
        """A model as the workflow takes it: its name, or an ASE calculator made from its class.

        ``role`` is the option that names it, such as ``baseline``; None where it names none.
        """
        name = self.values[role]
        if name is None or not str(name).startswith("ase:"):
            return name
        from atomml.workflows.inputs import given_model

        settings = self.calculator if role == "model" else {}
        allow_code = self.allow_code or role in vars(self.flags)
        return given_model(name, calculator=settings, allow_code=allow_code)


def add_control_flags(parser: Parser) -> None:
    """How the command behaves; none of it is an option of the run."""
    group = parser.add_argument_group("the command itself")
    group.add_argument(
        "--config", metavar="FILE.yaml", help="options from a file, such as a run's config.yaml"
    )
    group.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="one option; over --config, under flags"
    )
    group.add_argument("--dry-run", action="store_true", help="print the plan and its cost; write nothing")
    group.add_argument("--json", action="store_true", help="print summary.json instead of a table")
    group.add_argument("--quiet", action="store_true", help="no progress, no table")
    group.add_argument("--resume", action="store_true", help="go on in the folder of an interrupted run")
    group.add_argument("--overwrite", action="store_true", help="replace the folder of an earlier run")
    group.add_argument(
        "--allow-code", action="store_true", help="let --config name a model that imports code"
    )
    group.add_argument(
        "--debug", action="store_true", help="log everything, and show where an error was raised"
    )


def marked_for_ordering(structures: Sequence[str], values: dict[str, Any]) -> list[str]:
    """The structures, marked where ``--order`` puts their sites in order; takes it out of the values."""
    order, orderings = values.pop("order", False), values.pop("orderings", 1)
    if not order:
        return list(structures)
    from atomml.workflows.inputs import expand_sources, to_be_ordered

    return to_be_ordered(expand_sources(structures), orderings)


def set_threads(threads: int | None) -> None:
    """Limit the CPU threads of whatever is imported from here on, and of torch if it is there already."""
    if threads is None:
        return
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


_DATA_HELP = "files and .lmdb stores with labelled structures"
_STRUCTURE_HELP = "files, folders, patterns, SMILES; FILE@INDEX names a frame (@-1, @::10)"


def named_structures(found: argparse.Namespace, name: str) -> list[str]:
    """What the command line names, else what the configuration does."""
    named: Any = list(found.structures)
    for _, layer in layers_of(found, name) if not named else []:
        value = layer.get("structures", layer.get("structure", named))
        named = [value] if isinstance(value, str) else value if isinstance(value, list) else named
    return [str(entry) for entry in named]


def _structures(found: argparse.Namespace, name: str, workflow: Workflow) -> list[str]:
    """The files behind what was named."""
    from atomml.workflows.inputs import expand_sources

    files = named_structures(found, name)
    if not files:
        needed = "labelled data" if workflow.reads_data else "a structure"
        raise OptionError(f"atomml {name} needs {needed}: name a file ('atomml {name} --help').")
    return files if workflow.reads_data or workflow.together else expand_sources(files)


def _carry_out(plan: Plan) -> int:
    from atomml.cli.display import run_shown

    flags = plan.flags
    with run_shown(plan.name, flags):
        result = _call(plan)
    return told(result, flags, show_result)


def told(result: Any, flags: argparse.Namespace, show: Callable[[Any], None]) -> int:
    """Print a result as ``--json`` and ``--quiet`` ask for, else by ``show``; returns the exit code."""
    from atomml.cli.display import print_json

    if flags.json:
        print_json(result.summary)
    elif not flags.quiet:
        show(result)
    return 0 if result.converged else EXIT_NOT_CONVERGED


def _call(plan: Plan) -> Any:
    """Call the workflow's function for one structure, or the one for several."""
    workflow, values = plan.workflow, dict(plan.values)
    several = workflow.reads_data or (not workflow.together and _are_several(plan.structures))
    if several and not workflow.many:
        raise OptionError(f"atomml {plan.name} takes one structure: name one, as FILE@INDEX if need be.")
    function = workflow.call(several)
    values.pop("model")
    values.pop("out", None)
    refuse_unnamed_code(values.get("label"), plan.allow_code or "label" in vars(plan.flags))
    if "baseline" in values:
        values["baseline"] = plan.model("baseline")
    return function(
        plan.structures if several or workflow.together else plan.structures[0],
        plan.model(),
        out=plan.folder,
        resume=plan.flags.resume,
        overwrite=plan.flags.overwrite,
        **values,
    )


def refuse_unnamed_code(method: str | None, allowed: bool) -> None:
    """Refuse a program or a class that only a configuration file names.

    Raises:
        OptionError: Says how to allow it.
    """
    if method and not allowed:
        from atomml.data.label_outside import runs_code

        if runs_code(method):
            raise OptionError(
                f"The configuration names {method!r}, which runs code: name it on the command line, or give "
                "--allow-code."
            )


def _are_several(structures: Sequence[str]) -> bool:
    """Whether there is more than one structure: several files, or a file with several frames."""
    from atomml.workflows.inputs import structures_of

    if len(structures) > 1:
        return True
    frames = structures_of(structures[0])
    next(frames, None)
    return next(frames, None) is not None


def show_result(result: Any) -> None:
    """Print what a workflow found: its rows if it has several, its numbers, and where the folder is."""
    from atomml.cli.display import print_matrices, print_results, say, table

    rows = getattr(result, "rows", [])
    if len(rows) > 1:
        columns = [key for key in rows[0] if any(row.get(key) is not None for row in rows)]
        sys.stdout.write(table(columns, [[row.get(key) for key in columns] for row in rows]))
        rest = getattr(result, "n_structures", 0) + getattr(result, "n_failed", 0) - len(rows)
        if rest > 0 and not hasattr(result, "errors"):
            say(f"... and {rest} more in results.csv")
    print_results(_shown(result.results()), result.units())
    print_matrices(result.results(), result.units())
    if not result.converged:
        say("NOT CONVERGED: see the warnings.")
    if result.folder is not None:
        say(f"written to {result.folder}/ (report.html)")


def _shown(results: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in results.items() if not (key == "n_failed" and value == 0)}
