"""Laws of the page in a real browser: no error on the console, and the mouse, wheel and keys do their work.

Chromium is driven over a pipe by its own protocol (Chrome DevTools Protocol), so the events are
those of a hand on the mouse and every message of the console is seen.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from ase.build import bulk, molecule

from atomml.report import Report, Series, line_plot

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or shutil.which("bash") is None, reason="no Chromium here: the page is not run"
)
TIMEOUT = 40.0


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, profile: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        options = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
            "--disable-background-networking --disable-component-update --remote-debugging-pipe "
            f"--user-data-dir={profile} about:blank"
        )
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" {options} 3<&{commands} 4>&{answers}', str(CHROMIUM)],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer, self._number = b"", 0
        self._session: dict[str, str] = {}
        self.complaints: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; messages of the console are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            if answer["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                self.complaints.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._answers], [], [], TIMEOUT)[0], "Chromium does not answer"
            self._buffer += os.read(self._answers, 1 << 20)
        line, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(line))

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, path: Path) -> None:
        """Load a page anew and wait until its scripts have run."""
        self.complaints.clear()
        size = {"width": 1000, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + TIMEOUT
        while self.value("location.href + document.readyState") != path.as_uri() + "complete":
            assert time.monotonic() < deadline, "the page does not load"
            time.sleep(0.02)
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is painted: two refreshes of the screen."""
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """An event of the mouse at a point of the window."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def picture(self, canvas: int = 0) -> str:
        """What a canvas shows."""
        self.settle()
        return str(self.value(f"document.querySelectorAll('canvas')[{canvas}].toDataURL()"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with two viewers, a plot, a short and a long table, and text that tries to run."""
    copper = bulk("Cu", cubic=True).repeat(2)
    frames = [copper.copy() for _ in range(5)]
    for number, frame in enumerate(frames):
        frame.rattle(0.05, seed=number)
    report = Report(
        "</title><script>document.title = 'owned'</script>", "<img src=x onerror=\"document.title='owned'\">"
    )
    report.viewer("Trajectory", frames, {"temperature_K": [300.0, 301.5, 299.0, 305.0, 310.0]})
    report.viewer("Molecule", [molecule("CH3OH")])
    report.plot("T", line_plot([Series("T", [0, 1], [300, 301])], "t (fs)", "T (K)"))
    report.table("Short", ["name", "x_eV"], [["b", 10.0], ["a", 9.0], ["c", None]])
    values = np.random.default_rng(0).normal(size=10_000)
    report.table("Long", ["name", "x_eV"], [[f"mp-{i}", float(x)] for i, x in enumerate(values)])
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.write(path)
    return path


def canvas_centre(browser: Browser, number: int = 0) -> tuple[float, float]:
    """The middle of a viewer, scrolled into the window."""
    box = browser.value(
        f"(() => {{ const canvas = document.querySelectorAll('canvas')[{number}];"
        "canvas.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const b = canvas.getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top + b.height / 2]; })()"
    )
    return float(box[0]), float(box[1])


def test_the_page_runs_without_a_complaint_and_nothing_injected_runs(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.value("document.querySelectorAll('canvas').length") == 2
    assert browser.value("document.title").startswith("</title><script>")
    assert browser.complaints == []


def test_both_viewers_draw_their_atoms(browser: Browser, page: Path) -> None:
    """A good part of the canvas is painted, in the colour of copper and in that of oxygen."""
    browser.open(page)
    browser.settle()
    count = (
        "(n, test) => { const c = document.querySelectorAll('canvas')[n];"
        "const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let k = 0;"
        "for (let i = 0; i < p.length; i += 4) if (p[i + 3] > 200 && test(p[i], p[i + 1], p[i + 2])) k++;"
        "return k / (c.width * c.height); }"
    )
    assert browser.value(f"({count})(0, (r, g, b) => r > g && g > b)") > 0.05
    assert browser.value(f"({count})(1, (r, g, b) => r > 150 && g < 60 && b < 60)") > 0.002


def test_dragging_turns_and_reset_brings_back(browser: Browser, page: Path) -> None:
    browser.open(page)
    x, y = canvas_centre(browser)
    before = browser.picture()
    browser.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    for step in range(1, 6):
        browser.mouse("mouseMoved", x + 12 * step, y + 7 * step, button="left", buttons=1)
    browser.mouse("mouseReleased", x + 60, y + 35, button="left", clickCount=1)
    assert browser.picture() != before
    browser.value(
        "[...document.querySelectorAll('.viewer button')].find(b => b.textContent === 'Reset').click()"
    )
    assert browser.picture() == before
    assert browser.complaints == []


def test_the_wheel_scrolls_past_a_viewer_and_zooms_one_that_was_clicked(browser: Browser, page: Path) -> None:
    browser.open(page)
    x, y = canvas_centre(browser)
    before = browser.picture()
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-40)
    assert browser.picture() == before
    browser.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    browser.mouse("mouseReleased", x, y, button="left", clickCount=1)
    top = browser.value("scrollY")
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200)
    assert browser.picture() != before
    assert browser.value("scrollY") == top


def test_pointing_at_an_atom_names_it(browser: Browser, page: Path) -> None:
    """Somewhere on a line through the middle lies an atom; its label gives element, index and coordinates."""
    browser.open(page)
    x, y = canvas_centre(browser, 1)
    labels = set()
    for step in range(-60, 61, 4):
        browser.mouse("mouseMoved", x + step, y)
        labels.add(browser.value("document.querySelectorAll('.label')[1].textContent"))
    assert any("atom" in label and "Å" in label and label.split()[0] in ("C", "O", "H") for label in labels)


def test_keys_turn_and_step_through_the_frames(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value("document.querySelector('canvas').focus()")
    before = browser.picture()
    for key in (".", ".", "ArrowLeft"):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=key)
    assert (
        browser.value("document.querySelector('.readout').textContent") == "Frame 2 of 4 · Temperature 299 K"
    )
    assert browser.value("document.querySelector('input[type=range]').value") == "2"
    assert browser.picture() != before


def test_playing_ends_at_the_last_frame(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value("document.querySelector('button[aria-label=Play]').click()")
    deadline = time.monotonic() + TIMEOUT
    while not browser.value("document.querySelector('.readout').textContent").startswith("Frame 4"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    browser.value("new Promise(done => setTimeout(() => done(1), 200))")
    assert browser.value("document.querySelectorAll('button[aria-label=Play]').length") == 1


def test_a_click_on_a_heading_sorts_by_number_and_a_dash_comes_last(browser: Browser, page: Path) -> None:
    browser.open(page)
    rows = "[...document.querySelectorAll('.table')[0].querySelectorAll('tbody tr')]"
    column = f"{rows}.map(row => row.cells[1].textContent)"
    click = "document.querySelectorAll('.table')[0].querySelectorAll('th button')[1].click()"
    browser.value(click)
    assert browser.value(column) == ["9.0000", "10.0000", "–"]
    browser.value(click)
    assert browser.value(column) == ["10.0000", "9.0000", "–"]


def test_ten_thousand_rows_sort_and_filter_at_once(browser: Browser, page: Path) -> None:
    """A second is the limit of a person's patience (Nielsen 1993); this takes some 30 ms."""
    browser.open(page)
    table = "document.querySelectorAll('.table')[1]"
    took = browser.value(
        f"(() => {{ const t = performance.now(); {table}.querySelectorAll('th button')[1].click();"
        f"const box = {table}.querySelector('input'); box.value = 'mp-99';"
        "box.dispatchEvent(new Event('input')); return performance.now() - t; })()"
    )
    assert took < 1000
    assert browser.value(f"{table}.querySelector('.controls span').textContent") == "1–100 of 111 rows"
    assert browser.value(f"{table}.querySelectorAll('tbody tr').length") == 100
