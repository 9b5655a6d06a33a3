"""Stress against strain up to failure: the options, the result, and the function."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["StrainOptions", "StrainResult", "evaluations", "strain"]


@dataclass(frozen=True)
class StrainOptions:
    """Options of ``strain``."""

    direction: tuple[float, float, float] = option(
        (1.0, 0.0, 0.0), "direction of the pull, or of the shear, [uvw] of the cell given", metavar="U,V,W"
    )
    plane: tuple[float, float, float] | None = option(
        None, "shear: the plane (hkl) of the cell given that slides along --direction", metavar="H,K,L"
    )
    tensor: tuple[float, float, float, float, float, float] | None = option(
        None,
        "instead of a direction, strains xx,yy,zz,yz,xz,xy in Cartesian axes that grow together; "
        "those that are 0 relax",
        metavar="XX,YY,...",
    )
    max_strain: float = option(0.4, "where to stop if nothing fails; below 0 it is compressed", metavar="X")
    step: float = option(0.01, "strain of each step", above=0, maximum=0.5, metavar="X")
    transverse: str = option(
        "relaxed",
        "the other components of the cell: relaxed to zero stress, or fixed",
        choices=("relaxed", "fixed"),
    )
    ions: str = option("relaxed", "whether the ions relax", choices=("relaxed", "clamped"))
    supercell: tuple[int, int, int] | None = option(
        None, "repeats of the cell, so that it may fail in longer waves", minimum=1, metavar="A,B,C"
    )
    rattle: float = option(
        0.0, "random displacement of the ions at each step, which breaks their symmetry", unit="Å", minimum=0
    )
    start: str = option(
        "relaxed",
        "relax positions and cell first, or take the structure as it is given",
        choices=("relaxed", "given"),
    )
    fmax: float = option(0.001, "largest force at which a relaxation is converged", unit="eV/Å", above=0)
    smax: float = option(0.01, "largest transverse stress at which one is", unit="GPa", above=0)
    steps: int = option(300, "most steps of each relaxation", minimum=0)
    dtype: str = option("float64", "precision of the model", choices=("float32", "float64"))
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class StrainResult(Result):
    """What ``strain`` returns; stresses are positive under tension, or along the shear.

    Attributes:
        formula: Of the cell that was strained.
        mode: ``tension``, ``shear`` or ``tensor``.
        ideal_strength: Largest true (Cauchy) stress on the way, GPa.
        strain_at_strength: Strain there; of a shear the change of the angle's tangent.
        strength_reached: Whether the stress fell behind that maximum, so that it is the strength and not
            a lower bound.
        failed: Whether the crystal failed within the range.
        failure_strain: First strain at which it had; None if it did not.
        failure: How, in one sentence.
        nominal_strength: Largest force per area of the crystal before any strain, GPa.
        initial_slope: Stress per strain at the start, GPa.
        youngs_modulus: The same where the mode is tension and the transverse stress is relaxed.
        poisson_ratios: Contraction along y and z per strain along x, at the start, of such a tension.
        transverse_stress: Largest stress on the way that should have been relaxed, GPa.
        work_mismatch_percent: How far the work, the integral of the nominal stress, is off the energy at
            the strength.
        axes: ``(3, 3)``: the axes x, y, z of the strained structures in those of the crystal given.
        n_steps: Steps of strain, the failed one included.
        strains: ``(n,)``.
        stresses: ``(n,)`` GPa.
        atoms: The crystal before any strain, in the axes of the strained structures.
    """

    formula: str = ""
    mode: str = ""
    ideal_strength: float = quantity("GPa", default=0.0)
    strain_at_strength: float = 0.0
    strength_reached: bool = False
    failed: bool = False
    failure_strain: float | None = None
    failure: str = ""
    nominal_strength: float = quantity("GPa", default=0.0)
    initial_slope: float = quantity("GPa", default=0.0)
    youngs_modulus: float | None = quantity("GPa", default=None)
    poisson_ratios: list[float] | None = None
    transverse_stress: float = quantity("GPa", default=0.0)
    work_mismatch_percent: float = 0.0
    n_steps: int = 0
    axes: list[list[float]] = field(default_factory=list)
    strains: list[float] = field(default_factory=list, metadata={"summary": False}, repr=False)
    stresses: list[float] = field(default_factory=list, metadata={"summary": False}, repr=False)
    atoms: Atoms | None = field(default=None, metadata={"summary": False})


def strain(
    structure: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: StrainOptions | None = None,
    **overrides: Any,
) -> StrainResult:
    """Strain a crystal step by step until it fails: stress against strain, ideal strength, initial slope.

    Args:
        structure: ``ase.Atoms``, a pymatgen structure, or a file with one frame.
        model: Registered name, file, ``Potential`` or ASE calculator that gives a stress.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Of ``rattle``; 0 if None.
        options: All options at once.
        **overrides: Fields of :class:`StrainOptions`, over those of ``options``.

    Raises:
        InputError: A structure, model or option that is wrong, such as a direction out of the plane.
        RunFailedError: The model gave a number that is not finite before any strain.
    """
    from atomml.workflows.crystals.crystal import run_on_crystal
    from atomml.workflows.crystals.strain_measurement import measurement
    from atomml.workflows.run_record import RunRequest

    return run_on_crystal(
        "strain",
        measurement(seed or 0),
        structure,
        model,
        options or StrainOptions,
        overrides,
        RunRequest(out, resume, overwrite, device, seed),
    )


def evaluations(options: StrainOptions, atoms: Atoms) -> int:
    """About how many times the model is asked for the cell's atoms, for ``--dry-run``."""
    repeats = options.supercell or (1, 1, 1)
    at_each = 12 if options.ions == "relaxed" or options.transverse == "relaxed" else 1
    steps = round(abs(options.max_strain) / options.step) + 2
    return repeats[0] * repeats[1] * repeats[2] * at_each * steps + (20 if options.start == "relaxed" else 0)
