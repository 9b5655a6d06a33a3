"""What a worker of a screen does: one workflow on a group of structures; each ends with a row or a sentence.

``relax`` and ``predict`` take the group in batches of the model; any other workflow goes through it one by
one. The model is loaded once for a process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.errors import AtomMLError
from atomml.run import listening, plain
from atomml.workflows.inputs import GivenModel, GivenStructure
from atomml.workflows.work_sharing import loaded_once

if TYPE_CHECKING:
    from ase import Atoms

_NOT_OF_ONE = ("n_structures", "n_failed")

__all__ = ["Answer", "Order", "ScreenTask", "atoms_of", "work"]

Answer = tuple[dict[str, Any] | None, str | None]
"""``{"row": ..., "structure": ...}`` and None, or None and why it failed."""


@dataclass(frozen=True)
class ScreenTask:
    """What is done to every structure of a screen.

    Attributes:
        workflow: Name of the workflow.
        options: Its options, all of them.
        model: Name or file of the model, or the model itself where the work stays in one process.
        calculator: Keyword arguments for ``ase:MODULE:CLASS``.
        dtype: Precision of a model that is loaded.
        device: Device of a model that is loaded.
    """

    workflow: str
    options: Mapping[str, Any]
    model: str | GivenModel
    calculator: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    device: str = "auto"

    def loaded(self) -> GivenModel:
        """The model, loaded at the first call in a process."""
        return loaded_once(self.model, self.calculator, self.dtype, self.device)


@dataclass(frozen=True)
class Order:
    """One structure and what to do to it.

    Attributes:
        task: What is done.
        given: The structure; None where it could not be read.
        error: Why it could not be read.
        folder: Its own run folder; "" for none.
    """

    task: ScreenTask
    given: GivenStructure | None
    error: str | None = None
    folder: str = ""


def work(orders: Sequence[Order]) -> list[Answer]:
    """Do the orders, all of one task; an answer for each, in their order."""
    answers: list[Answer] = [(None, order.error or "There is no structure.") for order in orders]
    able = [number for number, order in enumerate(orders) if order.given is not None]
    if not able:
        return answers
    task = orders[able[0]].task
    with _quietly():
        chosen = [orders[number] for number in able]
        together = _TOGETHER.get(task.workflow, _one_by_one)
        found = _one_by_one(task, chosen) if any(order.folder for order in chosen) else together(task, chosen)
        for number, answer in zip(able, found, strict=True):
            answers[number] = answer
    return answers


def atoms_of(structure: Mapping[str, Any]) -> Atoms:
    """The structure of an answer."""
    from ase import Atoms

    return Atoms(
        numbers=structure["numbers"],
        positions=structure["positions"],
        cell=structure["cell"],
        pbc=structure["pbc"],
    )


def _one_by_one(task: ScreenTask, orders: Sequence[Order]) -> list[Answer]:
    from atomml import workflows

    function = getattr(workflows, task.workflow)
    answers: list[Answer] = []
    for order in orders:
        assert order.given is not None
        places = {"out": order.folder, "resume": Path(order.folder).exists()} if order.folder else {}
        try:
            result = function(order.given, task.loaded(), **places, **task.options)
        except Exception as error:  # whatever a library says of one structure, the next one goes on
            answers.append((None, _sentence(error)))
        else:
            answer = _answer(order.given, result)
            if order.folder:  # beside the table, whatever the path to both
                answer["row"]["folder"] = "/".join(Path(order.folder).parts[-2:])
            answers.append((answer, None))
    return answers


def _relax_together(task: ScreenTask, orders: Sequence[Order]) -> list[Answer]:
    from atomml.workflows.relaxing.relaxation_batched import relax_batched

    answers: list[Answer] = [(None, "It was not relaxed.")] * len(orders)
    structures = [order.given for order in orders]
    for ended in relax_batched(structures, task.loaded(), **task.options):
        given = structures[ended.index]
        if ended.result is not None and given is not None:
            answers[ended.index] = (_answer(given, ended.result), None)
        else:
            answers[ended.index] = (None, ended.error)
    return answers


def _predict_together(task: ScreenTask, orders: Sequence[Order]) -> list[Answer]:
    from atomml.workflows import predict

    options = dict(task.options) | {"on_error": "skip", "features": False}
    structures = [order.given for order in orders if order.given is not None]
    try:
        rows = predict(structures, task.loaded(), **options).rows
    except AtomMLError as error:  # all are wrong, or one pulls down its batch
        if len(orders) == 1:
            return [(None, _sentence(error))]
        return [answer for order in orders for answer in _predict_together(task, [order])]
    return [_of_row(given, row) for given, row in zip(structures, rows, strict=True)]


def _of_row(given: GivenStructure, row: Mapping[str, Any]) -> Answer:
    if row.get("error"):
        return None, str(row["error"])
    kept = {key: value for key, value in row.items() if key not in ("input", "frame", "error")}
    return {"row": plain(kept | {"converged": True}), "structure": _plain_atoms(given.atoms)}, None


def _vacancies_together(task: ScreenTask, orders: Sequence[Order]) -> list[Answer]:
    from atomml.workflows.defects.vacancy_survey_work import survey

    return survey(task.loaded(), task.options, [order.given for order in orders if order.given is not None])


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, AtomMLError) else f"{type(error).__name__}: {text}"


_TOGETHER = {
    "relax": _relax_together,
    "predict": _predict_together,
    "property vacancies": _vacancies_together,
}


def _answer(given: GivenStructure, result: Any) -> dict[str, Any]:
    """Numbers and texts of a result, and the structure that it ended with."""
    atoms = getattr(result, "atoms", None)
    row = {
        key: value
        for key, value in result.results().items()
        if isinstance(value, bool | int | float | str) and key not in _NOT_OF_ONE
    }
    row["converged"] = result.converged
    if result.warnings:
        row["warnings"] = " ".join(result.warnings)
    return {"row": plain(row), "structure": _plain_atoms(given.atoms if atoms is None else atoms)}


def _plain_atoms(atoms: Atoms) -> dict[str, Any]:
    return plain(
        {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array, "pbc": atoms.pbc}
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the log and the progress of each structure: its row says what matters."""
    logger = logging.getLogger("atomml")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with listening(None):
            yield
    finally:
        logger.setLevel(before)
