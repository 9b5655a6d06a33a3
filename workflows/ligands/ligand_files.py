"""What ``ligand-strain`` leaves behind: tables, SD files of poses and minima, overlays for the report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.force_fields import rdkit_chem
from atomml.files import write_atomic, write_atomic_with, write_table
from atomml.run import RunFolder
from atomml.workflows.ligands.pose_strain import LigandStrainResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from atomml.workflows.ligands.ligand_chemistry import PreparedPose
    from atomml.workflows.ligands.ligand_run import Record

__all__ = ["COLUMNS", "result_of", "write_files"]

COLUMNS = (
    *("id", "input", "record", "rank", "smiles", "charge", "n_heavy_atoms", "n_rotatable", "hydrogens_added"),
    *("strain_kcal_per_mol", "strain_boltzmann_kcal_per_mol", "strain_refined_kcal_per_mol", "passes"),
    *("strain_committee_std_kcal_per_mol", "strain_searches_std_kcal_per_mol", "search_gain_kcal_per_mol"),
    *("search_converged", "left_basin", "pose_shift_A", "minimum_rmsd_A", "torsions"),
    *("n_conformers", "n_minima", "energy_bound_eV", "energy_minimum_eV", "converged", "note", "error"),
)
_MOST_OVERLAYS = 150


def result_of(records: Sequence[Record], n_ligands: int, threshold: float | None) -> LigandStrainResult:
    """Rows of every record, ranked and held against the threshold; the molecules beside them."""
    result = LigandStrainResult(n_poses=len(records), n_ligands=n_ligands, threshold=threshold)
    for record in records:
        row: dict[str, Any] = {
            "id": record.pose.name,
            "input": record.pose.source,
            "record": record.pose.index,
        }
        if record.prepared is not None:
            row |= {"smiles": record.prepared.ligand, "hydrogens_added": record.prepared.hydrogens_added}
        row |= record.found["row"] if record.found is not None else {}
        row["note"] = " ".join(note for note in (_of_hydrogens(record), row.get("note")) if note) or None
        row["error"] = record.error
        if threshold is not None and record.found is not None:
            row["passes"] = record.same_molecule and row["strain_kcal_per_mol"] <= threshold
        result.rows.append({name: row.get(name) for name in COLUMNS})
    _rank(result, records)
    for record, row in zip(records, result.rows, strict=True):
        result.poses.append(_molecule(record, row, "bound"))
        result.minima.append(_molecule(record, row, "minimum"))
    _count(result, records)
    result.convergence = _curves(records)
    result.torsions = _torsions(records)
    return result


def _of_hydrogens(record: Record) -> str | None:
    """That a pose had some of its hydrogens, which may be a charge or a bond that its file does not say."""
    prepared = record.prepared
    if prepared is None or not (prepared.hydrogens_given and prepared.hydrogens_added):
        return None
    added, given = prepared.hydrogens_added, prepared.hydrogens_given
    return f"Hydrogens added: {added}, beside {given} that were there; check charges and bonds."


def write_files(run: RunFolder, result: LigandStrainResult) -> None:
    """Write tables, SD files and overlays; each whole or not at all."""
    write_table(run.file("results.csv"), result.rows, COLUMNS)
    write_table(run.file("torsions.csv"), result.torsions, _TORSION_COLUMNS)
    write_table(run.file("convergence.csv"), result.convergence, _CURVE_COLUMNS)
    _write_sd(run, "poses.sdf", result.poses)
    _write_sd(run, "minima.sdf", result.minima)
    _write_parquet(run, result)
    _write_overlays(run, result)


_TORSION_COLUMNS = ("id", "row", "atoms", "given_deg", "pose_deg", "minimum_deg", "change_deg")
_CURVE_COLUMNS = ("id", "row", "n_conformers", "strain_kcal_per_mol")


def _rank(result: LigandStrainResult, records: Sequence[Record]) -> None:
    """The least strained first; those that are no longer the same molecule after all others."""
    done = [pair for pair in zip(result.rows, records, strict=True) if pair[1].found is not None]
    done.sort(key=lambda pair: (not pair[1].same_molecule, pair[0]["strain_kcal_per_mol"]))
    for place, (row, _) in enumerate(done):
        row["rank"] = place + 1


def _count(result: LigandStrainResult, records: Sequence[Record]) -> None:
    done = [row for row in result.rows if row["error"] is None]
    result.n_failed = sum(record.error is not None and not record.waiting for record in records)
    result.n_flagged = sum(bool(row["left_basin"]) or not row["search_converged"] for row in done)
    if result.threshold is not None:
        result.n_passed = sum(bool(row["passes"]) for row in done)
    if done:
        strains = [row["strain_kcal_per_mol"] for row in done]
        result.strain = strains[0] if len(result.rows) == 1 else None
        result.strain_median = median(strains)
    result.converged = len(done) == len(records) and all(row["converged"] for row in done)


def _curves(records: Sequence[Record]) -> list[dict[str, Any]]:
    return [
        dict(zip(_CURVE_COLUMNS, (record.pose.name, number, count, strain), strict=True))
        for number, record in enumerate(records)
        if record.found is not None
        for count, strain in record.found["convergence"]
    ]


def _torsions(records: Sequence[Record]) -> list[dict[str, Any]]:
    return [
        dict(zip(_TORSION_COLUMNS, (record.pose.name, number, *torsion), strict=True))
        for number, record in enumerate(records)
        if record.found is not None
        for torsion in record.found["torsions"]
    ]


def _molecule(record: Record, row: dict[str, Any], which: str) -> Any:
    """The molecule of the file, its atoms in their order, at one of the geometries that were found."""
    if record.found is None or record.prepared is None:
        return None
    molecule = rdkit_chem().Mol(record.prepared.molecule)
    molecule.GetConformer().SetPositions(_in_order(record.prepared, record.found[which]))
    molecule.SetProp("_Name", record.pose.name)
    for name in COLUMNS:  # of an earlier run
        molecule.ClearProp(name)
    for name, value in record.pose.properties.items():
        if name not in COLUMNS and not molecule.HasProp(name):
            molecule.SetProp(name, value)
    for name, value in row.items():
        if value is not None and name not in ("id", "error"):
            molecule.SetProp(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    return molecule


def _in_order(prepared: PreparedPose, positions: Any) -> NDArray[np.float64]:
    """Positions of the ligand's atoms as the file numbers them, where the pose was."""
    ordered = np.empty((len(prepared.places), 3))
    ordered[list(prepared.places)] = np.asarray(positions) + prepared.centre
    return ordered


def _write_sd(run: RunFolder, name: str, molecules: Sequence[Any]) -> None:
    text = io.StringIO()
    writer = rdkit_chem().SDWriter(text)
    for molecule in molecules:
        if molecule is not None:
            writer.write(molecule)
    writer.close()
    write_atomic(run.file(name), text.getvalue())


def _write_parquet(run: RunFolder, result: LigandStrainResult) -> None:
    """The table with types, and both molecules in RDKit's binary form; only where pyarrow is installed."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        run.event("note", message="results.parquet needs the extra 'parquet': pip install 'atomml[parquet]'.")
        return
    columns = {name: pyarrow.array([row[name] for row in result.rows]) for name in COLUMNS}
    for name, molecules in (("bound_mol", result.poses), ("minimum_mol", result.minima)):
        columns[name] = pyarrow.array([_binary(molecule) for molecule in molecules], type=pyarrow.binary())
    table = pyarrow.table(columns)
    write_atomic_with(run.file("results.parquet"), lambda stream: parquet.write_table(table, stream))


def _binary(molecule: Any) -> bytes | None:
    kinds = rdkit_chem().PropertyPickleOptions
    return None if molecule is None else molecule.ToBinary(int(kinds.AllProps) | int(kinds.CoordsAsDouble))


def _write_overlays(run: RunFolder, result: LigandStrainResult) -> None:
    """``overlays.extxyz``: pose and minimum in one frame, the least strained first."""
    from ase import Atoms

    from atomml.data.structures import extxyz_frame

    frames = []
    order = sorted(
        (number for number, row in enumerate(result.rows) if row["rank"] is not None),
        key=lambda number: result.rows[number]["rank"],
    )
    for number in order[:_MOST_OVERLAYS]:
        pair = result.poses[number], result.minima[number]
        numbers = [atom.GetAtomicNum() for atom in pair[0].GetAtoms()]
        positions = np.concatenate([np.array(one.GetConformer().GetPositions()) for one in pair])
        atoms = Atoms(numbers * 2, positions=positions - positions.mean(axis=0))
        atoms.arrays["overlay"] = np.repeat([0, 1], len(numbers))
        atoms.info["row"] = number
        atoms.info["strain_kcal_per_mol"] = result.rows[number]["strain_kcal_per_mol"]
        frames.append(extxyz_frame(atoms, {}))
    write_atomic(run.file("overlays.extxyz"), "".join(frames))
