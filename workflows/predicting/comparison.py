"""One workflow with several models: what each answers, and how far apart they are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.config import build_options
from atomml.errors import InputError, OptionError, RunFailedError
from atomml.files import write_table
from atomml.options import option
from atomml.result import Result
from atomml.run import RunFolder, open_run
from atomml.workflows import OF_ONE_STRUCTURE
from atomml.workflows.inputs import check_covered, given_model, given_structure
from atomml.workflows.run_record import finish_run

__all__ = ["CompareOptions", "CompareResult", "compare"]


@dataclass(frozen=True)
class CompareOptions:
    """What ``compare`` is asked; the options of the workflow itself come beside it."""

    workflow: str = option("predict", "workflow that each model runs", choices=OF_ONE_STRUCTURE)
    models: tuple[str, ...] = option((), "two models or more", metavar="MODEL")


@dataclass(kw_only=True)
class CompareResult(Result):
    """What ``compare`` returns.

    Attributes:
        by_model: Results of each model, as its own run gives them.
        spread: Largest less smallest value of each number that all models gave.
        failed: Models whose run failed, and why.
        unit_of: Unit of each number.
        rows: The table: a number, its unit, a column per model, the spread.
    """

    by_model: dict[str, dict[str, Any]] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unit_of: dict[str, str] = field(default_factory=dict, metadata={"summary": False})
    rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False})

    def units(self) -> dict[str, str]:
        """The unit of each number of ``by_model`` and ``spread``."""
        return dict(self.unit_of)


def compare(
    workflow: str,
    structure: Any,
    models: Sequence[Any],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    seed: int | None = None,
    **options: Any,
) -> CompareResult:
    """Run a workflow on one structure with each model; a folder each, one table.

    Args:
        workflow: One of the commands that take one structure, such as ``relax`` or ``elastic``.
        structure: ``ase.Atoms`` or a file with one frame.
        models: Two or more names, files, ``Potential`` or ASE calculators.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        dtype: Precision of models that are loaded here.
        device: Device of models that are loaded here.
        seed: Seed for a workflow that takes one.
        **options: Options of the workflow.

    Raises:
        InputError: An unknown workflow, fewer than two models, a wrong structure or option.
    """
    build_options(CompareOptions, {"workflow": workflow})
    loaded = [given_model(model, dtype=dtype, device=device) for model in models]
    names = _distinct([model.source for model in loaded])
    if len(names) < 2:
        raise OptionError("A comparison needs two models or more: repeat --model.")
    given = given_structure(structure)
    for model in loaded:
        check_covered(given, model, lambda _: None, bool(options.get("allow_charge_mismatch")))
    settings = options | ({"seed": seed} if workflow == "md" and seed is not None else {})
    source = str(structure) if isinstance(structure, str | Path) else given.label
    config = {"workflow": workflow, "structures": [source], "model": names, "dtype": dtype, "device": device}
    started = time.perf_counter()
    with open_run(
        out, command="compare", config=config | {"seed": seed} | options, resume=resume, overwrite=overwrite
    ) as run:
        result = CompareResult(folder=run.path if run.kept else None)
        for number, (name, model) in enumerate(zip(names, loaded, strict=True), 1):
            folder = run.file(f"{number:02d}-{Path(name).stem.replace(':', '-')}")
            _run_one(workflow, given, model, folder, name, settings, result)
            run.event("model", step=number, of=len(names), model=name)
        _finish(run, result, [model.record() for model in loaded], given.record(), started)
    return result


def _run_one(
    workflow: str,
    given: Any,
    model: Any,
    folder: Path,
    name: str,
    options: Mapping[str, Any],
    result: CompareResult,
) -> None:
    from atomml import workflows

    try:
        found = getattr(workflows, workflow)(given, model, out=folder, resume=folder.exists(), **options)
    except InputError:
        raise
    except RunFailedError as error:
        result.failed[name] = str(error)
        result.converged = False
        return
    result.by_model[name] = found.results()
    result.unit_of |= found.units()
    result.converged = result.converged and found.converged
    result.warnings += [f"{name}: {warning}" for warning in found.warnings]


def _finish(
    run: RunFolder,
    result: CompareResult,
    models: list[dict[str, Any]],
    structure: dict[str, Any],
    started: float,
) -> None:
    for warning in [*result.warnings, *(f"{name} failed: {why}" for name, why in result.failed.items())]:
        run.warn(warning)
    _tabulate(result)
    if result.rows:
        write_table(run.file("comparison.csv"), result.rows)
    model = {"name": ", ".join(str(model["name"]) for model in models), "sha256": None, "models": models}
    finish_run(run, result, model=model, inputs=[structure], seconds=time.perf_counter() - started)


def _tabulate(result: CompareResult) -> None:
    """A row for each number that every model gave."""
    tables = list(result.by_model.values())
    if not tables:
        return
    for key in tables[0]:
        values = [table.get(key) for table in tables]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) < len(values):
            continue
        result.spread[key] = float(max(numbers) - min(numbers))
        columns = dict(zip(result.by_model, numbers, strict=True))
        result.rows.append(
            {"quantity": key, "unit": result.unit_of.get(key, ""), **columns, "spread": result.spread[key]}
        )


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where one comes twice: a model may be compared with itself."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct
