"""Stresses of strained cells, and the elastic tensor through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.symmetry import point_group
from atomml.files import write_table
from atomml.units import GPA
from atomml.workflows.crystals.crystal import CrystalRun, Limits, relaxed_start, strained_copy
from atomml.workflows.crystals.crystal_images import Image, evaluate_images, relaxed_images, write_images
from atomml.workflows.crystals.elastic_tensor import (
    Moduli,
    fit_tensor,
    ieee_tensor,
    moduli_of,
    needed_patterns,
    strain_matrix,
    tensor_basis,
    youngs_modulus,
)
from atomml.workflows.crystals.elasticity import ElasticOptions, ElasticResult

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["measure"]

_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_PRESTRESSED = 0.1  # GPa, above which the tensor is that of a crystal under stress
_ROUGH = 0.05  # part of the largest constant that the fit may be off
_DENSITY = 1.66053906660  # g/cm³ in one u/Å³


def measure(run: CrystalRun) -> ElasticResult:
    """The whole of an ``elastic`` run: relax, strain, fit, and write the tables."""
    options: ElasticOptions = run.options
    run.model.need_stress("the elastic tensor")
    atoms, converged = relaxed_start(run)
    group = point_group(atoms, options.symprec)
    basis = tensor_basis(group.rotations if options.symmetry else np.eye(3)[None])
    patterns = needed_patterns(basis)
    steps = [(pattern, amount) for pattern in patterns for amount in _amounts(options)]
    strained = [
        strained_copy(atoms, atoms.cell.array @ (np.eye(3) + strain_matrix(pattern, amount)))
        for pattern, amount in steps
    ]
    clamped = evaluate_images(run, [atoms, *strained])
    tensor, rms = _tensor(basis, patterns, steps, clamped)
    images, clamped_tensor = clamped, None
    if options.ions == "relaxed":
        clamped_tensor = tensor
        images = relaxed_images(run, clamped, "ions", Limits.of(options))
        tensor, rms = _tensor(basis, patterns, steps, images)
    _write(run, steps, images, tensor)
    result = _result(atoms, tensor, clamped_tensor, moduli_of(tensor, atoms))
    result.space_group, result.fit_rms = group.symbol, rms
    result.n_strains, result.n_independent = len(steps), len(basis)
    assert clamped[0].stress is not None
    result.residual_stress = float(np.abs(clamped[0].stress).max()) * GPA
    result.converged = converged and all(image.converged for image in images)
    _warn(run, result)
    return result


def _amounts(options: ElasticOptions) -> list[float]:
    """Strains of one pattern, evenly spaced about 0 and without it."""
    half = max(1, options.points // 2)
    up = [options.strain * (n + 1) / half for n in range(half)]
    return [-amount for amount in reversed(up)] + up


def _tensor(
    basis: Array, patterns: Sequence[int], steps: list[tuple[int, float]], images: list[Image]
) -> tuple[Array, float]:
    """The tensor in GPa from the images; the first of them is not strained."""
    stresses = np.array([image.voigt_stress for image in images]) * GPA
    slopes = []
    for pattern in patterns:
        rows = [0, *(n for n, (one, _) in enumerate(steps, 1) if one == pattern)]
        strains = [0.0, *(amount for one, amount in steps if one == pattern)]
        # Odd orders up to the third: what is left of the slope's error is of the fourth order in strain.
        degree = 3 if len(rows) > 4 else 2
        slopes.append(np.polynomial.polynomial.polyfit(strains, stresses[rows], degree)[1])
    return fit_tensor(basis, patterns, np.array(slopes))


def _write(run: CrystalRun, steps: list[tuple[int, float]], images: list[Image], tensor: Array) -> None:
    rows = []
    for number, ((pattern, amount), image) in enumerate(zip(steps, images[1:], strict=True), 1):
        row: dict[str, Any] = {"step": number, "pattern": _VOIGT[pattern], "strain": amount}
        row |= {
            f"stress_{name}_GPa": float(s) for name, s in zip(_VOIGT, image.voigt_stress * GPA, strict=True)
        }
        rows.append(row | {"max_force_eV_per_A": image.max_force, "relaxation_steps": image.n_steps})
    write_table(run.folder.file("log.csv"), rows)
    write_images(run.folder.file("structures.extxyz"), images)
    table = [
        {"row": _VOIGT[i], **{f"{name}_GPa": float(tensor[i, j]) for j, name in enumerate(_VOIGT)}}
        for i in range(6)
    ]
    write_table(run.folder.file("elastic_tensor.csv"), table)
    if np.linalg.eigvalsh(tensor)[0] > 0:
        write_table(run.folder.file("youngs_modulus.csv"), _in_planes(tensor))


def _in_planes(tensor: Array) -> list[dict[str, float]]:
    """Young's modulus in the three planes of the axes, by the angle from the first axis of each."""
    angles = np.arange(0, 361, 2)
    turn = np.column_stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))])
    columns = {}
    for name, axes in (("xy", [0, 1]), ("xz", [0, 2]), ("yz", [1, 2])):
        directions = np.zeros((len(angles), 3))
        directions[:, axes] = turn
        columns[f"{name}_GPa"] = youngs_modulus(tensor, directions)
    return [
        {"angle_deg": float(angle), **{name: float(values[n]) for name, values in columns.items()}}
        for n, angle in enumerate(angles)
    ]


def _result(atoms: Atoms, tensor: Array, clamped: Array | None, found: Moduli) -> ElasticResult:
    result = ElasticResult(
        formula=str(atoms.get_chemical_formula()),
        bulk_modulus_voigt=found.bulk[0],
        bulk_modulus_reuss=found.bulk[1],
        bulk_modulus=found.bulk[2],
        shear_modulus_voigt=found.shear[0],
        shear_modulus_reuss=found.shear[1],
        shear_modulus=found.shear[2],
        youngs_modulus=found.youngs,
        poisson_ratio=found.poisson,
        universal_anisotropy=found.anisotropy,
        debye_temperature=found.debye,
        stable=found.stable,
        smallest_eigenvalue=found.smallest_eigenvalue,
        density=float(atoms.get_masses().sum() / atoms.cell.volume * _DENSITY),
        elastic_tensor=tensor.tolist(),
        ieee_elastic_tensor=ieee_tensor(tensor, atoms).tolist(),
        clamped_elastic_tensor=None if clamped is None else clamped.tolist(),
        atoms=atoms,
    )
    if found.youngs_range is not None and found.sound is not None:
        result.youngs_modulus_min, result.youngs_modulus_max = found.youngs_range
        result.transverse_sound_speed, result.longitudinal_sound_speed, result.mean_sound_speed = found.sound
    return result


def _warn(run: CrystalRun, result: ElasticResult) -> None:
    if not result.stable:
        run.folder.warn(
            f"The crystal is unstable: a strain lowers its energy (smallest eigenvalue of the tensor "
            f"{result.smallest_eigenvalue:.3g} GPa), so moduli and sound speeds have no meaning."
        )
    if result.residual_stress > _PRESTRESSED:
        run.folder.warn(
            f"Before any strain the stress is {result.residual_stress:.3g} GPa: the constants are those of a "
            "crystal under stress; relax it first (--start relaxed)."
        )
    largest = float(np.abs(result.elastic_tensor).max())
    if result.fit_rms > _ROUGH * largest:
        run.folder.warn(
            f"The stresses are {result.fit_rms:.2g} GPa off any tensor of this symmetry: the ions settle in "
            "another place, or --symprec finds too much."
        )
