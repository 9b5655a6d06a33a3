"""The points of an equation of state, and the curves through them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atomml.errors import RunFailedError, StructureError
from atomml.files import write_table
from atomml.units import GPA
from atomml.workflows.crystals.crystal import CrystalRun, Limits, relaxed_start, strained_copy
from atomml.workflows.crystals.crystal_images import Image, evaluate_images, relaxed_images, write_images
from atomml.workflows.crystals.equation_of_state import EosOptions, EosResult

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["EosFit", "birch_murnaghan_pressure", "fit_eos", "measure"]

_ROUGH = 1.0  # meV/atom, rms above which the points do not lie on one smooth curve
_APART = 5.0  # percent by which the two fits' bulk moduli may differ
_CURVE_POINTS = 200


class EosFit(NamedTuple):
    """An equation of state: eV, Å³ and eV/Å³, the rms in eV, and the curve as a function of volume."""

    energy: float
    volume: float
    bulk_modulus: float
    derivative: float
    rms: float
    curve: Any


def measure(run: CrystalRun) -> EosResult:
    """The whole of an ``eos`` run: relax, evaluate the volumes, fit, and write the tables."""
    options: EosOptions = run.options
    if options.relax == "shape":
        run.model.need_stress("--relax shape")
    atoms, converged = relaxed_start(run)
    factors = np.linspace(1 - options.volume_range, 1 + options.volume_range, options.points)
    scaled = [strained_copy(atoms, atoms.cell.array * factor ** (1 / 3)) for factor in factors]
    images = evaluate_images(run, scaled)
    if options.relax != "none":
        images = relaxed_images(run, images, options.relax, Limits.of(options))
    write_table(run.folder.file("log.csv"), [_row(step, image) for step, image in enumerate(images, 1)])
    write_images(run.folder.file("structures.extxyz"), images)
    volumes = np.array([image.atoms.cell.volume for image in images])
    energies = np.array([image.energy for image in images])
    _check_bracketed(run.given.label, volumes, energies)
    fits = {kind: fit_eos(volumes, energies, kind) for kind in ("birch_murnaghan", "vinet")}
    _write_curves(run, volumes, fits)
    result = _result(atoms, images, volumes, energies, fits)
    result.converged = converged and all(image.converged for image in images)
    _warn(run, result)
    return result


def fit_eos(volumes: Any, energies: Any, kind: str) -> EosFit:
    """Fit an equation of state; the least squares are pymatgen's.

    ``birch_murnaghan`` is of third order: F. Birch, Phys. Rev. 71, 809 (1947). ``vinet``: P. Vinet et
    al., J. Phys.: Condens. Matter 1, 1941 (1989).

    Args:
        volumes: ``(n,)`` Å³.
        energies: ``(n,)`` eV.
        kind: ``birch_murnaghan`` or ``vinet``.

    Raises:
        RunFailedError: No curve with a minimum among the volumes fits.
    """
    import warnings

    from pymatgen.analysis.eos import EOS, EOSError

    volumes, energies = np.asarray(volumes, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    lowest = energies.min()  # the least squares lose digits to a large constant
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of trial volumes below 0
            fit = EOS(kind).fit(volumes, energies - lowest)
    except EOSError as error:
        raise RunFailedError(f"No {kind} curve fits the energies ({error}): widen --volume-range.") from error
    rms = float(np.sqrt(np.mean((fit.func(volumes) - (energies - lowest)) ** 2)))
    if not (fit.b0 > 0 and volumes.min() < fit.v0 < volumes.max() and np.isfinite(rms)):
        raise RunFailedError(
            f"The {kind} fit has no minimum among the volumes: see log.csv, and change --volume-range."
        )
    return EosFit(
        float(fit.e0 + lowest),
        float(fit.v0),
        float(fit.b0),
        float(fit.b1),
        rms,
        lambda volume: fit.func(np.asarray(volume)) + lowest,
    )


def birch_murnaghan_pressure(volumes: Any, fit: EosFit) -> Array:
    """Pressure of a Birch-Murnaghan curve, eV/Å³: the negative derivative of its energy.

    ``P = 3 B0/2 (x⁷ - x⁵) [1 + 3/4 (B0' - 4)(x² - 1)]`` with ``x = (V0/V)^(1/3)`` (Birch 1947).
    """
    x = (fit.volume / np.asarray(volumes, dtype=np.float64)) ** (1 / 3)
    return 1.5 * fit.bulk_modulus * (x**7 - x**5) * (1 + 0.75 * (fit.derivative - 4) * (x**2 - 1))


def _row(step: int, image: Image) -> dict[str, Any]:
    return {
        "step": step,
        "volume_A3": float(image.atoms.cell.volume),
        "energy_eV": image.energy,
        "pressure_GPa": image.pressure,
        "max_force_eV_per_A": image.max_force,
        "relaxation_steps": image.n_steps,
        "converged": image.converged,
    }


def _check_bracketed(label: str, volumes: Array, energies: Array) -> None:
    """Refuse a curve whose lowest point is its first or last.

    Raises:
        StructureError: Says at which end the energy still falls.
    """
    lowest = int(np.argmin(energies))
    if 0 < lowest < len(energies) - 1:
        return
    end = "smallest" if lowest == 0 else "largest"
    raise StructureError(
        f"{label}: the energy still falls at the {end} volume ({volumes[lowest]:.4g} Å^3), so its minimum is "
        "not among the volumes: relax the crystal first (--start relaxed), or widen --volume-range."
    )


def _write_curves(run: CrystalRun, volumes: Array, fits: dict[str, EosFit]) -> None:
    grid = np.linspace(volumes.min(), volumes.max(), _CURVE_POINTS)
    curves = {kind: fit.curve(grid) for kind, fit in fits.items()}
    rows = [
        {"volume_A3": float(volume), **{f"{kind}_eV": float(curves[kind][n]) for kind in fits}}
        for n, volume in enumerate(grid)
    ]
    write_table(run.folder.file("curves.csv"), rows)


def _result(
    atoms: Atoms, images: list[Image], volumes: Array, energies: Array, fits: dict[str, EosFit]
) -> EosResult:
    n, birch, vinet = len(atoms), fits["birch_murnaghan"], fits["vinet"]
    pressures = [image.pressure for image in images]
    mismatch = None
    if all(pressure is not None for pressure in pressures):
        fitted = birch_murnaghan_pressure(volumes, birch) * GPA
        mismatch = float(np.abs(fitted - np.array(pressures, dtype=np.float64)).max())
    return EosResult(
        formula=str(atoms.get_chemical_formula()),
        volume=birch.volume,
        volume_per_atom=birch.volume / n,
        energy=birch.energy,
        energy_per_atom=birch.energy / n,
        bulk_modulus=birch.bulk_modulus * GPA,
        bulk_modulus_derivative=birch.derivative,
        rms=1000 * birch.rms / n,
        vinet_volume=vinet.volume,
        vinet_bulk_modulus=vinet.bulk_modulus * GPA,
        vinet_bulk_modulus_derivative=vinet.derivative,
        vinet_rms=1000 * vinet.rms / n,
        fits_differ_percent=200
        * abs(birch.bulk_modulus - vinet.bulk_modulus)
        / (birch.bulk_modulus + vinet.bulk_modulus),
        pressure_mismatch=mismatch,
        n_points=len(images),
        volumes=volumes.tolist(),
        energies=energies.tolist(),
        atoms=atoms,
    )


def _warn(run: CrystalRun, result: EosResult) -> None:
    if min(result.rms, result.vinet_rms) > _ROUGH:
        run.folder.warn(
            f"The energies are {result.rms:.2g} meV/atom off the curve: the structure changes on the way, "
            "or --volume-range is too wide."
        )
    if result.fits_differ_percent > _APART:
        run.folder.warn(
            f"The two fits' bulk moduli differ by {result.fits_differ_percent:.1f} %: the range is too wide, "
            "or the minimum lies near its end."
        )
