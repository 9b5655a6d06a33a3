"""Labelled sites of perfect crystals: what a regressor of vacancies learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import FileFormatError, StructureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from atomml.workflows.inputs import GivenModel, GivenStructure

    Array = NDArray[np.float64]

__all__ = ["TrainingSites", "labelled_sites"]

_FEWEST = 8
_SAME = 1e-3  # eV, within which equivalent atoms have one label


@dataclass
class TrainingSites:
    """Labelled sites, ``(n, ...)`` each.

    Attributes:
        features: ``(n, d)``.
        labels: eV.
        elements: Atomic numbers.
        crystals: Reduced formula of the crystal.
        names: File and frame, site and atom, for the table.
        compositions: ``(n, 119)`` share of each element in the crystal; what a guess from composition has.
    """

    features: Array
    labels: Array
    elements: NDArray[np.int64]
    crystals: NDArray[np.str_]
    names: list[dict[str, Any]]
    compositions: Array


def labelled_sites(
    given: Sequence[GivenStructure], model: GivenModel, label: str, symprec: float
) -> TrainingSites:
    """One site of each orbit that has a label.

    Args:
        given: Perfect crystals.
        model: Whose features are taken.
        label: Array of the structures that holds the labels.
        symprec: How far atoms may be off their symmetric sites, Å.

    Raises:
        FileFormatError: Labels of another shape, or too few.
        StructureError: Equivalent atoms with different labels.
    """
    from atomml.data.symmetry import unique_sites
    from atomml.workflows.crystals.phase_set import reduced_formula
    from atomml.workflows.defects.site_regression import site_features

    features, labels, elements, crystals, names, compositions = [], [], [], [], [], []
    labelled = [one for one in given if label in one.atoms.arrays]
    for one, found in zip(labelled, site_features([one.atoms for one in labelled], model), strict=True):
        values = _values(one, label)
        for site in unique_sites(one.atoms, symprec):
            known = [atom for atom in site.atoms if np.isfinite(values[atom])]
            if not known:
                continue
            _check_alike(one, values, known, site.label)
            features.append(found[known[0]])
            labels.append(values[known[0]])
            elements.append(int(one.atoms.numbers[known[0]]))
            crystals.append(reduced_formula(one.atoms))
            compositions.append(np.bincount(one.atoms.numbers, minlength=119) / len(one.atoms))
            where = {"input": one.label, "formula": crystals[-1], "site": site.label, "atom": known[0]}
            names.append(where | {"element": site.element})
    if len(labels) < _FEWEST or len(set(elements)) < 2:
        raise FileFormatError(
            f"There are {len(labels)} sites of {len(set(elements))} elements with a number in the array "
            f"{label}: give {_FEWEST} of two elements at least (--label names the array)."
        )
    return TrainingSites(
        np.array(features),
        np.array(labels),
        np.array(elements),
        np.array(crystals),
        names,
        np.array(compositions),
    )


def _values(one: GivenStructure, label: str) -> Array:
    values = np.asarray(one.atoms.arrays[label])
    if values.shape != (len(one.atoms),) or values.dtype.kind not in "fiu":
        raise FileFormatError(f"{one.label}: {label} has shape {values.shape}: give a number for each atom.")
    return values.astype(np.float64)


def _check_alike(one: GivenStructure, values: Array, atoms: list[int], site: str) -> None:
    apart = np.abs(values[atoms] - values[atoms[0]])
    if apart.max() > _SAME:
        raise StructureError(
            f"{one.label}: atoms {atoms[0]} and {atoms[int(apart.argmax())]} are equivalent ({site}), and "
            f"their labels are {apart.max():.3g} eV apart: mend them, or lower --symprec."
        )
