"""Diffusion: ``atomml diffusion`` and :func:`diffusion`; options, result, and the way from start to end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["DiffusionOptions", "DiffusionResult", "as_sources", "diffusion", "evaluations"]

# How far the runs go, and what is made of them.
_MAY_CHANGE = ("steps", "element", "charge", "hop", "blocks", "fit", "at")


@dataclass(frozen=True)
class DiffusionOptions:
    """Options of ``diffusion``."""

    temperatures: tuple[float, ...] = option(
        (), "temperatures to run at, or those of the trajectories given", unit="K", above=0, metavar="T,T,..."
    )
    element: str | None = option(None, "element that diffuses; else the one that moves farthest")
    charge: float | None = option(
        None, "charge that an atom of it carries, for the conductivity; else its usual one", unit="e"
    )
    steps: int = option(50_000, "steps at each temperature, after equilibration", minimum=100)
    equilibrate: int = option(5_000, "first steps, which are left out", minimum=0)
    timestep: float = option(2.0, "time step", unit="fs", above=0, maximum=100)
    every: int = option(20, "steps between frames", minimum=1)
    ensemble: str = option(
        "nvt-bussi", "ensemble of the dynamics", choices=("nvt-bussi", "nvt-nhc", "nvt-langevin", "nve")
    )
    supercell: tuple[int, int, int] = option((1, 1, 1), "repeats of the cell along its vectors", minimum=1)
    hop: float | None = option(
        None, "length of a hop; else the mean distance of nearest atoms of the element", unit="Å", above=0
    )
    blocks: int = option(5, "parts of a run, from whose scatter the error comes", minimum=3, maximum=50)
    fit: tuple[float, float] = option(
        (0.1, 0.5), "times that the slope is taken over, as parts of a block", above=0, maximum=1
    )
    at: float = option(300.0, "temperature to extrapolate to", unit="K", above=0)
    interval: float | None = option(
        None, "time between frames of a given trajectory; else as it says", unit="fs", above=0
    )
    dtype: str = option("float32", "precision of the model", choices=("float32", "float64"))
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class DiffusionResult(Result):
    """What ``diffusion`` returns; errors are standard errors, intervals hold with 95 %.

    Attributes:
        formula: Of the atoms.
        element: The element that diffuses.
        rows: A line for each temperature: ``temperature_K``, ``diffusivity_cm2_per_s`` with its error,
            ``conductivity_S_per_cm``, ``msd_A2`` at the end of the longest time that is averaged over,
            ``loglog_slope`` of the MSD, ``drift_A`` of the centre of mass, which was taken out,
            ``length_ps``, ``converged``, and ``why_not``.
        activation_energy: Of the Arrhenius fit over the converged temperatures, eV; None for fewer than 2.
        activation_energy_low: Lower end of its interval, eV.
        activation_energy_high: Upper end, eV.
        prefactor: D at infinite temperature, cm²/s.
        extrapolated_to: K.
        diffusivity: There, cm²/s; ``_low`` and ``_high`` end its interval.
        conductivity: There, S/cm, by Nernst and Einstein.
        assumption: What the conductivity takes for granted.
        charge: e, of an atom of the element.
        hop: Å.
    """

    formula: str = ""
    element: str = ""
    activation_energy: float | None = quantity("eV", default=None)
    activation_energy_low: float | None = quantity("eV", default=None)
    activation_energy_high: float | None = quantity("eV", default=None)
    prefactor: float | None = quantity("cm^2/s", default=None)
    extrapolated_to: float | None = quantity("K", default=None)
    diffusivity: float | None = quantity("cm^2/s", default=None)
    diffusivity_low: float | None = quantity("cm^2/s", default=None)
    diffusivity_high: float | None = quantity("cm^2/s", default=None)
    conductivity: float | None = quantity("S/cm", default=None)
    assumption: str = ""
    charge: float | None = None
    hop: float = quantity("Å", default=0.0)
    rows: list[dict[str, Any]] = field(default_factory=list)


def diffusion(
    structure: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: DiffusionOptions | None = None,
    **overrides: Any,
) -> DiffusionResult:
    """Diffusion coefficients at several temperatures, their activation energy, and the conductivity.

    D is the slope of the mean squared displacement (A. Einstein, Ann. Phys. 322, 549 (1905)), averaged over
    all starting times, with the error from independent blocks of the run. The conductivity is
    ``n z² e² D / kT`` (Nernst and Einstein), which takes the ions to move independently.

    Args:
        structure: A structure that dynamics is run of (``ase.Atoms``, pymatgen, or a file with one frame),
            or one or more trajectories: run folders of ``md``, files with several frames.
        model: Registered name, file, ``Potential`` or ASE calculator; not asked where trajectories are given.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Of the dynamics; each temperature has the next one.
        options: All options at once.
        **overrides: Fields of :class:`DiffusionOptions`, over those of ``options``.

    Raises:
        InputError: A structure, trajectory, model or option that is wrong.
        RunFailedError: A run blew up.
    """
    from atomml.workflows.dynamics import diffusion_runs
    from atomml.workflows.run_record import RunRequest, finish_run

    started = time.perf_counter()
    chosen = build_options(DiffusionOptions, (as_config(options) if options else {}) | overrides)
    plan = diffusion_runs.plan(structure, model, chosen, device, seed)
    request = RunRequest(out, resume, overwrite, device, seed)
    facts = {"structures": plan.labels, **plan.model_config()}
    warnings = plan.warnings
    with request.open("diffusion", chosen, may_change=_MAY_CHANGE, warnings=warnings, **facts) as folder:
        result = diffusion_runs.measure(folder, plan, chosen)
        seconds = time.perf_counter() - started
        finish_run(folder, result, model=plan.model_record(), inputs=plan.inputs(), seconds=seconds)
        return result


def evaluations(options: DiffusionOptions, atoms: Atoms) -> int:
    """How many times the model is asked, for ``--dry-run``."""
    return (options.steps + options.equilibrate) * max(len(options.temperatures), 1)


def as_sources(structure: Any) -> Sequence[Any]:
    """What was given as a list: a command line gives names, Python also a structure or trajectories."""
    if isinstance(structure, list | tuple) and all(isinstance(one, str | Path | list) for one in structure):
        return structure
    return [structure]
