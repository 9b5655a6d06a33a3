"""Errors of predicted matrices beside those of what is cheap: ``atomml hamiltonian evaluate``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import build_options
from atomml.files import write_table
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    from atomml.data.dataset import Dataset
    from atomml.data.entry import Entry
    from atomml.electronic.orbitals import Shells
    from atomml.electronic.predictor import Predictor

__all__ = ["HamiltonianEvaluateOptions", "HamiltonianEvaluateResult", "evaluate_hamiltonian"]

_UNITS = {
    "hamiltonian": ("uEh", 1e6),
    "occupied": ("uEh", 1e6),
    "similarity": ("", 1.0),
    "homo": ("uEh", 1e6),
    "lumo": ("uEh", 1e6),
    "gap": ("uEh", 1e6),
    "dipole": ("D", 1.0),
    "energy": ("uEh", 1e6),
}


@dataclass(frozen=True)
class HamiltonianEvaluateOptions:
    """Options of ``hamiltonian evaluate``."""

    energy: bool = option(
        True, "energies of the densities, too: a Fock build for each source and one for the reference"
    )
    train: tuple[str, ...] = option(
        (), "stores that it was trained on: errors of the nearest geometry there, turned onto each molecule"
    )
    resamples: int = option(2000, "resamples for the intervals", minimum=100)
    device: str = option("auto", "device of the model")


@dataclass(kw_only=True)
class HamiltonianEvaluateResult(Result):
    """Mean errors over molecules, of the prediction, the prior, and the nearest training geometry.

    Attributes:
        n_molecules: Molecules.
        level: The exact method of the labels.
        hamiltonian_mae: Over all numbers of all matrices.
        prior_mae: What the prior leaves.
        nearest_mae: What the nearest training geometry's matrix leaves; None without ``train``.
        occupied_mae: Of occupied levels.
        errors: Of each source, by quantity: mean and 95% interval over molecules.
        rows: A row for each molecule.
    """

    n_molecules: int = 0
    level: str = ""
    hamiltonian_mae: float = quantity("µEh", default=0.0)
    prior_mae: float = quantity("µEh", default=0.0)
    nearest_mae: float | None = quantity("µEh", default=None)
    occupied_mae: float = quantity("µEh", default=0.0)
    homo_mae: float = quantity("µEh", default=0.0)
    lumo_mae: float = quantity("µEh", default=0.0)
    dipole_mae: float = quantity("D", default=0.0)
    similarity: float = quantity(default=0.0)
    errors: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False})


def evaluate_hamiltonian(
    model: Any,
    data: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> HamiltonianEvaluateResult:
    """Errors of a predictor on labelled molecules, beside those of the prior and of the nearest geometry.

    Args:
        model: A checkpoint, or a model.
        data: Stores of ``atomml hamiltonian label``.
        out: The run folder; None leaves nothing behind.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`HamiltonianEvaluateOptions`.

    Raises:
        InputError: A file, model or option that is wrong, or labels of another level of theory.
    """
    from atomml.data.dataset import open_dataset
    from atomml.electronic.predictor import load_predictor
    from atomml.workflows.electronic.hamiltonian_training import check_level

    started = time.perf_counter()
    settings = build_options(HamiltonianEvaluateOptions, options)
    predictor = load_predictor(model, device=settings.device)
    dataset = open_dataset(data, unlabelled=True)
    level = check_level({entry.method for entry in dataset})
    check_same_level(predictor, level)
    for entry in dataset:
        predictor.check(entry.atoms, entry.where)
    train = None
    if settings.train:
        train = NearestGeometry(open_dataset(settings.train, unlabelled=True), predictor.model.shells_of)
        check_same_level(predictor, check_level({entry.method for entry in train.dataset}))
    info = predictor.model.info
    paths = [str(data)] if isinstance(data, str | Path) else [str(path) for path in data]
    with open_with_options(
        out,
        "hamiltonian evaluate",
        settings,
        overwrite=overwrite,
        structures=paths,
        model=str(model) if isinstance(model, str | Path) else info.name,
    ) as run:
        if level != predictor.model.level.method:
            run.warn(
                f"The labels are of {level}, and {info.name} learned {predictor.model.level.method}: what "
                "differs between the two is counted among its errors."
            )
        found = []
        for number, entry in enumerate(dataset):
            found.append(_errors_of(entry, predictor, train, settings.energy))
            run.event("molecule", step=number + 1, of=len(dataset), id=entry.where)
        result = _summed(found, dataset, settings.resamples)
        result.level = level
        write_table(run.file("errors.csv"), result.rows, list(result.rows[0]))
        record = {"name": info.name, "sha256": info.sha256, "family": info.family}
        seconds = time.perf_counter() - started
        finish_run(run, result, model=record, inputs=dataset.sources, seconds=seconds)
    return result


def check_same_level(predictor: Predictor, level: str) -> None:
    """Refuse labels that the model was not trained for.

    Raises:
        OptionError: Names both levels of theory.
    """
    from atomml.errors import OptionError

    own = predictor.model.level
    if level.partition(" ")[0] != own.level:
        raise OptionError(
            f"The labels are of {level.partition(' ')[0]}, and {predictor.model.info.name} predicts "
            f"{own.level}: errors between them would say nothing."
        )


def _errors_of(
    entry: Entry, predictor: Predictor, train: NearestGeometry | None, energy: bool
) -> dict[str, dict[str, float]]:
    """Errors of each source for one molecule."""
    import numpy as np

    from atomml.electronic.matrices import all_pairs
    from atomml.electronic.matrix_errors import matrix_errors
    from atomml.electronic.mean_field import quiet
    from atomml.electronic.orbital_levels import dm_from
    from atomml.train.hamiltonian_objective import matrix_of, prior_of

    reference, prior = matrix_of(entry), prior_of(entry, predictor.model.level.prior)
    left = predictor.model.predict(all_pairs(entry.atoms, entry.where))[0].cpu().numpy()
    sources = {"prediction": prior + left, "prior": prior}
    if train is not None:
        near = train.matrix(entry)
        if near is not None:
            sources["nearest"] = near
    with quiet():
        molecule = predictor.level.molecule(entry.atoms)
        field_ = predictor.level.mean_field(entry.atoms) if energy else None
        true = None
        if field_ is not None:
            true = float(field_.energy_tot(dm=dm_from(reference, molecule)))
    has_prior = bool(np.abs(prior).max() > 0)
    found = {}
    for name, matrix in sources.items():
        if name == "prior" and not has_prior:
            continue
        found[name] = matrix_errors(matrix, reference, molecule, field_, true)
        found[name]["n_entries"] = float(matrix.size)
    return found


class NearestGeometry:
    """What one has without a model: the matrix of the nearest training geometry, turned onto a molecule.

    Args:
        dataset: Training molecules with their matrices.
        shells_of: Shells of an element.
    """

    def __init__(self, dataset: Dataset, shells_of: Callable[[int], Shells]) -> None:
        self.dataset, self._shells_of = dataset, shells_of
        self._places: dict[bytes, list[tuple[int, Any]]] = {}
        for index, entry in enumerate(dataset):
            same = self._places.setdefault(entry.atoms.numbers.tobytes(), [])
            same.append((index, entry.atoms.positions))

    def matrix(self, entry: Entry) -> Any:
        """``(n, n)`` Hartree, of the same elements in the same order; None where no molecule has them."""
        from atomml.electronic.rotation import align, rotate_matrix
        from atomml.train.hamiltonian_objective import matrix_of

        best: tuple[float, int, Any] | None = None
        for index, positions in self._places.get(entry.atoms.numbers.tobytes(), ()):
            rotation, distance = align(positions, entry.atoms.positions)
            if best is None or distance < best[0]:
                best = distance, index, rotation
        if best is None:
            return None
        shells = [self._shells_of(int(z)) for z in entry.atoms.numbers]
        return rotate_matrix(matrix_of(self.dataset[best[1]]), shells, best[2])


def _summed(
    found: Sequence[Mapping[str, Mapping[str, float]]], dataset: Dataset, resamples: int
) -> HamiltonianEvaluateResult:
    """Means with intervals, and a row for each molecule."""
    import numpy as np

    from atomml.data.bootstrap import interval_of_mean

    result = HamiltonianEvaluateResult(n_molecules=len(found))
    for entry, errors in zip(dataset, found, strict=True):
        row: dict[str, Any] = {"molecule": entry.where, "formula": str(entry.atoms.get_chemical_formula())}
        for source, values in errors.items():
            for name, (unit, factor) in _UNITS.items():
                if name in values:
                    row[f"{source}_{name}{'_' + unit if unit else ''}"] = factor * values[name]
        result.rows.append(row)
    for source in ("prediction", "prior", "nearest"):
        some = [errors[source] for errors in found if source in errors]
        if not some:
            continue
        result.errors[source] = {}
        for name, (_, factor) in _UNITS.items():
            off = np.array([factor * one[name] for one in some if name in one])
            if len(off):
                low, high = interval_of_mean(off, n_resamples=resamples)
                result.errors[source][name] = [float(off.mean()), float(low), float(high)]
        weights = np.array([one["n_entries"] for one in some])
        mae = 1e6 * float(np.average([one["hamiltonian"] for one in some], weights=weights))
        name = {"prediction": "hamiltonian_mae", "prior": "prior_mae", "nearest": "nearest_mae"}[source]
        setattr(result, name, mae)
    own = result.errors["prediction"]
    result.occupied_mae, result.homo_mae, result.lumo_mae = (own[n][0] for n in ("occupied", "homo", "lumo"))
    result.dipole_mae, result.similarity = own["dipole"][0], own["similarity"][0]
    return result
