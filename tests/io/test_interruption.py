"""A signal waits for the step to be whole, a second one does not, and handlers come back as they were."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from atomml.interruption import deferred_signals

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


class CalledError(Exception):
    """Raised by the handler that was there before."""


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Handlers of the caller, which raise."""

    def raises(number: int, frame: object) -> None:
        raise CalledError(number)

    before = {number: signal.signal(number, raises) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, old in before.items():
        assert signal.signal(number, old) is raises


def step(done: list[str], *numbers: int) -> None:
    """A step that is interrupted by each of the signals, and notes how far it came."""
    with deferred_signals() as received:
        for number in numbers:
            signal.raise_signal(number)
            done.append("goes on")
        assert received == list(numbers)


@BOTH
def test_the_step_is_whole_before_the_signal_has_its_effect(number: int) -> None:
    done: list[str] = []
    with pytest.raises(CalledError) as caught:
        step(done, number)
    assert done == ["goes on"]
    assert caught.value.args == (number,)


@BOTH
def test_a_second_signal_acts_at_once(number: int) -> None:
    done: list[str] = []
    with pytest.raises(CalledError) as caught:
        step(done, signal.SIGINT, number)
    assert done == ["goes on"]
    assert caught.value.args == (number,)


def test_without_a_signal_nothing_happens_and_an_error_passes_through() -> None:
    with deferred_signals() as received:
        pass
    assert received == []
    with pytest.raises(ZeroDivisionError), deferred_signals():
        raise ZeroDivisionError


def test_a_handler_that_returns_still_ends_the_run() -> None:
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    old = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        step([], signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, old)


def test_what_is_ignored_stays_ignored() -> None:
    """As by nohup."""
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferred_signals() as received:
        signal.raise_signal(signal.SIGINT)
    assert received == []
    assert signal.signal(signal.SIGINT, old) is signal.SIG_IGN


def test_other_threads_are_left_alone() -> None:
    """Only the main thread may set handlers; elsewhere the step goes on without."""
    found: list[list[int]] = []

    def work() -> None:
        with deferred_signals() as received:
            found.append(received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [[]]
