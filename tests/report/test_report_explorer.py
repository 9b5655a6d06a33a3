"""A screen's page: what it holds of many rows, and in a real browser that a click shows a row's structure."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from test_report_browser import CHROMIUM, Browser

from atomml.data.structures import extxyz_frame
from atomml.report import render_run
from atomml.report.explorer import Explorer

browsers = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the page is not run")
HOSTILE = "</script><script>document.title='owned'</script>"


def screened(folder: Path, count: int) -> Path:
    """A screen's folder as ``atomml screen`` leaves it; each seventh row has failed. Returns the page."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("command: screen\nversion: 0.0.0\nworkflow: elastic\n")
    generator = np.random.default_rng(0)
    names = ["input", "frame", "id", "formula", "n_atoms", "bulk_modulus_GPa", "energy_per_atom_eV", "error"]
    frames, rows = [], []
    for row in range(count):
        atoms = (bulk("Cu", cubic=True), bulk("NaCl", "rocksalt", 5.6), bulk("Si", cubic=True))[row % 3]
        failed = row % 7 == 3
        numbers = ["", ""] if failed else [repr(float(x)) for x in generator.normal(100, 20, 2)]
        error = HOSTILE if failed else ""
        rows.append(["many.extxyz", row, f"mp-{row}", str(atoms.symbols), len(atoms), *numbers, error])
        if not failed:
            atoms.info = {"row": row}
            frames.append(extxyz_frame(atoms, {}))
    with (folder / "results.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([names, *rows])
    (folder / "structures.extxyz").write_text("".join(frames))
    render_run(folder)
    return folder / "report.html"


def test_each_row_knows_the_frame_that_shows_it(tmp_path: Path) -> None:
    page = screened(tmp_path / "run", 20).read_text()
    data = json.loads(
        page.split('<div class="explorer"><script type="application/json">')[1].split("</script>")[0]
    )
    good = [row for row in range(20) if row % 7 != 3]
    assert data["frames"] == [good.index(row) if row in good else -1 for row in range(20)]
    labels = {column["label"]: column for column in data["columns"]}
    assert labels["Bulk modulus"]["unit"] == "GPa"
    assert [value is None for value in labels["Bulk modulus"]["values"]] == [
        row not in good for row in range(20)
    ]
    assert HOSTILE not in page


def test_a_column_is_numbers_or_texts_and_nan_is_nothing() -> None:
    rows = [[1.23456789, "a", True, None], [float("nan"), "b", False, None], [None, "c", True, None]]
    body = Explorer("x", ["e_eV", "name", "converged", "none"], rows, [0, 1, 2], [], [0, 1]).body("x")
    data = json.loads(body.split('"application/json">')[1].split("</script>")[0])
    assert data["columns"][0]["values"] == [1.23457, None, None]
    assert [column["numeric"] for column in data["columns"]] == [True, False, False, False]
    assert data["preferred"] == [0]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


READOUT = "document.querySelector('.viewer .readout').textContent"
PICKED = "document.querySelector('.picked').textContent"


def tables(words: str) -> str:
    return f"[...document.querySelectorAll('.table')].find(t => t.classList.contains('picks')){words}"


@browsers
def test_a_click_on_a_row_or_a_point_shows_its_structure(browser: Browser, tmp_path: Path) -> None:
    browser.open(screened(tmp_path / "run", 60))
    assert browser.complaints == []
    assert browser.value("document.querySelectorAll('.explorer canvas').length") == 2
    browser.value(tables(".querySelectorAll('tbody tr')[5].click()"))
    assert "mp-5" in browser.value(PICKED)
    assert browser.value(READOUT).startswith("Frame 5 of")
    explorer = "document.querySelectorAll('.explorer canvas')[1]"
    box = browser.value(
        f"(() => {{ const c = {explorer}; c.scrollIntoView({{block: 'center', behavior: 'instant'}});"
        "const b = c.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
    )
    found: Any = None
    for step in range(12, 88):  # somewhere along a diagonal line lies a point within twelve pixels
        x, y = box[0] + box[2] * step / 100, box[1] + box[3] * (1 - step / 100)
        browser.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        browser.mouse("mouseReleased", x, y, button="left", clickCount=1)
        found = browser.value(PICKED)
        if "mp-5" not in found:
            break
    assert "mp-" in found
    assert browser.value("document.title").startswith("Screen")
    assert browser.complaints == []


@browsers
def test_another_column_is_drawn_when_it_is_chosen(browser: Browser, tmp_path: Path) -> None:
    browser.open(screened(tmp_path / "run", 30))
    picture = "document.querySelectorAll('.explorer canvas')[0].toDataURL()"
    before = browser.value(picture)
    browser.value(
        "(() => { const list = document.querySelector('.explorer select'); list.selectedIndex = 3;"
        "list.dispatchEvent(new Event('change')); })()"
    )
    assert browser.value(picture) != before


@browsers
@pytest.mark.slow
def test_ten_thousand_rows_open_in_a_few_seconds(browser: Browser, tmp_path: Path) -> None:
    """All rows, all structures; 12 MB is what a mail takes, and ten seconds hold a person's attention."""
    page = screened(tmp_path / "run", 10_000)
    assert page.stat().st_size < 12_000_000
    started = time.monotonic()
    browser.open(page)
    assert time.monotonic() - started < 10
    assert browser.complaints == []
    words = browser.value(tables(".querySelector('.controls span').textContent"))
    assert words == "1–100 of 10,000 rows"
    browser.value(tables(".querySelectorAll('tbody tr')[99].click()"))
    assert "mp-99" in browser.value(PICKED)
    assert browser.value(READOUT).startswith("Frame 99 of 9998")
