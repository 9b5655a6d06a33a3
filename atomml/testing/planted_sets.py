"""Labelled sets that are sound: labels are a model's own, so energies, forces and stress agree exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from atomml.data.entry import Entry, Labels

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["clean_sets", "label_structures", "rattled", "wandering"]

Entries = list[Entry]


def label_structures(structures: Sequence[Atoms], model: str, source: str) -> Entries:
    """Entries with a registered model's energies, forces and, with a cell, stress; in float64."""
    from atomml.graph import GraphBuilder, collate
    from atomml.registry import load_model

    potential = load_model(model, dtype="float64", device="cpu")
    build = GraphBuilder.for_model(potential, angles=potential.fast_path() is None)
    entries: Entries = []
    for start in range(0, len(structures), 8):
        batch = structures[start : start + 8]
        graph = collate([build(atoms) for atoms in batch])
        for atoms, part in zip(batch, potential.predict(graph).split(graph), strict=True):
            assert part.forces is not None
            stress = part.stress[0].numpy() if part.stress is not None and atoms.pbc.all() else None
            labels = Labels(float(part.energy), part.forces.double().numpy(), stress)
            entries.append(Entry(atoms, labels, source=source, frame=len(entries)))
    return entries


def rattled(base: Atoms, n: int, rattle: float, strain: float, seed: int) -> list[Atoms]:
    """``n`` copies with atoms moved by a normal deviate (Å) and cells strained by another, symmetric one."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        atoms = base.copy()
        deformation = generator.normal(0.0, strain, (3, 3)) if strain else np.zeros((3, 3))
        if atoms.pbc.any():
            bent = atoms.cell.array @ (np.eye(3) + 0.5 * (deformation + deformation.T))
            atoms.set_cell(bent, scale_atoms=True)
        atoms.positions += generator.normal(0.0, rattle, atoms.positions.shape)
        found.append(atoms)
    return found


def wandering(base: Atoms, n: int, step: float, seed: int) -> list[Atoms]:
    """A trajectory: vibrations of random phase with a period of some 25 frames, in a cell that breathes."""
    generator = np.random.default_rng(seed)
    phase = generator.uniform(0, 2 * np.pi, base.positions.shape)
    speed = generator.uniform(0.15, 0.35, base.positions.shape)
    found = []
    for k in range(n):
        atoms = base.copy()
        stretch = 1 + 0.01 * np.sin(0.4 * k + np.array([0.0, 1.0, 2.0]))
        atoms.set_cell(atoms.cell.array * stretch, scale_atoms=True)
        atoms.positions += step * np.sin(speed * k + phase)
        found.append(atoms)
    return found


def clean_sets(seed: int = 0) -> dict[str, Entries]:
    """Sound sets by name: solid argon, a salt, a semiconductor, alloys, a molecule, a trajectory, strains.

    Args:
        seed: Other displacements and strains; the kinds of sets are the same.
    """
    from ase.build import bulk, molecule

    argon = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((2, 2, 2))
    salt = bulk("NaCl", "rocksalt", a=5.65, cubic=True)
    silicon = bulk("Si", "diamond", a=5.45, cubic=True)
    chgnet = "chgnet-0.3.0"
    trajectory = label_structures(wandering(salt, 40, 0.08, seed + 5), chgnet, "trajectory")
    return {
        "argon": label_structures(rattled(argon, 30, 0.03, 0.006, seed + 1), "lj-argon", "argon"),
        "salt": label_structures(rattled(salt, 36, 0.05, 0.010, seed + 2), chgnet, "salt"),
        "silicon": label_structures(rattled(silicon, 30, 0.05, 0.0, seed + 3), chgnet, "silicon"),
        "alloys": label_structures(_alloys(seed), chgnet, "alloys"),
        "ethanol": label_structures(
            rattled(molecule("CH3CH2OH"), 36, 0.04, 0.0, seed + 4), chgnet, "ethanol"
        ),
        "trajectory": [replace(entry, trajectory="1") for entry in trajectory],
        "strains": label_structures(_strains(), chgnet, "strains"),
    }


def _alloys(seed: int) -> list[Atoms]:
    """Copper and gold in several sizes and orders, six structures of each."""
    from ase.build import bulk

    generator = np.random.default_rng(seed + 6)
    found = []
    for size, n_gold in ((1, 1), (1, 2), (2, 3), (2, 5)):
        base = bulk("Cu", "fcc", a=3.75, cubic=True).repeat((size, 1, 1))
        base.numbers[generator.permutation(len(base))[:n_gold]] = 79
        found += rattled(base, 8, 0.05, 0.01, seed + 10 + n_gold)
    return found


def _strains() -> list[Atoms]:
    """Perfect magnesia under uniaxial, shear and volume strains: no forces, by symmetry."""
    from ase.build import bulk

    found = []
    for kind in range(3):
        for amount in (-0.03, -0.02, -0.01, 0.01, 0.02, 0.03):
            strain = np.zeros((3, 3))
            if kind == 0:
                strain[0, 0] = amount
            elif kind == 1:
                strain[0, 1] = strain[1, 0] = amount + 0.035  # a shear and its reverse are mirror images
            else:
                strain += amount * np.eye(3)
            atoms = bulk("MgO", "rocksalt", a=4.22, cubic=True)
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            found.append(atoms)
    return found
