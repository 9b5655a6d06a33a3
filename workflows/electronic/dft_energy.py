"""Energies, forces and geometries by density functionals of the suite or of libxc: ``atomml dft``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import build_options
from atomml.electronic.scf_settings import ScfSettings, scf_settings
from atomml.errors import RunFailedError
from atomml.files import write_table
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.electronic.mean_field import MeanFieldLevel

__all__ = [
    "DFTEnergyOptions",
    "DFTEnergyResult",
    "DFTOptimizeOptions",
    "dft_energy",
    "dft_optimize",
    "level_of",
]


@dataclass(frozen=True)
class DFTEnergyOptions(ScfSettings):
    """Options of ``dft energy``."""

    functional: str = option("pbe", "a name of dft functionals, a file, or libxc:NAME")
    basis: str = option("def2-svp", "basis set, as PySCF names it")
    charge: int | None = option(None, "total charge; else as the file says", unit="e")
    spin: int | None = option(None, "unpaired electrons; else as the file says", minimum=0)
    forces: bool = option(True, "analytic forces, with the response of the grid")
    dispersion: str = option("", "D3 or D4 on top, such as d3bj:pbe or d4:b3lyp", metavar="D")


@dataclass(frozen=True)
class DFTOptimizeOptions(DFTEnergyOptions):
    """Options of ``dft optimize``."""

    fmax: float = option(0.01, "largest force on an atom at the end", unit="eV/Å", above=0)
    steps: int = option(200, "most steps", minimum=1)


@dataclass(kw_only=True)
class DFTEnergyResult(Result):
    """What a calculation gave.

    Attributes:
        level: Functional and basis.
        method: The exact method with versions.
        energy: Total energy.
        energy_Eh: The same in Hartree.
        max_force: Largest force on an atom.
        homo, lumo, gap: Levels; of a shell with open spins the highest and lowest of both.
        dipole: Debye.
        steps: Of an optimisation.
        atoms: The molecule at the end.
        forces: ``(n, 3)`` eV/Å.
    """

    level: str = ""
    method: str = ""
    energy: float = quantity("eV", default=0.0)
    energy_Eh: float = quantity("Eh", default=0.0)  # noqa: N815
    max_force: float | None = quantity("eV/Å", default=None)
    homo: float = quantity("eV", default=0.0)
    lumo: float = quantity("eV", default=0.0)
    gap: float = quantity("eV", default=0.0)
    dipole: float = quantity("D", default=0.0)
    steps: int = 0
    atoms: Atoms | None = field(default=None, metadata={"summary": False})
    forces: Any = field(default=None, metadata={"summary": False}, repr=False)


def level_of(options: DFTEnergyOptions) -> MeanFieldLevel:
    """The level of theory that the options describe.

    Raises:
        OptionError: No such functional or basis.
    """
    from atomml.electronic.mean_field import MeanFieldLevel
    from atomml.potentials.xc.files import load_functional

    kind, _, name = options.functional.partition(":")
    functional = name.lower() if kind == "libxc" and name else load_functional(options.functional)
    settings, basis = scf_settings(options), options.basis.lower()
    return MeanFieldLevel(functional, basis, settings, dispersion=options.dispersion)


def dft_energy(
    structure: Any, *, out: str | Path | None = None, overwrite: bool = False, **options: Any
) -> DFTEnergyResult:
    """Energy, forces, levels and dipole of a molecule.

    Args:
        structure: ``ase.Atoms``, a file with one frame, or SMILES.
        out: The run folder; None leaves nothing behind.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`DFTEnergyOptions`.

    Raises:
        InputError: A molecule, functional, charge or spin that cannot be.
        LabelError: The SCF did not converge; says what was tried.
    """
    settings = build_options(DFTEnergyOptions, options)
    return _run("dft energy", structure, settings, out, overwrite)


def dft_optimize(
    structure: Any, *, out: str | Path | None = None, overwrite: bool = False, **options: Any
) -> DFTEnergyResult:
    """Relax a molecule; BFGS on analytic forces, each SCF from the last densities.

    Args:
        structure: As :func:`dft_energy`.
        out: The run folder; None leaves nothing behind.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`DFTOptimizeOptions`.

    Raises:
        InputError, LabelError: As :func:`dft_energy`.
    """
    settings = build_options(DFTOptimizeOptions, options)
    return _run("dft optimize", structure, settings, out, overwrite)


def _run(
    command: str, structure: Any, options: DFTEnergyOptions, out: str | Path | None, overwrite: bool
) -> DFTEnergyResult:
    from atomml.electronic.mean_field import quiet
    from atomml.workflows.inputs import given_structure, with_charge

    started = time.perf_counter()
    given = with_charge(given_structure(structure), options.charge, options.spin)
    level = level_of(options)
    level.check(given.atoms, given.label)
    with open_with_options(out, command, options, overwrite=overwrite, structures=[given.label]) as run:
        result = DFTEnergyResult(level=level.name, method=level.method)
        atoms, field_ = given.atoms.copy(), None
        if isinstance(options, DFTOptimizeOptions):
            field_, log = _optimised(atoms, level, options)
            result.steps, result.converged = len(log) - 1, log[-1]["max_force_eV_per_A"] <= options.fmax
            write_table(run.file("log.csv"), log, list(log[0]))
            if not result.converged:
                run.warn(f"Not converged after {result.steps} steps: the largest force is above --fmax.")
        with quiet():
            if field_ is None:
                field_, result.method = level.converge(level.mean_field(atoms))
            _properties(result, atoms, field_, options.forces)
        if run.kept:
            from ase.io import write

            write(run.file("structure.extxyz"), atoms, format="extxyz")
        seconds = time.perf_counter() - started
        finish_run(run, result, model=None, inputs=[given.record()], seconds=seconds)
    return result


def _optimised(
    atoms: Atoms, level: MeanFieldLevel, options: DFTOptimizeOptions
) -> tuple[Any, list[dict[str, Any]]]:
    """The last converged mean field, and a row for each step; the atoms are moved."""
    import numpy as np
    from ase.optimize import BFGS

    from atomml.electronic.dft_calculator import AtomMLDFT

    calculator = atoms.calc = AtomMLDFT(level)
    log: list[dict[str, Any]] = []

    def note() -> None:
        """A row of the log."""
        largest = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        row = {"step": len(log), "energy_eV": float(atoms.get_potential_energy())}
        log.append(row | {"max_force_eV_per_A": largest})

    optimiser = BFGS(atoms, logfile=None)
    optimiser.attach(note)
    try:
        optimiser.run(fmax=options.fmax, steps=options.steps)
    except np.linalg.LinAlgError as error:
        raise RunFailedError(
            f"The optimisation broke down ({error}): begin from another geometry."
        ) from error
    atoms.calc = None
    return calculator.field, log


def _properties(result: DFTEnergyResult, atoms: Atoms, field_: Any, forces: bool) -> None:
    """Energy, forces, levels and dipole of a converged mean field."""
    import numpy as np
    from ase.units import Hartree

    from atomml.electronic.mean_field import dipole_of, forces_of

    result.energy_Eh, result.energy = float(field_.e_tot), float(field_.e_tot) * Hartree
    occupied, levels = np.asarray(field_.mo_occ) > 0, np.asarray(field_.mo_energy)
    result.homo = float(levels[occupied].max()) * Hartree
    result.lumo = float(levels[~occupied].min()) * Hartree if (~occupied).any() else float("inf")
    result.gap = result.lumo - result.homo
    result.dipole = float(np.linalg.norm(dipole_of(field_)))
    if forces:
        result.forces = forces_of(field_)
        result.max_force = float(np.linalg.norm(result.forces, axis=1).max())
        atoms.arrays["forces"] = result.forces
    atoms.info["energy"] = result.energy
    result.atoms = atoms
