"""What an evaluation knows so far, and the result that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atomml.workflows.evaluations.evaluation_calibration import Spreads
from atomml.workflows.evaluations.evaluation_tables import Structures, error_tables

if TYPE_CHECKING:
    from atomml.data.calibration import Calibration
    from atomml.data.entry import Entry
    from atomml.workflows.evaluations.evaluation import EvaluateOptions, EvaluationResult

__all__ = ["EvaluationRecord"]

_FIELDS = {  # field of the result: quantity, statistic
    "mae_energy": ("energy_meV_per_atom", "mae"),
    "mae_shifted_energy": ("shifted_energy_meV_per_atom", "mae"),
    "mae_forces": ("forces_meV_per_A", "mae"),
    "rmse_forces": ("forces_meV_per_A", "rmse"),
    "mae_force_vectors": ("force_vectors_meV_per_A", "mae"),
    "mean_force_angle": ("force_angles_deg", "mae"),
    "mae_stress": ("stress_GPa", "mae"),
    "mae_stress_meV_per_A3": ("stress_meV_per_A3", "mae"),
    "mae_magmoms": ("magmoms_muB", "mae"),
}
_REFERENCE_RATIO, _REFERENCE_ERROR = 5.0, 50.0
"""An energy error this many times what the shifts leave, and above so many meV/atom, is one of references."""
_WORST_BY = {"energy": "shifted_energy_error_meV_per_atom", "forces": "max_force_error_meV_per_A"}
_WORST_COLUMNS = ("input", "frame", "group", "formula", "n_atoms", *_WORST_BY.values(), "worst_atom")


class EvaluationRecord:
    """The errors of each model, row by row and summed up.

    Attributes:
        structures: Those that were evaluated.
        rows: A row of ``errors.csv`` for each structure, evaluated or not, in the order of the data.
        failed: Those that were not evaluated.
        labelled: Evaluated structures with each label.
        unanswered: Labels that a model gave no answer for: how often, by model and label.
    """

    def __init__(self, models: Sequence[str], force_ranges: Sequence[float]) -> None:
        from atomml.data.entry import LABELS
        from atomml.data.error_tally import ErrorTally

        self.tallies = {who: ErrorTally(force_ranges) for who in models}
        self.structures = Structures()
        self.rows: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self.labelled = dict.fromkeys(LABELS, 0)
        self.unanswered: dict[tuple[str, str], int] = {}
        self.spreads = Spreads()
        self.calibrations: dict[str, Calibration] = {}
        self.n_atoms = 0
        self._force_error, self._n_components = 0.0, 0

    def add(self, entry: Entry, outcome: Mapping[str, Any] | str) -> None:
        """Take the next entry with each model's answers, or with the reason why there are none."""
        row: dict[str, Any] = {
            "input": entry.source or None,
            "frame": entry.frame,
            "group": entry.group or None,
            "formula": str(entry.atoms.get_chemical_formula()),
            "n_atoms": len(entry.atoms),
        }
        self.rows.append(row)
        if isinstance(outcome, str):
            row["error"] = outcome
            self.failed.append({"input": row["input"], "frame": entry.frame, "error": outcome})
            return
        place = len(self.structures)
        self.structures.add(entry)
        self.n_atoms += len(entry.atoms)
        for name in entry.labels.names:
            self.labelled[name] += 1
        self.spreads.add(place, entry, outcome["model"])
        for who, found in outcome.items():
            for name in entry.labels.names:
                if name not in found:
                    self.unanswered[who, name] = self.unanswered.get((who, name), 0) + 1
            own = self.tallies[who].add(place, entry, found)
            row |= own if who == "model" else _of_baseline(own)
        if row.get("force_mae_meV_per_A") is not None:
            self._force_error += row["force_mae_meV_per_A"] * 3 * len(entry.atoms)
            self._n_components += 3 * len(entry.atoms)

    def progress(self) -> dict[str, float]:
        """The mean error of the force components so far, for a progress display."""
        if not self._n_components:
            return {}
        return {"force_mae_meV_per_A": self._force_error / self._n_components}

    def fill(self, result: EvaluationResult, options: EvaluateOptions, seed: int) -> None:
        """Write everything that was found into the result."""
        from atomml.data.bootstrap import Bootstrap

        clusters = self.structures.clusters(options.resample == "trajectories")
        bootstrap = Bootstrap(clusters, options.resamples, seed)
        lines = error_tables(self.tallies["model"], self.tallies.get("baseline"), self.structures, bootstrap)
        result.errors = [line for line in lines if line["kind"] == "all"]
        result.groups = [line for line in lines if line["kind"] != "all"]
        by_quantity = {line["quantity"]: line for line in result.errors}
        for name, (quantity, statistic) in _FIELDS.items():
            if quantity in by_quantity:
                setattr(result, name, by_quantity[quantity][statistic])
        self._shift(result)
        result.n_structures, result.n_failed = len(self.structures), len(self.failed)
        result.n_atoms = self.n_atoms
        result.failed, result.converged = list(self.failed), not self.failed
        result.n_labelled = dict(self.labelled)
        result.not_evaluated = self._not_evaluated()
        result.worst = self._worst(options.worst)
        energies = self.tallies["model"].energies()
        known = zip(energies.structures.tolist(), energies.shifted.tolist(), strict=True) if energies else ()
        self.calibrations = self.spreads.calibrations(dict(known), seed)
        result.calibration = [one.record(quantity) for quantity, one in self.calibrations.items()]

    def warnings(self, sources: Mapping[str, str]) -> list[str]:
        """What a reader of the numbers should know; ``sources`` names the models."""
        total = len(self.structures)
        said = []
        for name, count in self.labelled.items():
            if count == 0 and name != "magmoms":
                said.append(f"No structure has the label {name}: its error is not known.")
            elif 0 < count < total:
                said.append(f"{total - count} of {total} structures have no label {name}.")
        for (who, name), count in self.unanswered.items():
            said.append(f"{sources[who]} gave no {name} for {count} structures with that label.")
        said += self._of_shifts()
        if self.failed:
            said.append(
                f"{len(self.failed)} of {len(self.rows)} structures could not be evaluated; the first: "
                f"{self.failed[0]['error']}"
            )
        return said

    def _of_shifts(self) -> list[str]:
        """What the fit of a constant for each element shows about the labels."""
        energies = self.tallies["model"].energies()
        if energies is None:
            return []
        said = []
        whole, left = float(abs(energies.errors).mean()), float(abs(energies.shifted).mean())
        if whole > _REFERENCE_RATIO * left and whole > _REFERENCE_ERROR:
            said.append(
                f"Of an energy error of {whole:.4g} meV/atom, {left:.4g} are left when each element may have "
                "a constant: model and labels have other reference energies, so read the shifted energy."
            )
        if energies.rank < len(energies.elements):
            said.append(
                f"The compositions determine {energies.rank} of {len(energies.elements)} element shifts: "
                "the shifts of single elements mean nothing, what they take from the energy does."
            )
        return said

    def _shift(self, result: EvaluationResult) -> None:
        """The fitted shifts, and what each structure's energy error is without them."""
        from ase.data import chemical_symbols

        energies = self.tallies["model"].energies()
        if energies is None:
            return
        result.element_shift_eV = {
            chemical_symbols[number]: shift / 1000
            for number, shift in zip(energies.elements, energies.shifts.tolist(), strict=True)
        }
        good = [row for row in self.rows if "error" not in row]
        for place, shifted in zip(energies.structures.tolist(), energies.shifted.tolist(), strict=True):
            good[place]["shifted_energy_error_meV_per_atom"] = shifted

    def _not_evaluated(self) -> dict[str, str]:
        """Labels for which there is no error, and why."""
        reasons = {}
        for name, count in self.labelled.items():
            if count == 0:
                reasons[name] = "no structure has this label"
            elif self.unanswered.get(("model", name), 0) == count:
                reasons[name] = "the model does not give it"
        return reasons

    def _worst(self, most: int) -> list[dict[str, Any]]:
        """The structures with the largest errors, by energy and by force; ties in the order of the data."""
        found = []
        for by, column in _WORST_BY.items():
            known = [row for row in self.rows if row.get(column) is not None]
            for row in sorted(known, key=lambda row: -abs(row[column]))[:most]:
                found.append({"by": by} | {name: row.get(name) for name in _WORST_COLUMNS})
        return found


def _of_baseline(row: Mapping[str, Any]) -> dict[str, Any]:
    """The errors of the baseline under names of their own; what the labels say is there already."""
    return {f"baseline_{name}": value for name, value in row.items() if not name.startswith("reference_")}
