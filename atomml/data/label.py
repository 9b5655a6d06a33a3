"""The one labelling engine: energy, forces, stress of a structure by a named method.

``pbe/def2-svp`` and its like go to PySCF (molecules), ``gfn2`` and ``gfn1`` to tblite (molecules and
crystals), ``mmff94s`` to RDKit (molecules), and the name or file of a model of the suite to that model. A
label comes with the exact method: what was computed, the settings that change it, and the versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from atomml.electronic.scf_settings import ScfSettings
from atomml.errors import OptionError
from atomml.options import option

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.data.entry import Entry, Labels

__all__ = [
    "METHODS",
    "Engine",
    "LabelSettings",
    "Labelled",
    "engine_of",
    "label",
    "label_entry",
    "label_payload",
    "labels_from_json",
    "labels_to_json",
    "matrices_from_json",
    "structure_digest",
]

METHODS = {
    "FUNCTIONAL/BASIS": "density functional theory for molecules, such as pbe/def2-svp (extra pyscf)",
    "FUNCTIONAL-d3bj/BASIS": "the same with dispersion: d3bj, d3zero, d4 (pip install pyscf-dispersion)",
    "hf/BASIS": "Hartree-Fock for molecules (extra pyscf)",
    "mp2/BASIS": "second-order perturbation theory, all electrons correlated (extra pyscf)",
    "ccsd(t)/BASIS": "coupled clusters, energies alone; so ccsd, and fci of few electrons (extra pyscf)",
    "gfn2": "GFN2-xTB for molecules and, at the Γ point, crystals (extra gfn2)",
    "gfn1": "GFN1-xTB, likewise (extra gfn2)",
    "ase:MODULE:CLASS": "an ASE calculator of your own, such as ase:ase.calculators.emt:EMT",
    "COMMAND": "a program of your own, called as COMMAND IN.extxyz OUT.extxyz",
    "mmff94s": "the force field MMFF94s for molecules (extra rdkit)",
    "MODEL": "a model of the suite by name or file, such as chgnet-0.3.0",
}
"""How a method is written, and what it stands for."""


@dataclass(frozen=True)
class LabelSettings(ScfSettings):
    """What of a method can be chosen; each engine reads its own part."""

    hamiltonian: bool = option(False, "keep the Kohn-Sham matrix (PySCF, closed shells) in place of forces")
    prior: str = option(
        "minao-pbe",
        "Fock matrix on atomic densities that is kept beside it: by PBE, by the level itself, or none",
        choices=("minao-pbe", "minao", "none"),
    )
    energy_only: bool = option(
        False, "leave the forces out, which cost as much as the energy (PySCF's functionals and hf)"
    )
    density: bool = option(
        False, "keep the density matrix of both spins too (PySCF; orbitals not relaxed in mp2, ccsd, ccsd(t))"
    )
    accuracy: float = option(0.1, "accuracy of gfn1 and gfn2; smaller is tighter", above=0, maximum=10)
    time_limit: float = option(
        0.0, "time after which a program of your own is stopped: no label; 0 for never", unit="s", minimum=0
    )
    dtype: str = option("float32", "precision of a model", choices=("float32", "float64"))
    device: str = option("auto", "where a model runs: auto, cpu, cuda ...")


@dataclass(frozen=True)
class Labelled:
    """What an engine gives.

    Attributes:
        labels: Energy in eV, forces in eV/Å, stress in eV/Å³ where there is one.
        method: The exact method with versions; names the solver if it was not the usual one.
        matrices: Symmetric matrices over the orbitals by name: Hartree, or electrons of a density.
    """

    labels: Labels
    method: str
    matrices: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


class Engine(Protocol):
    """A method that is ready to label structures."""

    @property
    def method(self) -> str:
        """The exact method with its settings and versions."""

    def check(self, atoms: Atoms, where: str) -> None:
        """Refuse what this method cannot label, without computing anything.

        Raises:
            InputError: Names the structure, what is wrong with it and what to do.
        """

    def label(self, atoms: Atoms) -> Labelled:
        """Energy, forces and whatever else the method gives.

        Raises:
            LabelError: It did not converge: there is no label.
        """


def engine_of(method: str, settings: LabelSettings | None = None) -> Engine:
    """The engine of a method.

    Raises:
        OptionError: No such method, functional or basis.
        MissingExtraError: The program behind it is not installed.
        ModelError, CheckpointError: A model that cannot be loaded.
    """
    settings = settings or LabelSettings()
    name = method.strip()
    found = _orbital_free_engine(name, settings)
    if found is not None:
        if settings.density:
            raise OptionError(f"{name!r:.80} has no density matrix: take PySCF's, such as ccsd/cc-pvdz.")
        if settings.energy_only:
            raise OptionError(f"{name!r:.80} has forces at no cost: leave out --energy-only.")
        if settings.hamiltonian:
            raise OptionError(f"{name!r:.80} keeps no Kohn-Sham matrix: take PySCF's, such as pbe/def2-svp.")
        return found
    functional, slash, basis = name.lower().partition("/")
    if slash and functional and basis and "/" not in basis:
        from atomml.data.label_correlated import CORRELATED, CorrelatedEngine
        from atomml.data.label_pyscf import PyscfEngine

        if functional in CORRELATED:
            return CorrelatedEngine(functional, basis, settings)
        return PyscfEngine(functional, basis, settings)
    raise OptionError(f"There is no method {method!r}: write one of {', '.join(METHODS)}.")


def _orbital_free_engine(name: str, settings: LabelSettings) -> Engine | None:
    """All but PySCF's: tight binding, what comes from outside, force fields, models."""
    if name.lower() in ("gfn1", "gfn2"):
        from atomml.data.label_tblite import TbliteEngine

        return TbliteEngine(name.lower(), settings)
    from atomml.data.label_outside import CalculatorEngine, CommandEngine, is_calculator_name, is_command

    if is_calculator_name(name):
        return CalculatorEngine(name)
    if is_command(name):
        return CommandEngine(name, settings.time_limit)
    if name.lower() == "mmff94s":
        from atomml.data.label_mmff import MmffEngine

        return MmffEngine()
    if _is_model(name):
        from atomml.data.label_potential import PotentialEngine

        return PotentialEngine(name, settings)
    return None


def label(atoms: Atoms, method: str, settings: LabelSettings | None = None) -> Labels:
    """Label one structure; total charge and unpaired electrons from ``atoms.info["charge"]``, ``["spin"]``.

    Args:
        atoms: The structure.
        method: See :data:`METHODS`.
        settings: Grid, convergence and the like; the defaults if None.

    Raises:
        InputError: A method that does not exist, or a structure that it cannot label.
        LabelError: The calculation did not converge.
    """
    engine = engine_of(method, settings)
    engine.check(atoms, "structure")
    return engine.label(atoms).labels


def label_entry(entry: Entry, method: str, settings: LabelSettings | None = None) -> Entry:
    """The entry with the labels of this method in place of its own, and the exact method.

    Raises:
        InputError, LabelError: As :func:`label`.
    """
    engine = engine_of(method, settings)
    engine.check(entry.atoms, entry.where)
    labelled = engine.label(entry.atoms)
    return replace(entry, labels=labelled.labels, method=labelled.method, matrices=labelled.matrices)


def label_payload(payload: tuple[Atoms, str, LabelSettings]) -> dict[str, Any]:
    """What a worker of a labelling job does: a structure, method and settings in, JSON out.

    Raises:
        InputError, LabelError: As :func:`label`.
    """
    atoms, method, settings = payload
    from atomml.data.record import packed_text

    labelled = _cached_engine(method, settings).label(atoms)
    found = labels_to_json(labelled.labels) | {"method": labelled.method}
    if labelled.matrices:
        found["matrices"] = {name: packed_text(matrix) for name, matrix in labelled.matrices.items()}
    return found


@lru_cache(maxsize=1)
def _cached_engine(method: str, settings: LabelSettings) -> Engine:
    """A worker labels many structures by one method: a model is loaded once."""
    return engine_of(method, settings)


def labels_to_json(labels: Labels) -> dict[str, Any]:
    """Labels as JSON holds them; floats come back with the same bits."""
    values = {name: getattr(labels, name) for name in labels.names}
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in values.items()}


def labels_from_json(values: Mapping[str, Any]) -> Labels:
    """The labels that :func:`labels_to_json` wrote; other keys are passed over."""
    import numpy as np

    from atomml.data.entry import LABELS, Labels

    found: dict[str, Any] = {name: values[name] for name in LABELS if name in values}
    arrays = {name: np.array(value, dtype=np.float64) for name, value in found.items() if name != "energy"}
    return Labels(**(found | arrays))


def matrices_from_json(values: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """The matrices that :func:`label_payload` wrote."""
    from atomml.data.record import unpacked_text

    return {name: unpacked_text(text) for name, text in values.get("matrices", {}).items()}


def structure_digest(atoms: Atoms) -> str:
    """SHA-256 of what a label depends on: elements, positions, cell, periodicity, charge and spin."""
    import numpy as np

    from atomml.manifest import digest_of

    numbers = np.ascontiguousarray(atoms.numbers, dtype="<i4")
    positions = np.ascontiguousarray(atoms.positions, dtype="<f8")
    cell = np.ascontiguousarray(atoms.cell.array, dtype="<f8")
    state = [atoms.info.get("charge"), atoms.info.get("spin"), atoms.pbc.tolist()]
    state += [atoms.info["bonds"]] if "bonds" in atoms.info else []
    return digest_of(numbers.tobytes(), positions.tobytes(), cell.tobytes(), json.dumps(state, default=_json))


def _json(value: Any) -> Any:
    """Numbers of NumPy as Python's, and arrays as lists."""
    return value.tolist() if getattr(value, "ndim", 0) else float(value)


def _is_model(name: str) -> bool:
    from atomml.registry import find_entry

    if find_entry(name) is not None or name.endswith(".safetensors"):
        return True
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False
