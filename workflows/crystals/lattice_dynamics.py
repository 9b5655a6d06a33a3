"""Phonons: the options, the result, and the function; the work is in ``phonon_measurement``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["PhononOptions", "PhononResult", "evaluations", "phonons"]


@dataclass(frozen=True)
class PhononOptions:
    """Options of ``phonons``."""

    min_length: float = option(
        20.0, "least distance between opposite faces of the supercell", unit="Å", above=0, maximum=200
    )
    supercell: tuple[int, int, int] | None = option(
        None, "repeats of the cell, instead of --min-length", minimum=1, metavar="A,B,C"
    )
    max_atoms: int = option(2000, "most atoms of the supercell; a larger one is refused", minimum=1)
    displacement: float = option(0.01, "how far an atom is moved", unit="Å", above=0, maximum=0.5)
    mesh: float = option(60.0, "length that sets the mesh of wave vectors", unit="Å", above=0, maximum=1000)
    path_points: int = option(51, "points between two corners of the band path", minimum=2, maximum=1000)
    temperature: float = option(300.0, "at which heat capacity and the like are named", unit="K", above=0)
    max_temperature: float = option(1000.0, "end of the table over temperature", unit="K", above=0)
    temperature_step: float = option(10.0, "step of that table", unit="K", above=0)
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
    fmax: float = option(0.0001, "largest force at which that relaxation is converged", unit="eV/Å", above=0)
    smax: float = option(0.01, "largest stress at which it is", unit="GPa", above=0)
    steps: int = option(500, "most steps of it", minimum=0)
    dtype: str = option("float64", "precision of the model", choices=("float32", "float64"))
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class PhononResult(Result):
    """What ``phonons`` returns; moles are moles of atoms.

    Attributes:
        formula: Of the cell given.
        stable: Whether no mode is imaginary beyond the noise.
        lowest_frequency: Of all modes on the mesh and the path, THz; imaginary ones are negative.
        highest_frequency: Likewise.
        imaginary_modes: A line for each wave vector that has some: ``point``, ``q`` (in the primitive
            reciprocal cell), ``frequency_THz`` of the softest, ``n_modes`` and the elements that ``move``.
        temperature: K, at which the next three hold.
        heat_capacity: At constant volume, J/K/mol.
        entropy: J/K/mol.
        free_energy: Of the vibrations, the zero-point energy included, meV/atom.
        zero_point_energy: meV/atom.
        supercell: Repeats of the cell.
        n_supercell_atoms: Atoms in it.
        n_displacements: Displaced supercells that the model was asked for.
        band_path: Corners of the path, such as ``GXWKGLUWLK,UX``.
        temperatures: ``(n,)`` K.
        heat_capacities: ``(n,)`` J/K/mol.
        frequencies: ``(n_points, n_bands)`` THz along the path.
        atoms: The crystal whose atoms were moved.
        phonopy: phonopy's object with the force constants, for whatever else it can do.
    """

    formula: str = ""
    stable: bool = True
    lowest_frequency: float = quantity("THz", default=0.0)
    highest_frequency: float = quantity("THz", default=0.0)
    temperature: float = quantity("K", default=300.0)
    heat_capacity: float = quantity("J/K/mol", default=0.0)
    entropy: float = quantity("J/K/mol", default=0.0)
    free_energy: float = quantity("meV/atom", default=0.0)
    zero_point_energy: float = quantity("meV/atom", default=0.0)
    supercell: list[int] = field(default_factory=list)
    n_supercell_atoms: int = 0
    n_displacements: int = 0
    band_path: str = ""
    imaginary_modes: list[dict[str, Any]] = field(default_factory=list)
    temperatures: list[float] = field(default_factory=list, metadata={"summary": False}, repr=False)
    heat_capacities: list[float] = field(default_factory=list, metadata={"summary": False}, repr=False)
    frequencies: NDArray[Any] | None = field(default=None, metadata={"summary": False}, repr=False)
    atoms: Atoms | None = field(default=None, metadata={"summary": False})
    phonopy: Any = field(default=None, metadata={"summary": False}, repr=False)


def phonons(
    structure: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: PhononOptions | None = None,
    **overrides: Any,
) -> PhononResult:
    """Phonons by finite displacements: bands, density of states, heat capacity, free energy.

    Args:
        structure: ``ase.Atoms``, a pymatgen structure, or a file with one frame.
        model: Registered name, file, ``Potential`` or ASE calculator.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        options: All options at once.
        **overrides: Fields of :class:`PhononOptions`, over those of ``options``.

    Raises:
        InputError: A structure, model or option that is wrong, or a supercell that is too large.
        MissingExtraError: phonopy is not installed.
        RunFailedError: The model gave a number that is not finite.
    """
    from atomml.workflows.crystals.crystal import run_on_crystal
    from atomml.workflows.crystals.phonon_measurement import measure, need_phonopy
    from atomml.workflows.run_record import RunRequest

    need_phonopy()
    return run_on_crystal(
        "phonons",
        measure,
        structure,
        model,
        options or PhononOptions,
        overrides,
        RunRequest(out, resume, overwrite, device, seed),
    )


def evaluations(options: PhononOptions, atoms: Atoms) -> int:
    """About how many times the model is asked for the cell's atoms, for ``--dry-run``; a supercell is many.

    Raises:
        InputError: As :func:`phonons`.
    """
    from atomml.workflows.crystals.phonon_measurement import count_cells, need_phonopy

    need_phonopy()
    return count_cells(atoms, options) + (20 if options.start == "relaxed" else 0)
