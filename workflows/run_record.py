"""How a run folder opens and closes: options into ``config.yaml``, the result into ``summary.json``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomml.config import as_config, option_units
from atomml.result import Result
from atomml.run import RunFolder, open_run

__all__ = ["RunRequest", "finish_run", "open_with_options", "render_kept", "write_result"]


def open_with_options(
    out: str | Path | None,
    command: str,
    options: Any,
    *,
    overwrite: bool,
    resume: bool = False,
    may_change: Collection[str] = (),
    **facts: Any,
) -> AbstractContextManager[RunFolder]:
    """The run folder of a workflow, as :func:`atomml.run.open_run` gives it.

    Args:
        out: The folder; None for one that goes when it is closed.
        command: Name of the command.
        options: Dataclass of its options; they follow the facts in ``config.yaml``, with their units.
        overwrite: Replace a folder of an earlier run.
        resume: Go on in a folder that was interrupted.
        may_change: Options that a resumed run may give other values.
        **facts: What else the configuration holds: structures, model, dtype, device, seed.

    Raises:
        OptionError: As :meth:`atomml.run.RunFolder.open`.
    """
    return open_run(
        out,
        command=command,
        config=facts | as_config(options),
        resume=resume,
        overwrite=overwrite,
        may_change=may_change,
        units=option_units(type(options)),
    )


@dataclass(frozen=True)
class RunRequest:
    """What a caller asks of a run beside its work: where it goes, and on what it is computed.

    Attributes:
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded for it.
        seed: Recorded, and used where something is random.
    """

    out: str | Path | None
    resume: bool
    overwrite: bool
    device: str
    seed: int | None

    @contextmanager
    def open(
        self,
        command: str,
        options: Any,
        *,
        may_change: Collection[str] = (),
        warnings: Iterable[str] = (),
        **facts: Any,
    ) -> Iterator[RunFolder]:
        """The run folder, as :func:`open_with_options`; device and seed are in its configuration.

        Args:
            command: Name of the command.
            options: Dataclass of its options.
            may_change: Options that a resumed run may give other values.
            warnings: What the checks before the run found; each is said once.
            **facts: What else the configuration holds: structures, model, dtype.

        Raises:
            OptionError: As :meth:`atomml.run.RunFolder.open`.
        """
        with open_with_options(
            self.out,
            command,
            options,
            resume=self.resume,
            overwrite=self.overwrite,
            may_change=may_change,
            **facts,
            device=self.device,
            seed=self.seed,
        ) as run:
            for warning in dict.fromkeys(warnings):
                run.warn(warning)
            yield run


def write_result(
    run: RunFolder,
    result: Result,
    *,
    model: Mapping[str, Any] | None,
    inputs: Sequence[Mapping[str, Any]],
    seconds: float,
    **more: Any,
) -> None:
    """Write ``summary.json`` from a result, which then holds it, the run's warnings and its folder.

    Args:
        run: The run.
        result: What the workflow found.
        model: What is known of the model, or None.
        inputs: ``path`` and ``sha256`` of each input.
        seconds: How long the work took.
        **more: Other keys of the summary.
    """
    result.warnings = list(run.warnings)
    result.folder = run.path if run.kept else None
    result.summary = run.write_summary(
        results=result.results(),
        units=result.units(),
        model=model,
        inputs=inputs,
        timing={"total_s": seconds},
        converged=result.converged,
        **more,
    )


def render_kept(run: RunFolder) -> None:
    """Write ``report.html`` into a folder that stays."""
    if run.kept:
        from atomml.report import render_run

        render_run(run.path)


def finish_run(run: RunFolder, result: Result, **facts: Any) -> None:
    """:func:`write_result` with these facts, then :func:`render_kept`."""
    write_result(run, result, **facts)
    render_kept(run)
