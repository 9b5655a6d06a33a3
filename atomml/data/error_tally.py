"""The errors of one model, summed up structure by structure as they come in."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomml.data.entry import Entry, Labels
from atomml.data.error_statistics import Block, angles_between, error_sums, fit_element_shifts, fractions_of
from atomml.units import GPA

__all__ = [
    "ENERGY",
    "QUANTITIES",
    "SHIFTED_ENERGY",
    "STRESS",
    "ErrorTally",
    "ShiftedEnergies",
    "check_labels",
    "full_range",
]

ENERGY = "energy_meV_per_atom"
SHIFTED_ENERGY = "shifted_energy_meV_per_atom"
FORCES = "forces_meV_per_A"
VECTORS = "force_vectors_meV_per_A"
ANGLES = "force_angles_deg"
STRESS = "stress_GPa"
MAGMOMS = "magmoms_muB"
QUANTITIES = (ENERGY, SHIFTED_ENERGY, FORCES, VECTORS, ANGLES, STRESS, MAGMOMS)
"""What is compared, in the order in which tables show it."""

_VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
_SHAPES = {"energy": (), "stress": (3, 3)}


def check_labels(entry: Entry) -> str | None:
    """What is wrong with the labels of an entry, as a sentence; None if nothing is."""
    n_atoms = len(entry.atoms)
    if n_atoms == 0:
        return f"{entry.where} has no atoms: leave it out."
    for name in entry.labels.names:
        value = np.asarray(getattr(entry.labels, name), dtype=np.float64)
        shape = _SHAPES.get(name, (n_atoms, 3) if name == "forces" else (n_atoms,))
        if value.shape != shape:
            return (
                f"{entry.where}: the label {name} has the shape {value.shape}, not {shape}: correct the file."
            )
        if not np.isfinite(value).all():
            return f"{entry.where}: the label {name} is NaN or infinite: compute it again or leave it out."
    return None


def full_range(edges: Sequence[float]) -> list[str]:
    """Names of the ranges between ascending edges, in eV/Å: ``0-0.5``, ``0.5-1``, ``>1``."""
    low = (0.0, *edges)
    return [f"{a:g}-{b:g}" for a, b in zip(low, edges, strict=False)] + [f">{low[-1]:g}"]


class ErrorTally:
    """Sums of a model's errors by quantity, element and range of force.

    Args:
        force_ranges: Ascending edges, eV/Å, that group atoms by the size of their labelled force.
    """

    def __init__(self, force_ranges: Sequence[float]) -> None:
        self._edges = np.asarray(force_ranges, dtype=np.float64)
        self._range_names = full_range(force_ranges)
        self._rows: dict[tuple[str, str, str], tuple[array[int], array[float]]] = {}
        self._energies: list[tuple[int, float, float, dict[int, int]]] = []
        self._stresses: list[NDArray[np.float64]] = []
        self._magmoms: list[NDArray[np.float64]] = []
        self._zero: dict[str, list[float]] = {FORCES: [], VECTORS: []}

    def add(self, place: int, entry: Entry, found: Mapping[str, Any]) -> dict[str, float | int | None]:
        """Take the answers for one entry and return its own errors, a row of ``errors.csv``.

        Args:
            place: Its place among the structures of this tally.
            entry: Structure and labels; what has no label, or no answer, is passed over.
            found: ``energy`` (eV), ``forces`` ``(n_atoms, 3)`` (eV/Å), ``stress`` ``(6,)`` in Voigt order
                (eV/Å³), ``magmoms`` ``(n_atoms,)`` (μB).
        """
        labels, row = entry.labels, dict[str, float | int | None]()
        if labels.energy is not None and "energy" in found:
            row |= self._add_energy(place, entry, 1000 * float(found["energy"]))
        if labels.forces is not None and "forces" in found:
            row |= self._add_forces(place, entry, 1000 * np.asarray(found["forces"], dtype=np.float64))
        if labels.stress is not None and "stress" in found:
            row |= self._add_stress(place, labels, GPA * np.asarray(found["stress"], dtype=np.float64))
        if labels.magmoms is not None and "magmoms" in found:
            row |= self._add_magmoms(place, entry, np.abs(np.asarray(found["magmoms"], dtype=np.float64)))
        return row

    def blocks(self) -> list[Block]:
        """The sums of every quantity as a whole, by element and by range of force."""
        found = [
            Block(*key, np.array(places, dtype=np.int64), np.array(rows).reshape(len(places), -1))
            for key, (places, rows) in self._rows.items()
        ]
        energies = self.energies()
        if energies is not None:
            found += [energies.block(shifted=False), energies.block(shifted=True)]
        return found

    def energies(self) -> ShiftedEnergies | None:
        """The energies and what a constant for each element takes away; None without energies."""
        if not self._energies:
            return None
        places, predicted, reference, counts = zip(*self._energies, strict=True)
        return ShiftedEnergies(places, predicted, reference, counts)

    def trivial(self) -> dict[str, float]:
        """MAE of a predictor that knows no structure, by quantity.

        It says the mean energy per atom (for the shifted energy, the best energy for each element),
        no forces, the mean of each component of the stress and the mean magnetic moment of the labels.
        """
        blocks = {block.key: block for block in self.blocks()}
        found = {
            name: sum(sizes) / float(blocks[name, "all", ""].rows[:, 0].sum())
            for name, sizes in self._zero.items()
            if sizes
        }
        energies = self.energies()
        if energies is not None:
            reference = energies.reference
            composition = (
                reference - energies.fractions @ fit_element_shifts(energies.fractions, reference)[0]
            )
            found[ENERGY] = float(np.abs(reference - reference.mean()).mean())
            found[SHIFTED_ENERGY] = float(np.abs(composition).mean())
        if self._stresses:
            stresses = np.stack(self._stresses)
            found[STRESS] = float(np.abs(stresses - stresses.mean(axis=0)).mean())
        if self._magmoms:
            magmoms = np.concatenate(self._magmoms)
            found[MAGMOMS] = float(np.abs(magmoms - magmoms.mean()).mean())
        return found

    def _put(self, quantity: str, kind: str, name: str, place: int, row: NDArray[np.float64]) -> None:
        if row[0]:
            places, rows = self._rows.setdefault((quantity, kind, name), (array("q"), array("d")))
            places.append(place)
            rows.extend(row.tolist())

    def _add_energy(self, place: int, entry: Entry, predicted: float) -> dict[str, float | int | None]:
        n_atoms = len(entry.atoms)
        assert entry.labels.energy is not None
        reference = 1000 * float(entry.labels.energy) / n_atoms
        numbers, counts = np.unique(entry.atoms.numbers, return_counts=True)
        composition = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
        self._energies.append((place, predicted / n_atoms, reference, composition))
        return {
            "reference_energy_eV_per_atom": reference / 1000,
            "energy_eV_per_atom": predicted / n_atoms / 1000,
            "energy_error_meV_per_atom": predicted / n_atoms - reference,
        }

    def _add_forces(
        self, place: int, entry: Entry, predicted: NDArray[np.float64]
    ) -> dict[str, float | int | None]:
        assert entry.labels.forces is not None
        reference = 1000 * np.asarray(entry.labels.forces, dtype=np.float64)
        size = np.linalg.norm(reference, axis=1)
        off = np.linalg.norm(predicted - reference, axis=1)
        angles = angles_between(predicted / 1000, reference / 1000)
        self._zero[FORCES].append(float(np.abs(reference).sum()))
        self._zero[VECTORS].append(float(size.sum()))
        numbers = entry.atoms.numbers
        symbols = {int(number): str(entry.atoms.symbols[i]) for i, number in enumerate(numbers)}
        ranges = np.digitize(size / 1000, self._edges)
        parts = [("all", "", np.ones(len(numbers), dtype=bool))]
        parts += [("element", symbols[number], numbers == number) for number in sorted(symbols)]
        parts += [("force_range", self._range_names[i], ranges == i) for i in np.unique(ranges).tolist()]
        for kind, name, chosen in parts:
            self._put(FORCES, kind, name, place, error_sums(predicted[chosen], reference[chosen]))
            zero = np.zeros(int(chosen.sum()))
            self._put(VECTORS, kind, name, place, error_sums(off[chosen], zero, of_reference=False))
            known = angles[chosen][np.isfinite(angles[chosen])]
            sums = error_sums(known, np.zeros_like(known), of_reference=False)
            self._put(ANGLES, kind, name, place, sums)
        return {
            "force_mae_meV_per_A": float(np.abs(predicted - reference).mean()),
            "force_rmse_meV_per_A": float(np.sqrt(((predicted - reference) ** 2).mean())),
            "max_force_error_meV_per_A": float(off.max()),
            "worst_atom": int(off.argmax()),
        }

    def _add_stress(
        self, place: int, labels: Labels, predicted: NDArray[np.float64]
    ) -> dict[str, float | int | None]:
        reference = GPA * np.asarray(labels.stress, dtype=np.float64)[_VOIGT]
        self._stresses.append(reference)
        self._put(STRESS, "all", "", place, error_sums(predicted, reference))
        pressures = (-reference[:3].mean(), -predicted[:3].mean())
        return {
            "stress_mae_GPa": float(np.abs(predicted - reference).mean()),
            "reference_pressure_GPa": float(pressures[0]),
            "pressure_GPa": float(pressures[1]),
        }

    def _add_magmoms(
        self, place: int, entry: Entry, predicted: NDArray[np.float64]
    ) -> dict[str, float | int | None]:
        reference = np.abs(np.asarray(entry.labels.magmoms, dtype=np.float64))
        self._magmoms.append(reference)
        self._put(MAGMOMS, "all", "", place, error_sums(predicted, reference))
        for symbol in sorted(set(entry.atoms.symbols)):
            chosen = np.asarray(entry.atoms.symbols == symbol)
            row = error_sums(predicted[chosen], reference[chosen])
            self._put(MAGMOMS, "element", str(symbol), place, row)
        return {"magmom_mae_muB": float(np.abs(predicted - reference).mean())}


class ShiftedEnergies:
    """Energies per atom, with and without a constant for each element fitted to their errors.

    Attributes:
        structures: ``(n,)`` place of each structure.
        predicted: ``(n,)`` meV/atom.
        reference: ``(n,)`` meV/atom.
        elements: Atomic numbers that occur.
        fractions: ``(n, n_elements)`` fraction of each element.
        shifts: ``(n_elements,)`` meV per atom of the element: what the model has too much.
        rank: How many shifts the compositions determine.
    """

    def __init__(
        self,
        places: Sequence[int],
        predicted: Sequence[float],
        reference: Sequence[float],
        counts: Sequence[dict[int, int]],
    ) -> None:
        self.structures = np.asarray(places, dtype=np.int64)
        self.predicted = np.asarray(predicted, dtype=np.float64)
        self.reference = np.asarray(reference, dtype=np.float64)
        self.elements, self.fractions = fractions_of(counts)
        self.shifts, self.rank = fit_element_shifts(self.fractions, self.errors)

    @property
    def errors(self) -> NDArray[np.float64]:
        """``(n,)`` meV/atom, as predicted."""
        return self.predicted - self.reference

    @property
    def shifted(self) -> NDArray[np.float64]:
        """``(n,)`` errors in meV/atom that the shifts leave."""
        return self.errors - self.fractions @ self.shifts

    def block(self, *, shifted: bool) -> Block:
        """The errors with or without the shifts, as one block of a row per structure."""
        origin = float(np.median(self.reference))
        errors = self.shifted if shifted else self.errors
        rows = [
            error_sums(e, 0.0, of_reference=False) + error_sums(r, r, origin=origin) * (0, 0, 0, 0, 1, 1, 0)
            for e, r in zip(errors, self.reference, strict=True)
        ]
        return Block(SHIFTED_ENERGY if shifted else ENERGY, "all", "", self.structures, np.stack(rows))
