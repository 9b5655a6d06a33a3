"""Phonons at relaxed volumes, and what phonopy's quasi-harmonic approximation makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atomml.errors import OptionError, RunFailedError, StructureError
from atomml.files import write_table
from atomml.units import GPA
from atomml.workflows.crystals.crystal import CrystalRun, Limits, relaxed_start, strained_copy
from atomml.workflows.crystals.crystal_images import Image, evaluate_images, relaxed_images, write_images
from atomml.workflows.crystals.phonon_measurement import (
    MEV_PER_KJ_PER_MOL,
    force_constants,
    quiet_phonopy,
    supercell_of,
    warn_of_thin_supercell,
)
from atomml.workflows.crystals.quasi_harmonic import QhaOptions, QhaResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["measure"]

_FEWEST = 5  # volumes through which four parameters are fitted
_CV_DEGREE = 4  # of the polynomial in V through heat capacities, as in phonopy
_SHOWN_CURVES = 8
_ROUGH = 0.5  # meV/atom, rms above which free energies do not lie on a curve


class Volume(NamedTuple):
    """A relaxed volume, phonopy's object for it, and the lowest frequency on the mesh (THz)."""

    image: Image
    phonopy: Any
    lowest: float


def measure(run: CrystalRun) -> QhaResult:
    """The whole of a ``qha`` run: relax, change the volume, relax again, phonons of each, free energies."""
    options: QhaOptions = run.options
    _check(options)
    if options.relax == "shape":
        run.model.need_stress("--relax shape")
    supercell_of(run.given.atoms, options)
    atoms, converged = relaxed_start(run)
    repeats = supercell_of(atoms, options)
    low, high = options.volume_range
    factors = np.linspace(1 + low, 1 + high, options.points)
    scaled = [strained_copy(atoms, atoms.cell.array * factor ** (1 / 3)) for factor in factors]
    images = relaxed_images(run, evaluate_images(run, scaled), options.relax, Limits.of(options))
    write_images(run.folder.file("structures.extxyz"), images)
    with quiet_phonopy():
        volumes = [_phonons(run, number, image, repeats) for number, image in enumerate(images, 1)]
        used = _stable(run, volumes)
        result = _expansion(run, used)
    result.formula, result.atoms = str(atoms.get_chemical_formula()), atoms
    result.supercell = list(repeats)
    result.volumes = [_row(one, any(one is kept for kept in used)) for one in volumes]
    result.dropped_volumes = [row["volume_A3"] for row in result.volumes if not row["used"]]
    reached = result.volume is not None
    result.converged = converged and reached and all(image.converged for image in images)
    warn_of_thin_supercell(run, repeats, atoms)
    return result


def _check(options: QhaOptions) -> None:
    low, high = options.volume_range
    if not -0.5 <= low < high <= 1.0:
        raise OptionError(
            f"--volume-range {low:g},{high:g}: give two parts between -0.5 and 1, the smaller first."
        )
    if options.temperature > options.max_temperature:
        raise OptionError(
            f"--temperature {options.temperature:g} K lies beyond --max-temperature "
            f"{options.max_temperature:g} K."
        )


def _phonons(run: CrystalRun, number: int, image: Image, repeats: tuple[int, int, int]) -> Volume:
    """Phonons of one volume; forces of an earlier run in this folder are only read."""
    _, phonopy, _ = force_constants(run, image.atoms, repeats, f"forces-{number:02d}.safetensors")
    frequencies = np.asarray(phonopy.run_mesh(run.options.mesh).frequencies)
    run.folder.event("phonons", step=number, of=run.options.points, volume_A3=float(image.atoms.cell.volume))
    return Volume(image, phonopy, float(frequencies.min()))


def _row(volume: Volume, used: bool) -> dict[str, Any]:
    image = volume.image
    return {
        "volume_A3": float(image.atoms.cell.volume),
        "energy_eV": image.energy,
        "pressure_GPa": image.pressure,
        "max_force_eV_per_A": image.max_force,
        "lowest_frequency_THz": volume.lowest,
        "relaxation_steps": image.n_steps,
        "used": used,
    }


def _stable(run: CrystalRun, volumes: Sequence[Volume]) -> list[Volume]:
    """The volumes without imaginary modes.

    Raises:
        StructureError: They are fewer than five.
    """
    soft = [volume for volume in volumes if volume.lowest < -run.options.imaginary]
    if not soft:
        return list(volumes)
    named = ", ".join(f"{v.image.atoms.cell.volume:.4g} Å^3 ({v.lowest:.3g} THz)" for v in soft[:6])
    rest = [volume for volume in volumes if volume not in soft]
    if len(rest) < _FEWEST:
        raise StructureError(
            f"{run.given.label}: imaginary modes at the volumes {named} leave {len(rest)} of {len(volumes)}, "
            f"and {_FEWEST} are needed: the crystal is unstable, or --volume-range is too wide."
        )
    run.folder.warn(f"Imaginary modes at the volumes {named}: these volumes are left out.")
    return rest


def _expansion(run: CrystalRun, volumes: Sequence[Volume]) -> QhaResult:
    """Everything over temperature, per cell as it was given."""
    options: QhaOptions = run.options
    found = _run_qha(run, volumes)
    primitive = volumes[0].phonopy.primitive
    cells = len(volumes[0].image.atoms) / len(primitive)  # primitive cells in that given
    sampled = np.array([v.phonopy.primitive.volume for v in volumes])
    table = _table(found, cells, len(primitive), _n_rows(options))
    count = _bracketed(run, np.asarray(found.equilibrium_volumes), sampled, table["temperature_K"])
    table = {name: column[:count] for name, column in table.items()}
    write_table(
        run.folder.file("thermal.csv"),
        [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)],
    )
    _write_free_energies(run, found, sampled * cells, cells)
    rows = [_row(volume, True) for volume in volumes]
    write_table(run.folder.file("log.csv"), [{"step": n, **row} for n, row in enumerate(rows, 1)])
    result = QhaResult(
        fit_rms=_fit_rms(found, count) / len(primitive),
        temperature=options.temperature,
        static_volume=_static_volume(volumes, options),
        zero_point_volume=table["volume_A3"][0],
        valid_to=table["temperature_K"][-1],
        table=table,
    )
    if result.fit_rms > _ROUGH:
        run.folder.warn(
            f"The free energies are {result.fit_rms:.2g} meV/atom off the curve over the volumes, so that "
            "expansion and what follows from it mean little: the model's frequencies do not follow the "
            "volume smoothly; try a larger --displacement, a larger supercell, or another model."
        )
    if options.temperature <= result.valid_to:
        _name(result, table, len(volumes[0].image.atoms))
    return result


def _n_rows(options: QhaOptions) -> int:
    """Temperatures of the table, 0 K and the end of the range among them."""
    return math.ceil(options.max_temperature / options.temperature_step - 1e-9) + 1


def _run_qha(run: CrystalRun, volumes: Sequence[Volume]) -> Any:
    from phonopy import run_qha

    options: QhaOptions = run.options
    # Differences over temperature need two more points than are shown.
    temperatures = [n * options.temperature_step for n in range(_n_rows(options) + 2)]
    share = len(volumes[0].phonopy.primitive) / len(volumes[0].image.atoms)
    try:
        return run_qha(
            [volume.phonopy for volume in volumes],
            temperatures,
            internal_energies=[volume.image.energy * share for volume in volumes],
            mesh=options.mesh,
            pressure=options.pressure or None,
            eos=options.equation,
            exclude_gamma_acoustic=options.sum_rule,
        )
    except (RuntimeError, np.linalg.LinAlgError) as error:
        raise RunFailedError(
            f"No {options.equation} curve fits the free energies ({error}): change --volume-range."
        ) from error


def _table(found: Any, cells: float, n_atoms: int, n_rows: int) -> dict[str, list[float]]:
    """The first rows over temperature; ``found`` is of primitive cells of ``n_atoms``, in eV, Å and K."""
    molar = 1e6 / MEV_PER_KJ_PER_MOL  # J/mol in one eV
    rows = min(len(found.heat_capacity_P.heat_capacities), n_rows)
    volumes = np.asarray(found.equilibrium_volumes)[:rows]
    capacities = [0.0]
    for number, pairs in enumerate(found.heat_capacity_P.volume_cv[: rows - 1], 1):
        degree = min(_CV_DEGREE, len(pairs) - 1)
        shifted = pairs[:, 0] - pairs[:, 0].mean()  # volumes near one another, or the fit loses digits
        fit = np.polyfit(shifted, pairs[:, 1], degree)
        capacities.append(float(np.polyval(fit, volumes[number] - pairs[:, 0].mean())))
    columns = {
        "temperature_K": found.temperatures[:rows],
        "volume_A3": volumes * cells,
        "thermal_expansion_per_K": found.thermal_expansion[:rows],
        "heat_capacity_p_J_per_K_per_mol": np.asarray(found.heat_capacity_P.heat_capacities)[:rows]
        * molar
        / n_atoms,
        "heat_capacity_v_J_per_K_per_mol": np.array(capacities) * molar / n_atoms,
        "bulk_modulus_GPa": np.asarray(found.bulk_moduli[:rows]) * GPA,
        "gruneisen": found.gruneisen_parameters[:rows],
        "gibbs_energy_eV": np.asarray(found.gibbs_free_energies[:rows]) * cells,
    }
    return {name: [float(x) for x in column] for name, column in columns.items()}


def _bracketed(run: CrystalRun, volumes: Array, sampled: Array, temperatures: Sequence[float]) -> int:
    """Rows of the table up to the temperature at which the minimum leaves the volumes.

    Raises:
        StructureError: It lies outside at 0 K already.
    """
    inside = (volumes > sampled.min()) & (volumes < sampled.max())
    count = len(temperatures)
    if not inside[0]:
        end = "smallest" if volumes[0] <= sampled.min() else "largest"
        raise StructureError(
            f"{run.given.label}: the free energy at 0 K still falls at the {end} volume, so its minimum is "
            "not among the volumes: change --volume-range, or relax the crystal first (--start relaxed)."
        )
    outside = np.flatnonzero(~inside)
    # The expansion at a temperature takes the volume of the next one too.
    kept = min(count, int(outside[0]) - 1) if len(outside) else count
    if kept < count:
        run.folder.warn(
            f"Above {temperatures[kept - 1]:g} K the minimum of the free energy lies beyond the volumes, and "
            "the tables end there: raise the end of --volume-range."
        )
    return max(kept, 1)


def _fit_rms(found: Any, count: int) -> float:
    """How far free energies are off the fitted curves: the largest rms of all temperatures, meV per cell."""
    from phonopy.qha.core import get_eos

    curve = get_eos(found.eos_name)
    off = [
        curve(np.asarray(found.volumes), found.eos_parameters[t]) - np.asarray(found.helmholtz_volume[t])
        for t in range(count)
    ]
    return float(1000 * np.sqrt((np.array(off) ** 2).mean(axis=1)).max())


def _static_volume(volumes: Sequence[Volume], options: QhaOptions) -> float:
    """Volume of least energy (enthalpy, under a pressure), Å³; the nearest sampled one if it is an end."""
    from atomml.workflows.crystals.eos_curve import fit_eos

    sizes = np.array([v.image.atoms.cell.volume for v in volumes])
    energies = np.array([v.image.energy for v in volumes]) + options.pressure / GPA * sizes
    try:
        return fit_eos(sizes, energies, options.equation).volume
    except RunFailedError:
        return float(sizes[int(np.argmin(energies))])


def _name(result: QhaResult, table: dict[str, list[float]], n_atoms: int) -> None:
    """The numbers at the temperature asked for, between those of the table."""

    def at(name: str) -> float:
        """A column at the temperature."""
        return float(np.interp(result.temperature, table["temperature_K"], table[name]))

    result.volume = at("volume_A3")
    result.volume_per_atom = result.volume / n_atoms
    result.thermal_expansion = at("thermal_expansion_per_K")
    result.heat_capacity_p = at("heat_capacity_p_J_per_K_per_mol")
    result.heat_capacity_v = at("heat_capacity_v_J_per_K_per_mol")
    result.bulk_modulus, result.gruneisen = at("bulk_modulus_GPa"), at("gruneisen")


def _write_free_energies(run: CrystalRun, found: Any, volumes: Array, cells: float) -> None:
    """Free energy (with ``pV``) against volume at a few temperatures, eV and Å³ of the cell given."""
    temperatures = np.asarray(found.temperatures)
    chosen = np.unique(np.linspace(0, len(temperatures) - 1, _SHOWN_CURVES).round().astype(int))
    rows = []
    for n, volume in enumerate(volumes):
        row = {"volume_A3": float(volume)}
        row |= {f"F_{temperatures[t]:g}K_eV": float(found.helmholtz_volume[t][n] * cells) for t in chosen}
        rows.append(row)
    write_table(run.folder.file("free_energies.csv"), rows)
