"""Laws of symmetry: what must not change the energy, and what must carry the forces along."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from atomml.testing.laws import Measurement, law
from atomml.testing.potential_subject import Answer, PotentialSubject

__all__ = [
    "batch",
    "cell_choice",
    "extensivity",
    "lattice_shift",
    "permutation",
    "reflection",
    "rotation",
    "translation",
]


def _random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """A proper rotation, from the QR decomposition of a random matrix."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def _turned(
    subject: PotentialSubject, matrix: NDArray[np.float64], names: list[str]
) -> Iterator[Measurement]:
    """Turn (or reflect) structures; energy stays, forces and stress turn along."""
    for name in names:
        atoms, before = subject.samples[name], subject.answers[name]
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ matrix, scale_atoms=False)
        turned.positions = atoms.positions @ matrix
        expected = matrix.T @ before.stress @ matrix
        after = subject.answer(turned)
        yield from subject.compare(before, after, name, forces=before.forces @ matrix, stress=expected)


@law("potential")
def rotation(subject: PotentialSubject) -> Iterator[Measurement]:
    """A rotation changes no energy and turns forces and stress along."""
    yield from _turned(subject, _random_rotation(np.random.default_rng(6)), list(subject.samples))


@law("potential")
def reflection(subject: PotentialSubject) -> Iterator[Measurement]:
    """A mirror image has the same energy and mirrored forces and stress."""
    mirror = _random_rotation(np.random.default_rng(7)) @ np.diag([1.0, 1.0, -1.0])
    yield from _turned(subject, mirror, list(subject.samples))


@law("potential")
def permutation(subject: PotentialSubject) -> Iterator[Measurement]:
    """Another order of the atoms is the same structure, with the forces in that order."""
    rng = np.random.default_rng(8)
    for name, atoms in subject.samples.items():
        order = rng.permutation(len(atoms))
        before = subject.answers[name]
        after = subject.answer(atoms[order])
        yield from subject.compare(before, after, name, forces=before.forces[order])


@law("potential")
def translation(subject: PotentialSubject) -> Iterator[Measurement]:
    """Moving all atoms together, in or out of the cell, changes nothing."""
    for name, atoms in subject.samples.items():
        moved = atoms.copy()
        moved.positions += (12.3, -7.7, 101.9)
        yield from subject.compare(subject.answers[name], subject.answer(moved), name)


@law("potential")
def lattice_shift(subject: PotentialSubject) -> Iterator[Measurement]:
    """Moving any atom by whole periodic cell vectors changes nothing."""
    rng = np.random.default_rng(9)
    for name, atoms in subject.samples.items():
        moved = atoms.copy()
        whole = rng.integers(-3, 4, size=(len(atoms), 3)) * atoms.pbc
        moved.positions += whole @ atoms.cell.array
        yield from subject.compare(subject.answers[name], subject.answer(moved), name)


@law("potential")
def cell_choice(subject: PotentialSubject) -> Iterator[Measurement]:
    """Other cell vectors of the same lattice, left-handed ones too, describe the same crystal."""
    choices = (np.array([[1, 0, 0], [1, 1, 0], [-1, 0, 1]]), np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]))
    for name, atoms in subject.samples.items():
        if not atoms.pbc.all():
            continue
        for matrix in choices:
            recut = atoms.copy()
            recut.set_cell(matrix @ atoms.cell.array, scale_atoms=False)
            yield from subject.compare(subject.answers[name], subject.answer(recut), name)


@law("potential")
def extensivity(subject: PotentialSubject) -> Iterator[Measurement]:
    """A supercell has the energy per atom, forces and stress of the cell; two far molecules twice one's."""
    for name, atoms in subject.samples.items():
        before = subject.answers[name]
        if atoms.pbc.any():
            repeats = np.where(atoms.pbc, (2, 1, 3) if len(atoms) < 3 else (1, 2, 1), 1)
            repeats = repeats if repeats.prod() > 1 else np.where(atoms.pbc, 2, 1)
            many = atoms.repeat(tuple(int(count) for count in repeats))
        else:
            many = _two_far_apart(atoms, subject)
        copies = len(many) // len(atoms)
        expected = np.tile(before.forces, (copies, 1))
        yield from subject.compare(before, subject.answer(many), name, forces=expected)


def _two_far_apart(atoms: Atoms, subject: PotentialSubject) -> Atoms:
    """Two copies farther apart than the model's range can reach."""
    reach = subject.model.info.interaction_range or 10 * subject.model.info.cutoff
    other = atoms.copy()
    other.positions[:, 0] += np.ptp(atoms.positions[:, 0]) + reach + 1.0
    return atoms + other


@law("potential")
def batch(subject: PotentialSubject) -> Iterator[Measurement]:
    """Structures in one batch get the answers that they get alone, whatever their neighbours in it."""
    names = list(subject.samples)
    for order in (names, names[::-1] + names[:1]):
        graph = subject.graph([subject.samples[name] for name in order])
        parts = subject.model.predict(graph).split(graph)
        for name, part in zip(order, parts, strict=True):
            yield from subject.compare(subject.answers[name], Answer.of(part), name)
