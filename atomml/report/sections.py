"""The parts that a report is made of; each knows its own HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from atomml.report.decimation import evenly_spaced
from atomml.report.frames import pack_frames
from atomml.report.markup import embed_json, escape
from atomml.report.quantities import exact_value, format_value, label_of, split_unit

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["ModelCard", "Paragraphs", "Plot", "Section", "Settings", "Table", "Tiles", "Viewer"]

PLAIN_ROWS = 100
"""A table of more rows than this is paged by the script; without one the first rows are there."""

MAX_ROWS = 10_000
MAX_FRAMES = 150
MAX_ATOMS = 20_000
_MAX_TEXT = 4000
_MAX_NAMES = 100


@dataclass(frozen=True)
class Section:
    """A part of a report with a heading, an anchor and a place in the page's contents."""

    title: str

    script: ClassVar[str] = ""
    """A script of this package that the section needs beside those of every page."""

    def body(self, anchor: str) -> str:
        """The HTML below the heading; names in it begin with ``anchor``."""
        raise NotImplementedError

    @property
    def wide(self) -> bool:
        """Whether it takes the page's whole width; a plot takes half of it where there is room."""
        return True


@dataclass(frozen=True)
class Tiles(Section):
    """The few numbers that matter, large."""

    rows: Sequence[tuple[str, Any, str]]

    def body(self, anchor: str) -> str:
        """One tile per row of label, value and unit."""
        tiles = (
            f'<div class="tile"><dt>{_text(label)}</dt><dd>{_text(format_value(value, unit))}'
            f"{_unit(unit)}</dd></div>"
            for label, value, unit in self.rows
        )
        return f'<dl class="tiles">{"".join(tiles)}</dl>'


@dataclass(frozen=True)
class Settings(Section):
    """Names and values; a mapping inside a mapping is written with dots."""

    values: Mapping[str, Any]
    units: Mapping[str, str]

    def body(self, anchor: str) -> str:
        """One row per name."""
        rows = "".join(
            f"<div><dt>{_text(name)}</dt><dd>{_text(exact_value(value))}"
            f"{_unit(self.units.get(name, '') if value not in (None, '') else '')}</dd></div>"
            for name, value in list(flatten(self.values).items())[:_MAX_NAMES]
        )
        return f'<dl class="settings">{rows}</dl>'


@dataclass(frozen=True)
class ModelCard(Section):
    """What model was used: name, digest, elements, data, licence."""

    values: Mapping[str, Any]

    def body(self, anchor: str) -> str:
        """One row per fact; the digest in full, in a monospaced face."""
        rows = []
        for name, value in flatten(self.values).items():
            label, unit = label_of(name), split_unit(name)[1]
            mono = ' class="digest"' if "sha256" in name else ""
            shown = _elements(value) if name == "elements" else _text(exact_value(value))
            rows.append(f"<div><dt>{_text(label)}</dt><dd{mono}>{shown}{_unit(unit)}</dd></div>")
        return f'<dl class="settings card">{"".join(rows)}</dl>'


@dataclass(frozen=True)
class Paragraphs(Section):
    """Plain text; an empty line begins a paragraph."""

    text: str

    def body(self, anchor: str) -> str:
        """One ``<p>`` per paragraph."""
        parts = (part.strip() for part in self.text[: 50 * _MAX_TEXT].replace("\r\n", "\n").split("\n\n"))
        return "".join(f"<p>{escape(part)}</p>" for part in parts if part)


@dataclass(frozen=True)
class Plot(Section):
    """An inline SVG with a caption."""

    svg: str
    caption: str

    def body(self, anchor: str) -> str:
        """A figure."""
        caption = f"<figcaption>{_text(self.caption)}</figcaption>" if self.caption else ""
        return f"<figure>{self.svg}{caption}</figure>"

    @property
    def wide(self) -> bool:
        """A plot shares its row."""
        return False


@dataclass(frozen=True)
class Table(Section):
    """Rows that a click on a heading sorts; long ones come in pages with a filter."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    total: int

    def body(self, anchor: str) -> str:
        """The table; of a long one the first rows, and all of them as data for the script."""
        units = [split_unit(column)[1] for column in self.columns]
        cells = [[_cell(value, unit) for value, unit in zip(row, units, strict=True)] for row in self.rows]
        numeric = [self._is_numeric(number) for number in range(len(self.columns))]
        head = "".join(
            f'<th scope="col"{" class=n" if is_number else ""}>'
            f'<button type="button">{_text(label_of(column))}{_unit(unit)}</button></th>'
            for column, unit, is_number in zip(self.columns, units, numeric, strict=True)
        )
        rows = "".join(_row(row, numeric) for row in cells[:PLAIN_ROWS])
        note, data = "", ""
        if self.total > len(cells):
            note = f'<p class="note">The first {len(cells):,} of {self.total:,} rows.</p>'
        if len(cells) > PLAIN_ROWS:
            data = f'<script type="application/json">{embed_json(cells)}</script>'
        flags = "".join("01"[flag] for flag in numeric)
        return (
            f'<div class="table" data-numeric="{flags}">{data}<div class="scroll"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}</div>"
        )

    def shortened(self, n_rows: int) -> Table:
        """The same table with its first ``n_rows`` rows only."""
        return Table(self.title, self.columns, self.rows[:n_rows], self.total)

    def _is_numeric(self, column: int) -> bool:
        values = [row[column] for row in self.rows if row[column] is not None]
        return bool(values) and all(
            isinstance(value, Real) and not isinstance(value, bool) for value in values
        )


@dataclass(frozen=True)
class Viewer(Section):
    """Structures that can be turned, and played if there are several."""

    frames: Sequence[Atoms]
    values: Mapping[str, Sequence[float]]
    indices: Sequence[int]
    total: int

    def body(self, anchor: str) -> str:
        """The viewer's place, its data, and what is shown of how much."""
        largest = max((len(atoms) for atoms in self.frames), default=0)
        if not self.frames or largest > MAX_ATOMS:
            return (
                f'<p class="note">Not shown: {largest:,} atoms are too many for this page; '
                "open the run's files with another program.</p>"
            )
        data = pack_frames(self.frames, self.values)
        data["title"] = self.title
        data["frameNumbers"] = list(self.indices)
        shown = ""
        if self.total > len(self.frames):
            shown = (
                f'<p class="note">{len(self.frames):,} of {self.total:,} frames, evenly spaced, '
                "to keep this file small.</p>"
            )
        return (
            f'<div class="viewer"><script type="application/json">{embed_json(data)}</script>'
            f"<noscript>The structure is drawn by a script, which is switched off.</noscript></div>{shown}"
        )

    def thinned(self, n_frames: int) -> Viewer:
        """The same viewer with at most ``n_frames`` frames, evenly spaced, the last among them."""
        keep = evenly_spaced(len(self.frames), n_frames)
        return Viewer(
            self.title,
            [self.frames[i] for i in keep],
            {name: [data[i] for i in keep] for name, data in self.values.items()},
            [self.indices[i] for i in keep],
            self.total,
        )


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with names such as ``model.name``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _text(text: object) -> str:
    words = str(text)
    return escape(words if len(words) <= _MAX_TEXT else words[:_MAX_TEXT] + " …")


def _unit(unit: str) -> str:
    return f' <span class="unit">{_text(unit)}</span>' if unit else ""


def _cell(value: Any, unit: str) -> str:
    words = format_value(value, unit)
    return words if len(words) <= _MAX_TEXT else words[:_MAX_TEXT] + " …"


def _row(cells: Sequence[str], numeric: Sequence[bool]) -> str:
    parts = (
        f"<td class=n>{escape(cell)}</td>" if is_number else f"<td>{escape(cell)}</td>"
        for cell, is_number in zip(cells, numeric, strict=True)
    )
    return f"<tr>{''.join(parts)}</tr>"


def _elements(value: Any) -> str:
    symbols = value if isinstance(value, (list, tuple)) else [value]
    return f"{len(symbols)}: {_text(' '.join(str(symbol) for symbol in symbols))}"
