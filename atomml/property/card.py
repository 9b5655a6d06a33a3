"""The card of a model of properties: what it was trained on, how far off it is, where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomml.property.ensemble import PropertyEnsemble, load_property_model

__all__ = ["card_of", "card_text", "interval_text", "limits_of"]


def card_of(model: str | Path | PropertyEnsemble) -> dict[str, Any]:
    """Everything that a model's file says of itself, fit for JSON.

    Raises:
        ModelError: A model of another kind.
        CheckpointError: A damaged or foreign file.
    """
    from ase.data import chemical_symbols

    stored = None if isinstance(model, PropertyEnsemble) else _stored_card(Path(model))
    if stored is not None:
        return stored
    ensemble = load_property_model(model, "cpu")
    info = ensemble.info
    return {
        "name": info.name,
        "sha256": info.sha256,
        "members": [member.info.family for member in ensemble.each()],
        "targets": [
            {"name": t.name, "scale": t.label, "unit": t.unit, "classes": list(t.classes)}
            for t in ensemble.targets
        ],
        "elements": [chemical_symbols[z] for z in info.elements],
        "citation": sorted({member.info.citation for member in ensemble.each() if member.info.citation}),
        **ensemble.card,
        "limits": limits_of(ensemble),
    }


def _stored_card(path: Path) -> dict[str, Any] | None:
    """The card in a checkpoint of a model of another kind, with its digest; None where there is none."""
    from ase.data import chemical_symbols

    from atomml.checkpoint import load_checkpoint

    if not path.is_file():
        return None
    found = load_checkpoint(path)
    card = found.header.get("extra", {}).get("card")
    if card is None:
        return None
    info = found.header["info"]
    elements = [chemical_symbols[z] for z in info["elements"]]
    return {"name": info["name"], "sha256": found.sha256, "elements": elements, **card}


def limits_of(ensemble: PropertyEnsemble) -> list[str]:
    """Where it should not be trusted, in sentences."""
    found = [
        f"It knows {len(ensemble.info.elements)} elements and refuses others.",
        "Of a structure outside its domain (column domain above 1) its error is unknown, and likely larger.",
    ]
    if ensemble.calibrations is None:
        found.append("It gives no intervals: it was trained without calibration structures.")
    else:
        level, n = ensemble.calibrations[0].level, ensemble.calibrations[0].n
        found.append(
            f"Its intervals hold the value for {level:.0%} of structures that are drawn like the {n} that "
            "they were calibrated with; for others they may not."
        )
    if ensemble.domain is None:
        found.append("It does not know how far a structure lies from its training set.")
    return found


def card_text(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    lines = [f"# {card['name']}", "", f"sha256 `{card['sha256']}`", ""]
    lines += [f"Members: {', '.join(card['members'])}."]
    lines += [f"Predicts: {', '.join(_target(one) for one in card['targets'])}.", ""]
    if "data" in card:
        lines += ["## Data", ""]
        lines += [f"- {one['name']}, sha256 `{one['sha256']}`" for one in card["data"].get("files", [])]
        lines += [f"- {text}" for text in card["data"].get("notes", [])]
        lines += [f"- Elements: {', '.join(card['elements'])}", ""]
    if "splits" in card:
        sizes = ", ".join(f"{n} {name}" for name, n in card["splits"]["sizes"].items())
        lines += ["## Splits", "", f"{sizes}; {card['splits']['how']}", ""]
    for what, scores in card.get("errors", {}).items():
        lines += [f"## Errors on the {what} set, with 95% intervals", ""]
        lines += [*_score_table(scores), ""]
    lines += ["## Limits", "", *(f"- {text}" for text in card["limits"])]
    if card["citation"]:
        lines += ["", "## Cite", "", *(f"- {text}" for text in card["citation"])]
    return "\n".join(lines)


def _target(one: Mapping[str, Any]) -> str:
    unit = f" ({one['unit']})" if one["unit"] else ""
    return f"{one['scale']}{unit}" + (f" of {', '.join(one['classes'])}" if one["classes"] else "")


def _score_table(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for one in scores.values() for name in one if name != "n"))
    head = ["target", "structures", *(name.replace("_", " ") for name in names)]
    rows = [
        [key, str(one["n"]), *(interval_text(one.get(name)) for name in names)] for key, one in scores.items()
    ]
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def interval_text(values: Any) -> str:
    """A number with its interval, ``0.85 (0.81 to 0.88)``, or without; "" for none."""
    if isinstance(values, float):
        return f"{values:.3g}"
    if not isinstance(values, list | tuple):
        return ""
    value, low, high = values
    return f"{value:.3g} ({low:.3g} to {high:.3g})"
