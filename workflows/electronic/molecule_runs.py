"""Runs of a Hamiltonian predictor over molecules: what is checked, opened and written in each of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    from atomml.electronic.predictor import Predictor
    from atomml.result import Result
    from atomml.run import RunFolder
    from atomml.workflows.inputs import GivenStructure

__all__ = ["MoleculeRun", "molecule_run"]


@dataclass(frozen=True)
class MoleculeRun:
    """An open run.

    Attributes:
        run: Its folder.
        predictor: The model with its level of theory.
        given: The molecules, checked.
        started: ``time.perf_counter()`` when the command began.
    """

    run: RunFolder
    predictor: Predictor
    given: list[GivenStructure]
    started: float

    def molecules(self) -> Iterator[tuple[int, GivenStructure]]:
        """Each molecule with its number; what is done is told."""
        for number, one in enumerate(self.given):
            yield number, one
            self.run.event("molecule", step=number + 1, of=len(self.given), id=one.label)

    def finish(self, result: Result) -> None:
        """Summary and report."""
        info = self.predictor.model.info
        model = {"name": info.name, "sha256": info.sha256, "family": info.family}
        inputs = [one.record() for one in self.given]
        finish_run(self.run, result, model=model, inputs=inputs, seconds=time.perf_counter() - self.started)


@contextmanager
def molecule_run(
    command: str, structures: Any, model: Any, options: Any, out: str | Path | None, overwrite: bool
) -> Iterator[MoleculeRun]:
    """Load the model, read and check the molecules, open the folder.

    Args:
        command: Name of the command.
        structures: As :func:`~atomml.workflows.inputs.all_structures` takes them.
        model: A checkpoint, or a model.
        options: Those of the command; ``device`` is read, and ``conv_tol`` and ``max_cycle`` if there are.
        out: The run folder; None leaves nothing behind.
        overwrite: Replace what an earlier run left in the folder.

    Raises:
        InputError: A molecule or model that is wrong.
    """
    from atomml.electronic.predictor import Predictor, load_predictor
    from atomml.workflows.inputs import all_structures

    started = time.perf_counter()
    predictor = load_predictor(model, device=options.device)
    own = {name: getattr(options, name) for name in ("conv_tol", "max_cycle") if hasattr(options, name)}
    chosen = replace(predictor.settings, **own)
    predictor = Predictor(predictor.model, chosen, predictor.molecules)
    given = all_structures(structures)
    for one in given:
        predictor.check(one.atoms, one.label)
    name = str(model) if isinstance(model, str | Path) else predictor.model.info.name
    facts: dict[str, Any] = {"structures": [one.label for one in given], "model": name}
    with open_with_options(out, command, options, overwrite=overwrite, **facts) as run:
        yield MoleculeRun(run, predictor, given, started)
