"""Structures against forgetting: labelled by the foundation model itself, shown beside the user's.

A foundation model's own training set is rarely at hand. Its answers are, for any structure; training on
some of them beside the new labels holds the rest of its knowledge in place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from atomml.data.dataset import Dataset, ListDataset
from atomml.data.entry import Entry, Labels
from atomml.errors import OptionError
from atomml.graph import AtomGraph, GraphBuilder
from atomml.graph.batching import collate
from atomml.model import ModelInfo, Potential, Prediction

__all__ = ["check_generable", "generate", "label_by_model", "prototypes"]

_BINARIES = {"rocksalt": 2.0, "cesiumchloride": 2 / np.sqrt(3.0), "zincblende": 4 / np.sqrt(3.0)}
_ELEMENTAL = {"fcc": np.sqrt(2.0), "bcc": 2 / np.sqrt(3.0), "diamond": 4 / np.sqrt(3.0)}
"""Prototypes and their lattice constant over the distance of nearest neighbours."""

_SCALES = (0.9, 0.97, 1.04, 1.12, 1.2)
_LARGEST_STRAIN = 0.06
_RATTLES = (0.02, 0.2)  # Å, standard deviation of the displacements: from phonons to a melt
_LARGEST_FORCE = 20.0  # eV/Å; beyond, the foundation model was hardly trained itself
_NEAREST = 1.2  # Å; light elements' covalent radii would make crystals denser than any
_AT_ONCE = 64
_MOST_AT_ONCE = 500_000
"""Structures, and edges and angles, that are labelled at a time."""


def generate(model: Potential, n: int, seed: int, own: Collection[int]) -> ListDataset:
    """Strained and rattled prototype crystals of the elements that the model knows, with its labels.

    Elements and pairs of elements are drawn so that each element comes up about equally often; each
    crystal is first brought to the volume at which the model gives it the lowest energy. Crystals of the
    user's elements alone are left out: what the new labels say of them is what the model is to learn.

    Args:
        model: The foundation model, reference energies as the fine-tuning starts with them.
        n: How many.
        seed: Of the drawing.
        own: Atomic numbers in the user's data.

    Raises:
        OptionError: The model's elements leave nothing to generate.
    """
    check_generable(model.info, own)
    random = np.random.default_rng([seed, 3])
    crystals = prototypes(model.info.elements, n + n // 4 + 4, random, own)
    relaxed = _at_best_volume(model, crystals)
    entries = [Entry(_disturbed(one, random), source="replay", frame=k) for k, one in enumerate(relaxed)]
    labelled = label_by_model(model, ListDataset(entries))
    kept = [entry for entry in labelled if _is_sane(entry)][:n]
    if not kept:
        raise OptionError(
            f"{model.info.name} gives no sane answer for any generated crystal: name structures with "
            "--replay."
        )
    return ListDataset(kept)


def check_generable(info: ModelInfo, own: Collection[int]) -> None:
    """Refuse to generate crystals where the model knows the user's elements only.

    Raises:
        OptionError: Says what to do instead.
    """
    if set(_usable(info.elements)) <= set(own):
        raise OptionError(
            f"Nothing can be replayed: {info.name} knows no elements beside those of the data; name "
            "structures with --replay, or take --method full or frozen."
        )


def _usable(elements: Sequence[int]) -> list[int]:
    """Those that crystals can be made of."""
    return [z for z in elements if 0 < z < len(covalent_radii) and covalent_radii[z] > 0.25]


def prototypes(
    elements: Sequence[int], n: int, random: np.random.Generator, own: Collection[int] = ()
) -> list[Atoms]:
    """Crystals of one or two elements at the distances that covalent radii suggest; none of ``own`` alone."""
    usable = _usable(elements)
    if not usable or set(usable) <= set(own):
        return []
    found: list[Atoms] = []
    drawn = _endless(usable, random)
    while len(found) < n:
        first = next(drawn)
        second = next(drawn) if random.random() < 0.75 else first
        if {first, second} <= set(own):
            continue
        found.append(_crystal(first, second, random))
    return found


def _endless(items: Sequence[int], random: np.random.Generator) -> Iterator[int]:
    """Each item once in random order, over and over."""
    while True:
        yield from (items[int(i)] for i in random.permutation(len(items)))


def _crystal(first: int, second: int, random: np.random.Generator) -> Atoms:
    distance = max(_NEAREST, float(covalent_radii[first] + covalent_radii[second]))
    table = _ELEMENTAL if first == second else _BINARIES
    kind = list(table)[int(random.integers(len(table)))]
    name = chemical_symbols[first] + (chemical_symbols[second] if first != second else "")
    atoms = bulk(name, kind, a=table[kind] * distance)
    if len(atoms) == 1 or random.random() < 0.5:
        atoms = make_supercell(atoms, np.array([[1, 1, 0], [1, -1, 0], [0, 0, 1]]))
    return atoms


def _at_best_volume(model: Potential, crystals: Sequence[Atoms]) -> list[Atoms]:
    """Each crystal scaled to the one of a few volumes at which its energy is lowest."""
    trial = []
    for atoms in crystals:
        for scale in _SCALES:
            scaled = atoms.copy()
            scaled.set_cell(atoms.cell * scale, scale_atoms=True)
            trial.append(scaled)
    energies = [float(one.energy[0]) for one in _predictions(model, trial, derivatives=False)]
    best = np.reshape(energies, (len(crystals), len(_SCALES))).argmin(axis=1)
    return [trial[k * len(_SCALES) + int(j)] for k, j in enumerate(best)]


def _disturbed(atoms: Atoms, random: np.random.Generator) -> Atoms:
    """A copy under a random strain, its atoms moved at random."""
    strain = random.uniform(-1, 1, (3, 3)) * _LARGEST_STRAIN
    disturbed = atoms.copy()
    disturbed.set_cell(atoms.cell @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
    disturbed.positions += random.uniform(*_RATTLES) * random.standard_normal((len(atoms), 3))
    return disturbed


def _is_sane(entry: Entry) -> bool:
    forces = entry.labels.forces
    return forces is not None and bool(np.abs(forces).max() < _LARGEST_FORCE)


def label_by_model(model: Potential, dataset: Dataset) -> ListDataset:
    """The same structures with the model's energy, forces, stress and magnetic moments as their labels.

    Raises:
        StructureError: A structure that the model cannot take.
    """
    entries = list(dataset)
    labels = [_labels(one) for one in _predictions(model, [entry.atoms for entry in entries])]
    return ListDataset(
        [replace(entry, labels=label) for entry, label in zip(entries, labels, strict=True)], dataset.sources
    )


def _labels(prediction: Prediction) -> Labels:
    """The prediction for one structure as labels; no stress where there is none."""
    arrays: dict[str, NDArray[np.float64] | None] = {}
    for name in ("forces", "stress", "magmoms"):
        value = getattr(prediction, name)
        array = None if value is None else value.double().cpu().numpy()
        arrays[name] = None if array is None or not np.isfinite(array).all() else array
    stress = arrays["stress"]
    return Labels(
        energy=float(prediction.energy[0]),
        forces=arrays["forces"],
        stress=None if stress is None else stress[0],
        magmoms=arrays["magmoms"],
    )


def _predictions(
    model: Potential, structures: Sequence[Atoms], *, derivatives: bool = True
) -> Iterator[Prediction]:
    """The model's answer for each structure; batches are bounded in structures and in size."""
    builder = GraphBuilder.for_model(model)
    part: list[AtomGraph] = []
    total = 0
    for number, atoms in enumerate(structures):
        graph = builder(atoms, f"replayed structure {number}")
        size = graph.n_edges + (graph.bond_graph.n_angles if graph.bond_graph else 0)
        if part and (len(part) == _AT_ONCE or total + size > _MOST_AT_ONCE):
            yield from _answers(model, part, derivatives)
            part, total = [], 0
        part.append(graph)
        total += size
    if part:
        yield from _answers(model, part, derivatives)


def _answers(model: Potential, graphs: Sequence[AtomGraph], derivatives: bool) -> Iterator[Prediction]:
    """The model's answers for the structures of one batch."""
    graph = collate(graphs)
    yield from model.predict(graph, forces=derivatives, stress=derivatives).split(graph)
