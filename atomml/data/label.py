"""The one labelling engine: energy, forces, stress of a structure by a named method.

``pbe/def2-svp`` and its like go to PySCF (molecules), ``gfn2`` and ``gfn1`` to tblite (molecules and
crystals), and the name or file of a model of the suite to that model. A label comes with the exact
method: what was computed, the settings that change it, and the versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from atomml.errors import OptionError, StructureError
from atomml.options import option

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.entry import Entry, Labels

__all__ = [
    "METHODS",
    "Engine",
    "LabelSettings",
    "Labelled",
    "charge_and_spin",
    "engine_of",
    "label",
    "label_entry",
    "label_payload",
    "labels_from_json",
    "labels_to_json",
    "structure_digest",
]

METHODS = {
    "FUNCTIONAL/BASIS": "density functional theory for molecules, such as pbe/def2-svp (extra pyscf)",
    "FUNCTIONAL-d3bj/BASIS": "the same with dispersion: d3bj, d3zero, d4 (pip install pyscf-dispersion)",
    "hf/BASIS": "Hartree-Fock for molecules (extra pyscf)",
    "mp2/BASIS": "second-order perturbation theory, all electrons correlated (extra pyscf)",
    "gfn2": "GFN2-xTB for molecules and, at the Γ point, crystals (extra gfn2)",
    "gfn1": "GFN1-xTB, likewise (extra gfn2)",
    "MODEL": "a model of the suite by name or file, such as chgnet-0.3.0",
}
"""How a method is written, and what it stands for."""


@dataclass(frozen=True)
class LabelSettings:
    """What of a method can be chosen; each engine reads its own part."""

    grid: int = option(3, "level of PySCF's integration grid", minimum=0, maximum=9)
    conv_tol: float = option(1e-9, "change of the energy at which an SCF has converged", unit="Eh", above=0)
    max_cycle: int = option(100, "most cycles of an SCF", minimum=1)
    density_fit: bool = option(False, "approximate two-electron integrals by density fitting")
    accuracy: float = option(0.1, "accuracy of gfn1 and gfn2; smaller is tighter", above=0, maximum=10)
    dtype: str = option("float32", "precision of a model", choices=("float32", "float64"))
    device: str = option("auto", "where a model runs: auto, cpu, cuda ...")


@dataclass(frozen=True)
class Labelled:
    """What an engine gives.

    Attributes:
        labels: Energy in eV, forces in eV/Å, stress in eV/Å³ where there is one.
        method: The exact method with versions; names the solver if it was not the usual one.
    """

    labels: Labels
    method: str


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
    if name.lower() in ("gfn1", "gfn2"):
        from atomml.data.label_tblite import TbliteEngine

        return TbliteEngine(name.lower(), settings)
    if _is_model(name):
        from atomml.data.label_potential import PotentialEngine

        return PotentialEngine(name, settings)
    functional, slash, basis = name.lower().partition("/")
    if slash and functional and basis and "/" not in basis:
        from atomml.data.label_pyscf import PyscfEngine

        return PyscfEngine(functional, basis, settings)
    raise OptionError(f"There is no method {method!r}: write one of {', '.join(METHODS)}.")


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
    return replace(entry, labels=labelled.labels, method=labelled.method)


def label_payload(payload: tuple[Atoms, str, LabelSettings]) -> dict[str, Any]:
    """What a worker of a labelling job does: a structure, method and settings in, JSON out.

    Raises:
        InputError, LabelError: As :func:`label`.
    """
    atoms, method, settings = payload
    labelled = _cached_engine(method, settings).label(atoms)
    return labels_to_json(labelled.labels) | {"method": labelled.method}


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


def structure_digest(atoms: Atoms) -> str:
    """SHA-256 of what a label depends on: elements, positions, cell, periodicity, charge and spin."""
    import numpy as np

    from atomml.manifest import digest_of

    numbers = np.ascontiguousarray(atoms.numbers, dtype="<i4")
    positions = np.ascontiguousarray(atoms.positions, dtype="<f8")
    cell = np.ascontiguousarray(atoms.cell.array, dtype="<f8")
    state = [atoms.info.get("charge"), atoms.info.get("spin"), atoms.pbc.tolist()]
    return digest_of(numbers.tobytes(), positions.tobytes(), cell.tobytes(), json.dumps(state, default=float))


def charge_and_spin(atoms: Atoms, where: str = "structure") -> tuple[int, int]:
    """Total charge and unpaired electrons of a structure for a quantum-chemical method.

    A structure that says nothing is neutral and closed-shell, unless that cannot be: then nothing is
    guessed. An isolated atom is asked for its spin, because most have one.

    Raises:
        StructureError: Not whole numbers, no electrons, a spin that their number rules out, or an
            isolated atom without a spin.
    """
    charge = _whole(atoms, "charge", where)
    spin = _whole(atoms, "spin", where)
    electrons = int(atoms.numbers.sum()) - charge
    if electrons < 1:
        raise StructureError(f"{where}: charge {charge:+d} leaves {electrons} electrons: mend the charge.")
    if len(atoms) == 1 and atoms.info.get("spin") is None and electrons > 1 and not atoms.pbc.any():
        raise StructureError(
            f"{where}: an isolated atom needs its spin: give the number of unpaired electrons as 'spin' "
            f"{_ground_state(atoms, charge)}."
        )
    if spin < 0 or spin > electrons or (electrons - spin) % 2:
        raise StructureError(
            f"{where}: {electrons} electrons cannot leave {spin} unpaired: give charge and spin in the file "
            "or with --charge and --spin."
        )
    return charge, spin


def _whole(atoms: Atoms, name: str, where: str) -> int:
    value = atoms.info.get(name)
    try:
        number = 0.0 if value is None else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not number.is_integer():
        raise StructureError(f"{where}: {name} is {value!r}: give a whole number.")
    return int(number)


def _ground_state(atoms: Atoms, charge: int) -> str:
    from ase.data import ground_state_magnetic_moments

    number = int(atoms.numbers[0])
    if charge or number >= len(ground_state_magnetic_moments):
        return "in the file or with --spin"
    moment = ground_state_magnetic_moments[number]
    return f"in the file or with --spin ({moment:g} for the ground state of {atoms.symbols[0]})"


def _is_model(name: str) -> bool:
    from atomml.registry import find_entry

    if find_entry(name) is not None or name.endswith(".safetensors"):
        return True
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False
