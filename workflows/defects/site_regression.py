"""Vacancies from features of the perfect crystal's sites alone: no vacancy is made, nothing is relaxed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers

from atomml.data.symmetry import unique_sites
from atomml.errors import AtomMLError, ModelError
from atomml.run import plain
from atomml.workflows.batch_memory import MemoryLimit
from atomml.workflows.inputs import GivenModel

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.potentials.site_regressor import SiteRegressor
    from atomml.workflows.defects.vacancy_survey import VacancySurveyOptions
    from atomml.workflows.defects.vacancy_survey_work import Crystal

    Array = NDArray[np.float64]

__all__ = ["load_regressor", "predict_sites", "site_features"]

_MOST_TOGETHER = 256  # crystals of one batch


def load_regressor(path: str | Path, model: GivenModel) -> SiteRegressor:
    """The regressor in a checkpoint, for features of a model.

    Raises:
        CheckpointError: A file that is damaged or no checkpoint.
        ModelError: A checkpoint of something else, or one that was trained on another model's features.
    """
    from atomml.checkpoint import load_any_model
    from atomml.potentials.site_regressor import SiteRegressor

    found = load_any_model(path, "float64", "cpu")
    if not isinstance(found, SiteRegressor):
        raise ModelError(
            f"{path} holds a model of family {found.info.family}, not a regressor of sites: give what "
            "'atomml property vacancies-train' wrote."
        )
    needed, ours = found.config.potential, _digest_of(model)
    if needed["sha256"] != ours:
        raise ModelError(
            f"{path} was trained on the features of {needed['name']}, and {model.source} is another model: "
            f"give that as --model."
        )
    return found


def _digest_of(model: GivenModel) -> str | None:
    record = model.record()
    digest = record.get("sha256")
    return None if digest is None else str(digest)


def site_features(crystals: Sequence[Atoms], model: GivenModel) -> list[Array]:
    """What is known of every atom of each crystal, ``(n_atoms, 2 c + 1)`` float64, for a model's c features.

    The features of its site; those of the atoms of its element's ground state, as published
    (:mod:`atomml.data.elements`), so that an element that no training site was of is like others that bind
    likewise; and how much more strongly the model holds the atom in the crystal than there, eV. The last two
    are zero for an element without a published structure. A ground state is asked for alone, and once for
    a model, so that no crystal's numbers depend on what came before.

    Raises:
        ModelError: The model has no features.
        RunFailedError: It gave a number that is not finite.
    """
    found = _asked(crystals, model)
    known = _ground_states({str(symbol) for atoms in crystals for symbol in atoms.symbols}, model)
    width = found[0][0].shape[1] if found else 0
    features, energies = np.zeros((119, width)), np.full(119, np.nan)
    for symbol, ground in known.items():
        features[atomic_numbers[symbol]], energies[atomic_numbers[symbol]] = ground
    made = []
    for atoms, (own, energy) in zip(crystals, found, strict=True):
        held = np.nan_to_num(energies[atoms.numbers] - energy)
        made.append(np.concatenate([own, features[atoms.numbers], held[:, None]], axis=1))
    return made


def _ground_states(symbols: set[str], model: GivenModel) -> dict[str, tuple[Array, float]]:
    """Mean features and energy, eV, of an atom of each element that has a published structure."""
    from atomml.data.elements import element_structures

    found: dict[str, tuple[Array, float]] = model.kept.setdefault("ground states of elements", {})
    published = element_structures()
    for symbol in sorted((symbols & set(published)) - set(found)):
        ((own, energy),) = _asked([published[symbol].atoms()], model)
        found[symbol] = own.mean(axis=0), float(energy.mean())
    return found


def _asked(crystals: Sequence[Atoms], model: GivenModel) -> list[tuple[Array, Array]]:
    """Features ``(n_atoms, c)`` and energies ``(n_atoms,)`` of the sites of each crystal."""
    from atomml.graph import GraphBuilder, collate

    potential = model.potential
    if potential is None:
        raise ModelError(f"{model.source} has no features of sites: give a model of the suite.")
    build = GraphBuilder.for_model(potential, angles=potential.fast_path() is None)
    graphs = [build(atoms) for atoms in crystals]
    limit = MemoryLimit.of(model)
    found: list[tuple[Array, Array]] = []
    for part in limit.parts(graphs, lambda graph: graph.n_edges + 10):
        for first in range(0, len(part), _MOST_TOGETHER):
            batch = collate(part[first : first + _MOST_TOGETHER])
            answer = potential.predict(batch, forces=False, stress=False)
            if answer.atom_features is None:
                raise ModelError(f"{model.source} has no features of sites: give another model.")
            ends = np.cumsum(batch.atoms_per_graph().cpu().numpy())[:-1]
            features = np.split(answer.atom_features.double().cpu().numpy(), ends)
            energies = np.split(answer.site_energies.double().cpu().numpy(), ends)
            found += zip(features, energies, strict=True)
    return found


def predict_sites(
    path: str, model: GivenModel, options: VacancySurveyOptions, group: Sequence[Crystal]
) -> list[tuple[dict[str, Any] | None, str | None]]:
    """What :func:`atomml.workflows.defects.vacancy_survey_work.survey` returns, by a regressor.

    Rows hold ``vacancy_formation_energy_eV``, ``interval_eV`` (half of what is meant to hold 90%),
    ``distance`` to the nearest training site in spreads of a feature, and ``outside``.
    """
    from atomml.workflows.defects.vacancy_survey_work import as_plain, site_columns

    regressor = load_regressor(path, model)
    able = [one for one in group if one.error is None]
    for one, features in zip(able, _features_of(able, model), strict=True):
        if features is None:
            continue
        wanted = [
            site
            for site in unique_sites(one.atoms, options.symprec)
            if not options.element or site.element in options.element
        ]
        places = [site.atoms[0] for site in wanted]
        found = regressor.answer(features[places], one.atoms.numbers[places])
        rows = [
            site_columns(site)
            | {
                "vacancy_formation_energy_eV": found.value[n],
                "interval_eV": found.half_width[n],
                "distance": found.distance[n],
                "outside": bool(found.outside[n]),
                "converged": True,
                "error": None,
            }
            for n, site in enumerate(wanted)
        ]
        one.answer = {
            "energy_per_atom_eV": None,
            "crystal": as_plain(one.atoms),
            "sites": [list(site.atoms) for site in wanted],
            "rows": rows,
            "structures": [],
            "warnings": " ".join(one.warnings),
        }
    return [(None, one.error) if one.error is not None else (plain(one.answer), None) for one in group]


def _features_of(group: Sequence[Crystal], model: GivenModel) -> list[Array | None]:
    """Of all together; where one spoils that, of each alone, and the one fails."""
    try:
        return list(site_features([one.atoms for one in group], model))
    except AtomMLError as error:
        if len(group) == 1:
            group[0].fail(error)
            return [None]
        return [found for one in group for found in _features_of([one], model)]
