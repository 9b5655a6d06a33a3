"""Laws of differentiation: forces, stress and force constants are derivatives of one energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from atomml.testing.laws import Measurement, law
from atomml.testing.potential_subject import PotentialSubject

__all__ = ["force_constants", "forces", "net_force", "stress"]

Floats = NDArray[np.float64]

STEP = 4e-5
"""Å, the larger of the two steps of Richardson's extrapolation.

What is left of the truncation is h⁴ f⁗'/120: 1e-12 eV/Å even for a fifth derivative of
1e8 eV/Å⁵, which an angle 0.01 rad from straight has. A site energy of 10 eV is rounded by 1e-15 eV
and the difference quotient by some 1e-10 eV/Å.
"""

_RICHARDSON = ((-1.0, 1.0 / 6.0), (-0.5, -8.0 / 6.0), (0.5, 8.0 / 6.0), (1.0, -1.0 / 6.0))
"""Where to evaluate, in steps, and the weight of each: O(h⁴) from two central differences."""


def _slopes(subject: PotentialSubject, moved: list[Callable[[float], Atoms]], step: float) -> list[float]:
    """Derivatives of the total energy along each of the given one-parameter families of structures."""
    structures = [family(point * step) for family in moved for point, _ in _RICHARDSON]
    sites = subject.site_energies(structures)
    slopes = []
    for start in range(0, len(sites), len(_RICHARDSON)):
        terms = [weight * site for (_, weight), site in zip(_RICHARDSON, sites[start:], strict=False)]
        slopes.append(math.fsum(np.concatenate(terms)) / step)  # summed exactly: totals are large
    return slopes


def _displaced(atoms: Atoms, direction: Floats) -> Callable[[float], Atoms]:
    def at(amount: float) -> Atoms:
        """Positions moved by so much of the direction."""
        copy = atoms.copy()
        copy.positions += amount * direction
        return copy

    return at


def _strained(atoms: Atoms, strain: Floats) -> Callable[[float], Atoms]:
    def at(amount: float) -> Atoms:
        """Cell and positions deformed by so much of the strain."""
        copy = atoms.copy()
        deformation = np.eye(3) + amount * strain
        copy.set_cell(copy.cell.array @ deformation, scale_atoms=False)
        copy.positions = copy.positions @ deformation
        return copy

    return at


def _directions(n_atoms: int, singles: int, rng: np.random.Generator) -> list[tuple[str, Floats]]:
    """Random unit directions: of all atoms at once, so that no component is missed, and of single atoms."""
    collective = rng.normal(size=(2, n_atoms, 3))
    found = [("all atoms", part / np.linalg.norm(part)) for part in collective]
    for atom in rng.permutation(n_atoms)[:singles]:
        direction = np.zeros((n_atoms, 3))
        direction[atom] = rng.normal(size=3)
        found.append((f"atom {atom}", direction / np.linalg.norm(direction)))
    return found


@law("potential", dtypes=("float64",))
def forces(subject: PotentialSubject) -> Iterator[Measurement]:
    """Forces are minus the slope of the energy: central differences, Richardson, 1e-7 eV/Å."""
    rng = np.random.default_rng(3)
    for name, atoms in subject.samples.items():
        directions = _directions(len(atoms), 1 if subject.quick else 4, rng)
        slopes = _slopes(subject, [_displaced(atoms, vector) for _, vector in directions], STEP)
        for (which, vector), slope in zip(directions, slopes, strict=True):
            error = abs(slope + float(np.sum(subject.answers[name].forces * vector)))
            yield Measurement("differences", error, 1e-7, "eV/Å", f"{name}, {which}")


def _strains(quick: bool, rng: np.random.Generator) -> list[Floats]:
    """Symmetric strains: one random in a quick run, else all six of Voigt's."""
    if quick:
        random = rng.normal(size=(3, 3))
        return [0.5 * (random + random.T) / np.linalg.norm(random)]
    strains = []
    for row, column in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strain = np.zeros((3, 3))
        strain[row, column] = strain[column, row] = 1.0 if row == column else 0.5
        strains.append(strain)
    return strains


@law("potential", dtypes=("float64",))
def stress(subject: PotentialSubject) -> Iterator[Measurement]:
    """Stress is the slope of the energy with strain over the volume; left-handed cells too; 1e-8 eV/Å³."""
    rng = np.random.default_rng(4)
    for name, atoms in subject.samples.items():
        if not atoms.pbc.any() or not atoms.cell.volume:
            continue
        strains = _strains(subject.quick, rng)
        # A strain of 1e-5 moves neighbours 6 Å away by 6e-5 Å: the same trade as for forces.
        slopes = _slopes(subject, [_strained(atoms, strain) for strain in strains], 1e-5)
        for strain, slope in zip(strains, slopes, strict=True):
            error = abs(slope / atoms.cell.volume - float(np.sum(subject.answers[name].stress * strain)))
            yield Measurement("differences", error, 1e-8, "eV/Å³", name)
        asymmetry = float(np.abs(subject.answers[name].stress - subject.answers[name].stress.T).max())
        yield Measurement("symmetry", asymmetry, subject.tolerances.stress, "eV/Å³", name)


@law("potential", dtypes=("float64",))
def force_constants(subject: PotentialSubject) -> Iterator[Measurement]:
    """Second derivatives exist: the Hessian by autograd against differences of the forces, 1e-6 eV/Å²."""
    rng = np.random.default_rng(5)
    names = list(subject.samples)
    for name in names[:2] if subject.quick else names:
        atoms = subject.samples[name]
        vector = rng.normal(size=(len(atoms), 3))
        vector /= np.linalg.norm(vector)
        along = _displaced(atoms, vector)
        numeric = np.zeros((len(atoms), 3))
        for point, weight in _RICHARDSON:
            answer = subject.answer(along(point * STEP), path="plain")
            numeric += weight / STEP * answer.forces
        analytic = _hessian_product(subject, atoms, vector)
        error = float(np.abs(analytic + numeric).max())
        yield Measurement("differences", error, 1e-6, "eV/Å²", name)


def _hessian_product(subject: PotentialSubject, atoms: Atoms, vector: Floats) -> Floats:
    """The Hessian times a vector, by differentiating the model's differentiable forces, eV/Å²."""
    graph = subject.graph(atoms)
    positions = graph.positions.clone().requires_grad_()
    graph = replace(graph, positions=positions)
    prediction = subject.model.differentiable(graph, stress=False, create_graph=True)
    assert prediction.forces is not None
    if not prediction.forces.requires_grad and subject.model.energies(graph).site.requires_grad:
        raise AssertionError("the forces are cut off from the positions: there are no second derivatives")
    if not prediction.forces.requires_grad:  # an atom alone: constant energy
        return np.zeros((len(atoms), 3))
    projected = (prediction.forces * torch.from_numpy(vector).to(positions.device)).sum()
    (gradient,) = torch.autograd.grad(-projected, positions, allow_unused=True, materialize_grads=True)
    return gradient.cpu().numpy()


@law("potential")
def net_force(subject: PotentialSubject) -> Iterator[Measurement]:
    """Forces sum to zero, and a molecule's forces exert no torque."""
    tolerance = subject.tolerances.forces
    for name, atoms in subject.samples.items():
        found = subject.answers[name].forces
        # Rounding errors of single forces are independent, so their sum grows as √n_atoms.
        allowed = tolerance * math.sqrt(len(atoms))
        total = float(np.abs(found.sum(axis=0)).max())
        yield Measurement("force", total, allowed, "eV/Å", name)
        if not atoms.pbc.any():
            arms = atoms.positions - atoms.positions.mean(axis=0)
            torque = float(np.abs(np.cross(arms, found).sum(axis=0)).max())
            reach = max(1.0, float(np.linalg.norm(arms, axis=1).max()))
            yield Measurement("torque", torque, allowed * reach, "eV", name)
