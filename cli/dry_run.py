"""``--dry-run``: everything is read and checked, the model is asked once, nothing is written."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from atomml.cli.display import logging_to_stderr, print_json, say, table

if TYPE_CHECKING:
    from atomml.cli.workflow import Plan
    from atomml.workflows.inputs import GivenModel, GivenStructure

__all__ = ["dry_run", "duration", "plan_report", "print_plan"]

_CRYSTALS = ("eos", "elastic", "phonons", "qha", "strain", "surface", "formation", "vacancy", "defect")
_EACH_RELAXED = ("relax", "formation")
_EACH_ONCE = ("predict", "evaluate")
"""Commands that evaluate each structure once."""


def dry_run(plan: Plan) -> int:
    """Print what the run would do, and what one timed evaluation says it would cost; returns 0.

    Raises:
        InputError: As the run itself would.
    """
    with logging_to_stderr(plan.flags.quiet, plan.flags.debug):
        report = plan_report(plan)
    if plan.flags.json:
        print_json(report)
    else:
        print_plan(report, plan.workflow.specs())
    return 0


def plan_report(plan: Plan) -> dict[str, Any]:
    """What the run would do: sizes, model, time, folder, options and warnings.

    Raises:
        InputError: As the run itself would.
    """
    from atomml.config import build_options
    from atomml.workflows.inputs import check_covered, given_model, with_charge

    values = plan.values
    settings = {"dtype": values["dtype"], "device": values["device"]}
    model = given_model(_untrained(plan) or plan.model(), **settings)
    models = [model]
    if values.get("baseline") is not None:
        models.append(given_model(plan.model("baseline"), **settings))
    largest: GivenStructure | None = None
    n_structures = n_atoms = 0
    warnings: list[str] = []
    own = plan.workflow.specs()
    options = build_options(type_of(plan), {key: value for key, value in values.items() if key in own})
    for given in _read(plan, options):
        with_charge(given, values.get("charge"), values.get("spin"))
        for one in models:
            check_covered(given, one, warnings.append, bool(values.get("allow_charge_mismatch")))
        n_structures, n_atoms = n_structures + 1, n_atoms + len(given.atoms)
        if largest is None or len(given.atoms) > len(largest.atoms):
            largest = given
    assert largest is not None
    _check(plan, largest, options)
    return _report(plan, model, largest, n_structures, n_atoms) | {"warnings": warnings}


def _untrained(plan: Plan) -> Any:
    """A model of the shape that ``learn`` would train from nothing; None where there is a model already."""
    from atomml.registry import family_class, undisturbed_generator
    from atomml.workflows.active.learning_rounds import given_structures
    from atomml.workflows.trainings.training_presets import preset_of

    shape = preset_of(plan.values["model"]) if plan.name == "learn" else None
    if shape is None:
        return None
    elements = {int(z) for _, atoms in given_structures(plan.structures) for z in atoms.numbers}
    family = shape.pop("family")
    with undisturbed_generator():
        return family_class(family, "The preset").fresh(plan.values["model"], sorted(elements), shape)


def _read(plan: Plan, options: Any) -> Iterator[GivenStructure]:
    """Every structure of the plan; the labels of data are read with it."""
    from atomml.workflows.inputs import GivenStructure, structures_of

    if not plan.workflow.reads_data:
        from atomml.workflows.dynamics.trajectories import trajectory_file

        for source in plan.structures:
            yield from structures_of(trajectory_file(source))
        return
    from atomml.data.dataset import open_dataset
    from atomml.data.label_keys import LabelKeys

    for entry in open_dataset(plan.structures, LabelKeys.of(options)):
        yield GivenStructure(entry.atoms, entry.where)


def type_of(plan: Plan) -> Any:
    """The options dataclass of the plan's workflow."""
    from importlib import import_module

    return getattr(import_module(plan.workflow.module), plan.workflow.options)


def _check(plan: Plan, given: GivenStructure, options: Any) -> None:
    name = plan.name
    if name == "learn":
        from atomml.workflows.active.learning import check
        from atomml.workflows.active.learning_start import look_at

        check(options, [given.atoms])
        look_at(options, [(given.label, given.atoms)], plan.values["model"], plan.values["dtype"])
    elif name == "relax":
        from atomml.workflows.relaxing.relaxation import check_relaxable

        check_relaxable(given, options)
    elif name in _CRYSTALS:
        from atomml.workflows.crystals.crystal import check_crystal

        check_crystal(given)


def _report(
    plan: Plan, model: GivenModel, largest: GivenStructure, n_structures: int, n_atoms: int
) -> dict[str, Any]:
    values = plan.values
    atoms = largest.atoms
    # Of a crystal the cell is timed, and the workflow counts how often: its supercells are many cells.
    repeats = (1, 1, 1) if plan.name in _CRYSTALS else values.get("supercell") or (1, 1, 1)
    copies = math.prod(repeats)
    seconds, edges = _time_once(model, atoms)
    steps = _steps(plan, atoms)
    per_step = seconds * copies
    total = per_step * steps if plan.name not in _EACH_ONCE else seconds * n_atoms / len(atoms)
    return {
        "command": plan.name,
        "structures": n_structures,
        "atoms": n_atoms if plan.name in _EACH_ONCE else len(atoms) * copies,
        "edges": None if edges is None else edges * copies,
        "model": model.record(),
        "evaluation_s": per_step,
        "steps": steps if plan.name not in _EACH_ONCE else None,
        "estimated_s": total * (n_structures if plan.name in _EACH_RELAXED else 1),
        "estimate": "at most" if plan.name == "relax" else "about",
        "out": str(plan.folder),
        "out_exists": plan.folder.exists(),
        "options": values,
    }


def _steps(plan: Plan, atoms: Any) -> int:
    """Evaluations of the model: what the workflow says, else its steps."""
    from importlib import import_module

    from atomml.config import build_options

    count = getattr(import_module(plan.workflow.module), "evaluations", None)
    if count is None:
        return int(plan.values.get("steps", 1))
    own = plan.workflow.specs()
    values = {key: value for key, value in plan.values.items() if key in own}
    return int(count(build_options(type_of(plan), values), atoms))


def _time_once(model: GivenModel, atoms: Any) -> tuple[float, int | None]:
    """Seconds of one evaluation with forces (the second: the first one compiles), and the edges."""
    atoms = atoms.copy()
    atoms.calc = model.calculator()
    atoms.get_forces()
    atoms.rattle(1e-6, seed=0)
    started = time.perf_counter()
    atoms.get_forces()
    seconds = time.perf_counter() - started
    if model.potential is None:
        return seconds, None
    from atomml.graph import build_graph

    return seconds, build_graph(atoms, model.potential.info.cutoff).n_edges


def print_plan(report: dict[str, Any], own: dict[str, Any]) -> None:
    """The report as two tables; ``own`` are the options of the workflow, whose units are shown."""
    values = report["options"]
    model = report["model"]
    rows = [
        ["structures", report["structures"]],
        ["atoms", report["atoms"]],
        ["edges", report["edges"]],
        ["model", f"{model['name']} ({model.get('dtype', '-')} on {model.get('device', '-')})"],
        ["one evaluation", f"{1000 * report['evaluation_s']:.3g} ms"],
        ["steps", report["steps"]],
        ["time", f"{report['estimate']} {duration(report['estimated_s'])}"],
        ["folder", f"{report['out']}/" + (" (exists)" if report["out_exists"] else "")],
    ]
    say("Plan (nothing is written):")
    say(table([], [["  " + name, value] for name, value in rows if value is not None]).rstrip("\n"))
    say("Options:")
    shown = [[f"  {key}", str(value), own[key].unit if key in own else ""] for key, value in values.items()]
    say(table([], shown).rstrip("\n"))
    for warning in report["warnings"]:
        say(f"warning: {warning}")


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2g} seconds"
