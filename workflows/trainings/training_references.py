"""Reference energies and replayed structures of a training."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from atomml.errors import FileFormatError, OptionError
from atomml.files import write_atomic

if TYPE_CHECKING:
    from atomml.data.dataset import Dataset, ListDataset
    from atomml.model import ModelInfo, Potential
    from atomml.train.batches import Limits
    from atomml.train.trainer import Replay
    from atomml.workflows.trainings.fine_tuning import FineTuneOptions

__all__ = [
    "Replayed",
    "by_head",
    "check_isolated",
    "read_shifts",
    "replay_files",
    "replay_of",
    "shifts_for",
    "write_shifts",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replayed:
    """What is shown against forgetting.

    Attributes:
        replay: As the trainer takes it.
        dataset: The same as entries.
        before: Structures with the answers of the model before the training, to measure the drift on.
        held_back: Whether these are not shown.
    """

    replay: Replay
    dataset: Dataset
    before: ListDataset
    held_back: bool


class Reporter(Protocol):
    """What a run folder says things to."""

    def event(self, kind: str, /, **data: object) -> None:
        """Write it down."""

    def warn(self, message: str) -> None:
        """Warn of it."""


def read_shifts(file: Path) -> dict[str, dict[int, float]] | None:
    """What an earlier part of the run added to reference energies; None if unknown.

    Returns:
        eV by head and atomic number; the head is "" where data name none.

    Raises:
        FileFormatError: The file is damaged.
    """
    if not file.exists():
        return None
    try:
        kept = json.loads(file.read_text())["shifts_eV"]
        return {head: {int(z): float(e) for z, e in shifts.items()} for head, shifts in kept.items()}
    except (ValueError, KeyError, AttributeError) as error:
        raise FileFormatError(f"{file}: damaged; start again with --overwrite.") from error


def write_shifts(file: Path, shifts: dict[str, dict[int, float]]) -> None:
    """Keep what was added, exactly."""
    write_atomic(file, json.dumps({"shifts_eV": shifts}) + "\n")


def shifts_for(
    how: str, model: Potential, train: Dataset, limits: Limits, folder: Reporter
) -> dict[str, dict[int, float]]:
    """What to add to the reference energy of each element, eV by head and atomic number.

    ``refit``: the constants per element that bring the model's energies closest to the labels;
    ``least-squares``: the same with the model's interaction energies left out, as fresh weights know
    nothing; ``isolated``: so that the model gives isolated atoms their labels; ``keep``: nothing.

    Raises:
        OptionError: No isolated atom of an element, or a model without reference energies.
    """
    found = {}
    for head, own in by_head(train).items():
        with model.answering_by(head):
            if how == "keep":
                _say(folder, f"Reference energies{_of(own)} are kept: {_told(model.references())}.")
            else:
                found[head] = _shifts_of(how, model, own, limits, folder)
    return found


def by_head(train: Dataset) -> dict[str, Dataset]:
    """The structures of each head, in the order in which the heads come up."""
    rows: dict[str, list[int]] = {}
    for i, entry in enumerate(train):
        rows.setdefault(entry.head, []).append(i)
    return {head: train.subset(own) if len(rows) > 1 else train for head, own in rows.items()}


def _say(folder: Reporter, message: str) -> None:
    """Write down and print what reference energies are."""
    folder.event("references", message=message)
    _log.info("%s", message)


def _of(train: Dataset) -> str:
    """Whose energies they are, where there are heads."""
    return f" of {train[0].head}" if train[0].head else ""


def _told(energies: Mapping[int, float] | None) -> str:
    """Energies of elements in words."""
    from ase.data import chemical_symbols

    if not energies:
        return "the model has none"
    return ", ".join(f"{chemical_symbols[z]} {e:+.4f}" for z, e in energies.items()) + " eV/atom"


def _shifts_of(
    how: str, model: Potential, train: Dataset, limits: Limits, folder: Reporter
) -> dict[int, float]:
    """The shifts of the head that answers, by the structures that belong to it."""
    from atomml.train.references import fit_references

    of = _of(train)
    if how == "isolated":
        shifts = _isolated(model, check_isolated(model, train))
        _say(folder, f"Reference energies{of} from isolated atoms, added: {_told(shifts)}.")
        return shifts
    if model.references() is None:
        folder.warn(f"{model.info.name} has no reference energies of elements: nothing is refitted.")
        return {}
    entries = [entry for entry in train if entry.labels.energy is not None]
    if not entries:
        folder.warn(f"No structure{of} has an energy: reference energies{of} stay as they are.")
        return {}
    labels = np.array([entry.labels.energy for entry in entries])
    before = np.zeros(len(entries)) if how == "least-squares" else _energies(model, train, limits)
    fit = fit_references([entry.atoms.numbers for entry in entries], labels - before)
    _say(folder, f"Reference energies{of}: {fit.sentence()}.")
    if not fit.unique:
        folder.warn(f"Reference energies{of} are not unique: {fit.sentence()}.")
    return fit.energies


def _energies(model: Potential, train: Dataset, limits: Limits) -> np.ndarray:
    """The model's energy of each structure that is labelled with one, ``(n_labelled,)`` eV."""
    from atomml.train.samples import Samples, join

    samples = Samples(train, model, max_bytes=0.0)
    chosen = [i for i, entry in enumerate(train) if entry.labels.energy is not None]
    at_once = max(1, limits.max_atoms // int(samples.n_atoms.max()))
    parts = []
    for start in range(0, len(chosen), at_once):
        graph, _ = join([samples[i] for i in chosen[start : start + at_once]], model.device)
        parts.append(model.predict(graph, forces=False, stress=False).energy.cpu().numpy())
    return np.concatenate(parts)


def check_isolated(model: Potential, train: Dataset) -> dict[int, float]:
    """The energy of the isolated atom of each element in the data, eV by atomic number.

    Raises:
        OptionError: An element without one, or a model without reference energies.
    """
    from ase.data import chemical_symbols

    from atomml.train.references import isolated_energies

    if model.references() is None:
        raise OptionError(f"{model.info.name} has no reference energies to set: take --references keep.")
    energies = isolated_energies([entry for entry in train if entry.labels.energy is not None])
    elements = {int(z) for entry in train for z in entry.atoms.numbers}
    missing = [chemical_symbols[z] for z in sorted(elements) if z not in energies]
    if missing:
        raise OptionError(
            f"The training set has no isolated atom of {', '.join(missing)} (one atom, not periodic, with an "
            "energy): add them, or take other references."
        )
    return energies


def _isolated(model: Potential, energies: dict[int, float]) -> dict[int, float]:
    from ase import Atoms

    from atomml.graph import GraphBuilder

    builder = GraphBuilder.for_model(model)
    free = {
        z: float(model.predict(builder(Atoms(numbers=[z])), forces=False, stress=False, path="plain").energy)
        for z in energies
    }
    return {z: energy - free[z] for z, energy in energies.items()}


def replay_files(options: FineTuneOptions, info: ModelInfo) -> Dataset:
    """The entries of the files of ``--replay``; without their labels where the model's own will be taken.

    Raises:
        InputError: A file that cannot be read, no structure, or an element that the model does not know.
    """
    from atomml.data.dataset import open_dataset
    from atomml.data.label_keys import NONE, LabelKeys
    from atomml.train.survey import check_covered

    keys, by_model = LabelKeys.of(options), options.replay_labels == "model"
    if by_model:  # its labels would only be thrown away, and may stand under other keys, or be missing
        keys = replace(keys, energy_key=NONE, forces_key=NONE, stress_key=NONE, magmoms_key=NONE)
    dataset = open_dataset(options.replay, keys, unlabelled=by_model)
    for entry in dataset:
        check_covered(entry, info)
    if not len(dataset):
        raise OptionError("The files of --replay hold no structure: name others, or leave it out.")
    return dataset


def replay_of(
    options: FineTuneOptions, model: Potential, own: Collection[int], head: str, given: Dataset | None
) -> Replayed:
    """The structures to replay, and those to measure the drift on; none is an error, so that replay stays on.

    Args:
        options: What is replayed, and how.
        model: Answers by the head that is to be kept.
        own: Atomic numbers in the user's data.
        head: That head; "" for the only one.
        given: Entries of :func:`replay_files`; None to generate structures.

    Raises:
        OptionError: No structure to replay.
    """
    from atomml.data.dataset import HeadDataset, ListDataset
    from atomml.train.drift import held_back
    from atomml.train.replay import generate, label_by_model
    from atomml.train.samples import Samples
    from atomml.train.trainer import Replay

    by_model = given is None or options.replay_labels == "model"
    if given is None:
        dataset: Dataset = generate(model, options.replay_size, options.seed, own)
    else:
        dataset = label_by_model(model, given) if by_model else given
    shown, held = held_back(len(dataset), options.seed)
    measured = ListDataset([dataset[i] for i in held])
    before = measured if by_model else label_by_model(model, measured)
    dataset = dataset.subset(shown)
    if head:
        dataset = HeadDataset(dataset, head)
    per_batch = min(options.replay_batch, len(dataset))
    samples = Samples(dataset, model, max_bytes=options.cache_gb * 1e9)
    replay = Replay(samples, per_batch, options.replay_weight)
    return Replayed(replay, dataset, before, shown != held)
