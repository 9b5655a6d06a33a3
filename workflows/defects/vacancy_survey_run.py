"""How a survey of vacancies runs: a screen whose crystals have a row for each site.

The manifest holds energies without chemical potentials. The references of the elements that some compound
lost are relaxed when all crystals are done, so other potentials ask nothing anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from atomml.errors import StructureError
from atomml.files import write_atomic_with
from atomml.jobs import Outcome
from atomml.run import RunFolder
from atomml.workflows.crystals.crystal import Limits
from atomml.workflows.crystals.phase_set import relaxed_references, warn_of_molecules
from atomml.workflows.defects.vacancy_survey import COMMAND, VacancySurveyResult
from atomml.workflows.screens.screening import ScreenResult
from atomml.workflows.screens.screening_entries import Entry
from atomml.workflows.screens.screening_files import fill_result, write_files
from atomml.workflows.screens.screening_run import Screen
from atomml.workflows.screens.screening_work import atoms_of

__all__ = ["LABEL", "Survey"]

LABEL = "vacancy_formation_energy"
"""Array of ``sites.extxyz``: eV for each atom, NaN where nothing is known."""


@dataclass(frozen=True)
class _Mu:
    """A chemical potential, eV, and where it is from."""

    value: float
    convention: str


@dataclass
class Survey(Screen):
    """A screen of vacancies.

    Attributes:
        mu: Chemical potentials that were given, eV by element.
    """

    mu: dict[str, float] = field(default_factory=dict)
    command: ClassVar[str] = COMMAND

    def facts(self) -> dict[str, Any]:
        """As of any screen, and the potentials."""
        return super().facts() | {"mu": [f"{element}={value}" for element, value in self.mu.items()]}

    def _outcomes(self, run: RunFolder, manifest: Any, entries: Sequence[Entry]) -> dict[str, Outcome]:
        started = time.perf_counter()
        found = super()._outcomes(run, manifest, entries)
        fresh = [one.result["rows"] for one in found.values() if one.result is not None and not one.kept]
        minutes = (time.perf_counter() - started) / 60
        self.pace = sum(map(len, fresh)) / minutes if fresh else None
        return found

    def _result(self, run: RunFolder, entries: Sequence[Entry], outcomes: dict[str, Outcome]) -> ScreenResult:
        potentials = {} if self.settings["regressor"] else self._potentials(run, outcomes)
        pairs = [pair for entry in entries for pair in self._rows(entry, outcomes[entry.item], potentials)]
        sites = [entry for entry, _ in pairs]
        found = {outcome.id: outcome for _, outcome in pairs}
        result = fill_result(sites, found, self.options, VacancySurveyResult())
        result.n_crystals, result.n_structures = len(entries), len(entries)
        result.vacancies_per_minute = self.pace
        result.chemical_potentials = [
            {"element": element, "mu_eV": mu.value, "convention": mu.convention}
            for element, mu in sorted(potentials.items())
            if isinstance(mu, _Mu)
        ]
        write_files(run, sites, found, result)
        _write_sites(run, entries, outcomes, found)
        return result

    def _potentials(self, run: RunFolder, outcomes: Mapping[str, Outcome]) -> dict[str, _Mu | str]:
        """Of every element that a compound lost; a sentence where there is none."""
        found: dict[str, _Mu | str] = {e: _Mu(value, "as given") for e, value in self.mu.items()}
        answers = [one.result for one in outcomes.values() if one.result is not None]
        lost = {row["element"] for answer in answers if not _is_element(answer) for row in answer["rows"]}
        limits = Limits(self.settings["fmax"], self.settings["smax"], self.settings["steps"])
        for element in sorted(lost - set(found)):
            try:
                (phase,) = relaxed_references(run, self.model, [element], limits)
            except StructureError:
                found[element] = (
                    f"There is no published structure of {element}, so it has no reference: give its "
                    f"chemical potential, --mu {element}=EV."
                )
                continue
            run.event("phase", name=phase.name, energy_per_atom_eV=phase.energy_per_atom)
            warn_of_molecules(run, [phase])
            found[element] = _Mu(phase.energy_per_atom, phase.name)
        return found

    def _rows(
        self, entry: Entry, outcome: Outcome, potentials: Mapping[str, _Mu | str]
    ) -> Iterator[tuple[Entry, Outcome]]:
        """An entry and an outcome for each vacancy of a crystal; one for a crystal that failed."""
        answer = outcome.result
        if answer is None:
            yield entry, outcome
            return
        for number, known in enumerate(answer["rows"]):
            row = {key: value for key, value in known.items() if key != "error"}
            row |= {"warnings": answer["warnings"]} if answer["warnings"] else {}
            error = known["error"]
            if error is None and "removal_energy_eV" in row:
                mu = self._mu_of(row["element"], answer, potentials)
                error = mu if isinstance(mu, str) else None
                row = row if isinstance(mu, str) else _with_potential(row, mu)
            name, head, result = f"{entry.item}#{number}", entry.head, None
            if error is None:
                structures = answer["structures"]
                result = {"row": row} | ({"structure": structures[number]} if structures else {})
            else:
                head = head | {key: row[key] for key in ("site", "element", "atom")}
            place = Entry(name, head, entry.given, error, entry.digest)
            yield place, Outcome(name, result, error, outcome.attempt, outcome.kept)

    def _mu_of(
        self, element: str, answer: Mapping[str, Any], potentials: Mapping[str, _Mu | str]
    ) -> _Mu | str:
        if _is_element(answer) and element not in self.mu:
            return _Mu(answer["energy_per_atom_eV"], "own bulk")
        return potentials[element]


def _is_element(answer: Mapping[str, Any]) -> bool:
    return len(set(answer["crystal"]["numbers"])) == 1


def _with_potential(row: Mapping[str, Any], mu: _Mu) -> dict[str, Any]:
    """The formation energies in place of the energies without a potential."""
    new = dict(row)
    unrelaxed = new.pop("removal_energy_eV") + mu.value
    relaxed = new.pop("relaxed_removal_energy_eV", None)
    energy = unrelaxed if relaxed is None else relaxed + mu.value
    return new | {
        "unrelaxed_vacancy_formation_energy_eV": unrelaxed,
        "vacancy_formation_energy_eV": energy,
        "mu_eV": mu.value,
        "mu_of": mu.convention,
    }


def _write_sites(
    run: RunFolder, entries: Sequence[Entry], outcomes: Mapping[str, Outcome], found: Mapping[str, Outcome]
) -> None:
    """``sites.extxyz``: the crystals as they were measured, with an energy for each atom that is known."""
    import numpy as np

    from atomml.data.structures import extxyz_frame

    def write(stream: Any) -> None:
        """Every crystal with a row, as a frame."""
        for entry in entries:
            answer = outcomes[entry.item].result
            if answer is None or not answer["rows"]:
                continue
            atoms = atoms_of(answer["crystal"])
            label = np.full(len(atoms), np.nan)
            for number, members in enumerate(answer["sites"]):
                one = found[f"{entry.item}#{number}"].result
                if one is not None:
                    label[members] = one["row"]["vacancy_formation_energy_eV"]
            atoms.set_array(LABEL, label)
            atoms.info |= {key: str(entry.head[key]) for key in ("input", "frame", "id") if key in entry.head}
            stream.write(extxyz_frame(atoms, {}).encode())

    write_atomic_with(run.file("sites.extxyz"), write)
