"""Relaxation of positions, and of the cell under a pressure, with ASE's optimisers and filters."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options
from atomml.errors import OptionError
from atomml.options import option
from atomml.result import Result, quantity
from atomml.run import RunFolder
from atomml.units import GPA
from atomml.workflows.dynamics.charge_states import write_states
from atomml.workflows.inputs import (
    DEFAULT_MODEL,
    GivenModel,
    GivenStructure,
    check_covered,
    given_model,
    given_structure,
    with_charge,
)
from atomml.workflows.relaxing.relaxation_measures import (
    cell_factor,
    driving_stress,
    frame_of,
    relaxed_facts,
    volume_of,
)
from atomml.workflows.relaxing.relaxation_state import LOG_HEAD, RelaxationFiles, log_line, write_relaxed
from atomml.workflows.run_record import RunRequest, finish_run

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    "RelaxOptions",
    "RelaxResult",
    "check_relaxable",
    "make_optimizer",
    "not_converged",
    "relax",
    "warn_of_precision",
]

_OPTIMIZERS = {
    "fire": "FIRE",
    "fire2": "FIRE2",
    "lbfgs": "LBFGS",
    "bfgs": "BFGS",
    "bfgslinesearch": "BFGSLineSearch",
}
_FLOAT32_FMAX = 1e-3  # eV/Å; forces in float32 are off by some 1e-4


@dataclass(frozen=True)
class RelaxOptions:
    """Options of ``relax``."""

    cell: str = option(
        "none",
        "what of the cell may change: everything, its shape, its volume, or nothing",
        choices=("free", "shape", "volume", "none"),
    )
    fmax: float = option(0.01, "largest force on an atom at which it is converged", unit="eV/Å", above=0)
    smax: float = option(0.01, "largest stress (less the pressure) at which a cell is", unit="GPa", above=0)
    pressure: float = option(0.0, "external pressure", unit="GPa")
    steps: int = option(1000, "most steps, those before a resume included", minimum=0)
    optimizer: str = option("lbfgs", "ASE's optimiser", choices=tuple(_OPTIMIZERS))
    maxstep: float = option(0.2, "farthest that an atom moves in one step", unit="Å", above=0, maximum=1)
    fix_symmetry: bool = option(False, "keep the space group (found with a tolerance of 0.01 Å)")
    fix: str | None = option(None, "atoms that stay: 'z<5', 'symbol==O and index<10'", metavar="EXPRESSION")
    save_every: int = option(10, "steps between restart files", minimum=1)
    charge: float | None = option(None, "total charge; else as the file says", unit="e")
    spin: float | None = option(None, "unpaired electrons; else as the file says", minimum=0)
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class RelaxResult(Result):
    """What ``relax`` returns.

    Attributes:
        atoms: The relaxed structure.
        energy: eV.
        energy_per_atom: eV/atom.
        energy_change: Energy less that of the structure given, eV.
        max_force: Largest force on a free atom, eV/Å.
        max_stress: Largest component of stress plus pressure that the cell may follow, GPa; None if fixed.
        pressure: Of the relaxed structure, GPa; None without a volume.
        volume: Å³; None without one.
        volume_change_percent: Percent of the volume given.
        max_displacement: Farthest that an atom has moved, the cell's part taken out, Å.
        n_steps: Steps taken, before a resume too.
        cell_lengths: Å.
        cell_angles: Degrees.
        ions: Atoms by ion, such as ``Mn3+``, as the magnetic moments tell; None where they tell nothing.
    """

    atoms: Atoms = field(metadata={"summary": False})
    formula: str = ""
    energy: float = quantity("eV")
    energy_per_atom: float = quantity("eV/atom")
    energy_change: float = quantity("eV")
    max_force: float = quantity("eV/Å")
    max_stress: float | None = quantity("GPa", default=None)
    pressure: float | None = quantity("GPa", default=None)
    volume: float | None = quantity("Å^3", default=None)
    volume_change_percent: float | None = None
    max_displacement: float = quantity("Å", default=0.0)
    n_steps: int = 0
    cell_lengths: list[float] | None = field(default=None, metadata={"unit": "Å"})
    cell_angles: list[float] | None = field(default=None, metadata={"unit": "°"})
    ions: dict[str, int] | None = None


def relax(
    structure: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    seed: int | None = None,
    options: RelaxOptions | None = None,
    **overrides: Any,
) -> RelaxResult:
    """Relax a structure and, with ``out``, write the way there to a run folder.

    Args:
        structure: ``ase.Atoms`` (constraints are kept), a pymatgen structure, or a file with one frame.
        model: Registered name, file, ``Potential`` or ASE calculator.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted, to the same bits.
        overwrite: Replace a folder of an earlier run.
        dtype: Precision of a model that is loaded here.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        options: All options at once.
        **overrides: Fields of :class:`RelaxOptions`, over those of ``options``.

    Raises:
        InputError: A structure or option that is wrong, such as a pressure with a fixed cell.
        RunFailedError: The model gave a number that is not finite.
    """
    chosen = build_options(RelaxOptions, (as_config(options) if options else {}) | overrides)
    used = given_model(model, dtype=dtype, device=device)
    given = with_charge(given_structure(structure), chosen.charge, chosen.spin)
    check_relaxable(given, chosen)
    if chosen.cell != "none":
        used.need_stress(f"--cell {chosen.cell}")
    source = str(structure) if isinstance(structure, str | Path) else given.label
    warnings: list[str] = []
    check_covered(given, used, warnings.append, chosen.allow_charge_mismatch)
    request = RunRequest(out, resume, overwrite, device, seed)
    facts = {"structure": source, **used.config(), "dtype": dtype}
    with request.open("relax", chosen, may_change=("steps",), warnings=warnings, **facts) as run:
        return _Relaxation(run, given, used, chosen).go()


def check_relaxable(given: GivenStructure, options: RelaxOptions) -> None:
    """Refuse options that contradict each other or the structure.

    Raises:
        OptionError: A pressure without a volume that may change, a cell that is not periodic, a
            selection that is none.
    """
    if options.pressure and options.cell in ("none", "shape"):
        raise OptionError(
            f"A pressure of {options.pressure:g} GPa needs a volume that may change: "
            "add --cell free or --cell volume."
        )
    if options.cell != "none" and not given.atoms.pbc.all():
        raise OptionError(
            f"{given.label} is not periodic in three directions, so its cell cannot relax: use --cell none."
        )
    if options.fix_symmetry and not given.atoms.pbc.all():
        raise OptionError(
            f"{given.label} is not periodic in three directions: --fix-symmetry needs a crystal."
        )
    if options.fix is not None:
        from atomml.selection import select

        if not select(given.atoms, options.fix).any():
            raise OptionError(f"No atom of {given.label} is selected by --fix '{options.fix}'.")


class _Relaxation:
    """One run: the atoms with their constraints, the optimiser, the files."""

    def __init__(
        self, run: RunFolder, given: GivenStructure, model: GivenModel, options: RelaxOptions
    ) -> None:
        self.run, self.given, self.model, self.options = run, given, model, options
        self.atoms = given.atoms.copy()
        self.atoms.calc = model.calculator()
        _constrain(self.atoms, options)
        self.target = _with_cell(self.atoms, options)
        self.optimizer = make_optimizer(self.target, options)
        self.first_energy = 0.0

    def go(self) -> RelaxResult:
        """Step until converged or out of steps, then write what came of it."""
        started = time.perf_counter()
        warn_of_precision(self.run, self.model, self.options)
        files = RelaxationFiles(self.run)
        try:
            step, converged = self._loop(files)
        finally:
            files.close()
        if not converged:
            self.run.warn(not_converged(step, self._max_force()))
        return self._finish(step, converged, time.perf_counter() - started)

    def _loop(self, files: RelaxationFiles) -> tuple[int, bool]:
        """Step until converged; returns the steps taken and whether it is."""
        options = self.options
        if files.step is not None:
            step = files.step
            self.first_energy = float(files.restore(self.atoms, self.optimizer)["first_energy"])
        else:
            step = 0
            self._max_force()
            self.first_energy = float(self.atoms.get_potential_energy())
            files.append("log.csv", LOG_HEAD)
            self._record(files, step)
        while not (converged := self._is_converged()) and step < options.steps:
            self.optimizer.step()
            step += 1
            self._record(files, step)
            if step % options.save_every == 0:
                self._save(files, step)
        self._save(files, step)
        return step, converged

    def _save(self, files: RelaxationFiles, step: int) -> None:
        files.save(step, self.atoms, self.optimizer, {"first_energy": self.first_energy})

    def _record(self, files: RelaxationFiles, step: int) -> None:
        atoms = self.atoms
        force = self._max_force()  # before the energy, which alone would be asked for once more with it
        energy = float(atoms.get_potential_energy())
        pressure, volume = _pressure(atoms), volume_of(atoms)
        files.append("log.csv", log_line(step, energy, force, self._max_stress(), pressure, volume))
        files.append("trajectory.extxyz", _frame(atoms))
        self.run.event("step", step=step, of=self.options.steps, energy_eV=energy, max_force_eV_per_A=force)

    def _is_converged(self) -> bool:
        stress = self._max_stress()
        return self._max_force() <= self.options.fmax and (stress is None or stress <= self.options.smax)

    def _max_force(self) -> float:
        import numpy as np

        return float(np.linalg.norm(self.atoms.get_forces(), axis=1).max())

    def _max_stress(self) -> float | None:
        """Largest component, in GPa, of the stress that drives the cell; None for a fixed cell."""
        if self.options.cell == "none":
            return None
        stress = self.atoms.get_stress(voigt=False)
        return driving_stress(stress, self.options.cell, self.options.pressure)

    def _finish(self, step: int, converged: bool, seconds: float) -> RelaxResult:
        run, result = self.run, self._result(step, converged)
        write_relaxed(run, result.atoms, _frame(self.atoms))
        result.ions = write_states(run, self.atoms)
        finish_run(run, result, model=self.model.record(), inputs=[self.given.record()], seconds=seconds)
        return result

    def _result(self, step: int, converged: bool) -> RelaxResult:
        atoms = self.atoms
        energy = float(atoms.get_potential_energy())
        return RelaxResult(
            **relaxed_facts(self.given.atoms, atoms, energy),
            energy_change=energy - self.first_energy,
            max_force=self._max_force(),
            max_stress=self._max_stress(),
            pressure=_pressure(atoms),
            n_steps=step,
            converged=converged,
            folder=self.run.path if self.run.kept else None,
        )


def warn_of_precision(run: RunFolder, model: GivenModel, options: RelaxOptions) -> None:
    """Say so where the criterion is near the noise of the model's precision."""
    dtype = str(getattr(model.potential, "dtype", ""))
    if dtype.endswith("float32") and options.fmax < _FLOAT32_FMAX:
        run.warn(f"fmax {options.fmax:g} eV/Å is near the noise of float32: use --dtype float64.")


def not_converged(step: int, max_force: float) -> str:
    """The warning of a relaxation that ran out of steps; force in eV/Å."""
    return (
        f"Not converged after {step} steps: the largest force is {max_force:.4g} eV/Å; "
        "add --steps, with --resume."
    )


def _constrain(atoms: Atoms, options: RelaxOptions) -> None:
    """Add the atoms of ``fix`` and the symmetry to the constraints that the structure came with."""
    from ase.constraints import FixAtoms

    from atomml.selection import select

    added: list[Any] = []
    if options.fix is not None:
        added.append(FixAtoms(mask=select(atoms, options.fix)))
    if options.fix_symmetry:
        from ase.constraints import FixSymmetry

        added.append(FixSymmetry(atoms, symprec=0.01))
    atoms.set_constraint([*atoms.constraints, *added])


def _with_cell(atoms: Atoms, options: RelaxOptions) -> Any:
    """What the optimiser moves: the atoms, or the atoms and the logarithm of the cell's deformation."""
    if options.cell == "none":
        return atoms
    from atomml.workflows.relaxing.cell_logarithm import CellFilter

    return CellFilter(
        atoms,
        hydrostatic_strain=options.cell == "volume",
        constant_volume=options.cell == "shape",
        scalar_pressure=options.pressure / GPA,
        exp_cell_factor=cell_factor(len(atoms)),
    )


def make_optimizer(target: Any, options: RelaxOptions) -> Any:
    """ASE's optimiser of the options, for atoms, a filter or other coordinates that ASE can optimise."""
    import ase.optimize

    kind = getattr(ase.optimize, _OPTIMIZERS[options.optimizer])
    return kind(target, logfile=None, maxstep=options.maxstep)


def _pressure(atoms: Atoms) -> float | None:
    """Pressure in GPa, positive under compression; None without a volume."""
    if not _has_stress(atoms):
        return None
    return float(-atoms.get_stress()[:3].mean() * GPA)


def _has_stress(atoms: Atoms) -> bool:
    return volume_of(atoms) is not None and "stress" in atoms.calc.implemented_properties


def _frame(atoms: Atoms) -> str:
    energy, forces = float(atoms.get_potential_energy()), atoms.get_forces(apply_constraint=False)
    stress = atoms.get_stress(apply_constraint=False) if _has_stress(atoms) else None
    return frame_of(atoms, energy, forces, stress, atoms.calc.results.get("magmoms"))
