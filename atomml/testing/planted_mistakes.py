"""One known mistake each, planted in a sound labelled set: what an audit must find by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units
from numpy.typing import NDArray

from atomml.data.entry import Entry, Labels
from atomml.testing.planted_sets import label_structures

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["PLANTED", "Planted"]

Entries = list[Entry]
_GPA = 1 / units.GPa
_FORCE_AU = units.Bohr / units.Hartree
_PER_MOL = units.mol / units.kcal


@dataclass(frozen=True)
class Planted:
    """One mistake in one set.

    Attributes:
        name: What was planted, in words.
        base: The clean set that it is planted in.
        traps: Names of the findings that must come of it.
        plant: From the clean set to the one with the mistake.
        with_model: Whether only a comparison with a model can find it.
    """

    name: str
    base: str
    traps: tuple[str, ...]
    plant: Callable[[Entries], Entries]
    with_model: bool = False


def _relabel(change: Callable[[Entry], dict[str, Any]]) -> Callable[[Entries], Entries]:
    """Labels of every entry changed."""
    return lambda entries: [replace(e, labels=replace(e.labels, **change(e))) for e in entries]


def _energy(factor: float) -> Callable[[Entries], Entries]:
    return _relabel(lambda e: {"energy": (e.labels.energy or 0.0) * factor})


def _forces(factor: float) -> Callable[[Entries], Entries]:
    return _relabel(lambda e: {"forces": _of(e.labels.forces) * factor})


def _stress(factor: float) -> Callable[[Entries], Entries]:
    return _relabel(lambda e: {"stress": _of(e.labels.stress) * factor})


def _of(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
    assert values is not None
    return values


def _virial(sign: float) -> Callable[[Entries], Entries]:
    return _relabel(lambda e: {"stress": sign * e.atoms.get_volume() * _of(e.labels.stress)})


def _both(*plants: Callable[[Entries], Entries]) -> Callable[[Entries], Entries]:
    def plant(entries: Entries) -> Entries:
        """One mistake after the other."""
        for one in plants:
            entries = one(entries)
        return entries

    return plant


def _some(which: Callable[[int], bool], plant: Callable[[Entries], Entries]) -> Callable[[Entries], Entries]:
    """The mistake in some entries only."""
    return lambda entries: [plant([entry])[0] if which(k) else entry for k, entry in enumerate(entries)]


def _moved(change: Callable[[Atoms, int], Any]) -> Callable[[Entries], Entries]:
    """Structures changed in place, on copies."""

    def plant(entries: Entries) -> Entries:
        """Copies whose structures are changed."""
        changed = []
        for k, entry in enumerate(entries):
            atoms = entry.atoms.copy()
            change(atoms, k)
            changed.append(replace(entry, atoms=atoms))
        return changed

    return plant


def _rotation(seed: int) -> NDArray[np.float64]:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def _turned(seeds: Callable[[int], int]) -> Callable[[Entries], Entries]:
    """Cells, positions and forces turned, stress tensors not: what happened to mlearn's."""

    def plant(entries: Entries) -> Entries:
        """Structures and forces turned, each entry by a rotation of its own; stress left as it was."""
        changed = []
        for k, entry in enumerate(entries):
            turn, atoms = _rotation(seeds(k)), entry.atoms.copy()
            atoms.set_cell(atoms.cell.array @ turn, scale_atoms=False)
            atoms.positions = atoms.positions @ turn
            labels = replace(entry.labels, forces=_of(entry.labels.forces) @ turn)
            changed.append(replace(entry, atoms=atoms, labels=labels))
        return changed

    return plant


def _hidden(label: str, key: str) -> Callable[[Entries], Entries]:
    """A label that stands under a key which nobody read."""

    def plant(entries: Entries) -> Entries:
        """The label moved to another key."""
        changed = []
        for entry in entries:
            atoms, value = entry.atoms.copy(), getattr(entry.labels, label)
            if label == "forces":
                atoms.set_array(key, value)
            else:
                atoms.info[key] = value
            changed.append(replace(entry, atoms=atoms, labels=replace(entry.labels, **{label: None})))
        return changed

    return plant


def _with(*extra: tuple[Any, float]) -> Callable[[Entries], Entries]:
    """The set and more structures with energies."""
    return lambda entries: [
        *entries,
        *(
            Entry(atoms, Labels(energy=energy, forces=np.zeros((len(atoms), 3))), "more", k)
            for k, (atoms, energy) in enumerate(extra)
        ),
    ]


def _atom(symbol: str, energy: float) -> tuple[Any, float]:
    from ase import Atoms

    return Atoms(symbol, [[0.0, 0.0, 0.0]]), energy


def _isolated(energies: dict[str, float], again: float = 0.0) -> Callable[[Entries], Entries]:
    def plant(entries: Entries) -> Entries:
        """The set and isolated atoms after it."""
        atoms = [_atom(symbol, energy) for symbol, energy in energies.items()]
        if again:
            first = next(iter(energies))
            atoms.append(_atom(first, energies[first] + again))
        return _with(*atoms)(entries)

    return plant


def _primitive(entries: Entries) -> Entries:
    from ase.build import bulk

    crystals = label_structures([bulk("Cu", "fcc", a=a) for a in (3.6, 3.65)], "chgnet-0.3.0", "primitive")
    return entries + crystals


def _again(entries: Entries) -> Entries:
    """Three structures a second time, rotated and renumbered, 20 meV/atom higher."""
    changed = list(entries)
    for k in (3, 8, 15):
        entry, turn = entries[k], _rotation(k)
        atoms = entry.atoms[::-1]
        atoms.set_cell(atoms.cell.array @ turn, scale_atoms=False)
        atoms.positions = atoms.positions @ turn
        assert entry.labels.energy is not None
        labels = Labels(entry.labels.energy + 0.02 * len(atoms), (_of(entry.labels.forces) @ turn)[::-1])
        stress = None if entry.labels.stress is None else turn.T @ entry.labels.stress @ turn
        changed.append(replace(entry, atoms=atoms, labels=replace(labels, stress=stress), source="again"))
    return changed


def _shuffled(entries: Entries) -> Entries:
    forces = [entry.labels.forces for entry in entries]
    order = np.random.default_rng(1).permutation(len(entries))
    return [
        replace(e, labels=replace(e.labels, forces=forces[k])) for e, k in zip(entries, order, strict=True)
    ]


def _pinned(entries: Entries) -> Entries:
    """Forces of the first third of the atoms set to zero, as on atoms that are held fixed."""
    changed = []
    for entry in entries:
        forces = _of(entry.labels.forces).copy()
        forces[: len(forces) // 3 + 1] = 0.0
        changed.append(replace(entry, labels=replace(entry.labels, forces=forces)))
    return changed


def _shift(atoms: Atoms, k: int) -> None:
    atoms.positions[0] = atoms.positions[1] + [0.35, 0.0, 0.0]


def _evaporate(atoms: Atoms, k: int) -> None:
    if k % 9 == 0:
        atoms.positions[-1] += [25.0, 0.0, 0.0]


def _lose_periodicity(atoms: Atoms, k: int) -> None:
    atoms.pbc = False


def _in_bohr(atoms: Atoms, k: int) -> None:
    atoms.set_cell(atoms.cell.array / units.Bohr, scale_atoms=False)
    atoms.positions = atoms.positions / units.Bohr


def _offset(amount: float) -> Callable[[Entries], Entries]:
    """Energies shifted by so many eV per atom."""
    return _relabel(lambda e: {"energy": (e.labels.energy or 0.0) + amount * len(e.atoms)})


def _methods(entries: Entries) -> Entries:
    return [replace(entry, method="PBE" if k % 3 else "PBE+U 4.0 eV") for k, entry in enumerate(entries)]


def _even(k: int) -> bool:
    return k % 2 == 0


PLANTED: tuple[Planted, ...] = (
    Planted("stress in kbar", "salt", ("stress-in-kbar",), _stress(10 * _GPA)),
    Planted("stress in kbar, liquid", "argon", ("stress-in-kbar",), _stress(10 * _GPA)),
    Planted("stress in kbar, perfect crystals", "strains", ("stress-in-kbar",), _stress(10 * _GPA)),
    Planted("stress in GPa", "salt", ("stress-in-GPa",), _stress(_GPA)),
    Planted("stress in GPa, alloys", "alloys", ("stress-in-GPa",), _stress(_GPA)),
    Planted("stress of VASP", "trajectory", ("stress-in-kbar", "stress-sign"), _stress(-10 * _GPA)),
    Planted("stress of the wrong sign", "salt", ("stress-sign",), _stress(-1)),
    Planted("stress of the wrong sign, alloys", "alloys", ("stress-sign",), _stress(-1)),
    Planted("virial in place of stress", "alloys", ("virial-for-stress",), _virial(-1)),
    Planted("virial of the other sign", "alloys", ("virial-for-stress",), _virial(1)),
    Planted("energies in Ha", "ethanol", ("energy-in-Ha",), _energy(1 / units.Hartree)),
    Planted("energies in Ha, salt", "salt", ("energy-in-Ha",), _energy(1 / units.Hartree)),
    Planted("energies in Ry", "silicon", ("energy-in-Ry",), _energy(1 / units.Rydberg)),
    Planted("energies in kcal/mol", "ethanol", ("energy-in-kcal-per-mol",), _energy(_PER_MOL)),
    Planted("energies in kJ/mol", "argon", ("energy-in-kJ-per-mol",), _energy(units.mol / units.kJ)),
    Planted("energies per atom", "silicon", ("energy-per-atom",), _relabel(lambda e: _per_atom(e))),
    Planted(
        "energies per atom, sizes vary", "alloys", ("energy-per-atom",), _relabel(lambda e: _per_atom(e))
    ),
    Planted("forces in Ha/bohr", "ethanol", ("forces-in-Ha-per-bohr",), _forces(_FORCE_AU)),
    Planted("forces in Ry/bohr", "trajectory", ("forces-in-Ry-per-bohr",), _forces(2 * _FORCE_AU)),
    Planted("forces in kcal/mol/Å", "silicon", ("forces-in-kcal-per-mol-per-A",), _forces(_PER_MOL)),
    Planted(
        "atomic units throughout",
        "ethanol",
        ("energy-in-Ha", "forces-in-Ha-per-bohr"),
        _both(_energy(1 / units.Hartree), _forces(_FORCE_AU)),
    ),
    Planted("gradients in place of forces", "salt", ("gradients-for-forces",), _forces(-1)),
    Planted("gradients, molecules", "ethanol", ("gradients-for-forces",), _forces(-1)),
    Planted(
        "gradients in Ha/bohr",
        "silicon",
        ("gradients-for-forces", "forces-in-Ha-per-bohr"),
        _forces(-_FORCE_AU),
    ),
    Planted("positions in bohr", "ethanol", ("positions-in-bohr",), _moved(_in_bohr)),
    Planted("positions and cell in bohr", "salt", ("positions-in-bohr",), _moved(_in_bohr)),
    Planted("tensors in another frame", "salt", ("stress-frame",), _turned(lambda _: 1)),
    Planted("tensors in another frame, each its own", "salt", ("stress-frame",), _turned(lambda k: k)),
    Planted("tensors in another frame, perfect crystals", "strains", ("stress-frame",), _turned(lambda k: k)),
    Planted("tensors in another frame, one cell", "silicon", ("stress-frame",), _turned(lambda k: k), True),
    Planted(
        "energies under another key", "salt", ("labels-under-another-key",), _hidden("energy", "dft_energy")
    ),
    Planted(
        "forces under another key", "salt", ("labels-under-another-key",), _hidden("forces", "DFT_forces")
    ),
    Planted(
        "virials under another key", "salt", ("labels-under-another-key",), _hidden("stress", "vasp_virial")
    ),
    Planted(
        "stress on some frames",
        "salt",
        ("stress-on-some-frames",),
        _some(_even, _relabel(lambda _: {"stress": None})),
    ),
    Planted(
        "forces on some frames",
        "ethanol",
        ("forces-on-some-frames",),
        _some(lambda k: k % 7 == 3, _relabel(lambda _: {"forces": None})),
    ),
    Planted("one-atom cells", "alloys", ("one-atom-cells",), _primitive),
    Planted(
        "an isolated atom missing", "ethanol", ("isolated-atoms-missing",), _isolated({"C": -1.2, "H": -1.1})
    ),
    Planted(
        "isolated atoms twice",
        "ethanol",
        ("isolated-atoms-disagree",),
        _isolated({"C": -1.2, "H": -1.1, "O": -1.6}, again=0.4),
    ),
    Planted(
        "isolated atoms of another method",
        "ethanol",
        ("isolated-atoms-off",),
        _isolated({"C": -1027.0, "H": -13.6, "O": -2038.0}),
    ),
    Planted("duplicates with other labels", "salt", ("duplicates-disagree",), _again),
    Planted("duplicate molecules with other labels", "ethanol", ("duplicates-disagree",), _again),
    Planted("two levels of theory", "salt", ("mixed-theory",), _some(_even, _offset(0.8))),
    Planted(
        "two levels of theory, some of each formula",
        "alloys",
        ("mixed-theory",),
        _some(lambda k: k % 8 > 4, _offset(-1.5)),
    ),
    Planted(
        "two levels of theory, molecules",
        "ethanol",
        ("mixed-theory",),
        _some(lambda k: k % 3 == 0, _offset(0.3)),
    ),
    Planted("two methods by name", "silicon", ("mixed-theory",), _methods),
    Planted("net forces of fixed atoms", "silicon", ("net-force",), _pinned),
    Planted(
        "net force, molecules",
        "ethanol",
        ("net-force",),
        _relabel(lambda e: {"forces": _of(e.labels.forces) + 0.05}),
    ),
    Planted("atoms too close", "ethanol", ("atoms-too-close",), _moved(_shift)),
    Planted("atoms far away", "ethanol", ("far-away-atoms",), _moved(_evaporate)),
    Planted("zero forces everywhere", "salt", ("zero-forces",), _forces(0.0)),
    Planted(
        "zero forces on some frames", "ethanol", ("zero-forces",), _some(lambda k: k % 5 == 0, _forces(0.0))
    ),
    Planted("one energy for all", "silicon", ("constant-energy",), _relabel(lambda _: {"energy": 0.0})),
    Planted("periodicity lost", "silicon", ("periodicity-lost",), _moved(_lose_periodicity)),
    Planted("unconverged frame", "trajectory", ("energy-outlier",), _some(lambda k: k == 17, _offset(1.5))),
    Planted(
        "unconverged frame, small", "trajectory", ("energy-outlier",), _some(lambda k: k == 17, _offset(0.05))
    ),
    Planted("forces of other frames", "trajectory", ("forces-disagree-with-energies",), _shuffled),
)
"""Every mistake that the audit must find by name."""


def _per_atom(entry: Entry) -> dict[str, Any]:
    assert entry.labels.energy is not None
    return {"energy": entry.labels.energy / len(entry.atoms)}
