"""Labels taken from an ``ase.Atoms``: found by key, converted, checked; the reader behind ``entry_of``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atomml.data.entry import LABELS, Entry, Labels
from atomml.data.label_keys import AUTO, NONE, LabelKeys
from atomml.data.label_units import ENERGY, FORCE, STRESS
from atomml.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.structures import Frame

__all__ = ["UNREAD_COLUMNS", "KeyLedger", "read_entry"]

UNREAD_COLUMNS = "unread_columns"
"""Key in ``atoms.info`` of an entry without forces: its columns of vectors that were not read, by name."""

_NO_FORCES = ("positions", "momenta", "velocities", "initial_magmoms")
_ORIGINS = ("", "ref_", "dft_", "qm_", "true_", "target_")


def _spellings(*names: str) -> frozenset[str]:
    """Usual names of a label in lower case: ``energy``, ``REF_energy``, ``energy_dft`` ..."""
    heads = {origin + name for origin in _ORIGINS for name in names}
    tails = {f"{name}_{origin}".rstrip("_") for origin in _ORIGINS for name in names}
    return frozenset(heads | tails)


_USUAL = {
    "energy": _spellings("energy", "total_energy", "tot_energy"),
    "forces": _spellings("forces", "force"),
    "stress": _spellings("stress", "virial", "virials"),
    "magmoms": _spellings("magmoms", "magmom", "magnetic_moments"),
}
_GROUP_KEYS = ("config_type", "configuration_type", "configtype", "group")
_TRAJECTORY_KEYS = ("trajectory", "trajectory_id", "traj_id")
_METHOD_KEYS = ("method", "level_of_theory", "functional")
_WEIGHT_KEYS = ("config_weight", "weight")
_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
_ASYMMETRY = 0.01  # of the largest component; rounding in text files is far below, another tensor far above
_SAME = 1e-6  # relative; two names of one number differ by rounding in text, 1e-8, or by being different
_LONGEST_INFO = 200  # characters or numbers of a value of info that is kept

Named = Mapping[str, Any]


def read_entry(atoms: Atoms, keys: LabelKeys, source: str, frame: int) -> Entry:
    """See :func:`atomml.data.label_keys.entry_of`."""
    where = f"{source or 'structure'}, frame {frame}"
    found = _Found(atoms, keys, where)
    labels = Labels(
        energy=found.energy(),
        forces=found.forces(),
        stress=found.stress(),
        magmoms=found.magmoms(),
    )
    group = found.text(keys.group_key, _GROUP_KEYS)
    trajectory = found.text(keys.trajectory_key, _TRAJECTORY_KEYS)
    weight = found.weight()
    method = found.text(AUTO, _METHOD_KEYS)
    bare = _bare(atoms, found.used, keys, where)
    if labels.forces is None and (unread := _unread_columns(atoms, found.used)):
        bare.info[UNREAD_COLUMNS] = unread
    return Entry(
        atoms=bare,
        labels=labels,
        source=source,
        frame=frame,
        group=group,
        trajectory=trajectory,
        weight=weight,
        method=method,
    )


class KeyLedger:
    """Which keys a file's structures have and which labels came of them; says so if none did.

    Args:
        keys: What was asked for.
        unlabelled: Whether a file without any label is taken.
    """

    def __init__(self, keys: LabelKeys, unlabelled: bool = False) -> None:
        self._keys = keys
        self._unlabelled = unlabelled
        self._seen: dict[str, None] = {}
        self._counts = dict.fromkeys(LABELS, 0)
        self._n_frames = 0
        self._source = ""

    def entries(self, frames: Iterable[Frame], method: str = "") -> Iterator[Entry]:
        """The entries of one file's frames; after the last, :meth:`check` is called.

        Raises:
            InputError: As :func:`atomml.data.label_keys.entry_of` and :meth:`check`.
        """
        for item in frames:
            entry = read_entry(item.atoms, self._keys, str(item.path), item.index)
            self._seen.update(dict.fromkeys(_places(item.atoms)))
            self._n_frames += 1
            self._source = entry.source
            for name in entry.labels.names:
                self._counts[name] += 1
            yield replace(entry, method=method) if method and not entry.method else entry
        self.check()

    def check(self) -> None:
        """After the last frame.

        Raises:
            InputError: A key that was asked for gave no label, or nothing was found at all.
        """
        keys_there = f"the file's keys are {', '.join(self._seen) or 'none'}"
        for name in LABELS:
            key = getattr(self._keys, f"{name}_key")
            if key not in (AUTO, NONE) and self._n_frames and not self._counts[name]:
                raise InputError(
                    f"{self._source}: no frame has {name} under the key {key!r}; {keys_there}: "
                    f"give one of them as --{name}-key, or 'none'."
                )
        if self._n_frames and not self._unlabelled and not any(self._counts.values()):
            raise InputError(
                f"{self._source}: no labels were found under the usual names; {keys_there}: "
                "name them with --energy-key, --forces-key and --stress-key."
            )


def _places(atoms: Atoms) -> dict[str, Any]:
    """Everything that may be a label, by name: the calculator's results, then info and arrays."""
    named: dict[str, Any] = {}
    for name, value in atoms.info.items():
        named[str(name)] = value
    for name, value in atoms.arrays.items():
        if name not in ("numbers", "positions"):
            named[name] = value
    if atoms.calc is not None:
        named.update({k: v for k, v in getattr(atoms.calc, "results", {}).items() if v is not None})
    return named


class _Found:
    """The labels of one structure; remembers which keys were used."""

    def __init__(self, atoms: Atoms, keys: LabelKeys, where: str) -> None:
        self._atoms, self._keys, self._where = atoms, keys, where
        self._named = _places(atoms)
        self.used: set[str] = set()

    def energy(self) -> float | None:
        """Total energy, eV."""
        factor = ENERGY[self._keys.energy_unit] * (len(self._atoms) if self._keys.energy_per_atom else 1)
        array = self._label("energy", lambda name, value: self._numbers(name, value, (1,)) * factor)
        return None if array is None else float(array[0])

    def forces(self) -> NDArray[np.float64] | None:
        """``(n_atoms, 3)`` eV/Å."""
        factor = FORCE[self._keys.forces_unit]
        shape = (len(self._atoms), 3)
        return self._label("forces", lambda name, value: self._numbers(name, value, shape) * factor)

    def magmoms(self) -> NDArray[np.float64] | None:
        """``(n_atoms,)`` μB."""
        shape = (len(self._atoms),)
        named = self._named
        if self._keys.magmoms_key == AUTO:  # ASE's own `magmom` is the total moment, a number
            self._named = {k: v for k, v in named.items() if np.ndim(v) or k.lower() != "magmom"}
        found = self._label("magmoms", lambda name, value: self._numbers(name, value, shape))
        self._named = named
        return found

    def stress(self) -> NDArray[np.float64] | None:
        """``(3, 3)`` eV/Å³; None for a molecule whose file says zero."""
        found = self._label("stress", self._stress_from)
        if found is not None and not self._atoms.pbc.any():
            if not found.any():
                return None
            raise InputError(
                f"{self._where}: a stress is given for a structure that is not periodic: "
                "mend pbc, or pass --stress-key none."
            )
        return found

    def text(self, key: str, usual: tuple[str, ...]) -> str:
        """A value of ``info`` as text; "" if there is none."""
        names = () if key == NONE else usual if key == AUTO else (key,)
        for name in names:
            if name in self._atoms.info:
                self.used.add(name)
                return str(self._atoms.info[name])
        return ""

    def weight(self) -> float:
        """Weight of the entry in a loss; 1 if the file says none."""
        text = self.text(self._keys.weight_key, _WEIGHT_KEYS)
        try:
            weight = float(text) if text else 1.0
        except ValueError:
            weight = float("nan")
        if not (0 <= weight < float("inf")):
            raise InputError(f"{self._where}: the weight is {text!r}: give a number of at least 0.")
        return weight

    def _label(self, label: str, convert: Any) -> NDArray[np.float64] | None:
        key = getattr(self._keys, f"{label}_key")
        if key == NONE:
            return None
        if key != AUTO:
            if self._named.get(key) is None:
                return None
            self.used.add(key)
            return convert(key, self._named[key])
        usual = _USUAL[label]
        names = [name for name, value in self._named.items() if name.lower() in usual and value is not None]
        if not names and label == "energy" and "free_energy" in self._named:
            names = ["free_energy"]
        values = [convert(name, self._named[name]) for name in names]
        for name, value in zip(names[1:], values[1:], strict=True):
            scale = max(float(np.abs(values[0]).max()), 1e-3)
            if np.abs(value - values[0]).max() > _SAME * scale:
                raise InputError(
                    f"{self._where}: {names[0]} and {name} both look like the {label} and disagree: "
                    f"say which with --{label}-key."
                )
        self.used.update(names)
        return values[0] if values else None

    def _stress_from(self, name: str, value: Any) -> NDArray[np.float64]:
        array = np.asarray(value)
        if array.dtype.kind in "fiu" and array.size == 6:
            array = array.reshape(6)[_VOIGT]
        elif array.dtype.kind in "fiu" and array.shape == (9,):
            array = array.reshape(3, 3)
        tensor = self._numbers(name, array, (3, 3), "6 (Voigt: xx, yy, zz, yz, xz, xy), 9 or 3x3")
        if np.abs(tensor - tensor.T).max() > _ASYMMETRY * np.abs(tensor).max():
            raise InputError(
                f"{self._where}: {name} is not symmetric: no stress is like that; mend the file."
            )
        tensor = 0.5 * (tensor + tensor.T)
        quantity = self._keys.stress_quantity
        sign = 1.0 if self._keys.stress_sign == "tension" else -1.0
        if quantity == AUTO:
            quantity = "virial" if "virial" in name.lower() else "stress"
        if quantity == "virial":
            if self._atoms.cell.rank < 3:
                raise InputError(
                    f"{self._where}: a virial is given without a cell to divide it by: "
                    "add the cell, or pass --stress-key none."
                )
            self._refuse_for_virials(name)
            return -sign * tensor * ENERGY[self._keys.energy_unit] / self._atoms.get_volume()
        return tensor * sign * STRESS[self._keys.stress_unit]

    def _refuse_for_virials(self, name: str) -> None:
        """Options meant for stresses would be passed over, or turn a sign that is right."""
        keys = self._keys
        if keys.stress_unit == LabelKeys.stress_unit and (
            keys.stress_sign == LabelKeys.stress_sign or keys.stress_quantity == "virial"
        ):
            return
        raise InputError(
            f"{self._where}: {name} is taken for a virial, which has the unit of energies and the sign "
            "opposite to the stress's: leave --stress-unit and --stress-sign out for this file, or say "
            "--stress-quantity stress."
        )

    def _numbers(
        self, name: str, value: Any, shape: tuple[int, ...], described: str = ""
    ) -> NDArray[np.float64]:
        """``value`` as float64 of ``shape``; finite."""
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise InputError(f"{self._where}: {name} is no numbers ({str(value)[:40]!r}): mend the file.")
        if shape == (1,) and array.size == 1:
            array = array.reshape(1)
        if array.shape != shape:
            wanted = described or " x ".join(map(str, shape))
            raise InputError(
                f"{self._where}: {name} has the shape {' x '.join(map(str, array.shape)) or 'of one number'} "
                f"where {wanted} is meant: mend the file or name another key."
            )
        array = array.astype(np.float64)
        finite = np.isfinite(array)
        if not finite.all():
            first = int(np.argwhere(~finite)[0][0])
            atom = f" of atom {first}" if shape[0] == len(self._atoms) and shape != (1,) else ""
            raise InputError(f"{self._where}: {name}{atom} is not finite: mend or leave out the frame.")
        return array


def _bare(atoms: Atoms, used: set[str], keys: LabelKeys, where: str) -> Atoms:
    """The structure without calculator, constraints and labels; charge and spin in ``info``."""
    bare = type(atoms)(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.info = {
        str(name): _plain(value)
        for name, value in atoms.info.items()
        if name not in used and _is_short(value)
    }
    _set_charge_and_spin(bare, keys, where)
    return bare


def _unread_columns(atoms: Atoms, used: set[str]) -> str:
    """Columns that may be forces under a name nobody expects."""
    return ",".join(
        name
        for name, array in atoms.arrays.items()
        if array.dtype.kind == "f" and array.shape[1:] == (3,) and name not in used and name not in _NO_FORCES
    )


def _is_short(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_INFO
    array = np.asarray(value)
    return array.dtype.kind in "fiub" and array.size <= 9


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _set_charge_and_spin(atoms: Atoms, keys: LabelKeys, where: str) -> None:
    """``charge`` and ``spin`` (unpaired electrons) under these names, from those that files use."""
    info = atoms.info
    charge = info.pop("total_charge", None) if "charge" not in info else info["charge"]
    spin = info.get("spin")
    if spin is not None and keys.spin_convention == "multiplicity":
        spin = spin - 1
    for name in ("multiplicity", "spin_multiplicity"):
        if name in info:
            value = info.pop(name)
            spin = value - 1 if spin is None else spin
    for name, value in (("charge", charge), ("spin", spin)):
        if value is None:
            continue
        if isinstance(value, bool | str | list) or not np.isfinite(value):
            raise InputError(f"{where}: {name} is {value!r}: give a number.")
        info[name] = value
    if spin is None or atoms.pbc.any():
        return
    electrons = int(atoms.numbers.sum()) - round(charge or 0)
    if spin < 0 or (electrons - round(spin)) % 2:
        raise InputError(
            f"{where}: {electrons} electrons cannot leave {spin:g} unpaired: if the file counts the "
            "multiplicity, pass --spin-convention multiplicity."
        )
