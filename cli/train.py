"""``atomml train CONFIG`` and ``atomml finetune --model M --train F...``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atomml.cli.parsing import Parser, add_flags, layers_of, resolve_flags
from atomml.cli.workflow import add_control_flags, set_threads, told
from atomml.config import OptionSpec, option_specs
from atomml.errors import OptionError
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from atomml.workflows.trainings.deepmd_input import DeepMDInput

__all__ = ["run"]

_FILES = ("train", "valid", "test")
_NOT_OPTIONS = (*_FILES, "model", "out", "threads", "json", "quiet")


def run(name: str, argv: Sequence[str]) -> int:
    """Parse, check, and train or fine-tune; returns the exit code."""
    specs = _specs(name)
    parser = _parser(name, specs)
    found = parser.parse(argv)
    if name == "train" and found.configuration is not None:
        if found.config is not None:
            raise OptionError("atomml train takes one configuration: name it once, without --config.")
        from atomml.workflows.trainings.training_presets import preset_path

        found.config = str(preset_path(found.configuration) or found.configuration)
    brought = _from_deepmd(found)
    weakest = [(found.from_deepmd, brought.options)] if brought is not None else []
    values = resolve_flags(specs, found, name, extra=_NOT_OPTIONS, weakest=weakest)
    given = _given(found, name, brought)
    threads = given.pop("threads", None)
    set_threads(None if threads is None else int(threads))
    if found.dry_run:
        from atomml.cli.train_plan import dry_run

        return dry_run(name, given, values, found)
    return _carry_out(name, given, values, found)


def _specs(name: str) -> dict[str, OptionSpec]:
    """The options of the command."""
    if name == "train":
        from atomml.workflows.trainings.training import TrainOptions

        return option_specs(TrainOptions)
    from atomml.workflows.trainings.fine_tuning import FineTuneOptions

    return option_specs(FineTuneOptions)


def _parser(name: str, specs: dict[str, OptionSpec]) -> Parser:
    if name == "train":
        parser = Parser(
            "atomml train",
            "Train a potential from fresh weights. The configuration names family and hyperparameters under "
            "'model', files under 'train', 'valid' and 'test', and any option below.",
        )
        parser.add_argument(
            "configuration",
            nargs="?",
            metavar="CONFIG",
            help="YAML file with model, files and options, or a preset: mace-small, mace-medium, dpa3-l6",
        )
        parser.add_argument(
            "--from-deepmd",
            metavar="INPUT",
            help="model, data, learning rate and loss of DeePMD-kit's input.json",
        )
    else:
        parser = Parser(
            "atomml finetune",
            "Teach a published model your own calculations: all its weights, some, or all with replay.",
        )
        parser.add_argument(
            "--model",
            default=argparse.SUPPRESS,
            metavar="MODEL",
            help=f"registered name or file [default {DEFAULT_MODEL}]",
        )
    files = parser.add_argument_group("files and folder")
    for key, text in (
        ("train", "files with labelled structures"),
        ("valid", "files to validate on; else a part of --train is held out"),
        ("test", "files to report errors on at the end"),
    ):
        files.add_argument(f"--{key}", nargs="+", default=argparse.SUPPRESS, metavar="FILE", help=text)
    files.add_argument(
        "--out", default=argparse.SUPPRESS, metavar="FOLDER", help="run folder; COMMAND-STEM if not given"
    )
    files.add_argument("--threads", type=int, default=argparse.SUPPRESS, metavar="N", help="CPU threads")
    own = {key: spec for key, spec in specs.items() if key != "replay"}
    if "replay" in specs:
        files.add_argument(
            "--replay", nargs="+", default=argparse.SUPPRESS, metavar="FILE", help=specs["replay"].help
        )
    add_flags(parser, own, f"options of {name}")
    add_control_flags(parser)
    return parser


def _from_deepmd(found: argparse.Namespace) -> DeepMDInput | None:
    """What ``--from-deepmd`` names; options that have no counterpart are said."""
    if getattr(found, "from_deepmd", None) is None:
        return None
    from atomml.workflows.trainings.deepmd_input import read_deepmd_input

    brought = read_deepmd_input(found.from_deepmd)
    if brought.not_taken and not found.quiet and not found.json:
        from atomml.cli.display import say

        say(f"Not taken from {found.from_deepmd}: {', '.join(brought.not_taken)}.")
    return brought


def _given(found: argparse.Namespace, name: str, brought: DeepMDInput | None) -> dict[str, Any]:
    """Model, files and folder: flags over ``--set`` over the configuration over DeePMD-kit's input."""
    given: dict[str, Any] = {}
    if brought is not None:
        given = {"model": brought.model, "train": brought.train, "valid": brought.valid}
    for _, layer in layers_of(found, name):
        given |= {key: layer[key] for key in ("model", "out", "threads", *_FILES) if key in layer}
    flags = vars(found)
    given |= {key: flags[key] for key in ("model", "out", "threads", *_FILES) if key in flags}
    if name == "train" and "model" not in given:
        raise OptionError(
            "atomml train needs a configuration that says what to train: 'model: chgnet', say "
            "('atomml train --help')."
        )
    return given


def _carry_out(name: str, given: dict[str, Any], values: dict[str, Any], found: argparse.Namespace) -> int:
    from atomml.cli.display import run_shown
    from atomml.workflows import finetune, train

    function: Any = train if name == "train" else finetune
    given.setdefault("train", ())
    with run_shown(name, found):
        result = function(**given, resume=found.resume, overwrite=found.overwrite, **values)
    if not result.summary:  # a process beside the first one: that one says everything
        return 0
    return told(result, found, _show)


def _show(result: Any) -> None:
    from atomml.cli.display import print_results, say

    print_results(result.results(), result.units())
    for line in _shifts(result.reference_shifts):
        say(line)
    if result.test:
        say("on the test set: " + ", ".join(_error(key, value) for key, value in result.test.items()))
    say(f"written to {result.folder}/ (report.html)")


def _error(key: str, value: float) -> str:
    """``test_energy_mae_meV_per_atom`` and its value in words."""
    from atomml.report.quantities import UNITS

    name, _, unit = key.removeprefix("test_").partition("_mae_")
    return f"{name} {value:.4g} {UNITS.get(unit, unit)}"


def _shifts(found: Mapping[str, Any]) -> Iterator[str]:
    """What was added to reference energies: a line for each head, or one."""
    for head, own in found.items():
        if isinstance(own, dict):
            yield from (f"{head}: {line}" for line in _shifts(own))
    energies = ", ".join(f"{symbol} {e:+.4f}" for symbol, e in found.items() if not isinstance(e, dict))
    if energies:
        yield f"added to reference energies: {energies} eV/atom"
