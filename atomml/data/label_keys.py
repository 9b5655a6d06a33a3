"""Under which keys and in which units a file keeps its labels; from its structures to entries.

Only the standard library is imported here, because ``atomml COMMAND --help`` reads
:class:`LabelKeys`: the options of any command that reads data inherit from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atomml.options import option

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.entry import Entry
    from atomml.data.structures import Frame

__all__ = ["AUTO", "NONE", "LabelKeys", "entries_of", "entry_of"]

AUTO = "auto"
"""Look for the label under the names that are usual for it."""

NONE = "none"
"""Leave the label out, whatever the file holds."""


@dataclass(frozen=True)
class LabelKeys:
    """Where labels stand in a file, and in which units.

    A key is a name in ``atoms.info``, ``atoms.arrays`` or the calculator's results; ``auto`` looks
    for the usual names, ``none`` leaves the label out. Units default to ASE's.
    """

    energy_key: str = option(AUTO, "key of the energy; auto, none, or a name in the file", metavar="KEY")
    forces_key: str = option(AUTO, "key of the forces", metavar="KEY")
    stress_key: str = option(AUTO, "key of the stress, or of the virial", metavar="KEY")
    magmoms_key: str = option(AUTO, "key of the magnetic moments", metavar="KEY")
    group_key: str = option(AUTO, "key of the configuration type", metavar="KEY")
    trajectory_key: str = option(AUTO, "key that names the trajectory of a frame", metavar="KEY")
    weight_key: str = option(AUTO, "key of the weight of a structure in a loss", metavar="KEY")
    energy_unit: str = option(
        "eV", "unit of energies, and of virials", choices=("eV", "meV", "Ha", "Ry", "kcal/mol", "kJ/mol")
    )
    energy_per_atom: bool = option(False, "energies are per atom, not of the whole structure")
    forces_unit: str = option(
        "eV/Å",
        "unit of forces",
        choices=(
            "eV/Å",
            "meV/Å",
            "Ha/bohr",
            "Ry/bohr",
            "Ha/Å",
            "kcal/mol/Å",
            "kJ/mol/nm",
            "kJ/mol/Å",
            "eV/nm",
        ),
    )
    stress_unit: str = option(
        "eV/Å³", "unit of stresses", choices=("eV/Å³", "GPa", "kbar", "bar", "Ha/bohr³", "Ry/bohr³")
    )
    stress_sign: str = option(
        "tension",
        "stress is positive under tension (ASE) or compression (VASP); that of --stress-quantity virial too",
        choices=("tension", "compression"),
    )
    stress_quantity: str = option(
        AUTO,
        "what stands under the stress key; auto: a virial if its name says so",
        choices=(AUTO, "stress", "virial"),
    )
    spin_convention: str = option(
        "unpaired", "what `spin` in the file counts", choices=("unpaired", "multiplicity")
    )

    @classmethod
    def of(cls, options: Any) -> LabelKeys:
        """The keys among the fields of any options that inherit from this class."""
        return LabelKeys(**{f.name: getattr(options, f.name) for f in dataclasses.fields(LabelKeys)})

    def in_ase_units(self) -> LabelKeys:
        """The same keys for what a reader has brought to ASE's units: the output of a DFT program."""
        return dataclasses.replace(self, **{name: getattr(LabelKeys, name) for name in _UNITS})

    @property
    def left_out(self) -> tuple[str, ...]:
        """Labels whose key is :data:`NONE`."""
        names = ("energy", "forces", "stress", "magmoms")
        return tuple(name for name in names if getattr(self, f"{name}_key") == NONE)

    @property
    def about_files(self) -> tuple[str, ...]:
        """Options that say how to read a file, and so nothing of a store; only those that were given."""
        changed = (f.name for f in dataclasses.fields(LabelKeys) if getattr(self, f.name) != f.default)
        return tuple(name for name in changed if getattr(self, name) != NONE)


_UNITS = ("energy_unit", "energy_per_atom", "forces_unit", "stress_unit", "stress_sign")


def entry_of(atoms: Atoms, keys: LabelKeys | None = None, source: str = "", frame: int = 0) -> Entry:
    """One structure with the labels that the file gives it, in ASE's units and shapes.

    A virial becomes a stress by -virial/volume. What was taken as a label no longer stands in
    ``entry.atoms``; other short values of ``atoms.info`` stay. The calculator and constraints go.

    Args:
        atoms: As a reader gives it; labels in its calculator's results, ``info`` or ``arrays``.
        keys: Where labels stand; the usual names if None.
        source: The file, for errors and for the entry.
        frame: Place in the file.

    Raises:
        InputError: A label of a wrong shape, a NaN (file, frame and atom are named), two usual
            names that disagree, or a spin that the number of electrons rules out.
    """
    from atomml.data.label_reader import read_entry

    return read_entry(atoms, keys or LabelKeys(), source, frame)


def entries_of(
    frames: Iterable[Frame], keys: LabelKeys | None = None, *, unlabelled: bool = False, method: str = ""
) -> Iterator[Entry]:
    """The entries of one file's structures, one by one, their trajectories marked.

    Args:
        frames: What :func:`atomml.data.structures.read_structures` yields for one file.
        keys: Where labels stand; the usual names if None.
        unlabelled: Whether a file without any label is taken.
        method: Level of theory of them all, where the file says none.

    Raises:
        InputError: As :func:`entry_of`; or after the last frame, no label was found under a given
            key, or none at all: the keys that are there are listed.
    """
    from atomml.data.label_reader import KeyLedger
    from atomml.data.trajectories import mark_trajectories

    keys = keys or LabelKeys()
    ledger = KeyLedger(keys, unlabelled)
    entries = ledger.entries(frames, method)
    yield from mark_trajectories(entries) if keys.trajectory_key == AUTO else entries
