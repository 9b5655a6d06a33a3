"""Elastic constants: the options, the result, and the function; the work is in ``elastic_tensor``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["ElasticOptions", "ElasticResult", "elastic", "evaluations"]

_N_PATTERNS = 6


@dataclass(frozen=True)
class ElasticOptions:
    """Options of ``elastic``."""

    strain: float = option(
        0.005, "largest strain (of a shear: the change of the angle)", above=0, maximum=0.1, metavar="X"
    )
    points: int = option(4, "strains of each pattern, half of them negative", minimum=2, maximum=100)
    ions: str = option(
        "relaxed", "whether the ions relax in the strained cell", choices=("relaxed", "clamped")
    )
    symmetry: bool = option(True, "strain only what symmetry does not give; else all six patterns")
    symprec: float = option(0.01, "how far atoms may be off their symmetric sites", unit="Å", above=0)
    start: str = option(
        "relaxed",
        "relax positions and cell first, or take the structure as it is given",
        choices=("relaxed", "given"),
    )
    fmax: float = option(0.0005, "largest force at which a relaxation is converged", unit="eV/Å", above=0)
    smax: float = option(0.005, "largest stress at which one is", unit="GPa", above=0)
    steps: int = option(500, "most steps of each relaxation", minimum=0)
    dtype: str = option("float64", "precision of the model", choices=("float32", "float64"))
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class ElasticResult(Result):
    """What ``elastic`` returns; averages of a polycrystal are those of Voigt, Reuss and Hill.

    Attributes:
        formula: Of the cell.
        space_group: Its symbol.
        elastic_tensor: ``(6, 6)`` GPa, Voigt order xx yy zz yz xz xy, in the frame of the cell given.
        ieee_elastic_tensor: ``(6, 6)`` GPa, in the frame of the IEEE standard of 1987.
        clamped_elastic_tensor: ``(6, 6)`` GPa, with the ions carried by the strain; None if nothing else
            was asked for.
        stable: Whether every small strain costs energy (Born's criteria).
        smallest_eigenvalue: Of the tensor, GPa; what :attr:`stable` is judged by.
        bulk_modulus: Hill's average, GPa.
        shear_modulus: Hill's average, GPa.
        youngs_modulus: From Hill's averages, GPa.
        poisson_ratio: From Hill's averages.
        bulk_modulus_voigt: Upper bound, GPa.
        bulk_modulus_reuss: Lower bound, GPa.
        shear_modulus_voigt: Upper bound, GPa.
        shear_modulus_reuss: Lower bound, GPa.
        youngs_modulus_min: Over all directions of the single crystal, GPa.
        youngs_modulus_max: Likewise.
        universal_anisotropy: 0 for an isotropic crystal.
        density: g/cm³.
        transverse_sound_speed: m/s, of the polycrystal.
        longitudinal_sound_speed: m/s.
        mean_sound_speed: m/s, the mean that Debye's model takes.
        debye_temperature: K, from the mean sound speed.
        n_strains: Strained cells that the model was asked for.
        n_independent: Independent constants that the symmetry leaves.
        fit_rms: How far the stresses are off the fit, GPa.
        residual_stress: Largest component before any strain, GPa.
        atoms: The crystal that was strained.
    """

    formula: str = ""
    space_group: str = ""
    bulk_modulus: float = quantity("GPa", default=0.0)
    shear_modulus: float = quantity("GPa", default=0.0)
    youngs_modulus: float | None = quantity("GPa", default=None)
    poisson_ratio: float | None = None
    universal_anisotropy: float | None = None
    debye_temperature: float | None = quantity("K", default=None)
    stable: bool = True
    smallest_eigenvalue: float = quantity("GPa", default=0.0)
    bulk_modulus_voigt: float = quantity("GPa", default=0.0)
    bulk_modulus_reuss: float = quantity("GPa", default=0.0)
    shear_modulus_voigt: float = quantity("GPa", default=0.0)
    shear_modulus_reuss: float = quantity("GPa", default=0.0)
    youngs_modulus_min: float | None = quantity("GPa", default=None)
    youngs_modulus_max: float | None = quantity("GPa", default=None)
    density: float = quantity("g/cm^3", default=0.0)
    transverse_sound_speed: float | None = quantity("m/s", default=None)
    longitudinal_sound_speed: float | None = quantity("m/s", default=None)
    mean_sound_speed: float | None = quantity("m/s", default=None)
    n_strains: int = 0
    n_independent: int = 0
    fit_rms: float = quantity("GPa", default=0.0)
    residual_stress: float = quantity("GPa", default=0.0)
    elastic_tensor: list[list[float]] = field(default_factory=list, metadata={"unit": "GPa"})
    ieee_elastic_tensor: list[list[float]] = field(default_factory=list, metadata={"unit": "GPa"})
    clamped_elastic_tensor: list[list[float]] | None = field(default=None, metadata={"unit": "GPa"})
    atoms: Atoms | None = field(default=None, metadata={"summary": False})


def elastic(
    structure: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: ElasticOptions | None = None,
    **overrides: Any,
) -> ElasticResult:
    """Elastic tensor from stresses of strained cells, and what follows from it.

    Args:
        structure: ``ase.Atoms``, a pymatgen structure, or a file with one frame.
        model: Registered name, file, ``Potential`` or ASE calculator that gives a stress.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        options: All options at once.
        **overrides: Fields of :class:`ElasticOptions`, over those of ``options``.

    Raises:
        InputError: A structure, model or option that is wrong.
        RunFailedError: The model gave a number that is not finite.
    """
    from atomml.workflows.crystals.crystal import run_on_crystal
    from atomml.workflows.crystals.elastic_measurement import measure
    from atomml.workflows.run_record import RunRequest

    return run_on_crystal(
        "elastic",
        measure,
        structure,
        model,
        options or ElasticOptions,
        overrides,
        RunRequest(out, resume, overwrite, device, seed),
    )


def evaluations(options: ElasticOptions, atoms: Atoms) -> int:
    """At most how many times the model is asked, for ``--dry-run``."""
    at_each = 8 if options.ions == "relaxed" else 1
    return _N_PATTERNS * options.points * at_each + (20 if options.start == "relaxed" else 0)
