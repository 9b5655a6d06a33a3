"""What a run is told, resolved and checked, and the integrator that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from ase import units

from atomml.errors import OptionError
from atomml.md.barostat import MTK
from atomml.md.chain import NoseHooverChain
from atomml.md.ensembles import NVE, Bussi, Integrator, Langevin, NoseHoover
from atomml.md.guard import Limits
from atomml.md.schedule import Ramp

__all__ = ["CONSTANT_PRESSURE", "ENSEMBLES", "MDSettings", "build_integrator", "check_ensemble"]

ENSEMBLES = ("nve", "nvt-langevin", "nvt-bussi", "nvt-nhc", "npt-mtk", "npt-iso")
CONSTANT_PRESSURE = ("npt-mtk", "npt-iso")


@dataclass(frozen=True)
class MDSettings:
    """A run's settings; units in the names, K for temperatures, GPa for pressures.

    Attributes:
        ensemble: One of :data:`ENSEMBLES`.
        n_steps: Step at which the run ends, whatever it was resumed from.
        temperature: Target, K; the initial velocities have its start.
        pressure: Target, GPa.
        timestep_fs: Time step.
        every: Steps between two lines of the log and frames of the trajectory.
        restart_every: Steps between two restart files.
        equilibrate: Steps at the beginning that averages, pair distributions and MSD leave out.
        friction_per_ps: Of Langevin dynamics.
        thermostat_time_fs: Time constant of Bussi's thermostat and of Nosé-Hoover chains.
        barostat_time_fs: Time constant of the barostat.
        seed: Of the one random generator.
        remove_drift: Keep the centre of mass at rest, where no atom is fixed.
        keep_velocities: Start from the structure's own momenta.
        rdf_cutoff: Å; 0 for no pair distributions.
        limits: What the guard allows.
        stop_at_uncertainty: eV/Å of a force's spread in a committee at which the run ends; None for never.
        on_blowup: Stop, or go back to the last restart file and take finer steps for a while.
        max_rollbacks: How often at most.
    """

    ensemble: str
    n_steps: int
    temperature: Ramp = field(default_factory=lambda: Ramp(300.0, 300.0))
    pressure: Ramp = field(default_factory=lambda: Ramp(0.0, 0.0))
    timestep_fs: float = 1.0
    every: int = 10
    restart_every: int = 500
    equilibrate: int = 0
    friction_per_ps: float = 5.0
    thermostat_time_fs: float = 100.0
    barostat_time_fs: float = 1000.0
    seed: int = 0
    remove_drift: bool = True
    keep_velocities: bool = False
    rdf_cutoff: float = 6.0
    limits: Limits = field(default_factory=Limits)
    stop_at_uncertainty: float | None = None
    on_blowup: Literal["stop", "rollback"] = "stop"
    max_rollbacks: int = 5

    @property
    def constant_pressure(self) -> bool:
        """Whether the cell changes."""
        return self.ensemble in CONSTANT_PRESSURE


def check_ensemble(name: str) -> str:
    """The name, if there is such an ensemble.

    Raises:
        OptionError: There is none; for Berendsen's the reason why.
    """
    if name in ENSEMBLES:
        return name
    if "berendsen" in name.lower():
        raise OptionError(
            f"Ensemble {name!r} is not offered: Berendsen's weak coupling samples no known ensemble (its "
            "fluctuations are too small and it heats slow modes at the cost of fast ones); take nvt-bussi, "
            "which costs the same, or npt-iso or npt-mtk for constant pressure."
        )
    raise OptionError(f"Ensemble {name!r} does not exist: take one of {', '.join(ENSEMBLES)}.")


def build_integrator(settings: MDSettings, n_dof: int, generator: np.random.Generator) -> Integrator:
    """The integrator of the settings' ensemble.

    Thermostat and barostat masses follow the mean of a temperature ramp and stay as they are.

    Raises:
        OptionError: No such ensemble, or a thermostat at 0 K that needs a temperature.
    """
    name = check_ensemble(settings.ensemble)
    tau = settings.thermostat_time_fs * units.fs
    kT = units.kB * settings.temperature.mean
    if name == "nve":
        return NVE()
    if name == "nvt-langevin":
        return Langevin(settings.friction_per_ps / (1000.0 * units.fs), generator)
    if name == "nvt-bussi":
        return Bussi(tau, generator)
    if not kT > 0:
        raise OptionError(f"Ensemble {name} needs a temperature above 0 K: raise --temperature.")
    if name == "nvt-nhc":
        return NoseHoover(NoseHooverChain.with_time_constant(n_dof, kT, tau))
    barostat_time = settings.barostat_time_fs * units.fs
    return MTK.with_time_constants(n_dof, kT, tau, barostat_time, isotropic=name == "npt-iso")
