"""A crystal strained step by step: the curve, when it has failed, and what the curve says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atomml.data.structures import extxyz_frame
from atomml.errors import OptionError, RunFailedError
from atomml.files import write_atomic, write_table
from atomml.units import GPA
from atomml.workflows.crystals.crystal import CrystalRun, relaxed_start
from atomml.workflows.crystals.strained_cell import IDENTITY, StrainedCell, axes_along, relax_cell
from atomml.workflows.crystals.straining import StrainOptions, StrainResult

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Curve", "failure_of", "measurement"]

_STATE = "restart.safetensors"
_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_COLUMNS = (
    *("step", "strain", "stress_GPa", "nominal_stress_GPa", "energy_eV", "volume_A3"),
    *("transverse_stress_GPa", "max_force_eV_per_A", "longest_bond_ratio", "relaxation_steps", "converged"),
    *(f"stress_{name}_GPa" for name in _VOIGT),
    *(f"strain_{name}" for name in _VOIGT),
)
_SMALL = 0.002  # strain of the two points that the initial slope is taken from
_FINE, _PART = 1e-3, 1e-2  # of the stress that the transverse one may be: for the slope, and on the way
_FURTHER = 60  # most steps to get there
_HALF = 0.5  # part of the largest stress below which the crystal has failed
_TORN = 1.5  # times its first length, at which a bond is broken
_BONDED = 1.2  # times the shortest distance, within which two atoms are bonded at the start
_FALLING = 3  # steps in which the stress fell, after which it has passed its maximum for good


class Curve(NamedTuple):
    """Points of a run: a row of ``log.csv`` each, and the sites and components of each."""

    rows: list[dict[str, Any]]
    sites: list[Array]
    components: list[Array]


def measurement(seed: int) -> Callable[[CrystalRun], StrainResult]:
    """The work of ``strain``, whose ``rattle`` draws from this seed."""
    return lambda run: _measure(run, seed)


def _measure(run: CrystalRun, seed: int) -> StrainResult:
    options: StrainOptions = run.options
    run.model.need_stress("a strained crystal")
    _check(options)
    axes_along(run.given.atoms.cell.array, options.direction, options.plane)
    atoms, converged = relaxed_start(run)
    axes, mode = _axes(atoms, options)
    crystal = _in_axes(atoms, axes, options)
    load = _load(options, mode)
    result = StrainResult(
        formula=str(crystal.get_chemical_formula()), mode=mode, axes=(np.round(axes, 12) + 0.0).tolist()
    )
    curve = _restored(run)
    if not curve.rows:
        _slopes(run, crystal, load, curve)
    failure = _pull(run, crystal, load, curve, seed)
    result.converged = converged and all(row["converged"] for row in curve.rows[3:-1])
    _read_curve(result, curve, load, options)
    _judge(run, result, curve, failure)
    result.atoms = crystal
    _write(run, crystal, curve, load)
    return result


def _check(options: StrainOptions) -> None:
    if not -0.9 <= options.max_strain <= 5 or abs(options.max_strain) < options.step:
        raise OptionError(
            f"--max-strain {options.max_strain:g} must lie between -0.9 and 5 and hold one --step at least."
        )
    if options.tensor is not None and (options.plane is not None or not any(options.tensor)):
        raise OptionError("--tensor needs a component that is not 0, and excludes --plane.")


def _axes(atoms: Atoms, options: StrainOptions) -> tuple[Array, str]:
    if options.tensor is not None:
        return np.eye(3), "tensor"
    axes = axes_along(atoms.cell.array, options.direction, options.plane)
    return axes, "tension" if options.plane is None else "shear"


def _in_axes(atoms: Atoms, axes: Array, options: StrainOptions) -> Atoms:
    crystal = atoms.copy()
    crystal.set_constraint()
    crystal.set_cell(atoms.cell.array @ axes.T, scale_atoms=False)
    crystal.set_positions(atoms.positions @ axes.T)
    return crystal.repeat(options.supercell) if options.supercell else crystal


def _load(options: StrainOptions, mode: str) -> Array:
    """``(6,)``: what each component grows by, per strain."""
    if options.tensor is not None:
        return np.array(options.tensor, dtype=np.float64)
    return np.eye(6)[0 if mode == "tension" else 5]


def _cell(run: CrystalRun, crystal: Atoms, load: Array) -> StrainedCell:
    options: StrainOptions = run.options
    atoms = crystal.copy()
    atoms.calc = run.model.calculator()
    free = (load == 0) if options.transverse == "relaxed" else np.zeros(6, dtype=bool)
    return StrainedCell(atoms, free, options.ions == "relaxed")


def _point(run: CrystalRun, cell: StrainedCell, load: Array, strain: float, start: Atoms) -> dict[str, Any]:
    """Relax at a strain; the row of the log."""
    options: StrainOptions = run.options
    components = np.where(load != 0, IDENTITY + strain * load, cell.components)
    cell.deform(components)
    n_steps, converged = relax_cell(cell, options.fmax, options.smax, options.steps)
    if strain:
        n_steps += _relax_further(cell, load, options, _FINE if abs(strain) <= _SMALL else _PART)
    stress = cell.stress()
    first_volume = float(start.cell.volume)
    row: dict[str, Any] = {
        "strain": strain,
        "stress_GPa": float(load @ stress / (load @ load)),
        "nominal_stress_GPa": float(load @ cell.slopes() / (load @ load) / first_volume * GPA),
        "energy_eV": cell.get_potential_energy(),
        "volume_A3": float(cell.atoms.cell.volume),
        "transverse_stress_GPa": cell.transverse(),
        "max_force_eV_per_A": cell.max_force(),
        "longest_bond_ratio": _stretched(start, cell.atoms),
        "relaxation_steps": n_steps,
        "converged": converged,
    }
    row |= {f"stress_{name}_GPa": float(s) for name, s in zip(_VOIGT, stress, strict=True)}
    return row | {f"strain_{n}": float(x) for n, x in zip(_VOIGT, cell.components - IDENTITY, strict=True)}


def _relax_further(cell: StrainedCell, load: Array, options: StrainOptions, part: float) -> int:
    """Until the transverse stress is a small part of the stress itself; a soft crystal's is below ``smax``.

    Returns the steps taken. Where it cannot be reached, as near failure or by a model in float32, what
    :func:`relax_cell` had reached before is good enough.
    """
    wanted = part * float(np.abs(load @ cell.stress()) / (load @ load))
    if cell.transverse() <= wanted or not cell.free.any():
        return 0
    tighter = wanted / max(options.smax, wanted)
    return relax_cell(cell, options.fmax * tighter, max(wanted, 1e-3 * options.smax), _FURTHER)[0]


def _slopes(run: CrystalRun, crystal: Atoms, load: Array, curve: Curve) -> None:
    """The crystal without strain, and at small strains of both signs; each from where the first is."""
    rest = _cell(run, crystal, load)
    for strain in (0.0, -_SMALL, _SMALL):
        cell = rest
        if strain:
            cell = _cell(run, crystal, load)
            cell.deform(curve.components[0], curve.sites[0])
        row = _point(run, cell, load, strain, crystal)
        _keep(run, curve, row, cell)


def _pull(run: CrystalRun, crystal: Atoms, load: Array, curve: Curve, seed: int) -> str:
    """Go on step by step from the last point; returns how it failed, "" if it did not."""
    options: StrainOptions = run.options
    count = round(abs(options.max_strain) / options.step)
    sign = 1.0 if options.max_strain > 0 else -1.0
    last = len(curve.rows) - 1 if len(curve.rows) > 3 else 0
    cell = _cell(run, crystal, load)
    cell.deform(curve.components[last], curve.sites[last])
    for number in range(len(curve.rows) - 2, count + 1):
        failure = failure_of(curve.rows[:1] + curve.rows[3:])
        if failure:
            return failure
        if options.rattle:
            shake = np.random.default_rng([seed, number]).normal(0, options.rattle, cell.sites.shape)
            cell.deform(cell.components, cell.sites + shake)
        try:
            row = _point(run, cell, load, sign * number * options.step, crystal)
        except RunFailedError as error:
            return (
                f"the model has no finite answer at a strain of {sign * number * options.step:.4g} ({error})"
            )
        _keep(run, curve, row, cell)
        run.folder.event(
            "strained", step=number, of=count, strain=row["strain"], stress_GPa=row["stress_GPa"]
        )
    return failure_of(curve.rows[:1] + curve.rows[3:])


def failure_of(rows: list[dict[str, Any]]) -> str:
    """How the crystal of the last row has failed; "" if it has not.

    It has if its stress is half of the largest or less, or fell in three steps running, or if a bond is
    half as long again as at the start. A stress below the noise of the start is no failure.
    """
    sign = 1.0 if rows[-1]["strain"] >= 0 else -1.0
    stresses = [sign * (row["stress_GPa"] - rows[0]["stress_GPa"]) for row in rows]
    if len(rows) < 3:
        return ""
    peak, at = max(stresses), rows[-1]["strain"]
    if rows[-1]["longest_bond_ratio"] > _TORN:
        return (
            f"a bond is {rows[-1]['longest_bond_ratio']:.2f} times as long as before, at a strain of {at:.4g}"
        )
    if stresses[-1] <= _HALF * peak:
        fall = f"from {sign * peak:.4g} to {sign * stresses[-1]:.4g} GPa"
        return f"the stress fell {fall}, at a strain of {at:.4g}"
    tail = stresses[-_FALLING - 1 :]
    if len(tail) > _FALLING and all(b < a for a, b in pairwise(tail)):
        return f"the stress fell in {_FALLING} steps running, up to a strain of {at:.4g}"
    return ""


def _stretched(start: Atoms, now: Atoms) -> float:
    """Longest of the bonds of the start, as a part of its length then."""
    from ase.neighborlist import neighbor_list

    distances = neighbor_list("d", start, _reach(start))
    first, second, shifts, lengths = neighbor_list("ijSd", start, _BONDED * float(distances.min()))
    ends = now.positions[second] + shifts @ now.cell.array - now.positions[first]
    return float((np.linalg.norm(ends, axis=1) / lengths).max())


def _reach(atoms: Atoms) -> float:
    """A length within which each atom has neighbours: the shortest vector of the cell will do."""
    return float(atoms.cell.lengths().min()) * 1.001


def _keep(run: CrystalRun, curve: Curve, row: dict[str, Any], cell: StrainedCell) -> None:
    from atomml.checkpoint import save_state

    curve.rows.append(row)
    curve.sites.append(cell.sites)
    curve.components.append(cell.components.copy())
    arrays = {"sites": np.array(curve.sites), "components": np.array(curve.components)}
    save_state(run.folder.file(_STATE), arrays, {"rows": curve.rows})


def _restored(run: CrystalRun) -> Curve:
    """The points of an earlier run in this folder; none in a new one."""
    from atomml.checkpoint import load_state

    file = run.folder.file(_STATE)
    if not file.exists():
        return Curve([], [], [])
    state = load_state(file)
    rows = [dict(row) for row in state.header["rows"]]
    if len(rows) < 3:
        return Curve([], [], [])
    return Curve(rows, list(state.arrays["sites"]), list(state.arrays["components"]))


def _read_curve(result: StrainResult, curve: Curve, load: Array, options: StrainOptions) -> None:
    """Strength, slopes and the balance of work and energy."""
    rows = curve.rows[:1] + curve.rows[3:]
    sign = 1.0 if options.max_strain > 0 else -1.0
    stresses = np.array([row["stress_GPa"] for row in rows])
    peak = int(np.argmax(sign * stresses))
    result.strains, result.stresses = [row["strain"] for row in rows], stresses.tolist()
    result.ideal_strength, result.strain_at_strength = float(stresses[peak]), rows[peak]["strain"]
    result.strength_reached = peak < len(rows) - 1
    nominal = np.array([row["nominal_stress_GPa"] for row in rows])
    result.nominal_strength = float(nominal[int(np.argmax(sign * nominal))])
    down, up = curve.rows[1], curve.rows[2]
    result.initial_slope = (up["stress_GPa"] - down["stress_GPa"]) / (2 * _SMALL)
    if result.mode == "tension" and options.transverse == "relaxed":
        result.youngs_modulus = result.initial_slope
        result.poisson_ratios = [-(up[n] - down[n]) / (2 * _SMALL) for n in ("strain_yy", "strain_zz")]
    result.transverse_stress = max(row["transverse_stress_GPa"] for row in rows[: peak + 1])
    result.n_steps = len(rows) - 1
    volume = rows[0]["volume_A3"]
    gained = (rows[peak]["energy_eV"] - rows[0]["energy_eV"]) / volume * GPA
    if peak > 1 and gained:
        work = _integral(np.array(result.strains[: peak + 1]), nominal[: peak + 1]) * (load @ load)
        result.work_mismatch_percent = float(100 * abs(work / gained - 1))


def _integral(x: Array, y: Array) -> float:
    """Of a smooth curve through the points."""
    from scipy.interpolate import CubicSpline

    order = np.argsort(x)
    found = float(CubicSpline(x[order], y[order]).integrate(x[order][0], x[order][-1]))
    return found if x[-1] >= x[0] else -found


def _judge(run: CrystalRun, result: StrainResult, curve: Curve, failure: str) -> None:
    result.failed, result.failure = bool(failure), failure
    options: StrainOptions = run.options
    if failure:
        result.failure_strain = curve.rows[-1]["strain"]
    else:
        run.folder.warn(
            f"No failure up to a strain of {options.max_strain:g}"
            + ("" if result.strength_reached else ": the largest stress is a lower bound of the strength")
            + "; raise --max-strain."
        )
    bad = [row["strain"] for row in curve.rows[:-1] if not row["converged"]]
    if bad:
        run.folder.warn(
            f"The relaxation did not converge in {options.steps} steps at strains "
            f"{', '.join(f'{x:g}' for x in bad[:5])}: add --steps."
        )
    if not failure and not curve.rows[-1]["converged"]:
        result.converged = False
    if result.work_mismatch_percent > 2:
        run.folder.warn(
            f"The work is {result.work_mismatch_percent:.1f} % off the energy: the structure jumps on the "
            "way, --step is too large, or the model's stress is not the slope of its energy."
        )


def _write(run: CrystalRun, crystal: Atoms, curve: Curve, load: Array) -> None:
    rows = curve.rows[:1] + curve.rows[3:]
    write_table(run.folder.file("log.csv"), [{"step": n, **row} for n, row in enumerate(rows)], _COLUMNS)
    cell = StrainedCell(crystal.copy(), load == 0, True)
    frames = []
    for sites, components in zip(
        curve.sites[:1] + curve.sites[3:], curve.components[:1] + curve.components[3:], strict=True
    ):
        cell.deform(components, sites)
        frames.append(extxyz_frame(cell.atoms, {}))
    write_atomic(run.folder.file("trajectory.extxyz"), "".join(frames))
