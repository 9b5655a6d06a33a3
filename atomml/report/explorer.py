"""Rows of a screen to look through: a histogram, a scatter of any two columns, a row at a click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from atomml.report.markup import clean, embed_json
from atomml.report.quantities import label_of, split_unit
from atomml.report.sections import Section

__all__ = ["Explorer"]

_MAX_TEXT = 200


@dataclass(frozen=True)
class Explorer(Section):
    """A histogram and a scatter of chosen columns; a click shows a row and its structure.

    Attributes:
        columns: Names of the columns; a unit is read from the end of a name.
        rows: One sequence of values per row.
        frames: The frame of the page's viewer that shows each row's structure; -1 for none.
        folders: The run folder of each row, beside the page; None where there is none.
        preferred: Places of the two columns that are drawn first.
    """

    script: ClassVar[str] = "explorer.js"

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    frames: Sequence[int]
    folders: Sequence[str | None]
    preferred: Sequence[int]

    def body(self, anchor: str) -> str:
        """The explorer's place and its data."""
        columns = [self._column(number, name) for number, name in enumerate(self.columns)]
        data = {
            "columns": columns,
            "frames": list(self.frames),
            "folders": list(self.folders) if any(self.folders) else [],
            "preferred": [number for number in self.preferred if columns[number]["numeric"]],
        }
        return (
            f'<div class="explorer"><script type="application/json">{embed_json(data)}</script>'
            "<noscript>The plots are drawn by a script, which is switched off.</noscript></div>"
        )

    def _column(self, number: int, name: str) -> dict[str, Any]:
        values = [row[number] for row in self.rows]
        numeric = any(_is_number(value) for value in values)
        numeric = numeric and all(value is None or _is_number(value) for value in values)
        shown = [None if value is None else _rounded(value) if numeric else _text(value) for value in values]
        return {"label": label_of(name), "unit": split_unit(name)[1], "numeric": numeric, "values": shown}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rounded(value: float) -> float | int | None:
    """Six digits, which no eye tells from more; None for what is not finite."""
    if isinstance(value, int):
        return value
    return float(f"{value:.6g}") if value - value == 0 else None


def _text(value: Any) -> str:
    text = clean(value)
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + " …"
