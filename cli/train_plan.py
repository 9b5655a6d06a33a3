"""``--dry-run`` of ``atomml train`` and ``atomml finetune``."""

from __future__ import annotations

import argparse
from typing import Any

from atomml.cli.display import logging_to_stderr, print_json, say, table
from atomml.cli.dry_run import duration

__all__ = ["dry_run"]


def dry_run(name: str, given: dict[str, Any], values: dict[str, Any], found: argparse.Namespace) -> int:
    """Print what the training would do and cost; returns 0.

    Raises:
        InputError: As the training itself would.
    """
    from atomml.workflows.trainings.fine_tuning import plan_finetune
    from atomml.workflows.trainings.training import plan_train

    function: Any = plan_train if name == "train" else plan_finetune
    given.setdefault("train", ())
    with logging_to_stderr(found.quiet, found.debug):
        plan = function(**given, **values)
    if found.json:
        print_json(plan)
        return 0
    say("Plan (nothing is written):")
    rows = [
        ["model", f"{plan['model']} on {plan['device']}"],
        ["weights that learn", f"{plan['weights_that_learn']} of {plan['weights']}"],
        ["steps", f"{plan['steps']} ({plan['steps_per_epoch']} an epoch)"],
        ["one step", f"{1000 * plan['step_s']:.3g} ms"],
        ["one validation", f"{plan['validation_s']:.3g} s"],
        ["time", f"about {duration(plan['estimated_s'])}"],
        ["folder", f"{plan['out']}/" + (" (exists)" if plan["out_exists"] else "")],
    ]
    say(table([], [["  " + key, value] for key, value in rows]).rstrip("\n"))
    columns = ["structures", "atoms", "energy", "forces", "stress", "magmoms"]
    sets = [["  " + what, *(seen[key] for key in columns)] for what, seen in plan["sets"].items()]
    say(table(["  set", *columns], sets).rstrip("\n"))
    if plan["held_out"]:
        say(plan["held_out"])
    for warning in plan["warnings"]:
        say(f"warning: {warning}")
    return 0
