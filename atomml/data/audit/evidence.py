"""What one pass over a data set writes down: a row of numbers per entry, and the near pairs.

Structures aren't held: about 300 bytes per entry stay in memory, however many atoms it has.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atomml.data.audit.near_pairs import PairCollector, Pairs
from atomml.data.audit.neighbourhood import Neighbourhood, neighbourhood
from atomml.data.fingerprint import N_FEATURES
from atomml.errors import StructureError

if TYPE_CHECKING:
    from atomml.data.audit.unit_traps import Verdict
    from atomml.data.entry import Entry

__all__ = ["Evidence", "gather"]

Floats = NDArray[np.float64]

_NAMES = (
    "n_atoms",
    "energy",
    "volume",
    "n_periodic",
    "has_forces",
    "max_force",
    "mean_square_force",
    "net_force",
    "has_stress",
    "pressure",
    "largest_stress",
    "charge",
    "spin",
    "has_cell",
    "image_distance",
    "closest",
    "polarity",
    "n_lost",
    "crossing",
)
_TEXTS = ("composition", "source", "group", "trajectory", "method")
_BLOCK = 8
_MOST_BLOCKS = 750
_ISOLATED = 7.0  # Å to the nearest image; a crystal with one atom in its cell has 2 to 6 (caesium 5.3)

_ENERGY_KEY = re.compile(r"(^|_)(energy|energies|e|etot|e_?tot|toten|e0|e_0|efree|total_?e)(_|$)", re.I)
_NO_TOTAL = re.compile(
    r"per_?atom|formation|hull|gap|kinetic|correction|cohesive|binding|fermi|relax|zero|zpe|ekin|"
    r"interaction|adsorption|atomization|std|var|uncert|error|cutoff|encut|surface|strain",
    re.I,
)
_FORCE_KEY = re.compile(r"force|gradient|(^|_)grad(_|$)", re.I)
_STRESS_KEY = re.compile(r"stress|virial", re.I)


@dataclass(frozen=True)
class Evidence:
    """A data set by column. Every column has one number per entry; NaN where there is none.

    Attributes:
        entries: The set itself, for a second look at few of them.
        columns: By name: ``n_atoms``, ``energy`` (eV), ``volume`` (Å³), ``max_force``, ``net_force``
            per atom (eV/Å), ``pressure``, ``largest_stress`` (eV/Å³), ``image_distance`` (Å) ...
        codes: ``composition``, ``source``, ``group``, ``trajectory``, ``method`` as numbers.
        words: What each number stands for.
        fingerprints: ``(n_entries, N_FEATURES)``; NaN where the surroundings were not looked at.
        pairs: Near-by structures.
        unread: Keys in ``info`` or ``arrays`` that look like a label: (label, key) and how often.
        looked_at: How many entries had their surroundings looked at.
        unreadable: Entries whose structure makes no sense, and why.
    """

    entries: Sequence[Entry]
    columns: Mapping[str, Floats]
    codes: Mapping[str, NDArray[np.int64]]
    words: Mapping[str, list[str]]
    fingerprints: Floats
    pairs: Pairs
    unread: Mapping[tuple[str, str], int]
    looked_at: int
    unreadable: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["n_atoms"])

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]

    @cached_property
    def single(self) -> NDArray[np.bool_]:
        """Entries of one atom."""
        return self["n_atoms"] == 1

    @cached_property
    def isolated(self) -> NDArray[np.bool_]:
        """Entries of one atom that sees no image of itself."""
        return self.single & ~(self["image_distance"] < _ISOLATED)

    @cached_property
    def verdict(self) -> Verdict:
        """What the near pairs say of units and signs."""
        from atomml.data.audit.unit_traps import verdict_of

        forces = np.sqrt(self["mean_square_force"])
        usual = float(np.nanmedian(forces)) if np.isfinite(forces).any() else 1.0
        return verdict_of(self.pairs, usual)

    @cached_property
    def elements(self) -> list[int]:
        """Atomic numbers in the set, ascending."""
        return sorted({number for word in self.words["composition"] for number, _ in parse_composition(word)})

    @cached_property
    def counts(self) -> Floats:
        """``(n_entries, n_elements)`` atoms of each element."""
        place = {number: k for k, number in enumerate(self.elements)}
        table = np.zeros((max(1, len(self.words["composition"])), len(self.elements)))
        for row, word in enumerate(self.words["composition"]):
            for number, count in parse_composition(word):
                table[row, place[number]] = count
        return table[self.codes["composition"]]

    def named(self, index: int) -> str:
        """The entry as a person finds it: file and frame."""
        return self.entries[index].where


def parse_composition(word: str) -> list[tuple[int, int]]:
    """``"8:1 1:2"`` as pairs of atomic number and count."""
    return [(int(number), int(count)) for number, count in (part.split(":") for part in word.split())]


def gather(entries: Sequence[Entry], sample: int = 50_000) -> Evidence:
    """Read the whole set once.

    Args:
        entries: The set.
        sample: At most about so many entries have their surroundings looked at, evenly spaced.
    """
    n = len(entries)
    stride = max(1, -(-n // sample))
    block_stride = max(1, -(-n // (_BLOCK * _MOST_BLOCKS)))
    rows, prints = array("d"), array("d")
    ids: dict[str, dict[str, int]] = {name: {} for name in _TEXTS}
    codes = array("q")
    unread: Counter[tuple[str, str]] = Counter()
    unreadable: dict[int, str] = {}
    collector = PairCollector()
    for index, entry in enumerate(entries):
        seen = None
        if index % stride == 0:
            try:
                seen = neighbourhood(entry.atoms)
            except StructureError as error:
                unreadable[index] = str(error)
        rows.extend(_row(entry, seen))
        prints.extend(seen.fingerprint if seen is not None else [np.nan] * N_FEATURES)
        for name, text in zip(_TEXTS, _texts(entry), strict=True):
            codes.append(ids[name].setdefault(text, len(ids[name])))
        unread.update(_label_like(entry))
        if (index // _BLOCK) % block_stride == 0 and index not in unreadable:
            collector.add(index, entry)
    table = np.array(rows, dtype=np.float64).reshape(n, len(_NAMES))
    numbers = np.array(codes, dtype=np.int64).reshape(n, len(_TEXTS))
    return Evidence(
        entries,
        {name: table[:, k] for k, name in enumerate(_NAMES)},
        {name: numbers[:, k] for k, name in enumerate(_TEXTS)},
        {name: list(ids[name]) for name in _TEXTS},
        np.array(prints, dtype=np.float64).reshape(n, N_FEATURES),
        collector.pairs(),
        dict(unread),
        len(range(0, n, stride)),
        unreadable,
    )


def _row(entry: Entry, seen: Neighbourhood | None) -> list[float]:
    atoms, labels, nan = entry.atoms, entry.labels, float("nan")
    forces, stress = labels.forces, labels.stress
    periodic = int(atoms.pbc.sum())
    volume = abs(float(np.linalg.det(atoms.cell.array)))
    return [
        len(atoms),
        nan if labels.energy is None else labels.energy,
        volume if periodic == 3 else nan,
        periodic,
        forces is not None,
        nan if forces is None else float(np.linalg.norm(forces, axis=1).max()),
        nan if forces is None else float((forces**2).sum(axis=1).mean()),
        nan if forces is None else float(np.abs(forces.sum(axis=0)).max()) / len(atoms),
        stress is not None,
        nan if stress is None else -float(np.trace(stress)) / 3,
        nan if stress is None else float(np.abs(stress).max()),
        _number(atoms.info.get("charge")),
        _number(atoms.info.get("spin")),
        volume > 1e-6,
        _image_distance(atoms.cell.array, atoms.pbc),
        *((seen.closest, seen.polarity, seen.n_lost, seen.crossing) if seen is not None else (nan,) * 4),
    ]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float | np.number) else 0.0


def _image_distance(cell: Floats, pbc: NDArray[np.bool_]) -> float:
    """Length of the shortest lattice vector among the first images; inf without periodicity."""
    steps = np.stack(np.meshgrid(*([np.arange(-2, 3)] * 3), indexing="ij"), axis=-1).reshape(-1, 3)
    steps = steps[(steps != 0).any(axis=1) & ((steps == 0) | pbc).all(axis=1)]
    return float(np.linalg.norm(steps @ cell, axis=1).min()) if len(steps) else float("inf")


def _texts(entry: Entry) -> tuple[str, ...]:
    numbers, counts = np.unique(entry.atoms.numbers, return_counts=True)
    word = " ".join(f"{number}:{count}" for number, count in zip(numbers, counts, strict=True))
    return word, entry.source, entry.group, entry.trajectory, entry.method


def _label_like(entry: Entry) -> list[tuple[str, str]]:
    """Keys that hold what looks like a label and was not read as one."""
    found = []
    labels = entry.labels
    for key, value in entry.atoms.info.items():
        size = _size(value)
        if labels.energy is None and size == 1 and is_energy_key(str(key)):
            found.append(("energy", str(key)))
        elif labels.stress is None and size in (6, 9) and _STRESS_KEY.search(str(key)):
            found.append(("stress", str(key)))
    for key, values in entry.atoms.arrays.items():
        if labels.forces is None and looks_like_forces(key, values):
            found.append(("forces", key))
    return found


def is_energy_key(key: str) -> bool:
    """Whether a key's name is that of a total energy; no formation energy, gap or energy per atom."""
    return bool(_ENERGY_KEY.search(key)) and not _NO_TOTAL.search(key)


def looks_like_forces(key: str, values: NDArray[np.float64]) -> bool:
    """Whether an array of a structure looks like forces by its name and shape."""
    return bool(_FORCE_KEY.search(key)) and values.ndim == 2 and values.shape[1] == 3


def _size(value: object) -> int:
    if isinstance(value, str | bool):
        return 0
    values = np.asarray(value)
    return values.size if values.dtype.kind in "fiu" else 0
