"""Orbitals, levels, charges and dipoles without an SCF: ``atomml hamiltonian predict``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import build_options
from atomml.errors import OptionError
from atomml.files import write_table
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.electronic.molecule_runs import molecule_run

if TYPE_CHECKING:
    from atomml.electronic.orbital_levels import Orbitals
    from atomml.electronic.predictor import PredictedMatrix, Predictor
    from atomml.run import RunFolder
    from atomml.workflows.inputs import GivenStructure

__all__ = ["HamiltonianPredictOptions", "HamiltonianPredictResult", "predict_hamiltonian"]

_CUBES = ("density", "homo", "lumo")
_SHOWN = 20


@dataclass(frozen=True)
class HamiltonianPredictOptions:
    """Options of ``hamiltonian predict``."""

    build: bool = option(False, "one Fock build on the predicted density: mends most gross errors of levels")
    cube: tuple[str, ...] = option((), "cube files to write: density, homo, lumo")
    picture: bool = option(True, "tables of HOMO and LUMO on a plane, which the report shows")
    device: str = option("auto", "device of the model")


@dataclass(kw_only=True)
class HamiltonianPredictResult(Result):
    """What follows from predicted matrices; single values where there was one molecule.

    Attributes:
        n_molecules: Molecules.
        level: Functional and basis.
        homo, lumo, gap: Levels, eV.
        dipole: Debye.
        rows: A row for each molecule; the first 20 where there is a folder.
        matrices: ``(n, n)`` Hartree of each.
        orbitals: Of each.
    """

    n_molecules: int = 0
    level: str = ""
    homo: float | None = quantity("eV", default=None)
    lumo: float | None = quantity("eV", default=None)
    gap: float | None = quantity("eV", default=None)
    dipole: float | None = quantity("D", default=None)
    rows: list[dict[str, Any]] = field(default_factory=list)
    matrices: list[Any] = field(default_factory=list, metadata={"summary": False}, repr=False)
    orbitals: list[Orbitals] = field(default_factory=list, metadata={"summary": False}, repr=False)


def predict_hamiltonian(
    structures: Any,
    model: Any,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> HamiltonianPredictResult:
    """Predict the Kohn-Sham matrices of molecules, and what follows from them.

    Args:
        structures: Files, ``FILE@INDEX``, ``ase.Atoms``, SMILES, or several of these.
        model: A checkpoint, or a model.
        out: The run folder; None leaves nothing behind.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`HamiltonianPredictOptions`.

    Raises:
        InputError: A molecule, model or option that is wrong.
    """
    settings = build_options(HamiltonianPredictOptions, options)
    unknown = [name for name in settings.cube if name not in _CUBES]
    if unknown:
        raise OptionError(f"cube names {unknown[0]}: there are {', '.join(_CUBES)}.")
    with molecule_run("hamiltonian predict", structures, model, settings, out, overwrite) as job:
        run, predictor = job.run, job.predictor
        result = HamiltonianPredictResult(n_molecules=len(job.given), level=predictor.level.name)
        rows, atoms_rows = [], []
        for number, one in job.molecules():
            _tell_doubt(run, one, predictor, settings)
            row, charges = _molecule(run, number, one, predictor, settings, result)
            rows.append(row)
            atoms_rows += charges
        write_table(run.file("results.csv"), rows, list(rows[0]))
        write_table(run.file("charges.csv"), atoms_rows, list(atoms_rows[0]))
        result.rows = rows[:_SHOWN] if run.kept else rows
        if len(rows) == 1:
            result.homo, result.lumo, result.gap = (rows[0][f"{name}_eV"] for name in ("homo", "lumo", "gap"))
            result.dipole = rows[0]["dipole_D"]
        job.finish(result)
    return result


def _tell_doubt(
    run: RunFolder, one: GivenStructure, predictor: Predictor, options: HamiltonianPredictOptions
) -> None:
    """Warn of a molecule that the model was not trained on, unless a Fock build looks at its answer."""
    doubt = predictor.doubt(one.atoms, one.label)
    if doubt and not options.build:
        run.warn(f"{doubt} Nothing vouches for its answer: let one Fock build look at it with --build.")


def _molecule(
    run: RunFolder,
    number: int,
    one: GivenStructure,
    predictor: Predictor,
    options: HamiltonianPredictOptions,
    result: HamiltonianPredictResult,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One molecule: its row, and a row for each atom; files land in the folder."""
    import numpy as np
    from ase.units import Hartree

    from atomml.checkpoint import save_state
    from atomml.electronic.orbital_levels import density_of
    from atomml.electronic.scf_start import POOR

    field_ = predictor.level.mean_field(one.atoms)
    predicted = predictor(one.atoms, field_)
    matrix, orbitals, off = _solved(predicted, field_, options)
    properties = density_of(orbitals, field_.mol)
    result.matrices.append(matrix)
    result.orbitals.append(orbitals)
    row = {
        "molecule": one.label,
        "formula": str(one.atoms.get_chemical_formula()),
        "n_atoms": len(one.atoms),
        "n_orbitals": len(matrix),
        "homo_eV": orbitals.homo * Hartree,
        "lumo_eV": orbitals.lumo * Hartree if orbitals.has_empty else None,
        "gap_eV": orbitals.gap * Hartree if orbitals.has_empty else None,
        "dipole_D": float(np.linalg.norm(properties["dipole"])),
        "seconds": predicted.seconds,
    }
    if off is not None:
        row["commutator_Eh"] = off
        if not off < POOR:
            run.warn(
                f"{one.label}: the predicted density does not fit its own Fock matrix (commutator {off:.2g} "
                f"Eh, a good one's is below {POOR:g}): its levels mean little; use hamiltonian scf."
            )
    charges = [
        {
            "molecule": one.label,
            "atom": atom,
            "element": symbol,
            "mulliken_charge": float(properties["mulliken"][atom]),
            "loewdin_charge": float(properties["loewdin"][atom]),
        }
        for atom, symbol in enumerate(one.atoms.symbols)
    ]
    if run.kept:
        arrays = {"hamiltonian": matrix, "levels": orbitals.energies, "orbitals": orbitals.coefficients}
        facts = {"level": predictor.level.method, "units": "Hartree", "order": "PySCF"}
        save_state(run.file(f"matrix-{number:04d}.safetensors"), arrays, facts)
        _write_levels(run, number, orbitals)
        write_cubes(run, number, orbitals, field_.mol, options.cube)
        if options.picture and number < _SHOWN:
            _write_planes(run, number, orbitals, field_.mol)
    return row, charges


def _solved(
    predicted: PredictedMatrix, field_: Any, options: HamiltonianPredictOptions
) -> tuple[Any, Orbitals, float | None]:
    """The matrix and its orbitals; if asked for, of the Fock matrix on its density, and their commutator."""
    import numpy as np

    from atomml.electronic.orbital_levels import solve_orbitals
    from atomml.electronic.scf_start import commutator

    matrix = predicted.matrix
    orbitals = solve_orbitals(matrix, None, molecule=field_.mol)
    if not options.build:
        return matrix, orbitals, None
    fock = np.asarray(field_.get_fock(dm=orbitals.density), dtype=np.float64)
    matrix = 0.5 * (fock + fock.T)
    off = commutator(field_, orbitals.density, matrix)
    return matrix, solve_orbitals(matrix, None, molecule=field_.mol), off


def _write_levels(run: RunFolder, number: int, orbitals: Orbitals) -> None:
    from ase.units import Hartree

    rows = [
        {"orbital": i, "occupation": 2 if i < orbitals.n_occupied else 0, "level_eV": float(level) * Hartree}
        for i, level in enumerate(orbitals.energies)
    ]
    write_table(run.file(f"levels-{number:04d}.csv"), rows, list(rows[0]))


def write_cubes(
    run: RunFolder, number: int, orbitals: Orbitals, molecule: Any, wanted: Sequence[str]
) -> None:
    """Gaussian cube files of the density, the HOMO or the LUMO."""
    from pyscf.tools import cubegen

    index = {"homo": orbitals.n_occupied - 1, "lumo": orbitals.n_occupied}
    for name in wanted:
        if name == "lumo" and not orbitals.has_empty:
            run.warn(f"Molecule {number} has no empty orbital in its basis set, and so no cube of its LUMO.")
            continue
        path = str(run.file(f"{name}-{number:04d}.cube"))
        if name == "density":
            cubegen.density(molecule, path, orbitals.density)
        else:
            cubegen.orbital(molecule, path, orbitals.coefficients[:, index[name]])


def _write_planes(run: RunFolder, number: int, orbitals: Orbitals, molecule: Any) -> None:
    """HOMO and LUMO half an ångström above the molecule's best plane, on a grid."""
    import numpy as np
    from ase.units import Bohr

    places = molecule.atom_coords()
    centre = places.mean(axis=0)
    axes = np.linalg.svd(places - centre)[2] if len(places) > 1 else np.eye(3)
    flat = (places - centre) @ axes.T
    margin, n = 2.0 / Bohr, 48
    low, high = flat[:, :2].min(axis=0) - margin, flat[:, :2].max(axis=0) + margin
    x, y = (np.linspace(low[i], high[i], n) for i in range(2))
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    points = centre + grid @ axes[:2] + 0.5 / Bohr * axes[2]
    values = molecule.eval_gto("GTOval_sph", points)
    pair = orbitals.coefficients[:, [orbitals.n_occupied - 1, min(orbitals.n_occupied, len(values[0]) - 1)]]
    found = values @ pair
    rows = [
        {"x_A": float(p[0]) * Bohr, "y_A": float(p[1]) * Bohr, "homo": float(v[0]), "lumo": float(v[1])}
        for p, v in zip(grid, found, strict=True)
    ]
    write_table(run.file(f"plane-{number:04d}.csv"), rows, list(rows[0]))
