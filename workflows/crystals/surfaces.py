"""Surface energies: the options, the result, and the function; the work is in ``surface_measurement``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["SurfaceOptions", "SurfaceResult", "evaluations", "surface"]


@dataclass(frozen=True)
class SurfaceOptions:
    """Options of ``surface``."""

    max_index: int = option(1, "largest Miller index; all planes up to it are cut", minimum=1, maximum=4)
    miller: tuple[int, int, int] | None = option(
        None, "one plane of the conventional cell, instead of all", metavar="H,K,L"
    )
    thickness: tuple[float, ...] = option(
        (10.0, 15.0, 20.0), "least thicknesses of the slabs, growing", unit="Å", above=0, metavar="A,B,..."
    )
    vacuum: float = option(15.0, "between a slab and its images", unit="Å", minimum=1, maximum=200)
    symmetrize: bool = option(
        False, "take atoms off one side until both are alike; the slab may then lack atoms of a formula unit"
    )
    relax: str = option("ions", "whether the ions of a slab relax", choices=("ions", "none"))
    fix_middle: bool = option(False, "hold the middle third of each slab")
    tolerance: float = option(
        0.02, "change between the last two thicknesses at which one is converged", unit="J/m²", above=0
    )
    max_atoms: int = option(400, "most atoms of a slab; a thicker one is left out", minimum=1)
    symprec: float = option(0.01, "how far atoms may be off their symmetric sites", unit="Å", above=0)
    start: str = option(
        "relaxed",
        "relax positions and cell of the bulk first, or take the structure as it is given",
        choices=("relaxed", "given"),
    )
    fmax: float = option(0.01, "largest force at which a relaxation is converged", unit="eV/Å", above=0)
    smax: float = option(0.01, "largest stress at which that of the bulk is", unit="GPa", above=0)
    steps: int = option(500, "most steps of each relaxation", minimum=0)
    dtype: str = option("float64", "precision of the model", choices=("float32", "float64"))
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class SurfaceResult(Result):
    """What ``surface`` returns.

    Attributes:
        formula: Of the bulk's conventional cell, which the Miller indices are of.
        lowest_surface: Name of the surface of least energy, such as ``(111) 1``.
        lowest_surface_energy: Its energy, J/m².
        mean_surface_energy: Over the Wulff shape, J/m²; None where not every plane has an energy.
        wulff_anisotropy: Spread of the energies over the Wulff shape; 0 for a sphere.
        n_surfaces: Terminations found.
        n_without_energy: Those that lack atoms of a formula unit, whose energy depends on a chemical
            potential, or whose slabs have too many atoms.
        surfaces: A row for each termination, the lowest energy first: ``surface`` its name, ``miller``,
            ``termination`` the elements in its outermost layers, ``symmetric`` whether both sides are alike
            (otherwise the energy is the mean of two sides), ``polar``, ``stoichiometric``, ``thickness_A``,
            ``n_atoms``, ``unrelaxed_energy_J_per_m2``, ``surface_energy_J_per_m2``,
            ``change_with_thickness_J_per_m2``, ``bulk_mismatch_meV_per_atom`` (the slope of the slabs'
            energy per atom less the bulk's), ``wulff_area_percent`` and a ``note``.
        bulk_energy_per_atom: eV.
        slabs: The thickest slab of each termination.
        atoms: The bulk's conventional cell.
    """

    formula: str = ""
    lowest_surface: str = ""
    lowest_surface_energy: float | None = quantity("J/m^2", default=None)
    mean_surface_energy: float | None = quantity("J/m^2", default=None)
    wulff_anisotropy: float | None = None
    n_surfaces: int = 0
    n_without_energy: int = 0
    bulk_energy_per_atom: float = quantity("eV/atom", default=0.0)
    surfaces: list[dict[str, Any]] = field(default_factory=list)
    slabs: list[Any] = field(default_factory=list, metadata={"summary": False}, repr=False)
    atoms: Atoms | None = field(default=None, metadata={"summary": False})


def surface(
    structure: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: SurfaceOptions | None = None,
    **overrides: Any,
) -> SurfaceResult:
    """Surface energies of all terminations up to a Miller index: ``(E_slab - n E_bulk) / 2A``.

    The slabs are pymatgen's: R. Tran et al., Sci. Data 3, 160080 (2016). The bulk's energy is that of a cell
    of the same orientation, so that the result converges with the thickness.

    Args:
        structure: ``ase.Atoms``, a pymatgen structure, or a file with one frame: the bulk.
        model: Registered name, file, ``Potential`` or ASE calculator.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted, with the next slab.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        options: All options at once.
        **overrides: Fields of :class:`SurfaceOptions`, over those of ``options``.

    Raises:
        InputError: A structure, model or option that is wrong, or slabs that are all too large.
        RunFailedError: The model gave a number that is not finite.
    """
    from atomml.workflows.crystals.crystal import run_on_crystal
    from atomml.workflows.crystals.surface_measurement import measure
    from atomml.workflows.run_record import RunRequest

    return run_on_crystal(
        "surface",
        measure,
        structure,
        model,
        options or SurfaceOptions,
        overrides,
        RunRequest(out, resume, overwrite, device, seed),
    )


def evaluations(options: SurfaceOptions, atoms: Atoms) -> int:
    """Roughly how many times the model is asked for the cell's atoms, for ``--dry-run``."""
    planes = 1 if options.miller else {1: 3, 2: 9, 3: 20, 4: 36}[options.max_index]
    height = max(1.0, float(atoms.cell.volume) ** (1 / 3))
    cells = sum(max(1.0, thickness / height) for thickness in options.thickness)
    return round(planes * cells * (15 if options.relax == "ions" else 1))
