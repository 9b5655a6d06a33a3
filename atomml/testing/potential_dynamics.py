"""Laws of motion: without a thermostat, energy is conserved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from ase import Atoms, units
from numpy.typing import NDArray

from atomml.graph import GraphBuilder
from atomml.testing.laws import Measurement, law
from atomml.testing.potential_subject import PotentialSubject
from atomml.testing.structures import prototype, scaled_to_minimum

__all__ = ["energy_drift"]

Floats = NDArray[np.float64]

DURATION = 20_000.0
"""fs."""
TEMPERATURE = 100.0
"""K of the first velocities; half of it is left once the crystal has come to rest with them."""
EVERY = 10
"""Steps from one look at the energy to the next."""


@law("potential", slow=True)
def energy_drift(subject: PotentialSubject) -> Iterator[Measurement]:
    """The total energy of a crystal in NVE drifts by at most 1 meV/atom/ns over 20 ps."""
    atoms = _start(subject)
    timestep = _timestep(atoms)
    energies = _verlet(subject, atoms, timestep, int(DURATION / timestep))
    time = np.arange(len(energies)) * timestep * EVERY * 1e-6  # ns
    slope = float(np.polynomial.Polynomial.fit(time, energies, 1).convert().coef[1])
    drift = 1000 * abs(slope) / len(atoms)
    allowed = 1.0 + _random_walk(subject, atoms, timestep)
    where = f"crystal of {len(atoms)} atoms, {DURATION / 1000:g} ps, steps of {timestep:.2f} fs"
    yield Measurement("drift", drift, allowed, "meV/atom/ns", where)


def _start(subject: PotentialSubject) -> Atoms:
    """A face-centred cubic crystal at rest: four atoms, so that 20 ps take minutes, not hours.

    No displacements: their energy would heat so small a crystal by hundreds of kelvin, and the energy of
    2 fs steps then wanders on a learned surface by more than what is looked for.
    """
    crystal = prototype(subject.exact.info.elements, "fcc").repeat((2, 2, 1))
    atoms = scaled_to_minimum(crystal, subject.calibration_energy)
    mass = atoms.get_masses()[:, None]
    momenta = np.random.default_rng(11).normal(size=(len(atoms), 3)) * np.sqrt(mass * units.kB * TEMPERATURE)
    atoms.set_momenta(momenta - momenta.sum(axis=0) * mass / mass.sum())  # at rest as a whole
    return atoms


def _timestep(atoms: Atoms) -> float:
    """Half a femtosecond for hydrogen, and as the root of the lightest mass up to 2 fs.

    At 100 K and 20 THz, the energy of velocity Verlet then wavers by (ω dt)² kT/24, some 0.02 meV, about a
    constant; a line through 1000 such points has a slope of 0.02 √12/√1000/20 ps, 0.1 meV/atom/ns.
    """
    return min(2.0, 0.5 * float(np.sqrt(atoms.get_masses().min())))


def _verlet(subject: PotentialSubject, atoms: Atoms, timestep: float, steps: int) -> list[float]:
    """Total energy every few steps of velocity Verlet, eV."""
    angles = subject.model.fast_path() is None  # as the calculator does: a fast path finds its own
    builder = GraphBuilder.for_model(subject.model, skin=1.0, angles=angles)

    def evaluate() -> tuple[float, Floats]:
        """Energy (eV) and forces (eV/Å) where the atoms are now."""
        prediction = subject.model.predict(builder(atoms), stress=False)
        assert prediction.forces is not None
        return float(prediction.energy), prediction.forces.cpu().numpy()

    mass = atoms.get_masses()[:, None]
    velocity = atoms.get_velocities()
    step = timestep * units.fs
    energy, force = evaluate()
    energies = []
    for count in range(steps):
        if count % EVERY == 0:
            energies.append(energy + float(0.5 * (mass * velocity**2).sum()))
        velocity = velocity + 0.5 * step * force / mass
        atoms.positions = atoms.positions + step * velocity
        energy, force = evaluate()
        velocity = velocity + 0.5 * step * force / mass
    return energies


def _random_walk(subject: PotentialSubject, atoms: Atoms, timestep: float) -> float:
    """Drift that rounded forces may cause, meV/atom/ns; nothing in float64.

    A force error δ does the work δ·v dt in a step. Over n steps these add up at random to
    δ v dt √(3n) for an atom and 1/√n_atoms of that per atom of the crystal; a straight line
    through a random walk that ends at w has a slope of about w/t. Four of these are allowed.
    """
    if subject.dtype == torch.float64:
        return 0.0
    error = max(
        float(np.sqrt(np.mean((answer.forces - subject.answers[name].forces) ** 2)))
        for name, answer in subject.exact_answers.items()
    )
    speed = np.sqrt(units.kB * TEMPERATURE / float(atoms.get_masses().min())) * units.fs  # Å/fs
    walk = error * speed * timestep * np.sqrt(3 * DURATION / timestep / len(atoms))
    return 4 * 1000 * float(walk) / (DURATION * 1e-6)
