"""References of molecules and their free atoms for ``dft train``: ``atomml dft label``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import build_options
from atomml.errors import OptionError, RunFailedError
from atomml.files import write_atomic
from atomml.options import option
from atomml.result import Result
from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.data.entry import Entry
    from atomml.run import RunFolder
    from atomml.workflows.datasets.data_label import DataLabelResult

__all__ = ["DFTLabelOptions", "DFTLabelResult", "dft_label", "free_atom"]


@dataclass(frozen=True)
class DFTLabelOptions:
    """Options of ``dft label``."""

    method: str = option("ccsd(t)/cc-pvdz", "any method of data label: ccsd(t)/BASIS, fci/BASIS ...")
    charge: int | None = option(None, "total charge of every molecule; else as its file says", unit="e")
    spin: int | None = option(None, "unpaired electrons of every molecule; else as its file says", minimum=0)
    density: bool = option(
        False, "density matrices and dipoles of the molecules too; orbitals not relaxed in mp2, ccsd, ccsd(t)"
    )
    workers: int = option(1, "processes", minimum=1)


@dataclass(kw_only=True)
class DFTLabelResult(Result):
    """What was labelled.

    Attributes:
        method: The exact method with versions.
        n_molecules: Molecules with a reaction in the file.
        n_failed: Molecules that have none: they, or a free atom of theirs, did not converge.
        output: The file for ``dft train``.
        density_file: The file of density matrices, where they were wanted.
        rows: A row for each molecule.
    """

    method: str = ""
    n_molecules: int = 0
    n_failed: int = 0
    output: str = ""
    density_file: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)


def free_atom(symbol: str) -> Atoms:
    """A neutral atom with the unpaired electrons of its ground state."""
    from ase import Atoms
    from ase.data import atomic_numbers, ground_state_magnetic_moments

    atoms = Atoms(symbol)
    atoms.info = {"charge": 0, "spin": round(float(ground_state_magnetic_moments[atomic_numbers[symbol]]))}
    return atoms


def dft_label(
    structures: Any,
    to: str | Path,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> DFTLabelResult:
    """Label molecules and their free atoms, and write the energies of atomisation for ``dft train``.

    With ``density``, dipole moments (Debye, about the origin) of the molecules stand in the file too, and
    their density matrices (both spins, PySCF's orbitals of the method's basis) beside it, in
    ``STEM.density.safetensors``. Those of free atoms do not: a shell that is partly filled has many.

    Args:
        structures: Files, ``FILE@INDEX``, ``ase.Atoms``, SMILES, or several of these.
        to: The YAML file to write: energies in Hartree, without vibrations.
        out: The run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted; what has a label keeps it.
        overwrite: Replace the file, and what an earlier run left in the folder.
        **options: Fields of :class:`DFTLabelOptions`.

    Raises:
        InputError: A molecule or option that is wrong, or a file that is there.
        RunFailedError: Nothing could be labelled.
    """
    from atomml.data.label import LabelSettings, engine_of
    from atomml.workflows.inputs import all_structures, with_charge

    started, target = time.perf_counter(), Path(to)
    if target.suffix not in (".yaml", ".yml"):
        raise OptionError(f"{to}: write reactions to a file that ends in .yaml.")
    if target.exists() and not (overwrite or resume):
        raise OptionError(f"{to} is there: choose another name, or pass --overwrite.")
    settings = build_options(DFTLabelOptions, options)
    given = [with_charge(one, settings.charge, settings.spin) for one in all_structures(structures)]
    symbols = sorted({symbol for one in given for symbol in one.atoms.symbols})
    molecules = [one.atoms for one in given]
    names = _names(molecules)
    for one in given:
        one.atoms.info = {key: int(one.atoms.info.get(key) or 0) for key in ("charge", "spin")}
    engine = engine_of(settings.method, LabelSettings(density=settings.density))
    for one in given:
        engine.check(one.atoms, one.label)
    facts: dict[str, Any] = {"structures": [one.label for one in given], "to": str(to)}
    with open_with_options(out, "dft label", settings, overwrite=overwrite, resume=resume, **facts) as run:
        free = [free_atom(symbol) for symbol in symbols]
        if settings.density:  # of molecules alone: no atom's matrix is kept, and it may not be found
            found = _labelled(run, "labels", molecules, settings, density=True)
            entries = [*_labelled(run, "atoms", free, settings, density=False).entries, *found.entries]
        else:
            found = _labelled(run, "labels", free + molecules, settings, density=False)
            entries = list(found.entries)
        energies = _energies(free + molecules, entries)
        densities = _densities(dict(zip(names, molecules, strict=True)), entries)
        atoms = dict(zip(symbols, energies, strict=False))
        result = DFTLabelResult(method=found.method, output=str(target))
        result.rows = _rows(names, molecules, energies[len(symbols) :], atoms)
        more = _write_densities(result, target, names, molecules, densities) if settings.density else {}
        write_atomic(target, _document(result, names, molecules, symbols, more))
        for row in result.rows:
            if row["binding_Eh"] is None:
                run.warn(f"{row['molecule']}: it or an atom of it has no energy; it stands in no reaction.")
        result.converged = not result.n_failed
        inputs = [one.record() for one in given]
        finish_run(run, result, model=None, inputs=inputs, seconds=time.perf_counter() - started)
    return result


def _labelled(
    run: RunFolder, name: str, structures: Sequence[Atoms], settings: DFTLabelOptions, density: bool
) -> DataLabelResult:
    """Labels by the engine, kept under a name in the folder; those that are there are not made again."""
    from atomml.workflows.datasets.data_label import label_data

    out = run.file(name) if run.kept else None
    again = out is not None and out.exists()
    how: dict[str, Any] = {"method": settings.method, "density": density, "workers": settings.workers}
    return label_data(structures, out=out, resume=again, **how)


def _names(molecules: Sequence[Atoms]) -> list[str]:
    """Formula and, where it comes more than once, its number."""
    formulas = [str(atoms.get_chemical_formula()) for atoms in molecules]
    seen: dict[str, int] = {}
    found = []
    for formula in formulas:
        seen[formula] = seen.get(formula, 0) + 1
        found.append(formula if formulas.count(formula) == 1 else f"{formula} {seen[formula]}")
    return found


def _energies(everything: Sequence[Atoms], entries: Sequence[Entry]) -> list[float | None]:
    """Hartree of each structure; None where it has no label."""
    from ase.units import Hartree

    from atomml.data.label import structure_digest

    known = {structure_digest(entry.atoms): entry.labels.energy for entry in entries}
    found = [known.get(structure_digest(atoms)) for atoms in everything]
    return [None if energy is None else float(energy) / Hartree for energy in found]


def _densities(molecules: Mapping[str, Atoms], entries: Sequence[Entry]) -> dict[str, NDArray[np.float64]]:
    """Density matrices by name of those that have one."""
    from atomml.data.label import structure_digest

    known = {structure_digest(entry.atoms): entry.matrices.get("density") for entry in entries}
    found = {name: known.get(structure_digest(atoms)) for name, atoms in molecules.items()}
    return {name: matrix for name, matrix in found.items() if matrix is not None}


def _write_densities(
    result: DFTLabelResult,
    target: Path,
    names: Sequence[str],
    molecules: Sequence[Atoms],
    densities: Mapping[str, NDArray[np.float64]],
) -> dict[str, Any]:
    """Write the matrices beside the file; what it says of them, and the dipoles."""
    from pyscf.scf.hf import dip_moment

    from atomml.checkpoint import save_state
    from atomml.electronic.mean_field import MeanFieldLevel, parse_level
    from atomml.electronic.scf_settings import ScfSettings

    _, basis = parse_level(result.method.split()[0])
    level, dipoles = MeanFieldLevel("hf", basis, ScfSettings()), {}
    for name, atoms in zip(names, molecules, strict=True):
        if name in densities:
            moment = dip_moment(level.molecule(atoms), densities[name], unit="Debye", verbose=0)
            dipoles[name] = [float(x) for x in moment]
    file = target.with_name(f"{target.stem}.density.safetensors")
    save_state(file, dict(densities), {"method": result.method, "basis": basis})
    result.density_file = str(file)
    return {"density_file": file.name, "density_basis": basis, "dipole_unit": "Debye", "dipoles": dipoles}


def _rows(
    names: Sequence[str], molecules: Sequence[Atoms], energies: Sequence[float | None], atoms: dict[str, Any]
) -> list[dict[str, Any]]:
    rows = []
    for name, molecule, energy in zip(names, molecules, energies, strict=True):
        parts = [atoms[symbol] for symbol in molecule.symbols]
        whole = energy is not None and None not in parts
        bound = energy - sum(parts) if whole and energy is not None else None
        rows.append({"molecule": name, "energy_Eh": energy, "binding_Eh": bound})
    return rows


def _document(
    result: DFTLabelResult,
    names: Sequence[str],
    molecules: Sequence[Atoms],
    symbols: Sequence[str],
    more: Mapping[str, Any],
) -> str:
    """The YAML file, with what else is known of the molecules; counts what stands in it."""
    import yaml

    every = [(f"{symbol} atom", free_atom(symbol)) for symbol in symbols]
    every += list(zip(names, molecules, strict=True))
    species = {name: _species(atoms) for name, atoms in every}
    reactions = []
    for row, molecule in zip(result.rows, molecules, strict=True):
        if row["binding_Eh"] is None:
            continue
        counts = molecule.symbols.formula.count()
        parts = {row["molecule"]: 1} | {f"{symbol} atom": -n for symbol, n in counts.items()}
        reactions.append({"name": row["molecule"], "species": parts, "energy": row["binding_Eh"]})
    result.n_molecules, result.n_failed = len(reactions), len(molecules) - len(reactions)
    if not reactions:
        raise RunFailedError("No molecule has an energy beside those of its atoms: see the warnings.")
    tree = {"unit": "Eh", "bound": "De", "method": result.method, "species": species, "reactions": reactions}
    return yaml.safe_dump(tree | dict(more), sort_keys=False, allow_unicode=True)


def _species(atoms: Atoms) -> dict[str, Any]:
    places = [[s, *(float(x) for x in p)] for s, p in zip(atoms.symbols, atoms.positions, strict=True)]
    return {"atoms": places, "charge": int(atoms.info["charge"]), "spin": int(atoms.info["spin"])}
