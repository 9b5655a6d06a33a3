"""Laws of models of properties: what must not change an answer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from atomml.testing.laws import Measurement, law
from atomml.testing.property_subject import PropertySubject

__all__ = ["batch", "file", "finiteness", "permutation", "repetition", "rotation", "supercell", "translation"]


@law("property")
def rotation(subject: PropertySubject) -> Iterator[Measurement]:
    """A rotation of the whole structure changes nothing."""
    q, r = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))
    matrix = q * np.sign(np.diag(r))
    matrix = matrix * np.sign(np.linalg.det(matrix))
    for name, atoms in subject.samples.items():
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ matrix, scale_atoms=False)
        turned.positions = atoms.positions @ matrix
        yield from subject.compare(subject.answers[name], subject.answer(turned), name)


@law("property")
def translation(subject: PropertySubject) -> Iterator[Measurement]:
    """Moving all atoms together, in or out of the cell, changes nothing."""
    for name, atoms in subject.samples.items():
        moved = atoms.copy()
        moved.positions += (12.3, -7.7, 101.9)
        yield from subject.compare(subject.answers[name], subject.answer(moved), name)


@law("property")
def permutation(subject: PropertySubject) -> Iterator[Measurement]:
    """Another order of the atoms is the same structure."""
    rng = np.random.default_rng(8)
    for name, atoms in subject.samples.items():
        order = rng.permutation(len(atoms))
        yield from subject.compare(subject.answers[name], subject.answer(atoms[order]), name)


@law("property")
def supercell(subject: PropertySubject) -> Iterator[Measurement]:
    """A larger cell of the same crystal has the same properties: they are intensive."""
    for name, atoms in subject.samples.items():
        if atoms.pbc.all():
            yield from subject.compare(subject.answers[name], subject.answer(atoms * (2, 1, 2)), name)


@law("property")
def batch(subject: PropertySubject) -> Iterator[Measurement]:
    """A structure's answer does not depend on its company."""
    names = list(subject.samples)
    together = subject.answer(*(subject.samples[name] for name in names))
    for place, name in enumerate(names):
        alone = [one[:, place : place + 1] for one in together]
        yield from subject.compare(subject.answers[name], alone, name)


@law("property")
def repetition(subject: PropertySubject) -> Iterator[Measurement]:
    """The same question has the same answer, to the bit."""
    for name, atoms in subject.samples.items():
        for found in subject.compare(subject.answers[name], subject.answer(atoms), name):
            yield Measurement(found.quantity, found.value, 0.0, found.unit, name)


@law("property")
def finiteness(subject: PropertySubject) -> Iterator[Measurement]:
    """Every answer is a number, and probabilities add up to one."""
    for name, answers in subject.answers.items():
        for target, values in zip(subject.model.targets, answers, strict=True):
            off = float(np.abs(values.sum(axis=-1) - 1.0).max()) if target.classes else 0.0
            off = off if np.isfinite(values).all() else float("nan")
            yield Measurement(target.key, off, 1e-9, "", name)


@law("property")
def file(subject: PropertySubject) -> Iterator[Measurement]:
    """What is written and read again answers with the same bits."""
    from atomml.checkpoint import load_any_model, save_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(subject.model, path)
        kind = "float64" if subject.tolerance < 1e-6 else "float32"
        again = PropertySubject(load_any_model(path, kind, "cpu"), kind, subject.quick)  # type: ignore[arg-type]
    for name, atoms in subject.samples.items():
        for found in subject.compare(subject.answers[name], again.answer(atoms), name):
            yield Measurement(found.quantity, found.value, 0.0, found.unit, name)
