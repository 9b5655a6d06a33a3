"""``atomml rdf TRAJECTORY`` and ``atomml vdos TRAJECTORY``: no model, one trajectory."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from atomml.cli.catalogue import Workflow
from atomml.cli.parsing import Parser, add_flags, layers_of, resolve_flags
from atomml.cli.workflow import add_control_flags, set_threads, show_result
from atomml.config import option_specs
from atomml.errors import OptionError

__all__ = ["ANALYSES", "run"]

ANALYSES = {
    "rdf": Workflow(
        "atomml.workflows.dynamics.trajectory_analysis",
        "rdf",
        "RdfOptions",
        "Radial distribution functions of all atoms and of each pair of elements, and numbers of neighbours.",
    ),
    "vdos": Workflow(
        "atomml.workflows.dynamics.trajectory_analysis",
        "vdos",
        "VdosOptions",
        "Vibrational density of states from velocities: the spectrum of their mass-weighted autocorrelation, "
        "by element, with three states an atom.",
    ),
}

_SHARED = ("out", "threads")


def run(name: str, argv: Sequence[str]) -> int:
    """Parse, check, and analyse the trajectory; returns the exit code."""
    from atomml.cli.workflow import SharedOptions

    analysis = ANALYSES[name]
    own = analysis.specs()
    shared = {key: spec for key, spec in option_specs(SharedOptions).items() if key in _SHARED}
    parser = Parser(f"atomml {name}", analysis.description)
    help_text = "extended XYZ, anything ASE reads, or a run folder of md; FILE@START:STOP:STEP takes a part"
    parser.add_argument("trajectory", nargs="?", metavar="TRAJECTORY", help=help_text)
    add_flags(parser, own, f"options of {name}")
    add_flags(parser, shared, "folder")
    add_control_flags(parser)
    found = parser.parse(argv)
    values = resolve_flags(own | shared, found, name, extra=("structure", "structures"))
    set_threads(values.pop("threads"))
    source = found.trajectory
    for _, layer in layers_of(found, name) if source is None else ():
        listed = layer.get("structures", source)
        source = listed[0] if isinstance(listed, list) and listed else listed
    if not isinstance(source, str):
        raise OptionError(f"atomml {name} needs a trajectory: name a file or a run folder of md.")
    out = values.pop("out")
    folder = Path(out) if out else _default_folder(name, source)
    if found.dry_run:
        return _dry_run(analysis, source, values, folder)
    return _carry_out(name, analysis, source, values, folder, found)


def _default_folder(name: str, source: str) -> Path:
    """``rdf-STEM``; of the trajectory in a run folder the folder's name says more than the file's."""
    from atomml.run import default_folder

    path = Path(source.rpartition("@")[0] or source)
    inside = path.name == "trajectory.extxyz" and path.resolve().parent.name
    return default_folder(name, inside or path.resolve().name)


def _carry_out(
    name: str, analysis: Workflow, source: str, values: Mapping[str, Any], folder: Path, flags: Any
) -> int:
    from atomml.cli.display import print_json, run_shown, table

    with run_shown(name, flags):
        result = analysis.call(False)(
            source, out=folder, resume=flags.resume, overwrite=flags.overwrite, **values
        )
    if flags.json:
        print_json(result.summary)
    elif not flags.quiet:
        pairs = getattr(result, "pairs", [])
        if pairs:
            sys.stdout.write(table(list(pairs[0]), [list(pair.values()) for pair in pairs]))
        show_result(result)
    return 0


def _dry_run(analysis: Workflow, source: str, values: Mapping[str, Any], folder: Path) -> int:
    """Read and check, and say what there is."""
    from atomml.cli.display import say, table
    from atomml.config import build_options
    from atomml.workflows.dynamics.trajectories import read_trajectory

    options: Any = build_options(getattr(import_module(analysis.module), analysis.options), dict(values))
    frames = read_trajectory(source, skip=options.skip, stride=options.stride)
    rows = [["frames", str(frames.n_frames)], ["atoms", str(len(frames.numbers))], ["folder", f"{folder}/"]]
    say("Plan (nothing is written):")
    say(table([], rows + [[key, str(value)] for key, value in values.items()]).rstrip("\n"))
    return 0
