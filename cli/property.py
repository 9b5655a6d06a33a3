"""``atomml property train|predict|evaluate|study|cards``: properties of structures by learned models."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from atomml.cli.parsing import Parser
from atomml.cli.run_group import call_shown, named, parse_group, refuse_resume
from atomml.cli.subcommands import Subcommand, run_subcommand
from atomml.errors import OptionError

__all__ = ["SUBCOMMANDS", "run", "run_cards", "run_evaluate", "run_predict", "run_study", "run_train"]

SUBCOMMANDS = {
    "train": Subcommand("atomml.cli.property:run_train", "a model of properties from labelled structures"),
    "predict": Subcommand("atomml.cli.property:run_predict", "properties of structures, with intervals"),
    "evaluate": Subcommand("atomml.cli.property:run_evaluate", "errors on labelled structures, and coverage"),
    "study": Subcommand("atomml.cli.property:run_study", "families side by side on the same folds"),
    "vacancies": Subcommand(
        "atomml.cli.property_vacancies:run_vacancies", "a vacancy on every site of crystals"
    ),
    "vacancies-train": Subcommand(
        "atomml.cli.property_vacancies:run_train", "a regressor of vacancies from features of sites"
    ),
    "cards": Subcommand("atomml.cli.property:run_cards", "what a model was trained on, errors, limits"),
}
"""Name of each subcommand to what does it; a line here adds one."""


def run(name: str, argv: Sequence[str]) -> int:
    """Find the subcommand and run it; returns the exit code."""
    summary = "Properties of crystals and molecules from their structure: trained, predicted, trusted or not."
    return run_subcommand("property", summary, SUBCOMMANDS, argv)


def run_train(name: str, argv: Sequence[str]) -> int:
    """``atomml property train F --target S_p --family cgcnn``."""
    from atomml.workflows.properties.property_training import PropertyTrainOptions

    _refuse_twice(argv)
    parser = Parser("atomml property train", "Train a model of one or several properties.")
    files = parser.add_argument_group("files and folder")
    files.add_argument("train", nargs="*", metavar="FILE", help="labelled structures to train on")
    for key, text in (
        ("valid", "structures to choose weights by; else a part of the others is held out"),
        ("test", "structures to report errors on at the end"),
    ):
        files.add_argument(f"--{key}", nargs="+", default=argparse.SUPPRESS, metavar="FILE", help=text)
    beside = ("train", "valid", "test")
    found, values = parse_group("property train", parser, PropertyTrainOptions, argv, beside)
    given = named(found, "property train", beside)
    if not given.get("train"):
        raise OptionError("atomml property train needs labelled structures: name files.")
    _refuse_dry_run(found)
    from atomml.workflows.properties.property_training import train_property

    results: list[Any] = []
    kept = _keeping(train_property, results)
    code = call_shown("property train", found, kept, resume=found.resume, **given, **values)
    _say_scores(found, results[0], {f"{name} set": scores for name, scores in results[0].scores.items()})
    return code


def run_predict(name: str, argv: Sequence[str]) -> int:
    """``atomml property predict F --model M``."""
    from atomml.workflows.properties.property_prediction import PropertyPredictOptions, predict_property

    parser = Parser("atomml property predict", "Properties with intervals, and how far to trust each.")
    given, values, found = _with_model("predict", parser, PropertyPredictOptions, argv)
    return call_shown("property predict", found, predict_property, resume=found.resume, **given, **values)


def run_evaluate(name: str, argv: Sequence[str]) -> int:
    """``atomml property evaluate F --model M``."""
    from atomml.workflows.properties.property_evaluation import PropertyEvaluateOptions, evaluate_property

    parser = Parser("atomml property evaluate", "Errors and coverage on labelled structures.")
    given, values, found = _with_model("evaluate", parser, PropertyEvaluateOptions, argv)
    refuse_resume(found, "property evaluate")
    data = given.pop("structures")
    results: list[Any] = []
    code = call_shown(
        "property evaluate", found, _keeping(evaluate_property, results), data=data, **given, **values
    )
    shown = {"all structures": results[0].scores, "without training structures": results[0].scores_new}
    _say_scores(found, results[0], shown | {"outside the domain": results[0].scores_outside})
    return code


def run_study(name: str, argv: Sequence[str]) -> int:
    """``atomml property study F --target S_p:abs``."""
    from atomml.workflows.properties.property_study import PropertyStudyOptions, study_property

    parser = Parser("atomml property study", "Families side by side on the same folds, with importances.")
    parser.add_argument("structures", nargs="*", metavar="FILE", help="labelled structures")
    found, values = parse_group("property study", parser, PropertyStudyOptions, argv, ("structures",))
    given = named(found, "property study", ("structures",))
    if not given.get("structures"):
        raise OptionError("atomml property study needs labelled structures: name files.")
    _refuse_dry_run(found)
    data, results = given.pop("structures"), list[Any]()
    kept = _keeping(study_property, results)
    code = call_shown("property study", found, kept, data=data, resume=found.resume, **given, **values)
    for scheme, models in results[0].table.items():
        _say_scores(
            found, results[0], {f"{scheme} folds, {model}": scores for model, scores in models.items()}
        )
    return code


def run_cards(name: str, argv: Sequence[str]) -> int:
    """``atomml property cards M``: the model's card, as text or JSON."""
    from atomml.cli.display import print_json, say

    parser = Parser("atomml property cards", "Data, splits, errors with intervals, limits and digest.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="checkpoints of property train")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--to", default="", metavar="FILE.md", help="write the text to a file, too")
    found = parser.parse(argv)
    from atomml.property.card import card_of, card_text

    cards = [card_of(path) for path in found.models]
    text = "\n\n".join(card_text(card) for card in cards)
    if found.to:
        from pathlib import Path

        from atomml.files import write_atomic

        write_atomic(Path(found.to), text + "\n")
    if found.json:
        print_json(cards if len(cards) > 1 else cards[0])
    else:
        say(text)
    return 0


def _with_model(
    name: str, parser: Parser, options: type, argv: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any], argparse.Namespace]:
    """What is read, the model and the folder; options; the flags."""
    parser.add_argument(
        "structures", nargs="*", metavar="STRUCTURE", help="what to read; FILE@INDEX names frames"
    )
    parser.add_argument("--model", default=argparse.SUPPRESS, metavar="FILE", help="checkpoint of a training")
    found, values = parse_group(f"property {name}", parser, options, argv, ("structures", "model"))
    given = named(found, f"property {name}", ("structures", "model"))
    if not given.get("structures"):
        raise OptionError(f"atomml property {name} needs something to read: name files.")
    if "model" not in given:
        raise OptionError(f"atomml property {name} needs a model: name its checkpoint with --model.")
    _refuse_dry_run(found)
    return given, values, found


def _keeping(function: Any, kept: list[Any]) -> Any:
    """The workflow, whose result is kept beside being given back."""

    def call(**given: Any) -> Any:
        """Call it."""
        kept.append(function(**given))
        return kept[-1]

    return call


def _say_scores(found: argparse.Namespace, result: Any, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Print errors with their 95% intervals, a table for each set that has some."""
    from atomml.cli.display import say, table
    from atomml.property.card import interval_text

    if found.json or found.quiet or not result.summary:
        return
    for title, scores in tables.items():
        if not scores:
            continue
        names = list(dict.fromkeys(name for one in scores.values() for name in one if name != "n"))
        rows = [
            [key, str(one["n"]), *(interval_text(one.get(name)) for name in names)]
            for key, one in scores.items()
        ]
        say(f"{title}, with 95% intervals")
        say(table(["target", "n", *names], rows).rstrip("\n"))


def _refuse_twice(argv: Sequence[str]) -> None:
    """A flag that is given twice counts once; of targets the first would be lost in silence."""
    for flag in ("--target", "--family", "--descriptors", "--classes"):
        if sum(word == flag or word.startswith(f"{flag}=") for word in argv) > 1:
            raise OptionError(f"{flag} is given twice: write its values once, with commas between.")


def _refuse_dry_run(found: argparse.Namespace) -> None:
    if found.dry_run:
        raise OptionError("--dry-run is not offered here: --max-steps 1 tells what a step takes.")
