"""A run's whole state: what decides the next step, and how it is written down and taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from ase import units
from ase.atoms import Atoms

from atomml.errors import CheckpointError, OptionError, RunFailedError, StructureError
from atomml.md.ensembles import Conditions
from atomml.md.forces import ForceField
from atomml.md.guard import BlowUpError, Guard
from atomml.md.observables import Observables
from atomml.md.settings import MDSettings, build_integrator
from atomml.md.state import Array, System
from atomml.md.velocities import degrees_of_freedom, maxwell_boltzmann, remove_rotation

__all__ = ["Progress", "Simulation"]


@dataclass
class Progress:
    """Where a run stands; small, and kept in the header of the restart file.

    Attributes:
        step: Steps done.
        n_steps: Step at which the run ends.
        ramp_steps: Length of the ramps; that of the run when it was started.
        max_time: The limit of time from which ``n_steps`` was derived; empty if none was given.
        conserved: The conserved quantity after the last step, eV.
        substeps: Into how many parts a step is cut until ``fine_until``, after a rollback.
        fine_until: Step up to which ``substeps`` holds.
        rollbacks: One record for each rollback: ``step``, ``back_to``, ``reason``, ``substeps``.
        scheduled: Whether the state was saved at a step where every run saves it.
        stopped: Where the committee's spread ended the run: ``limit``, ``step``, ``atom``, ``forces_std``.
    """

    step: int = 0
    n_steps: int = 0
    ramp_steps: int = 1
    max_time: str = ""
    conserved: float = 0.0
    substeps: int = 1
    fine_until: int = 0
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    scheduled: bool = True
    stopped: dict[str, Any] | None = None


class Simulation:
    """Atoms under an integrator, with guard and observables.

    Args:
        atoms: The structure.
        calculator: Any ASE calculator.
        settings: What the run is told.

    Raises:
        OptionError: Settings that do not fit the structure or the calculator.
    """

    def __init__(self, atoms: Atoms, calculator: Any, settings: MDSettings) -> None:
        _check_fit(atoms, calculator, settings)
        self.settings = settings
        self.generator = np.random.Generator(np.random.PCG64(settings.seed))
        self.system = System.from_atoms(atoms)
        self._forces = ForceField(atoms, calculator)
        self.progress = Progress(n_steps=settings.n_steps, ramp_steps=max(settings.n_steps, 1))
        self._count_degrees_of_freedom()
        self.integrator = build_integrator(settings, self.system.n_dof, self.generator)
        self._prepare_velocities()
        self.observables = Observables(
            self.system,
            cell_changes=settings.constant_pressure,
            rdf_cutoff=settings.rdf_cutoff,
        )
        hottest = max(settings.temperature.highest, self.system.temperature())
        self.guard = Guard(self.system, settings.limits, hottest)
        self._before: tuple[Array, float] | None = None

    @property
    def time_fs(self) -> float:
        """Simulated time."""
        return self.progress.step * self.settings.timestep_fs

    def target_temperature(self, step: float) -> float:
        """Target at a step, K."""
        return replace(self.settings.temperature, n_steps=self.progress.ramp_steps).at(step)

    def target_pressure(self, step: float) -> float:
        """Target at a step, GPa."""
        return replace(self.settings.pressure, n_steps=self.progress.ramp_steps).at(step)

    def begin(self) -> None:
        """Evaluate the first forces.

        Raises:
            BlowUpError: They are not finite, or atoms lie too close.
        """
        self._evaluate(self.system)
        self.guard.check_step(self.system, 0.0, self.target_temperature(0))
        self.progress.conserved = self.conserved_energy()
        self.observables.magnetic = self._forces.magmoms(self.system) is not None
        self.observables.uncertain = self._forces.spread() is not None

    def advance(self) -> None:
        """One step of the settings' length, in one piece or several.

        Raises:
            BlowUpError: The guard found something; the state is then spoilt.
        """
        progress = self.progress
        if progress.step == self.settings.equilibrate:
            self.observables.msd.restart(self.system)
        parts = progress.substeps if progress.step < progress.fine_until else 1
        for part in range(1, parts + 1):
            moment = progress.step + part / parts
            target = self.target_temperature(moment)
            conditions = Conditions(
                self.settings.timestep_fs * units.fs / parts,
                target * units.kB,
                self.target_pressure(moment) * units.GPa,
            )
            # integrators replace positions, never change them in place
            self._before = self.system.positions, self._volume()
            self.integrator.step(self.system, self._evaluate, conditions)
            conserved = self.conserved_energy(moment)
            self.guard.check_step(self.system, conserved - progress.conserved, target)
            progress.conserved = conserved
        progress.step += 1

    def too_uncertain(self) -> dict[str, Any] | None:
        """What :attr:`Progress.stopped` says, if a force's spread exceeds the limit at the present step."""
        limit, spread = self.settings.stop_at_uncertainty, self._forces.spread()
        if limit is None or spread is None or not spread.forces.max() > limit:
            return None
        atom = int(spread.forces.argmax())
        found = {"limit": limit, "step": self.progress.step, "atom": atom}
        return found | {"forces_std": float(spread.forces[atom])}

    def conserved_energy(self, step: float | None = None) -> float:
        """What exact dynamics would keep constant, eV."""
        pressure = self.target_pressure(self.progress.step if step is None else step) * units.GPa
        bath = self.integrator.bath_energy(self.system, pressure)
        return self.system.energy + self.system.kinetic_energy() + bath

    def measure(self) -> tuple[dict[str, float], Array | None]:
        """The log's row of the present frame, and the magnetic moments if the model gives them."""
        self._forces.add_stress(self.system)
        magmoms = self._forces.magmoms(self.system)
        row = {"step": self.progress.step, "time_fs": self.time_fs}
        row |= self.observables.measure(self.system, self.progress.conserved, magmoms, self._forces.spread())
        row["target_temperature_K"] = self.target_temperature(self.progress.step)
        row["target_pressure_GPa"] = self.target_pressure(self.progress.step)
        if self.progress.step > self.settings.equilibrate:
            self.observables.accumulate(self.system, row)
        return row, magmoms

    def final_atoms(self, like: Atoms) -> Atoms:
        """The present frame as ASE atoms with energy, forces and momenta; constraints as in ``like``."""
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms, system = like.copy(), self.system
        constraints = atoms.constraints
        atoms.set_constraint()
        atoms.set_cell(system.cell)
        atoms.positions = system.positions
        atoms.set_momenta(system.momenta)
        atoms.set_constraint(constraints)
        atoms.calc = SinglePointCalculator(atoms, energy=system.energy, forces=system.force_array)
        return atoms

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Every array of the state."""
        system = self.system
        stress = np.empty((0, 3)) if system.stress is None else system.stress
        own = {
            "numbers": system.numbers,
            "masses": system.masses,
            "pbc": system.pbc,
            "mobile": system.mobile,
            "positions": system.positions,
            "momenta": system.momenta,
            "cell": system.cell,
            "energy": np.array([system.energy]),
            "forces": system.force_array,
            "stress": stress,
        }
        parts = {"integrator": self.integrator.arrays(), "observables": self.observables.arrays()}
        return own | {f"{part}.{name}": a for part, arrays in parts.items() for name, a in arrays.items()}

    def header(self) -> dict[str, Any]:
        """Everything of the state that is not an array; JSON."""
        return {
            "ensemble": self.settings.ensemble,
            "n_dof": self.system.n_dof,
            "magnetic": self.observables.magnetic,
            "uncertain": self.observables.uncertain,
            "max_temperature": self.guard.max_temperature,
            "generator": self.generator.bit_generator.state,
            "progress": asdict(self.progress),
        }

    def load(self, arrays: Mapping[str, np.ndarray[Any, Any]], header: Mapping[str, Any]) -> None:
        """Take up a state that :meth:`arrays` and :meth:`header` wrote.

        Raises:
            CheckpointError: It belongs to another structure or ensemble.
        """
        try:
            self._load(arrays, header)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(
                f"The restart file does not hold a whole MD state ({error}): start again with --overwrite."
            ) from error

    def _load(self, arrays: Mapping[str, np.ndarray[Any, Any]], header: Mapping[str, Any]) -> None:
        system = self.system
        if header["ensemble"] != self.settings.ensemble:
            raise CheckpointError(
                f"The restart file is of ensemble {header['ensemble']}, not {self.settings.ensemble}: "
                "resume with the ensemble that the run was started with."
            )
        for name in ("numbers", "masses", "pbc", "mobile"):
            if not np.array_equal(arrays[name], getattr(system, name)):
                raise CheckpointError(
                    f"The restart file belongs to a structure with other {name}: give the structure and "
                    "options that the run was started with."
                )
        for name in ("positions", "momenta", "cell", "forces"):
            setattr(system, name, np.array(arrays[name]))
        system.energy = float(arrays["energy"][0])
        system.stress = np.array(arrays["stress"]) if len(arrays["stress"]) else None
        system.n_dof = int(header["n_dof"])
        self.guard.max_temperature = float(header["max_temperature"])
        self.observables.magnetic = bool(header["magnetic"])
        self.observables.uncertain = bool(header.get("uncertain", False))
        self.generator.bit_generator.state = header["generator"]
        known = {entry.name for entry in fields(Progress)}
        self.progress = Progress(**{key: value for key, value in header["progress"].items() if key in known})
        self.integrator.load_arrays(_part(arrays, "integrator"))
        self.observables.load_arrays(_part(arrays, "observables"))

    def _evaluate(self, system: System) -> None:
        """Forces, with the guard before and after; a model that fails has blown up too."""
        if self._before is not None:
            self.guard.check_move(system, *self._before)
        try:
            self._forces(system, stress=self.integrator.needs_stress)
        except BlowUpError:
            raise
        except (RunFailedError, StructureError) as error:
            raise BlowUpError(f"the model failed: {error}") from error
        self.guard.check_forces(system)

    def _volume(self) -> float:
        """The volume where it changes, 0 elsewhere."""
        return self.system.volume if self.settings.constant_pressure else 0.0

    def _count_degrees_of_freedom(self) -> None:
        system, settings = self.system, self.settings
        system.drift_removed = settings.remove_drift and bool(system.mobile.all()) and system.n_atoms > 1
        self._no_rotation = (
            system.drift_removed
            and not system.pbc.any()
            and not settings.keep_velocities
            and settings.ensemble != "nvt-langevin"
        )
        system.n_dof = degrees_of_freedom(
            system, drift_removed=system.drift_removed, rotation_removed=self._no_rotation
        )

    def _prepare_velocities(self) -> None:
        if self.settings.keep_velocities:
            self.system.momenta = self.system.project(self.system.momenta)
            return
        maxwell_boltzmann(self.system, self.settings.temperature.start, self.generator)
        if self._no_rotation:
            remove_rotation(self.system)


def _part(arrays: Mapping[str, np.ndarray[Any, Any]], prefix: str) -> dict[str, Array]:
    start = f"{prefix}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def _check_fit(atoms: Atoms, calculator: Any, settings: MDSettings) -> None:
    """Refuse what cannot work before anything is computed."""
    if settings.constant_pressure:
        if not all(atoms.pbc):
            raise OptionError(
                f"Ensemble {settings.ensemble} needs a structure that is periodic in all three directions: "
                "take nvt-bussi for a molecule or a slab."
            )
        if atoms.constraints:
            raise OptionError(
                f"Ensemble {settings.ensemble} moves every atom with the cell, so none can be fixed: "
                "drop --fix and constraints, or take nvt-bussi."
            )
        if "stress" not in calculator.implemented_properties:
            raise OptionError(f"Ensemble {settings.ensemble} needs a model that gives a stress.")
    elif settings.pressure.start or settings.pressure.end:
        raise OptionError(
            f"A pressure has no effect at constant volume ({settings.ensemble}): take npt-iso or npt-mtk."
        )
    if min(settings.temperature.start, settings.temperature.end) < 0:
        raise OptionError("A temperature is negative: give kelvin, 0 or above.")
    if settings.keep_velocities and not atoms.has("momenta"):
        raise OptionError("The structure has no velocities to keep: drop --keep-velocities.")
