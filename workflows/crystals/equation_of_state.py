"""Energy against volume: the curve, two equations of state fitted to it, and how far they can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["EosOptions", "EosResult", "eos", "evaluations"]


@dataclass(frozen=True)
class EosOptions:
    """Options of ``eos``."""

    volume_range: float = option(
        0.1, "farthest volume, as a part of the start's", minimum=0.005, maximum=0.5, metavar="X"
    )
    points: int = option(11, "volumes, evenly spaced", minimum=5, maximum=1000)
    start: str = option(
        "relaxed",
        "relax positions and cell first, or take the structure as it is given",
        choices=("relaxed", "given"),
    )
    relax: str = option(
        "ions",
        "what is relaxed at each volume: nothing, the ions, or the ions and the cell's shape",
        choices=("none", "ions", "shape"),
    )
    fmax: float = option(0.005, "largest force at which a relaxation is converged", unit="eV/Å", above=0)
    smax: float = option(0.01, "largest stress at which one is", unit="GPa", above=0)
    steps: int = option(500, "most steps of each relaxation", minimum=0)
    dtype: str = option("float64", "precision of the model", choices=("float32", "float64"))
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class EosResult(Result):
    """What ``eos`` returns; the numbers without a name in front are of the Birch-Murnaghan fit.

    Attributes:
        formula: Of the cell.
        volume: Equilibrium volume V0, Å³.
        volume_per_atom: Å³/atom.
        energy: At V0, eV.
        energy_per_atom: eV/atom.
        bulk_modulus: B0, GPa.
        bulk_modulus_derivative: B0' = dB/dP at V0.
        rms: Of the fit, meV/atom.
        vinet_volume: V0 of the Vinet fit, Å³.
        vinet_bulk_modulus: GPa.
        vinet_bulk_modulus_derivative: dB/dP.
        vinet_rms: meV/atom.
        fits_differ_percent: Difference of the two bulk moduli, percent of their mean.
        pressure_mismatch: Largest difference between the pressure of the fit and that of the model's
            stress, GPa; None if the model gives no stress.
        n_points: Volumes.
        volumes: ``(n_points,)`` Å³.
        energies: ``(n_points,)`` eV.
        atoms: The crystal that the volumes were made from.
    """

    formula: str = ""
    volume: float = quantity("Å^3", default=0.0)
    volume_per_atom: float = quantity("Å^3/atom", default=0.0)
    energy: float = quantity("eV", default=0.0)
    energy_per_atom: float = quantity("eV/atom", default=0.0)
    bulk_modulus: float = quantity("GPa", default=0.0)
    bulk_modulus_derivative: float = 0.0
    rms: float = quantity("meV/atom", default=0.0)
    vinet_volume: float = quantity("Å^3", default=0.0)
    vinet_bulk_modulus: float = quantity("GPa", default=0.0)
    vinet_bulk_modulus_derivative: float = 0.0
    vinet_rms: float = quantity("meV/atom", default=0.0)
    fits_differ_percent: float = 0.0
    pressure_mismatch: float | None = quantity("GPa", default=None)
    n_points: int = 0
    volumes: list[float] = field(default_factory=list, metadata={"summary": False}, repr=False)
    energies: list[float] = field(default_factory=list, metadata={"summary": False}, repr=False)
    atoms: Atoms | None = field(default=None, metadata={"summary": False})


def eos(
    structure: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: EosOptions | None = None,
    **overrides: Any,
) -> EosResult:
    """Energy against volume, with the equations of state of Birch-Murnaghan and Vinet fitted to it.

    Args:
        structure: ``ase.Atoms``, a pymatgen structure, or a file with one frame.
        model: Registered name, file, ``Potential`` or ASE calculator.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        options: All options at once.
        **overrides: Fields of :class:`EosOptions`, over those of ``options``.

    Raises:
        StructureError: The energy has no minimum within the volumes.
        InputError: A structure, model or option that is wrong.
        RunFailedError: The model gave a number that is not finite, or no curve fits.
    """
    from atomml.workflows.crystals.crystal import run_on_crystal
    from atomml.workflows.crystals.eos_curve import measure
    from atomml.workflows.run_record import RunRequest

    return run_on_crystal(
        "eos",
        measure,
        structure,
        model,
        options or EosOptions,
        overrides,
        RunRequest(out, resume, overwrite, device, seed),
    )


def evaluations(options: EosOptions, atoms: Atoms) -> int:
    """About how many times the model is asked, for ``--dry-run``."""
    at_each = {"none": 1, "ions": 8, "shape": 20}[options.relax]
    return options.points * at_each + (20 if options.start == "relaxed" else 0)
