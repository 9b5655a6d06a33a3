"""The run folder: what a command leaves behind, whole at every moment.

``config.yaml`` holds every option as resolved, ``events.jsonl`` grows as the run goes,
``summary.json`` is written at the end; what else a workflow writes lies beside them.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from atomml import __version__
from atomml.errors import FileFormatError, OptionError
from atomml.files import write_atomic
from atomml.run_checks import (
    CONFIG,
    check_nothing_needed,
    check_ours,
    check_same,
    empty_folder,
    is_written,
    lock,
    plain,
    read_config,
)

__all__ = [
    "RunFolder",
    "default_folder",
    "environment",
    "listening",
    "open_run",
    "plain",
    "read_config",
    "read_events",
    "summary_schema",
]

_log = logging.getLogger(__name__)

EVENTS = "events.jsonl"
SUMMARY = "summary.json"
_LISTENER: ContextVar[Callable[[dict[str, Any]], None] | None] = ContextVar(
    "atomml_run_listener", default=None
)
# What a resumed run may say differently: where it writes, how it talks, how far it goes.
FREE_TO_CHANGE = frozenset({"out", "quiet", "json", "debug", "resume", "overwrite", "version"})


class RunFolder:
    """A folder that one run of one command writes; a context manager that holds a lock on it.

    Attributes:
        path: The folder.
        command: The command that writes it.
        config: Every option as resolved.
        resumed: Whether an earlier run of the same command goes on here.
        kept: Whether the folder stays when the run is over.
        warnings: What was warned of so far, those of the earlier run included.
    """

    def __init__(self, path: Path, command: str, config: Mapping[str, Any], resumed: bool) -> None:
        """Take the folder as it is; use :meth:`open`, which checks and prepares it."""
        self.path = path
        self.command = command
        self.config = dict(config)
        self.resumed = resumed
        self.kept = True
        self.warnings: list[str] = []
        self._events: int | None = None
        self._lock = lock(path)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        command: str,
        config: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
        may_change: Collection[str] = (),
        units: Mapping[str, str] | None = None,
    ) -> Self:
        """Prepare the folder and write ``config.yaml``.

        Args:
            path: The folder; made if it does not exist.
            command: Name of the command.
            config: Every option as resolved, fit for YAML.
            resume: Go on in a folder of the same command and configuration; a folder that
                does not exist or is empty (killed before its first write) starts anew.
            overwrite: Empty the folder first, if a run of the same command made it.
            may_change: Keys that a resumed run may give other values (``steps``).
            units: Unit of a key, written as a comment behind its value.

        Raises:
            OptionError: The folder is not empty and neither flag was given, it is not one of
                this command's, another process writes it, or the configuration disagrees.
        """
        path = Path(path)
        if resume and overwrite:
            raise OptionError("--resume and --overwrite exclude each other: give one of them.")
        if path.exists() and not path.is_dir():
            raise OptionError(f"{path} is a file: give --out a folder.")
        written = is_written(path)
        resumed = written and resume
        if resumed:
            check_same(path, command, plain(config), FREE_TO_CHANGE | set(may_change))
        elif written and overwrite:
            check_ours(path, command)
            check_nothing_needed(path, plain(config))
        elif written:
            raise OptionError(
                f"The folder {path} is not empty: give another --out, --resume to go on there, "
                "or --overwrite to replace it."
            )
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path, command, config, resumed)
        folder._prepare(written and overwrite, units or {})
        return folder

    def _prepare(self, clear: bool, units: Mapping[str, str]) -> None:
        try:
            if clear:
                empty_folder(self.path)
            previous = read_config(self.path) if self.resumed else {}
            for leftover in self.path.glob(".*.tmp"):  # of a write that was killed before its rename
                leftover.unlink(missing_ok=True)
            header = {"command": self.command, "version": __version__}
            write_atomic(self.path / CONFIG, _yaml_with_units({**header, **plain(self.config)}, units))
            self.warnings = [
                event["message"] for event in read_events(self.path) if event["event"] == "warning"
            ]
            if self.resumed and (old := previous.get("version")) != __version__:
                self.warn(f"The run was started with atomml {old} and goes on with {__version__}.")
            self.event("resumed" if self.resumed else "started", command=self.command, version=__version__)
        except BaseException:
            self.close()
            raise

    def file(self, name: str) -> Path:
        """Path of a file in the folder."""
        return self.path / name

    def check_inputs(self, what: str = "The data has", /, **facts: Any) -> None:
        """Write down what the run is given, and refuse to go on with anything else.

        Args:
            what: How the sentence begins that refuses.
            facts: Digests and numbers, fit for JSON.

        Raises:
            FileFormatError: The run began with other ones.
        """
        now = plain(facts)
        before = next((event for event in read_events(self.path) if event["event"] == "data"), None)
        if before is None:
            self.event("data", **now)
        elif {key: before.get(key) for key in now} != now:
            raise FileFormatError(
                f"{what} changed since the run in {self.path} began: start anew with --overwrite."
            )

    def finished_summary(self) -> dict[str, Any] | None:
        """What ``summary.json`` says, if the run before this one got that far."""
        file = self.path / SUMMARY
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None

    def event(self, kind: str, /, **data: Any) -> None:
        """Append one line to ``events.jsonl``: the time (UTC), ``event`` and the data."""
        record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **plain(data)}
        if self._events is None:
            self._events = _open_for_append(self.path / EVENTS)
        listener = _LISTENER.get()
        if listener is not None:
            listener(record)
        os.write(self._events, (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode())

    def warn(self, message: str) -> None:
        """Say it in the log, the events and the summary; once however often it happens."""
        if message in self.warnings:
            return
        self.warnings.append(message)
        _log.warning("%s", message)
        self.event("warning", message=message)

    def write_summary(
        self,
        *,
        results: Mapping[str, Any],
        units: Mapping[str, str],
        model: Mapping[str, Any] | None,
        inputs: Sequence[Mapping[str, Any]],
        timing: Mapping[str, float],
        converged: bool,
        **more: Any,
    ) -> dict[str, Any]:
        """Write ``summary.json`` atomically and return what was written.

        Args:
            results: Numbers and short tables; a key carries its unit (``energy_eV``).
            units: Unit of each key of ``results`` that has one.
            model: ``name`` and ``sha256`` and what else is known, or None.
            inputs: ``path`` and ``sha256`` of each input.
            timing: Seconds, by phase; ``total_s`` at least.
            converged: False where the run finished without reaching its criterion.
            more: Other keys, such as ``files``.
        """
        summary = plain(
            {
                "command": self.command,
                "version": __version__,
                "model": model,
                "inputs": list(inputs),
                "results": results,
                "units": units,
                "timing": timing,
                "converged": bool(converged),
                "warnings": self.warnings,
                "environment": environment(),
                **more,
            }
        )
        write_atomic(
            self.path / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )
        self.event("finished", converged=bool(converged))
        return dict(summary)

    def close(self) -> None:
        """Let go of the lock and the event file; the folder stays as it is."""
        for descriptor in (self._events, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._events = self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and self._lock is not None:
                self.event("stopped", reason=type(error).__name__, message=str(error))
        finally:
            self.close()


@contextmanager
def open_run(out: str | Path | None, **settings: Any) -> Iterator[RunFolder]:
    """A run folder to write in: :meth:`RunFolder.open`, or one that goes when it is closed, without ``out``.

    So a workflow called from Python without ``out`` is the same workflow and leaves nothing behind.
    """
    with ExitStack() as stack:
        where = out
        if where is None:
            where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atomml-")))
            settings |= {"resume": False, "overwrite": False}
        run = stack.enter_context(RunFolder.open(where, **settings))
        run.kept = out is not None
        yield run


@contextmanager
def listening(listener: Callable[[dict[str, Any]], None] | None) -> Iterator[None]:
    """Call ``listener`` with each event of the run folders that this thread opens; for progress displays.

    An event with ``step`` and ``of`` says how far a run is.
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def default_folder(command: str, source: str | Path | None) -> Path:
    """``COMMAND-STEM`` in the current folder; the stem of the input, ``structure`` where there is no file."""
    name = Path(source).name if source is not None else ""
    stem = name.split(".")[0] if not name.startswith(".") else ""
    # POSCAR.LiCoO2 and CONTCAR say what they are before the dot, everything else too
    return Path(f"{command}-{stem or 'structure'}")


def environment() -> dict[str, Any]:
    """Versions and threads that the numbers depend on; of what is loaded, nothing is imported for it."""
    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("torch", "numpy", "ase", "numba"):
        if name in sys.modules:
            found[name] = str(getattr(sys.modules[name], "__version__", ""))
    if "torch" in sys.modules:
        found["threads"] = sys.modules["torch"].get_num_threads()
    return found


def summary_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) that every ``summary.json`` follows."""
    return dict(json.loads((Path(__file__).parent / "summary.schema.json").read_text(encoding="utf-8")))


def read_events(path: str | Path) -> Iterator[dict[str, Any]]:
    """The events of a run folder in order; a torn last line, left by a kill, is passed over.

    Raises:
        FileFormatError: A line before the last is not a JSON object.
    """
    file = Path(path) / EVENTS
    if not file.exists():
        return
    lines = file.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            event = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                return
            raise FileFormatError(
                f"{file}, line {number}: not a JSON object; the file was damaged."
            ) from error
        if isinstance(event, dict):
            yield event


def _open_for_append(file: Path) -> int:
    """Open for appending whole lines; a torn last line is cut off first."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    data = file.read_bytes()
    if data and not data.endswith(b"\n"):
        os.ftruncate(descriptor, data.rfind(b"\n") + 1)
    return descriptor


def _yaml_with_units(config: Mapping[str, Any], units: Mapping[str, str]) -> str:
    """One line a key, so that its unit can stand behind it as a comment."""
    import yaml

    lines = []
    for key, value in config.items():
        flow = yaml.safe_dump(
            [value], sort_keys=False, allow_unicode=True, default_flow_style=True, width=2**30
        )
        text = f"{key}: {flow.strip()[1:-1]}"
        lines.append(f"{text}  # {units[key]}" if units.get(key) else text)
    return "\n".join(lines) + "\n"
