"""What a data set offers to a training: labels, elements, groups; what lacks is said, never passed over."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols

from atomml.data.dataset import Dataset
from atomml.data.entry import LABELS, Entry
from atomml.data.label_reader import UNREAD_COLUMNS
from atomml.errors import ModelError, OptionError
from atomml.model import ModelInfo
from atomml.train.losses import Loss

__all__ = ["Survey", "check_covered", "check_groups", "survey"]


@dataclass
class Survey:
    """What one pass over a set of entries has seen.

    Attributes:
        what: What the set is, in words: ``training``, ``validation``.
        n_entries: Structures.
        n_atoms: Atoms.
        labels: Structures that carry each label.
        lost_stress: Structures whose stress cannot count, because they have no volume.
        one_atom: Structures of one atom; they are trained on like any other.
        charged: Structures with a net charge or spin that the model does not see.
        elements: Structures that hold each element.
        groups: Structures of each group.
        heads: Structures of each head; "" for those that name none.
        digests: One short digest per geometry.
        unread: Columns of vectors that were not read, of structures without forces.
    """

    what: str
    n_entries: int = 0
    n_atoms: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    lost_stress: int = 0
    one_atom: int = 0
    charged: int = 0
    elements: Counter[int] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    heads: Counter[str] = field(default_factory=Counter)
    digests: Counter[bytes] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)

    def record(self) -> dict[str, object]:
        """What ``summary.json`` says of the set."""
        return {
            "structures": self.n_entries,
            "atoms": self.n_atoms,
            **{name: self.labels[name] for name in LABELS},
            "one_atom_structures": self.one_atom,
            "elements": [chemical_symbols[z] for z in sorted(self.elements)],
            **({"heads": dict(self.heads)} if set(self.heads) - {""} else {}),
        }

    def sentences(self, loss: Loss) -> list[str]:
        """A line for each label that the loss wants and that some or all structures lack."""
        said = []
        for name in LABELS:
            found = self.labels[name]
            if not loss.wants(name) or found == self.n_entries or (name == "magmoms" and not found):
                continue
            if found == 0:
                none = f"None of the {self.n_entries} {self.what} structures"
                said.append(f"{none} has {_A[name]}: {_SO[name]}{self._hint(name)}.")
            else:
                said.append(
                    f"{self.n_entries - found} of {self.n_entries} {self.what} structures have no "
                    f"{_A[name].split()[-1]}: they count in the other labels only."
                )
        if self.charged:
            said.append(
                f"{self.charged} {self.what} structures have a net charge or spin, which the model does "
                "not see: it takes their labels for those of neutral ones."
            )
        if self.lost_stress:
            said.append(
                f"{self.lost_stress} {self.what} structures are not periodic or have no volume: their stress "
                "does not count."
            )
        return said

    def _hint(self, name: str) -> str:
        """Where forces may stand that were not found."""
        if name != "forces" or not self.unread:
            return ""
        return f" (not read: {', '.join(sorted(self.unread))}; --forces-key names one)"

    def repeated_in(self, other: Survey) -> int:
        """How many structures of the other set stand in this one too."""
        return sum(n for digest, n in other.digests.items() if digest in self.digests)


_A = {"energy": "an energy", "forces": "forces", "stress": "a stress", "magmoms": "magmoms"}
_SO = {
    "energy": "energies are not learned",
    "forces": "forces are not learned but through the energies",
    "stress": "stresses are not learned but through energies and forces",
    "magmoms": "magnetic moments are not learned",
}


def survey(dataset: Dataset, what: str, loss: Loss, info: ModelInfo | None = None) -> Survey:
    """Look at every entry once.

    Args:
        dataset: The entries.
        what: What the set is, in words.
        loss: What will be minimised.
        info: The model, whose elements must cover the data; None for a model that is yet to be made.

    Raises:
        OptionError: No entry, or none with a label that the loss wants.
        ModelError: An element that the model does not know.
    """
    seen = Survey(what)
    for entry in dataset:
        if info is not None:
            check_covered(entry, info)
        _look(seen, entry)
        info_of = entry.atoms.info
        if not (info and info.charge_aware) and (info_of.get("charge") or info_of.get("spin")):
            seen.charged += 1
    if seen.n_entries == 0:
        raise OptionError(f"The {what} set holds no structure: check its files.")
    wanted = [name for name in LABELS if loss.wants(name)]
    if not any(seen.labels[name] for name in wanted):
        raise OptionError(
            f"None of the {seen.n_entries} {what} structures has a label that the loss wants "
            f"({', '.join(wanted) or 'all weights are zero'}): name the keys of the file, such as "
            "--energy-key, or the weights."
        )
    return seen


def _look(seen: Survey, entry: Entry) -> None:
    atoms = entry.atoms
    seen.n_entries += 1
    seen.n_atoms += len(atoms)
    names = set(entry.labels.names)
    if "stress" in names and not (atoms.pbc.any() and abs(atoms.cell.volume) > 0):
        names.discard("stress")
        seen.lost_stress += 1
    seen.labels.update(names)
    seen.one_atom += len(atoms) == 1
    seen.elements.update({int(z) for z in atoms.numbers})
    seen.groups[entry.group] += 1
    seen.heads[entry.head] += 1
    if entry.labels.forces is None and (unread := str(atoms.info.get(UNREAD_COLUMNS, ""))):
        seen.unread.update(unread.split(","))
    seen.digests[_digest(entry)] += 1


def _digest(entry: Entry) -> bytes:
    """A digest of elements, positions and cell to 1e-6 Å; -0 counts as 0."""
    atoms = entry.atoms
    rounded = [np.round(array, 6) + 0.0 for array in (atoms.positions, atoms.cell.array)]
    data = b"".join([atoms.numbers.tobytes(), *(array.tobytes() for array in rounded)])
    return hashlib.blake2b(data, digest_size=12).digest()


def check_covered(entry: Entry, info: ModelInfo) -> None:
    """Refuse an element that the model does not know.

    Raises:
        ModelError: Names file, frame and atom.
    """
    for atom, number in enumerate(entry.atoms.numbers):
        if int(number) not in info.elements:
            raise ModelError(
                f"{entry.where}: atom {atom} is {chemical_symbols[number]}, an element that {info.name} was "
                "not trained on and has no weights for: leave such structures out, or take another model."
            )


def check_groups(weights: Mapping[str, float], groups: Iterable[str]) -> None:
    """Refuse a weight for a group that no structure belongs to.

    Raises:
        OptionError: Names the group and those that there are.
    """
    known = sorted(set(groups))
    for name in weights:
        if name not in known:
            there = ", ".join(group or "(none)" for group in known)
            raise OptionError(f"group_weights names {name!r}, but the training set has the groups {there}.")
