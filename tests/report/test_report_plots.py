"""Laws of the plots: well-formed, small, repeatable, true to the data's extremes, without side effects."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from atomml.errors import InputError
from atomml.report import Series, heat_map, histogram, line_plot, parity_plot
from atomml.report.decimation import decimate_line, evenly_spaced, thin_points
from atomml.report.markup import check_svg

RNG = np.random.default_rng(0)
NORMAL: NDArray[np.float64] = RNG.normal(size=1_000_000)


@cache
def plots() -> dict[str, str]:
    """One plot of each kind."""
    return draw()


def draw() -> dict[str, str]:
    """The same, drawn anew."""
    x = np.arange(400.0)
    return {
        "line": line_plot(
            [Series("a <b> & $c$", x, np.sin(x)), Series("_d", x, x, style="steps")], "t (fs)", "T (K)"
        ),
        "band": line_plot(
            [Series("a", x, x, error=0 * x + 5), Series("p", x, -x, 0 * x + 1, "points")], "x", "y"
        ),
        "log": line_plot([Series("fmax", x, np.exp(-x / 40))], "step", "force (eV/Å)", yscale="log"),
        "histogram": histogram(NORMAL[:1000], "energy (eV)"),
        "parity": parity_plot(NORMAL[:500], NORMAL[:500] + 0.1, "DFT (eV)", "model (eV)"),
        "heat": heat_map(NORMAL[:600].reshape(20, 30), "x (Å)", "y (Å)", "energy (eV)"),
    }


@pytest.mark.parametrize("kind", ["line", "band", "log", "histogram", "parity", "heat"])
def test_every_plot_is_one_well_formed_harmless_svg(kind: str) -> None:
    svg = plots()[kind]
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["role"] == "img"
    assert check_svg(svg) == svg
    assert len(svg) < 80_000


def test_axis_labels_and_legend_say_what_was_given_to_the_letter() -> None:
    root = ElementTree.fromstring(plots()["line"])
    words = {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"t (fs)", "T (K)", "a <b> & $c$", "d"} <= words


@pytest.mark.parametrize(
    ("high", "ticks"), [(1.0, {"0.001", "0.01", "0.1", "1"}), (0.004, {"0.001", "0.002"})]
)
def test_a_logarithmic_axis_has_plain_numbers(high: float, ticks: set[str]) -> None:
    """However few decades it spans, at least two ticks say how large a step is."""
    root = ElementTree.fromstring(line_plot([Series("f", [0, 1], [0.001, high])], "x", "y", yscale="log"))
    words = {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert ticks <= words
    assert not any("$" in word for word in words)


def test_labels_in_any_script_are_kept_without_a_warning() -> None:
    assert "温度" in line_plot(
        [Series("Температура", [0, 1], [0, 1]), Series("温度", [0, 1], [1, 2])], "時間", "y"
    )


def test_same_data_same_bytes_and_no_date() -> None:
    assert draw() == plots()
    assert all("date" not in svg.lower() for svg in plots().values())


def test_two_plots_in_a_page_share_no_name() -> None:
    names = [set(re.findall(r' id="([^"]*)"', svg)) for svg in plots().values()]
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not one & other


def test_every_reference_finds_its_name_within_the_plot() -> None:
    for svg in plots().values():
        names = set(re.findall(r' id="([^"]*)"', svg))
        assert set(re.findall(r'xlink:href="#([^"]*)"', svg)) <= names
        assert set(re.findall(r"url\(#([^)]*)\)", svg)) <= names


def test_text_and_lines_take_the_pages_colours() -> None:
    """Black ink would vanish on a dark page: text is currentColor, the palette a variable with a default."""
    svg = plots()["line"]
    assert "currentColor" in svg
    assert "var(--plot-1, #0072b2)" in svg
    assert not re.search(r"(fill|stroke): #000000", svg)


def test_a_million_points_make_a_small_plot() -> None:
    svg = line_plot([Series("T", np.arange(1e6), NORMAL)], "time (ps)", "T (K)")
    assert len(svg) < 60_000
    svg = parity_plot(NORMAL, NORMAL + 0.1 * NORMAL[::-1], "x", "y")
    assert len(svg) < 160_000


def test_one_spike_in_a_million_is_drawn() -> None:
    """The highest point of the drawn curve stands well above the noise of the rest."""
    quiet = 0.001 * NORMAL
    spiked = quiet.copy()
    spiked[123_457] = 50.0
    keep = decimate_line(spiked, 1600)
    assert 123_457 in keep
    assert len(keep) <= 1602


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")) | st.just(float("inf")), max_size=300),
    st.integers(4, 50),
)
def test_decimation_keeps_order_ends_and_extremes(values: list[float], limit: int) -> None:
    y = np.array(values)
    keep = decimate_line(y, limit)
    assert (np.diff(keep) > 0).all()
    assert len(keep) <= max(limit + 2, 6)
    if len(y):
        assert keep[0] == 0
        assert keep[-1] == len(y) - 1
    finite = y[np.isfinite(y)]
    if finite.size:
        kept = y[keep][np.isfinite(y[keep])]
        assert kept.min() == finite.min()
        assert kept.max() == finite.max()


@given(st.integers(1, 4000), st.integers(50, 500), st.integers(0, 2**32 - 1))
def test_thinning_a_cloud_keeps_its_extremes_and_its_limit(n: int, limit: int, seed: int) -> None:
    x, y = np.random.default_rng(seed).normal(size=(2, n))
    keep = thin_points(x, y, limit)
    assert len(keep) <= limit + 4
    assert len(set(keep.tolist())) == len(keep)
    for values in (x, y):
        assert values[keep].min() == values.min()
        assert values[keep].max() == values.max()


def test_thinning_drops_what_cannot_be_drawn() -> None:
    keep = thin_points([0.0, np.nan, 2.0, np.inf], [0.0, 1.0, np.nan, 1.0], 10)
    assert keep.tolist() == [0]


@given(st.integers(0, 5000), st.integers(2, 200))
def test_evenly_spaced_frames_hold_the_first_and_the_last(total: int, limit: int) -> None:
    chosen = evenly_spaced(total, limit)
    assert len(chosen) == min(total, limit)
    assert chosen == sorted(set(chosen))
    if total:
        assert (chosen[0], chosen[-1]) == (0, total - 1)
        gaps = np.diff(chosen)
        assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_every_point_of_a_cloud_is_one_dot() -> None:
    svg = line_plot([Series("p", np.arange(500.0), NORMAL[:500], style="points")], "x", "y")
    assert svg.count("h0") == 500


def test_all_of_a_histograms_values_are_counted_whatever_their_spread() -> None:
    for data in (np.zeros(10), np.array([1.0, np.nan, np.inf]), NORMAL[:5000] ** 9, np.array([])):
        ElementTree.fromstring(histogram(data, "x"))


def test_nothing_finite_is_said_not_drawn() -> None:
    assert "no finite values" in line_plot([Series("a", [0, 1], [np.nan, np.nan])], "x", "y")
    assert "no finite values" in line_plot([], "x", "y")
    assert "no finite values" in parity_plot([], [], "x", "y")


def test_unequal_lengths_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="T: 2 values of x and 3 of y"):
        line_plot([Series("T", [0, 1], [1, 2, 3])], "x", "y")


def test_the_users_settings_of_matplotlib_neither_matter_nor_change() -> None:
    import matplotlib

    reference = plots()["line"]
    with matplotlib.rc_context(
        {
            "font.size": 30,
            "axes.facecolor": "red",
            "svg.fonttype": "path",
            "xtick.direction": "in",
            "axes.ymargin": 0.4,
        }
    ):
        before = dict(matplotlib.rcParams)
        assert draw()["line"] == reference
        assert dict(matplotlib.rcParams) == before


def test_importing_the_package_imports_no_matplotlib_and_plotting_no_pyplot() -> None:
    code = (
        "import sys, atomml.report as r\n"
        "heavy = {'matplotlib', 'torch', 'ase', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "r.line_plot([r.Series('a', [0, 1], [0, 1])], 'x', 'y')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
