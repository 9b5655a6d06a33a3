"""Thermal expansion in the quasi-harmonic approximation: the options, the result, and the function."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["QhaOptions", "QhaResult", "evaluations", "qha"]


@dataclass(frozen=True)
class QhaOptions:
    """Options of ``qha``."""

    volume_range: tuple[float, float] = option(
        (-0.04, 0.08), "smallest and largest volume, as parts of the relaxed one from it", metavar="LOW,HIGH"
    )
    points: int = option(9, "volumes, evenly spaced", minimum=5, maximum=100)
    relax: str = option(
        "shape",
        "what is relaxed at each volume: the ions and the cell's shape, or the ions alone",
        choices=("shape", "ions"),
    )
    pressure: float = option(0.0, "external pressure", unit="GPa")
    equation: str = option(
        "vinet", "equation of state of the free energy", choices=("vinet", "birch_murnaghan")
    )
    temperature: float = option(300.0, "at which expansion and the like are named", unit="K", above=0)
    max_temperature: float = option(1000.0, "end of the table over temperature", unit="K", above=0)
    temperature_step: float = option(10.0, "step of that table", unit="K", above=0)
    min_length: float = option(
        20.0, "least distance between opposite faces of the supercell", unit="Å", above=0, maximum=200
    )
    supercell: tuple[int, int, int] | None = option(
        None, "repeats of the cell, instead of --min-length", minimum=1, metavar="A,B,C"
    )
    max_atoms: int = option(2000, "most atoms of the supercell; a larger one is refused", minimum=1)
    displacement: float = option(0.01, "how far an atom is moved", unit="Å", above=0, maximum=0.5)
    mesh: float = option(60.0, "length that sets the mesh of wave vectors", unit="Å", above=0, maximum=1000)
    imaginary: float = option(
        0.1, "imaginary frequency below which a mode counts as numerical noise", unit="THz", minimum=0
    )
    sum_rule: bool = option(True, "make the force constants obey the sum rule of translations")
    symprec: float = option(0.001, "how far atoms may be off their symmetric sites", unit="Å", above=0)
    start: str = option(
        "relaxed",
        "relax positions and cell first, or take the structure as it is given",
        choices=("relaxed", "given"),
    )
    fmax: float = option(0.0001, "largest force at which a relaxation is converged", unit="eV/Å", above=0)
    smax: float = option(
        0.01, "largest stress (of a shape: less its mean) at which one is", unit="GPa", above=0
    )
    steps: int = option(500, "most steps of each relaxation", minimum=0)
    dtype: str = option("float64", "precision of the model", choices=("float32", "float64"))
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class QhaResult(Result):
    """What ``qha`` returns; moles are moles of atoms, and expansion is that of the volume.

    Attributes:
        formula: Of the cell.
        temperature: K, at which the next ones hold.
        volume: Of the cell in equilibrium, Å³; None, like the next ones, where it lies beyond the volumes.
        volume_per_atom: Å³/atom.
        thermal_expansion: ``(1/V) dV/dT`` at the pressure, 1/K; a third of it is the linear one of a cubic
            crystal.
        heat_capacity_p: At constant pressure, J/K/mol.
        heat_capacity_v: At constant volume, J/K/mol.
        bulk_modulus: Isothermal, GPa.
        gruneisen: Thermodynamic Grüneisen parameter ``α B V / C_V``.
        static_volume: Volume of least energy without vibrations, Å³.
        zero_point_volume: In equilibrium at 0 K, zero-point motion included, Å³.
        valid_to: Largest temperature at which the minimum of the free energy lies among the volumes, K.
        fit_rms: How far the free energies are off the fitted curves, at the worst temperature, meV/atom.
        dropped_volumes: Volumes left out because of imaginary modes, Å³.
        volumes: A row for each: ``volume_A3``, ``energy_eV``, ``lowest_frequency_THz``, ``used``.
        supercell: Repeats of the cell.
        table: Columns of ``thermal.csv`` by name.
        atoms: The crystal that the volumes were made from.
    """

    formula: str = ""
    temperature: float = quantity("K", default=300.0)
    volume: float | None = quantity("Å^3", default=None)
    volume_per_atom: float | None = quantity("Å^3/atom", default=None)
    thermal_expansion: float | None = quantity("1/K", default=None)
    heat_capacity_p: float | None = quantity("J/K/mol", default=None)
    heat_capacity_v: float | None = quantity("J/K/mol", default=None)
    bulk_modulus: float | None = quantity("GPa", default=None)
    gruneisen: float | None = None
    static_volume: float = quantity("Å^3", default=0.0)
    zero_point_volume: float = quantity("Å^3", default=0.0)
    valid_to: float = quantity("K", default=0.0)
    fit_rms: float = quantity("meV/atom", default=0.0)
    dropped_volumes: list[float] = field(default_factory=list, metadata={"unit": "Å^3"})
    volumes: list[dict[str, Any]] = field(default_factory=list)
    supercell: list[int] = field(default_factory=list)
    table: dict[str, list[float]] = field(default_factory=dict, metadata={"summary": False}, repr=False)
    atoms: Atoms | None = field(default=None, metadata={"summary": False})


def qha(
    structure: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: QhaOptions | None = None,
    **overrides: Any,
) -> QhaResult:
    """Thermal expansion, heat capacity at constant pressure, Grüneisen parameter and bulk modulus over T.

    The quasi-harmonic approximation of phonopy: A. Togo et al., Phys. Rev. B 81, 174301 (2010). Each
    volume is relaxed before its phonons are taken.

    Args:
        structure: ``ase.Atoms``, a pymatgen structure, or a file with one frame.
        model: Registered name, file, ``Potential`` or ASE calculator.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        options: All options at once.
        **overrides: Fields of :class:`QhaOptions`, over those of ``options``.

    Raises:
        InputError: A structure, model or option that is wrong, or a supercell that is too large.
        StructureError: The free energy has no minimum among the volumes at 0 K, or fewer than five of
            them are without imaginary modes.
        MissingExtraError: phonopy is not installed.
        RunFailedError: The model gave a number that is not finite.
    """
    from atomml.workflows.crystals.crystal import run_on_crystal
    from atomml.workflows.crystals.expansion_measurement import measure
    from atomml.workflows.crystals.phonon_measurement import need_phonopy
    from atomml.workflows.run_record import RunRequest

    need_phonopy()
    return run_on_crystal(
        "qha",
        measure,
        structure,
        model,
        options or QhaOptions,
        overrides,
        RunRequest(out, resume, overwrite, device, seed),
    )


def evaluations(options: QhaOptions, atoms: Atoms) -> int:
    """About how many times the model is asked for the cell's atoms, for ``--dry-run``; a supercell is many.

    Raises:
        InputError: As :func:`qha`.
    """
    from atomml.workflows.crystals.phonon_measurement import count_cells, need_phonopy

    need_phonopy()
    return options.points * (count_cells(atoms, options) + 10) + (20 if options.start == "relaxed" else 0)
