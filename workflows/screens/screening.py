"""One workflow on thousands of structures: a row for each, failures too; whole after any kill."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from atomml.config import as_config, build_options, close_match
from atomml.errors import OptionError
from atomml.options import option
from atomml.result import Result
from atomml.workflows.inputs import DEFAULT_MODEL, GivenModel, given_model
from atomml.workflows.run_record import open_with_options

__all__ = ["MAY_CHANGE", "ScreenOptions", "ScreenResult", "is_named", "screen", "screen_options"]

MAY_CHANGE = (
    "structures",
    *("workers", "batch", "retry_failed", "merge", "executor"),
    *("where", "sort", "descending", "device"),
)
"""What may differ when a screen goes on.

Each structure has its own digest: more of them may come, and none is done twice.
"""


@dataclass(frozen=True)
class ScreenOptions:
    """Options of ``screen`` beside those of its workflow."""

    workers: int | None = option(
        None, "processes; else one per CPU, or one on a GPU; 0 works in this process", minimum=0
    )
    batch: int = option(32, "structures that a worker takes at once", minimum=1)
    shard: str | None = option(None, "do part i of N alone, in a folder of its own", metavar="i/N")
    merge: bool = option(False, "gather what the shards have done; compute nothing")
    folders: bool = option(False, "keep a run folder for each structure")
    retry_failed: bool = option(False, "with --resume, try again what failed")
    where: str | None = option(None, "which rows to select: 'bulk_modulus > 100'", metavar="CONDITION")
    sort: str | None = option(None, "column to rank the selected rows by", metavar="COLUMN")
    descending: bool = option(False, "largest first")
    executor: str = option(
        "pool",
        "who runs the workers: our own pool, or Parsl (extra 'hpc')",
        choices=("pool", "parsl"),
    )


@dataclass(kw_only=True)
class ScreenResult(Result):
    """What ``screen`` returns.

    Attributes:
        n_structures: Structures given; of this shard, if there is one.
        n_done: Of them, those with a result.
        n_failed: Of them, those that failed; their rows say why.
        n_not_converged: Of those with a result, those that are not converged.
        n_waiting: Those that no shard has done yet.
        n_selected: Rows that ``where`` selects; all with a result without it.
        rows: Every row, in the order of the structures.
        selected: The selected rows, ranked.
    """

    n_structures: int = 0
    n_done: int = 0
    n_failed: int = 0
    n_not_converged: int = 0
    n_waiting: int = 0
    n_selected: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False}, repr=False)
    selected: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False}, repr=False)


def screen(
    workflow: str,
    structures: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    seed: int | None = None,
    threads: int | None = None,
    pool: Executor | None = None,
    **options: Any,
) -> ScreenResult:
    """Run a workflow on each structure; a row for each, whatever becomes of the others.

    Args:
        workflow: Any workflow of a structure: ``relax``, ``elastic`` ...
        structures: Files, patterns and folders (every frame of each), ``ase.Atoms``, or a mixture.
        model: Registered name, file, ``ase:MODULE:CLASS``, ``Potential`` or ASE calculator. What has no
            name cannot be sent to a worker: it works in this process.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted; what is done is not done again.
        overwrite: Replace a folder of an earlier run.
        dtype: Precision of the model.
        device: Device of the model.
        seed: Recorded, and passed to a workflow that takes one.
        threads: CPU threads of each worker; 1 if None.
        pool: Any ``concurrent.futures.Executor`` instead of one made here; it is not shut down.
        **options: Fields of :class:`ScreenOptions` and options of the workflow.

    Raises:
        InputError: An unknown workflow, a wrong option or condition, no such model, no structures.
    """
    from atomml.workflows.row_selection import RowFilter
    from atomml.workflows.screens.screening_entries import screened_sources
    from atomml.workflows.screens.screening_run import Screen

    chosen, rest = screen_options(options)
    settings = _workflow_options(workflow, rest, dtype)
    if chosen.where is not None:
        RowFilter(chosen.where)
    dtype = str(settings.get("dtype", dtype))
    used = given_model(model, dtype=dtype, device=device, allow_code=isinstance(model, GivenModel))
    started = time.perf_counter()
    named = is_named(model, used, chosen)
    sources = screened_sources(structures)
    work = Screen(workflow, sources, used, named, chosen, settings, dtype, device, threads, pool)
    facts = work.facts() | {"seed": seed}
    where = work.prepare(out, facts)
    with open_with_options(
        where,
        "screen",
        chosen,
        resume=resume,
        overwrite=overwrite,
        may_change=MAY_CHANGE,
        **facts,
    ) as run:
        return work.go(run, started)


def screen_options(options: Mapping[str, Any]) -> tuple[ScreenOptions, dict[str, Any]]:
    """The options of a screen, and those that are left for what it runs.

    Raises:
        OptionError: A wrong value.
    """
    own = {key: value for key, value in options.items() if key in ScreenOptions.__dataclass_fields__}
    return build_options(ScreenOptions, own), {k: v for k, v in options.items() if k not in own}


def is_named(model: Any, used: GivenModel, chosen: ScreenOptions) -> bool:
    """Whether a worker can load the model.

    Raises:
        OptionError: It cannot, and workers are asked for; or shards are to be both done and gathered.
    """
    from atomml.workflows.shards import shard_named
    from atomml.workflows.work_sharing import has_name

    shard_named(chosen.shard, chosen.merge)
    return has_name(model, used, chosen.workers)


def screened_function(workflow: str) -> Any:
    """The function of a workflow that takes a structure.

    Raises:
        OptionError: There is none of this name.
    """
    from atomml import workflows

    names = workflows.OF_ONE_STRUCTURE
    if workflow not in names:
        hint = close_match(workflow, names, f"there are {', '.join(names)}.")
        raise OptionError(f"There is no workflow {workflow!r} to screen with; {hint}")
    return getattr(workflows, workflow)


def _workflow_options(workflow: str, given: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Every option of the workflow, checked; its own ``dtype`` among them if it has one."""
    module = import_module(screened_function(workflow).__module__)
    kind = getattr(module, next(name for name in module.__all__ if name.endswith("Options")))
    settings = as_config(build_options(kind, dict(given)))
    settings.pop("allow_code", None)
    return settings
