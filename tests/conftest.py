"""What all tests share: where the repository is, its sources, a time budget, and minutes per folder."""

from __future__ import annotations

import ast
import os
import signal
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

# Test processes run side by side: more threads in each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A shell's background jobs ignore Ctrl-C, and what they start inherits that: the tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("atomml", deadline=None, derandomize=True, database=None)
settings.load_profile("atomml")

ROOMS = ("atomml", "potentials", "workflows", "cli")
_STARTED = time.monotonic()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def sources(root: Path) -> Mapping[Path, ast.Module]:
    """Syntax trees of every module of the package, by path relative to the root; links are not followed."""
    found = {}
    for room in ROOMS:
        for folder, _, names in os.walk(root / room):
            for path in (Path(folder) / name for name in names if name.endswith(".py")):
                found[path.relative_to(root)] = ast.parse(path.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--budget SECONDS``: how long tests may go on starting."""
    parser.addoption("--budget", type=float, default=None, help="start no test after so many seconds")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what would start after the budget is spent; the random order lets each have its turn."""
    budget = item.config.getoption("--budget")
    if budget is not None and time.monotonic() - _STARTED > budget:
        pytest.skip("the time budget of this run is spent")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Minutes of each folder of tests, so that what a room costs is seen in every run."""
    minutes: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                minutes["/".join(Path(report.nodeid.split("::")[0]).parts[:2])] += report.duration / 60
    if sum(minutes.values()) < 0.1:
        return
    terminalreporter.section("minutes per folder")
    for folder, spent in sorted(minutes.items(), key=lambda pair: -pair[1]):
        terminalreporter.line(f"{spent:6.2f}  {folder}")
