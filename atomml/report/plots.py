"""Plots as inline SVG: small, the same bytes for the same data, readable on light and dark pages.

matplotlib draws them through its object interface (no pyplot, no change to anybody's rcParams)
and is imported when the first plot is drawn. Colours are those of Okabe and Ito, which people
with any kind of colour vision tell apart (Okabe & Ito 2008, "Color Universal Design").
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atomml.errors import InputError
from atomml.report.decimation import decimate_line, thin_points
from atomml.report.markup import clean
from atomml.report.svg import INK, PALETTE, finish_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "Series",
    "band_plot",
    "bar_plot",
    "heat_map",
    "histogram",
    "line_plot",
    "parity_plot",
    "polar_plot",
]

Style = Literal["line", "dashed", "points", "steps"]
Scale = Literal["linear", "log"]

LINE_POINTS = 1600
CLOUD_POINTS = 6000
_MOST_BARS = 60
_LONGEST = 26  # letters of a name under a bar; longer ones leave the bars no room
_SIZE = (6.0, 3.1)
_SQUARE = (6.0, 4.9)


@dataclass(frozen=True)
class Series:
    """One curve or cloud of a plot.

    Attributes:
        label: Its name in the legend.
        x: Values along x, in the unit that the axis label names; shape (n,).
        y: Values along y; shape (n,). NaN leaves a gap.
        error: Half-width of the band or error bar around ``y``; shape (n,) or None.
        style: A line, a dashed line, separate points, or steps.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    error: ArrayLike | None = None
    style: Style = "line"


def line_plot(
    series: Sequence[Series],
    xlabel: str,
    ylabel: str,
    title: str = "",
    *,
    xscale: Scale = "linear",
    yscale: Scale = "linear",
) -> str:
    """Curves over a common x, as an SVG element.

    A long curve is drawn through the lowest and highest point of each of some 800 runs, which at
    this size looks the same and costs 20 kB however long it is.

    Raises:
        InputError: A series whose x, y and error differ in length.
    """
    with _canvas(_SIZE) as (figure, axes):
        axes.set(xlabel=clean(xlabel), ylabel=clean(ylabel), xscale=xscale, yscale=yscale)
        for number, one in enumerate(series):
            _draw(axes, one, PALETTE[number % len(PALETTE)])
        for axis, scale in ((axes.xaxis, xscale), (axes.yaxis, yscale)):
            if scale == "log":
                _plain_powers(axis)
        if not any(np.isfinite(np.asarray(one.y, dtype=np.float64)).any() for one in series):
            _say_empty(axes)
        elif len(series) > 1:
            _legend(axes, len(series))
        return _svg(figure, title or f"{ylabel} over {xlabel}")


def histogram(
    values: ArrayLike, xlabel: str, title: str = "", *, bins: int | None = None, mark: float | None = None
) -> str:
    """How often each value occurs, as an SVG element; values that are not finite are left out.

    Without ``bins`` their number follows Freedman and Diaconis (1981), between 5 and 60. A dashed line stands
    at ``mark``.
    """
    data = np.asarray(values, dtype=np.float64).ravel()
    data = data[np.isfinite(data)]
    with _canvas(_SIZE) as (figure, axes):
        axes.set(xlabel=clean(xlabel), ylabel="count")
        if data.size == 0:
            _say_empty(axes)
        else:
            counts, edges = np.histogram(data, bins=bins or _n_bins(data))
            axes.stairs(counts, edges, fill=True, color=PALETTE[0], alpha=0.75)
            if mark is not None:
                axes.axvline(mark, color=PALETTE[1], linestyle="--")
            axes.set_ylim(bottom=0)
        return _svg(figure, title or f"Histogram of {xlabel}")


def bar_plot(names: Sequence[str], values: ArrayLike, ylabel: str, title: str = "") -> str:
    """One bar per name, in the order given, as an SVG element; of more than 60 the first 60, long names cut.

    Raises:
        InputError: Names and values differ in number.
    """
    data = np.asarray(values, dtype=np.float64).ravel()
    if len(names) != data.size:
        raise InputError(f"bar plot: {len(names)} names for {data.size} values.")
    names, data = list(names)[:_MOST_BARS], data[:_MOST_BARS]
    with _canvas(_SIZE) as (figure, axes):
        axes.set(ylabel=clean(ylabel))
        if data.size == 0:
            _say_empty(axes)
        else:
            axes.bar(np.arange(data.size), data, color=PALETTE[0], alpha=0.75)
            steep = data.size > 14
            labels = [clean(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…") for name in names]
            axes.set_xticks(np.arange(data.size), labels, rotation=90 if steep else 0)
            axes.grid(visible=False, axis="x")
        return _svg(figure, title or ylabel)


def parity_plot(reference: ArrayLike, predicted: ArrayLike, xlabel: str, ylabel: str, title: str = "") -> str:
    """Predicted over reference values, one unit on both axes, with the diagonal, as an SVG element.

    Raises:
        InputError: The two differ in length.
    """
    x, y = _same_length("parity plot", reference, predicted)
    with _canvas(_SQUARE) as (figure, axes):
        axes.set(xlabel=clean(xlabel), ylabel=clean(ylabel))
        keep = thin_points(x, y, CLOUD_POINTS)
        if keep.size == 0:
            _say_empty(axes)
        else:
            low, high = min(x[keep].min(), y[keep].min()), max(x[keep].max(), y[keep].max())
            margin = 0.04 * (high - low) or 1.0
            axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
            axes.axline((low, low), slope=1, color=INK, linewidth=0.8, alpha=0.5)
            _dots(axes, x[keep], y[keep], PALETTE[0])
        return _svg(figure, title or f"{ylabel} against {xlabel}")


def polar_plot(series: Sequence[Series], unit: str, title: str = "") -> str:
    """Curves of a length (y) over an angle in degrees (x), as an SVG element with equal axes.

    Raises:
        InputError: A series whose x and y differ in length.
    """
    with _canvas(_SQUARE) as (figure, axes):
        axes.set(
            xlabel=clean(f"along the first axis ({unit})"), ylabel=clean(f"along the second axis ({unit})")
        )
        axes.set_aspect("equal", adjustable="datalim")
        for number, one in enumerate(series):
            angle, length = _same_length(one.label, one.x, one.y)
            x, y = length * np.cos(np.radians(angle)), length * np.sin(np.radians(angle))
            dash = "--" if one.style == "dashed" else "-"
            axes.plot(x, y, color=PALETTE[number % len(PALETTE)], label=clean(one.label), linestyle=dash)
        if series:
            _legend(axes, len(series))
        return _svg(figure, title or f"Polar plot ({unit})")


def band_plot(
    segments: Sequence[tuple[ArrayLike, ArrayLike]],
    ticks: Sequence[tuple[float, str]],
    ylabel: str,
    title: str = "",
) -> str:
    """Bands along a path, as an SVG element; all of one colour, with an upright line at each corner.

    Args:
        segments: Of each piece of the path its abscissae ``(n,)`` and its bands ``(n, n_bands)``.
        ticks: Where corners are, and what they are called.
        ylabel: Name and unit of the bands.
        title: What a screen reader says of the plot.
    """
    with _canvas(_SQUARE) as (figure, axes):
        axes.set(ylabel=clean(ylabel))
        for x, bands in segments:
            for band in np.asarray(bands, dtype=np.float64).T:
                axes.plot(np.asarray(x, dtype=np.float64), band, color=PALETTE[0], linewidth=1.0)
        axes.axhline(0.0, color=INK, linewidth=0.7, alpha=0.6)
        for where, _ in ticks:
            axes.axvline(where, color=INK, linewidth=0.6, alpha=0.4)
        axes.set_xticks([where for where, _ in ticks], [clean(name) for _, name in ticks])
        axes.grid(visible=False, axis="x")
        return _svg(figure, title or ylabel)


def heat_map(
    values: ArrayLike,
    xlabel: str,
    ylabel: str,
    zlabel: str,
    title: str = "",
    *,
    extent: ArrayLike | None = None,
) -> str:
    """A matrix as colours with a scale, as an SVG element.

    Args:
        values: The matrix, (n_y, n_x); row 0 is at the bottom. NaN stays blank.
        xlabel: Name and unit along x.
        ylabel: Name and unit along y.
        zlabel: Name and unit of the values.
        title: What a screen reader says of the plot.
        extent: (x_min, x_max, y_min, y_max); the indices if None.
    """
    matrix = np.atleast_2d(np.asarray(values, dtype=np.float64))
    with _canvas(_SQUARE) as (figure, axes):
        axes.set(xlabel=clean(xlabel), ylabel=clean(ylabel))
        axes.grid(visible=False)
        image = axes.imshow(
            matrix,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            cmap="viridis",
            extent=None if extent is None else tuple(np.asarray(extent, dtype=np.float64)),
        )
        figure.colorbar(image, ax=axes, label=clean(zlabel))
        return _svg(figure, title or f"{zlabel} over {xlabel} and {ylabel}")


@contextmanager
def _canvas(size: tuple[float, float]) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes in our style; the caller's rcParams are as before afterwards."""
    import matplotlib
    from matplotlib.figure import Figure as NewFigure

    ink = {"axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color", "grid.color"}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(dict.fromkeys(ink, INK) | _STYLE)
        figure = NewFigure(figsize=size, layout="constrained")
        yield figure, figure.subplots()


_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "atomml",
    "font.size": 9.0,
    "axes.labelsize": 9.5,
    "axes.facecolor": "none",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.use_mathtext": False,
    "axes.xmargin": 0.01,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.alpha": 0.13,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.solid_joinstyle": "round",
    "text.parse_math": False,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
}


def _draw(axes: Axes, series: Series, colour: str) -> None:
    x, y = _same_length(series.label, series.x, series.y)
    keep = thin_points(x, y, CLOUD_POINTS) if series.style == "points" else decimate_line(y, LINE_POINTS)
    x, y = x[keep], y[keep]
    label = clean(series.label).lstrip("_") or "series"  # matplotlib hides a label that starts with "_"
    if series.style == "points":
        _dots(axes, x, y, colour, label)
    else:
        drawing = "steps-mid" if series.style == "steps" else "default"
        dash = "--" if series.style == "dashed" else "-"
        axes.plot(x, y, color=colour, label=label, drawstyle=drawing, linestyle=dash)
    if series.error is not None:
        error = _same_length(series.label, series.x, series.error)[1][keep]
        if series.style == "points":
            _strokes(axes, x, y - error, y + error, edgecolor=colour, linewidth=0.9)
        else:
            axes.fill_between(x, y - error, y + error, color=colour, alpha=0.2, linewidth=0)


def _dots(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], colour: str, label: str = "") -> None:
    """Points as strokes without length and with round ends: 20 bytes a point instead of 150."""
    size = 4.5 if x.size <= 300 else (3.4 if x.size <= 2000 else 2.4)
    _strokes(axes, x, y, y, edgecolor=colour, linewidth=size, capstyle="round", alpha=0.65)
    if label:
        axes.plot([], [], color=colour, marker="o", markersize=size, linestyle="none", label=label)


def _strokes(
    axes: Axes, x: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], **style: Any
) -> None:
    """Upright strokes, all of them one path."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    vertices = np.column_stack([x, low, x, high]).reshape(-1, 2)
    path = Path(vertices, np.tile([Path.MOVETO, Path.LINETO], x.size).astype(np.uint8))
    path.should_simplify = False  # a stroke without length is what simplification would take away
    axes.add_patch(PathPatch(path, fill=False, **style))
    axes.update_datalim(vertices)
    axes.autoscale_view()


def _plain_powers(axis: Axis) -> None:
    """Ticks of a logarithmic axis as plain numbers; between the powers of ten where there are but few."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = axis.get_view_interval()
    between = (1.0, 2.0, 5.0) if high < 50 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=between))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes, n_series: int) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=min(n_series, 4),
        borderaxespad=0.2,
        handlelength=1.4,
        columnspacing=1.4,
    )


def _say_empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", va="center", alpha=0.7)


def _n_bins(data: NDArray[np.float64]) -> int:
    lower, upper = np.percentile(data, [25, 75])
    width = 2 * (upper - lower) / np.cbrt(data.size)
    span = float(data.max() - data.min())
    if width <= 0 or span <= 0:
        return 5
    return int(np.clip(np.ceil(span / width), 5, 60))


def _same_length(
    name: str, first: ArrayLike, second: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, dtype=np.float64).ravel(), np.asarray(second, dtype=np.float64).ravel()
    if a.size != b.size:
        raise InputError(f"{name}: {a.size} values of x and {b.size} of y cannot be plotted together.")
    return a, b


def _svg(figure: Figure, title: str) -> str:
    import io

    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with warnings.catch_warnings():
        # Text is measured in a font that lacks some scripts; the browser, which draws it, has others.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        FigureCanvasSVG(figure).print_svg(stream, metadata=nothing)
    return finish_svg(stream.getvalue(), title)
