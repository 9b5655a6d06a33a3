"""Poses of ligands one by one (extra ``rdkit``): SD, MOL and MOL2 files, PDB with a template, Parquet.

Bonds, charges and the order of the atoms are kept as the file has them; stereochemistry is that of the
coordinates. What cannot be read is a pose with its reason, and the next one follows.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.data.force_fields import rdkit_chem
from atomml.errors import FileFormatError, InputError, MissingExtraError, OptionError, StructureError

__all__ = ["SUFFIXES", "Pose", "check_file", "checked_template", "read_poses"]

SUFFIXES = (".sdf", ".sd", ".mol", ".sdf.gz", ".mol2", ".pdb", ".ent", ".parquet")
"""Files that poses are read from."""

_BINARY = ("mol_bytes", "mol")
_BLOCK = ("molblock", "sdf")


@dataclass(frozen=True)
class Pose:
    """One record of a file.

    Attributes:
        source: The file; "molecule" for one from Python.
        index: Its place there, from 0.
        name: Its title or ``id``; the file's stem and its place where it has none.
        molecule: An RDKit molecule with one conformer, sanitised; None where it could not be read.
        error: Why it could not.
        properties: What else the record says, as text.
    """

    source: str
    index: int
    name: str
    molecule: Any
    error: str | None = None
    properties: dict[str, str] = field(default_factory=dict)


def read_poses(source: Any, template: str | None = None) -> Iterator[Pose]:
    """The poses of a file, of one RDKit molecule (each of its conformers), or of several.

    Args:
        source: A path, an RDKit molecule, or a list of either.
        template: SMILES of the ligand with its bond orders, charges and protonation, for PDB files.

    Raises:
        FileFormatError: A file that cannot be read at all, or of another kind.
        OptionError: A PDB file without a template, or a template that is no SMILES.
        MissingExtraError: RDKit, or pyarrow for Parquet, is not installed.
    """
    chemistry = rdkit_chem()
    if isinstance(source, chemistry.Mol):
        yield from _conformers(source)
    elif isinstance(source, str | Path):
        yield from _of_file(Path(source), template)
    elif isinstance(source, Iterable):
        count = 0
        for one in source:
            for pose in read_poses(one, template):
                of_file = isinstance(one, str | Path)
                yield pose if of_file else Pose(pose.source, count, *_rest(pose))
                count += not of_file
    else:
        raise InputError(f"{type(source).__name__} is no ligand: give a file or an RDKit molecule.")


def checked_template(template: str) -> Any:
    """The molecule of a template SMILES, without hydrogens.

    Raises:
        OptionError: RDKit cannot read it.
    """
    chemistry = rdkit_chem()
    with _quiet():
        found = chemistry.MolFromSmiles(template)
    if found is None or found.GetNumAtoms() == 0:
        raise OptionError(f"The template {template!r:.80} is no SMILES that RDKit can read: mend it.")
    return found


def check_file(path: Path, template: str | None) -> None:
    """Refuse, before it is read, a file that is not there, of no kind that is read, or without its template.

    Raises:
        FileFormatError: It is not there, or of another kind.
        OptionError: A PDB file without a template.
    """
    lower = path.name.lower()
    if not lower.endswith(SUFFIXES):
        raise FileFormatError(f"{path} is no file of poses: give one of {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise FileFormatError(f"{path}: cannot be read (No such file).")
    if template is None and lower.endswith((".pdb", ".ent")):
        raise OptionError(f"{path}: a PDB file has no bond orders: give --template SMILES of the ligand.")


def _rest(pose: Pose) -> tuple[Any, ...]:
    return pose.name, pose.molecule, pose.error, pose.properties


def _conformers(molecule: Any) -> Iterator[Pose]:
    """Each conformer of a molecule from Python as a pose."""
    chemistry = rdkit_chem()
    for index, conformer in enumerate(molecule.GetConformers()):
        alone = chemistry.Mol(molecule, False, conformer.GetId())
        yield _pose("molecule", index, alone)
    if not molecule.GetNumConformers():
        yield Pose("molecule", 0, _name(molecule, "molecule-0"), None, "it has no coordinates: give 3D ones.")


def _of_file(path: Path, template: str | None) -> Iterator[Pose]:
    check_file(path, template)
    lower = path.name.lower()
    try:
        if lower.endswith(".parquet"):
            yield from _of_parquet(path)
            return
        with gzip.open(path, "rb") if lower.endswith(".gz") else path.open("rb") as stream:
            lines = (line.decode("utf-8", errors="replace") for line in stream)
            if lower.endswith(".mol2"):
                yield from _of_texts(path, _split(lines, first="@<TRIPOS>MOLECULE"), _of_mol2)
            elif lower.endswith((".pdb", ".ent")):
                yield from _of_pdb(path, lines, template)
            else:
                yield from _of_texts(path, _split(lines, last="$$$$"), _of_sd)
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (EOFError, zlib.error) as error:
        raise FileFormatError(f"{path}: its compressed data end too soon or are damaged.") from error


def _split(lines: Iterable[str], first: str = "", last: str = "") -> Iterator[str]:
    """Records of a file: each begins with a line ``first``, or ends with a line ``last``."""
    record: list[str] = []
    begun = not first
    for line in lines:
        if first and line.startswith(first):
            if begun and record:
                yield "".join(record)
            record, begun = [], True
        record.append(line)
        if last and line.startswith(last):
            yield "".join(record)
            record = []
    if begun and any(line.strip() for line in record):
        yield "".join(record)


def _of_texts(path: Path, records: Iterable[str], read: Any) -> Iterator[Pose]:
    empty = True
    for index, text in enumerate(records):
        empty = False
        yield _read_one(str(path), index, text, read)
    if empty:
        raise FileFormatError(f"{path} holds no molecule.")


def _read_one(
    source: str, index: int, text: Any, read: Any, properties: dict[str, str] | None = None
) -> Pose:
    said = properties or {}
    stem = f"{Path(source).name.split('.')[0]}-{index}"
    name = said.get("id") or (_title(text) if isinstance(text, str) else "") or stem
    try:
        with _quiet():
            molecule = read(text)
    except StructureError as error:
        return Pose(source, index, name, None, str(error), said)
    except TypeError:  # which RDKit raises for what is neither text nor bytes
        kind = type(text).__name__
        return Pose(source, index, name, None, f"this is a number or the like ({kind}), no molecule.", said)
    except (ValueError, RuntimeError) as error:
        return Pose(source, index, name, None, f"RDKit cannot read it ({_line(error)}).", said)
    if molecule is None or molecule.GetNumAtoms() == 0:
        return Pose(source, index, name, None, "this is no molecule that RDKit can read.", said)
    return _pose(source, index, molecule, properties)


def _pose(source: str, index: int, molecule: Any, properties: dict[str, str] | None = None) -> Pose:
    """A molecule that was read, checked: sanitised, in 3D, with the stereochemistry of its coordinates."""
    chemistry = rdkit_chem()
    stem = f"{Path(source).name.split('.')[0]}-{index}"
    said = dict(molecule.GetPropsAsDict(autoConvertStrings=False)) if properties is None else properties
    said = {str(key): str(value) for key, value in said.items()}
    name = _name(molecule, said.get("id") or stem)
    error = None
    with _quiet():
        try:
            if molecule.GetNumAtoms() > 1 and not molecule.GetNumBonds():
                _read_off_bonds(molecule, said)
            chemistry.SanitizeMol(molecule)
        except (ValueError, RuntimeError) as wrong:
            error = f"{_line(wrong)}: mend the record."
        else:
            if not molecule.GetNumConformers() or not molecule.GetConformer().Is3D():
                error = "this is a drawing in two dimensions: give 3D coordinates."
            else:
                _leave_open(molecule)
                chemistry.AssignStereochemistryFrom3D(molecule)
    return Pose(source, index, name, None if error else molecule, error, said)


def _leave_open(molecule: Any) -> None:
    """Take off "either side" from crossed double bonds, which would outlast what the coordinates say."""
    kinds = rdkit_chem()
    for bond in molecule.GetBonds():
        if bond.GetStereo() == kinds.BondStereo.STEREOANY:
            bond.SetStereo(kinds.BondStereo.STEREONONE)
            bond.SetBondDir(kinds.BondDir.NONE)


def _read_off_bonds(molecule: Any, said: dict[str, str]) -> None:
    """Bonds of a record that has none, as its geometry and its ``charge`` tell them.

    Raises:
        ValueError: They don't.
    """
    from rdkit.Chem import rdDetermineBonds

    try:
        charge = int(float(said.get("charge", "0")))
        rdDetermineBonds.DetermineBonds(molecule, charge=charge)
    except (ValueError, RuntimeError) as error:
        raise ValueError("it has no bonds, and its geometry and 'charge' do not tell them") from error


def _title(text: str) -> str:
    """The title of an SD or MOL2 record that could not be read."""
    lines = text.splitlines()
    if any(line.startswith("@<TRIPOS>MOLECULE") for line in lines):
        lines = lines[next(n for n, line in enumerate(lines) if line.startswith("@<TRIPOS>")) + 1 :]
    elif lines and lines[0].startswith(("ATOM", "HETATM", "MODEL")):
        return ""
    return lines[0].strip()[:80] if lines else ""


def _name(molecule: Any, otherwise: str) -> str:
    title = molecule.GetProp("_Name").strip() if molecule.HasProp("_Name") else ""
    return title or otherwise


def _of_sd(text: str) -> Any:
    """The molecule of an SD record.

    Raises:
        StructureError: Another one follows in the same record, which would be lost.
    """
    behind = next((line for line in text.partition("\nM  END")[2].splitlines()[1:] if line.strip()), "")
    if behind and not behind.startswith((">", "$$$$")) and text.count("\nM  END") > 1:
        raise StructureError("It holds several molecules: put a line $$$$ between them.")
    supplier = rdkit_chem().SDMolSupplier()
    supplier.SetData(text, sanitize=False, removeHs=False)
    return supplier[0] if len(supplier) else None


def _of_mol2(text: str) -> Any:
    return rdkit_chem().MolFromMol2Block(text, sanitize=False, removeHs=False)


def _of_pdb(path: Path, lines: Iterable[str], template: str | None) -> Iterator[Pose]:
    """Each model of a PDB file, with the bonds of the template."""
    assert template is not None
    wanted = checked_template(template)
    models: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("ENDMDL"):
            models.append([])
        elif line.startswith(("ATOM", "HETATM", "CONECT")):
            models[-1].append(line)
    texts = ["".join(model) for model in models if any(not line.startswith("CONECT") for line in model)]
    yield from _of_texts(path, texts, lambda text: _with_template(text, wanted))


def _with_template(text: str, template: Any) -> Any:
    from atomml.data.ligand_template import with_bonds_of

    molecule = rdkit_chem().MolFromPDBBlock(text, sanitize=False, removeHs=False)
    if molecule is None:
        return None
    return with_bonds_of(template, molecule)


def _of_parquet(path: Path) -> Iterator[Pose]:
    """Rows with a molecule in RDKit's binary form (``mol_bytes``), or as an MDL block (``molblock``)."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError.for_extra("pyarrow", "parquet") from error
    chemistry = rdkit_chem()
    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        binary = next((name for name in _BINARY if name in names), None)
        block = next((name for name in _BLOCK if name in names), None)
        column = binary or block
        if column is None:
            raise FileFormatError(f"{path} has no column {', '.join(_BINARY + _BLOCK)} with molecules.")
        read = chemistry.Mol if binary else _of_sd
        rows = (row for batch in file.iter_batches(batch_size=256) for row in batch.to_pylist())
        for index, row in enumerate(rows):
            given = row.pop(column)
            said = {str(k): str(v) for k, v in row.items() if v is not None and not isinstance(v, bytes)}
            yield _read_one(str(path), index, given if given is not None else b"", read, said)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise FileFormatError(f"{path}: no Parquet file that can be read ({_line(error)}).") from error


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200].rstrip(".")


def _quiet() -> Any:
    from rdkit import rdBase

    return rdBase.BlockLogs()
