"""Diffusion at several temperatures: the runs or trajectories, their estimates, and what is written."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import OptionError
from atomml.files import write_table
from atomml.oxidation import usual_charge
from atomml.run import RunFolder, plain
from atomml.workflows.dynamics.arrhenius import fit_arrhenius, nernst_einstein
from atomml.workflows.dynamics.diffusivity import DiffusionOptions, DiffusionResult, as_sources
from atomml.workflows.dynamics.mean_squared_displacement import (
    FRAMES_PER_BLOCK,
    Estimate,
    estimate,
    hop_length,
    moves,
)
from atomml.workflows.dynamics.trajectories import Trajectory, column_rows, is_trajectory, read_trajectory
from atomml.workflows.inputs import GivenModel, GivenStructure, check_covered, given_model, given_structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Plan", "measure", "plan"]

_CM2_PER_S = 1e-4  # of 1 Å²/ps
_CURVE_POINTS = 400


@dataclass
class Plan:
    """What is run or read.

    Attributes:
        temperatures: K, one for each run or trajectory.
        labels: What the inputs are called.
        given: The structure to run, or None where trajectories are given.
        model: Its model.
        trajectories: Those given.
        seed: Of the first run.
        warnings: What to warn of.
    """

    temperatures: list[float]
    labels: list[str]
    given: GivenStructure | None = None
    model: GivenModel | None = None
    trajectories: list[Trajectory] = field(default_factory=list)
    seed: int = 0
    warnings: list[str] = field(default_factory=list)

    def model_config(self) -> dict[str, Any]:
        """What ``config.yaml`` says of the model."""
        return self.model.config() if self.model is not None else {}

    def model_record(self) -> dict[str, Any] | None:
        """What ``summary.json`` says of the model; None where trajectories were given."""
        return self.model.record() if self.model is not None else None

    def inputs(self) -> list[dict[str, Any]]:
        """What ``summary.json`` says of the inputs."""
        if self.given is not None:
            return [self.given.record()]
        return [trajectory.record() for trajectory in self.trajectories]


@dataclass
class _Run:
    """One temperature: positions without drift, and the estimate of each element."""

    frames: Trajectory
    temperature: float
    positions: Array
    drift: float
    interval: float
    estimates: dict[str, Estimate] = field(default_factory=dict)


def plan(structure: Any, model: Any, options: DiffusionOptions, device: str, seed: int | None) -> Plan:
    """What is to be run or read, checked.

    Raises:
        InputError: A structure, trajectory, model or option that is wrong.
    """
    if not 0 < options.fit[0] < options.fit[1]:
        raise OptionError(f"fit is {options.fit[0]:g},{options.fit[1]:g}: give a start and a later end.")
    sources = as_sources(structure)
    if len(sources) > 1 or is_trajectory(sources[0]):
        return _read(sources, options)
    if not options.temperatures:
        raise OptionError("diffusion needs temperatures: give --temperatures, such as 800,1000,1200.")
    if len(set(options.temperatures)) < len(options.temperatures):
        raise OptionError("A temperature is named twice: give each once.")
    frames = options.steps // options.every
    if frames < options.blocks * FRAMES_PER_BLOCK:
        raise OptionError(
            f"{options.steps} steps with a frame every {options.every} make {frames} frames, and "
            f"{options.blocks} blocks need {options.blocks * FRAMES_PER_BLOCK}: add steps, or lower --every."
        )
    given = given_structure(sources[0])
    used = given_model(model, dtype=options.dtype, device=device)
    found = Plan(list(options.temperatures), [given.label], given, used, seed=seed or 0)
    check_covered(given, used, found.warnings.append, options.allow_charge_mismatch)
    if options.element is not None and options.element not in given.atoms.symbols:
        raise OptionError(f"{given.label} holds no {options.element}: name an element of it with --element.")
    return found


def _read(sources: Sequence[Any], options: DiffusionOptions) -> Plan:
    found = Plan([], [])
    for number, source in enumerate(sources):
        frames = read_trajectory(source)
        if options.element is not None and options.element not in frames.symbols:
            raise OptionError(f"{frames.label} holds no {options.element}: name an element of it.")
        found.trajectories.append(frames)
        found.labels.append(frames.label)
        found.temperatures.append(_temperature_of(frames, source, number, len(sources), options))
    return found


def _temperature_of(
    frames: Trajectory, source: Any, number: int, of: int, options: DiffusionOptions
) -> float:
    """What was said, what the run folder's summary says, or what the velocities do."""
    if options.temperatures:
        if len(options.temperatures) != of:
            raise OptionError(
                f"{len(options.temperatures)} temperatures for {of} trajectories: give one for each."
            )
        return options.temperatures[number]
    summary = Path(source) / "summary.json" if isinstance(source, str | Path) else Path("nowhere")
    if summary.is_file():
        known = json.loads(summary.read_text(encoding="utf-8")).get("results", {}).get("temperature_K")
        if isinstance(known, int | float):
            return float(known)
    measured = frames.temperature()
    if measured is None:
        raise OptionError(f"{frames.label} does not say its temperature: give --temperatures.")
    return measured


def measure(folder: RunFolder, plan: Plan, options: DiffusionOptions) -> DiffusionResult:
    """Run or read every temperature, estimate, fit, and write the tables."""
    runs = [_run(folder, plan, number, options) for number in range(len(plan.temperatures))]
    element = options.element or _fastest(runs)
    hop = options.hop or hop_length(runs[0].frames, element)
    for run in runs:
        for symbol in run.frames.symbols:
            length = hop if symbol == element else hop_length(run.frames, symbol)
            run.estimates[symbol] = estimate(
                run.positions[:, run.frames.of_element(symbol)],
                run.interval,
                fit=options.fit,
                blocks=options.blocks,
                hop=length,
                label=run.frames.label,
            )
    charge = options.charge if options.charge is not None else usual_charge(element)
    result = DiffusionResult(formula=runs[0].frames.formula, element=element, charge=charge, hop=hop)
    result.rows = [_row(run, element, charge) for run in runs]
    result.converged = all(row["converged"] for row in result.rows)
    _extrapolate(result, runs, options)
    _say(folder, result)
    _write(folder, runs, result)
    return result


def _run(folder: RunFolder, plan: Plan, number: int, options: DiffusionOptions) -> _Run:
    temperature = plan.temperatures[number]
    if plan.given is None:
        frames = plan.trajectories[number]
        interval = frames.interval(options.interval) / 1000
    else:
        frames = _dynamics(folder, plan, number, options)
        interval = frames.interval() / 1000
    return _Run(frames, temperature, *moves(frames), interval)


def _dynamics(folder: RunFolder, plan: Plan, number: int, options: DiffusionOptions) -> Trajectory:
    """Molecular dynamics at one temperature, in a folder of its own that is gone on with if it is there."""
    from atomml.workflows.dynamics.molecular_dynamics import md

    temperature = plan.temperatures[number]
    out = folder.file(f"{temperature:g}K")
    folder.event("temperature", temperature_K=temperature)
    md(
        plan.given,
        plan.model,
        out=out,
        resume=out.exists(),
        ensemble=options.ensemble,
        temperature=f"{temperature:g}",
        timestep=options.timestep,
        steps=options.steps + options.equilibrate,
        equilibrate=options.equilibrate,
        every=options.every,
        supercell=options.supercell,
        seed=plan.seed + number,
        rdf_cutoff=0.0,
        dtype=options.dtype,
        allow_charge_mismatch=options.allow_charge_mismatch,
    )
    return read_trajectory(out, skip=math.ceil(options.equilibrate / options.every))


def _fastest(runs: Sequence[_Run]) -> str:
    """The element that has gone farthest at the highest temperature."""
    hottest = max(runs, key=lambda run: run.temperature)
    gone = ((hottest.positions[-1] - hottest.positions[0]) ** 2).sum(axis=1)
    return max(
        hottest.frames.symbols, key=lambda symbol: float(gone[hottest.frames.of_element(symbol)].mean())
    )


def _row(run: _Run, element: str, charge: float | None) -> dict[str, Any]:
    found = run.estimates[element]
    diffusivity = found.diffusivity * _CM2_PER_S
    conductivity = None
    if charge is not None and run.frames.pbc.all():
        conductivity = nernst_einstein(diffusivity, _density(run, element), charge, run.temperature)
    return {
        "temperature_K": run.temperature,
        "diffusivity_cm2_per_s": diffusivity,
        "error_cm2_per_s": found.error * _CM2_PER_S,
        "conductivity_S_per_cm": conductivity,
        "msd_A2": found.msd,
        "loglog_slope": found.exponent,
        "drift_A": run.drift,
        "length_ps": (run.frames.n_frames - 1) * run.interval,
        "converged": not found.why_not,
        "why_not": found.why_not,
    }


def _density(run: _Run, element: str) -> float:
    volume = float(np.abs(np.linalg.det(run.frames.cells)).mean())
    return int(run.frames.of_element(element).sum()) / volume


def _extrapolate(result: DiffusionResult, runs: Sequence[_Run], options: DiffusionOptions) -> None:
    """Arrhenius' law over the temperatures that are converged."""
    good = [(run, row) for run, row in zip(runs, result.rows, strict=True) if row["converged"]]
    if len({run.temperature for run, _ in good}) < 2:
        return
    fit = fit_arrhenius(
        [run.temperature for run, _ in good],
        [row["diffusivity_cm2_per_s"] for _, row in good],
        [row["error_cm2_per_s"] for _, row in good],
    )
    result.activation_energy, result.prefactor = fit.energy, math.exp(fit.log_prefactor)
    result.activation_energy_low, result.activation_energy_high = fit.interval
    result.extrapolated_to = options.at
    result.diffusivity, result.diffusivity_low, result.diffusivity_high = fit.at(options.at)
    if result.charge is not None and good[0][0].frames.pbc.all():
        density = _density(good[0][0], result.element)
        result.conductivity = nernst_einstein(result.diffusivity, density, result.charge, options.at)


def _say(folder: RunFolder, result: DiffusionResult) -> None:
    for row in result.rows:
        if not row["converged"]:
            folder.warn(
                f"{row['length_ps']:.3g} ps at {row['temperature_K']:.6g} K are too short for "
                f"{result.element}: {row['why_not']}; add --steps, with --resume, or raise the temperature."
            )
    if result.charge is None:
        folder.warn(f"No conductivity: {result.element} has no one usual charge; give --charge.")
    else:
        result.assumption = (
            f"Nernst-Einstein: a Haven ratio of 1 (ions move independently), {result.charge:+g} e on each "
            f"{result.element}"
        )
    if result.activation_energy is None and len(result.rows) > 1:
        folder.warn("No activation energy: fewer than two temperatures are converged.")


def _write(folder: RunFolder, runs: Sequence[_Run], result: DiffusionResult) -> None:
    """``results.csv``, ``elements.csv``, ``arrhenius.csv``, and ``msd-TK.csv`` of each temperature."""
    write_table(folder.file("results.csv"), [plain(row) for row in result.rows])
    elements = []
    names = [f"msd-{run.temperature:.6g}K" for run in runs]
    for number, run in enumerate(runs):
        name = names[number] + (f"-{number}" if names.count(names[number]) > 1 else "")
        stride = max(len(next(iter(run.estimates.values())).times) // _CURVE_POINTS, 1)
        curves = {f"{symbol}_A2": found.curve[::stride] for symbol, found in run.estimates.items()}
        times = next(iter(run.estimates.values())).times[::stride]
        write_table(folder.file(f"{name}.csv"), column_rows({"time_ps": times, **curves}))
        elements += [
            {
                "temperature_K": run.temperature,
                "element": symbol,
                "diffusivity_cm2_per_s": found.diffusivity * _CM2_PER_S,
                "error_cm2_per_s": found.error * _CM2_PER_S,
                "msd_A2": found.msd,
                "loglog_slope": found.exponent,
                "why_not": found.why_not,
            }
            for symbol, found in run.estimates.items()
        ]
    write_table(folder.file("elements.csv"), elements)
