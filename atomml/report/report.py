"""One self-contained HTML page: opens offline, below 2 MB, the same bytes for the same content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.errors import InputError
from atomml.files import write_atomic
from atomml.report.decimation import evenly_spaced
from atomml.report.markup import check_svg
from atomml.report.page import MAX_BYTES, Header, fit, render
from atomml.report.sections import (
    MAX_FRAMES,
    MAX_ROWS,
    ModelCard,
    Paragraphs,
    Plot,
    Section,
    Settings,
    Table,
    Tiles,
    Viewer,
)

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Report"]


class Report:
    """A page that grows section by section and is written once.

    Every string is text: nothing a caller passes can become markup, apart from the SVG of a
    plot, which is checked. No clock, host or path enters by itself.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self._title = title
        self._subtitle = subtitle
        self._status: tuple[str, bool] | None = None
        self._warnings: list[str] = []
        self._sections: list[Section] = []
        self._limit = MAX_BYTES

    def allow(self, limit: int) -> None:
        """Let the page take up to ``limit`` bytes, where one of many rows would lose what it is for."""
        self._limit = limit

    def add(self, section: Section) -> None:
        """A section of another kind."""
        self._sections.append(section)

    def status(self, text: str, good: bool) -> None:
        """A badge beside the title, such as "converged" (``good``) or "not converged"."""
        self._status = (text, good)

    def warning(self, text: str) -> None:
        """One sentence for the box of warnings at the page's top; the same sentence appears once."""
        if text not in self._warnings:
            self._warnings.append(text)

    def summary(self, rows: Sequence[tuple[str, Any, str]], title: str = "Summary") -> None:
        """Large tiles, one per ``(label, value, unit)``."""
        self._sections.append(Tiles(title, [(label, value, unit) for label, value, unit in rows]))

    def settings(
        self, values: Mapping[str, Any], title: str = "Settings", units: Mapping[str, str] | None = None
    ) -> None:
        """A table of names and exact values, with their units; nested mappings are written with dots."""
        self._sections.append(Settings(title, dict(values), dict(units or {})))

    def model_card(self, values: Mapping[str, Any], title: str = "Model") -> None:
        """What model gave the numbers: name, sha256, elements, training data, licence ..."""
        self._sections.append(ModelCard(title, dict(values)))

    def text(self, title: str, text: str) -> None:
        """Plain paragraphs, divided by empty lines."""
        self._sections.append(Paragraphs(title, text))

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], total: int | None = None
    ) -> None:
        """A sortable table; a unit is read from the end of a column's name (``energy_eV``).

        At most 10,000 rows are kept, and the page says how many there are in all.

        Args:
            title: Heading.
            columns: Names of the columns.
            rows: One sequence of values per row, as many as there are columns.
            total: How many rows there really are, if ``rows`` is a part of them.

        Raises:
            InputError: A row whose length is not that of ``columns``.
        """
        for number, row in enumerate(rows):
            if len(row) != len(columns):
                raise InputError(
                    f"table {title!r}: row {number} has {len(row)} cells for {len(columns)} columns."
                )
        kept = [list(row) for row in rows[:MAX_ROWS]]
        self._sections.append(Table(title, list(columns), kept, max(len(rows), total or 0)))

    def plot(self, title: str, svg: str, caption: str = "") -> None:
        """An SVG from a plot function of this package.

        Raises:
            FileFormatError: The SVG is not well-formed, runs a script or refers to anything outside.
        """
        self._sections.append(Plot(title, check_svg(svg), caption))

    def viewer(
        self,
        title: str,
        frames: Sequence[Atoms],
        values: Mapping[str, Sequence[float]] | None = None,
        *,
        indices: Sequence[int] | None = None,
        total: int | None = None,
        most: int = MAX_FRAMES,
    ) -> None:
        """Structures to turn with the mouse; several become a trajectory with a slider.

        Args:
            title: Heading.
            frames: Structures with finite positions; evenly spaced ones are taken of many.
            values: Numbers to show beside each frame, one per frame (``{"time_fs": [...]}``).
            indices: The frames' numbers in the file they come from; 0, 1, 2 ... if None.
            total: How many frames that file has, if ``frames`` is a part of them.
            most: How many are shown; evenly spaced ones of more.

        Raises:
            InputError: ``values`` or ``indices`` of another length than ``frames``.
        """
        numbers = list(range(len(frames))) if indices is None else list(indices)
        for name, data in (("indices", numbers), *(values or {}).items()):
            if len(data) != len(frames):
                raise InputError(f"viewer {title!r}: {len(data)} {name} for {len(frames)} frames.")
        keep = evenly_spaced(len(frames), most)
        chosen = {name: [float(data[i]) for i in keep] for name, data in (values or {}).items()}
        shown = [frames[i].copy() for i in keep]
        count = max(len(frames), total or 0)
        self._sections.append(Viewer(title, shown, chosen, [numbers[i] for i in keep], count))

    def html(self) -> str:
        """The whole page, below 2 MB or what :meth:`allow` says.

        Frames, then rows, then plots are left out for it, and the page says so.
        """
        header = Header(self._title, self._subtitle, self._status, tuple(self._warnings))
        return render(header, fit(header, self._sections, self._limit))

    def write(self, path: Path) -> None:
        """Write the page to ``path`` atomically, as UTF-8."""
        write_atomic(Path(path), self.html())
