"""Pairs of near-by structures, and the work that forces and stress do between them.

Between two structures of the same atoms the energy changes by the work along the way. With
scaled positions s and the cell A exp(tH), 0 <= t <= 1, that go straight from one to the other

    dE/dt = V sigma : H - sum_i F_i . (ds_i/dt A exp(tH)),

and the trapezoidal rule needs only what the two ends are labelled with. Its error is of third
order in the displacement. Any unit or sign that is wrong shows as the slope between both sides.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from atomml.data.entry import Entry

__all__ = ["PairCollector", "Pairs", "compare_entries"]

_FARTHEST = 0.7  # Å; an atom that moved farther has crossed the trapezoidal rule's range
_LARGEST_STRAIN = 0.1
_NO_STRAIN = 1e-6
_MOST_KEYS = 1000
_COLUMNS = 13

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Near-by structures and the work between them; one row per pair.

    Attributes:
        first: Index of one entry.
        second: Index of the other.
        change: Difference of their energies as they stand in the file.
        force_work: Minus forces times displacements; zero where nothing moved.
        isotropic: Volume times a third of the trace of the stress times that of the strain.
        deviatoric: What the rest of the stress does with the rest of the strain.
        has_stress: Whether both have a stress.
        strain: Largest component of the strain.
        curvature: Square root of the sum over atoms of (half the change of force times
            displacement)²: what a straight line misses without being wrong.
        bend: Absolute value of the same sum, without squares.
        displacement: Root mean square of the displacements, Å.
        n_atoms: Atoms.
        volume: Mean volume, Å³; 0 without a cell.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    change: Floats
    force_work: Floats
    isotropic: Floats
    deviatoric: Floats
    has_stress: NDArray[np.bool_]
    strain: Floats
    curvature: Floats
    bend: Floats
    displacement: Floats
    n_atoms: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def from_rows(cls, rows: Floats) -> Pairs:
        """From ``(n_pairs, 13)`` columns in the order of the attributes."""
        columns: dict[str, NDArray[Any]] = {
            name: np.ascontiguousarray(column)
            for name, column in zip(cls.__dataclass_fields__, rows.reshape(-1, _COLUMNS).T, strict=True)
        }
        columns["first"] = columns["first"].astype(np.int64)
        columns["second"] = columns["second"].astype(np.int64)
        columns["has_stress"] = columns["has_stress"] > 0
        return cls(**columns)

    def take(self, chosen: NDArray[np.bool_]) -> Pairs:
        """The rows where ``chosen`` is true."""
        return Pairs(**{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})


class PairCollector:
    """Takes entries one by one and keeps the work between those that lie near each other.

    Of each set of atoms, in their order, the last two entries and two earlier ones are held; of at
    most 1,000 sets.
    """

    def __init__(self) -> None:
        self._rows = array("d")
        self._held: OrderedDict[bytes, list[tuple[int, Entry]]] = OrderedDict()
        self._seen: dict[bytes, int] = {}

    def add(self, index: int, entry: Entry) -> None:
        """Compare an entry with those held, and hold it."""
        if entry.labels.energy is None or (len(entry.atoms) < 2 and entry.labels.stress is None):
            return
        key = entry.atoms.numbers.tobytes() + bytes(entry.atoms.pbc.tolist())
        held = self._held.setdefault(key, [])
        self._held.move_to_end(key)
        for other, earlier in held:
            row = compare_entries(earlier, entry)
            if row is not None:
                self._rows.extend((other, index, *row))
        self._hold(key, held, index, entry)
        if len(self._held) > _MOST_KEYS:
            old, _ = self._held.popitem(last=False)
            self._seen.pop(old, None)

    def pairs(self) -> Pairs:
        """What was collected so far."""
        return Pairs.from_rows(np.array(self._rows, dtype=np.float64))

    def _hold(self, key: bytes, held: list[tuple[int, Entry]], index: int, entry: Entry) -> None:
        """The first, one that is replaced ever more rarely, and the last two."""
        seen = self._seen[key] = self._seen.get(key, 0) + 1
        if len(held) < 4:
            held.append((index, entry))
            return
        if seen & (seen - 1) == 0:  # powers of two: the anchor moves with the set, and stays in its middle
            held[1] = held[2]
        held[2:] = [held[3], (index, entry)]


def compare_entries(a: Entry, b: Entry) -> tuple[float, ...] | None:
    """The row of :class:`Pairs` without its indices; None if the two don't lie near each other.

    Rigid motion is taken out first: a molecule is laid on the other, a rotated cell is rotated back.
    """
    frames = _aligned(a, b)
    if frames is None:
        return None
    displacement, later, log_strain, back = frames
    moved = np.linalg.norm(displacement, axis=1)
    strain = float(np.abs(log_strain).max())
    if moved.max(initial=0.0) > _FARTHEST or (strain < _NO_STRAIN and moved.max(initial=0.0) < 1e-7):
        return None
    work = _force_work(a, b, displacement, later, back)
    if work is None and moved.max(initial=0.0) > 1e-6:
        return None
    has_stress = a.labels.stress is not None and b.labels.stress is not None
    if strain > _NO_STRAIN and not has_stress:
        return None
    still = strain <= _NO_STRAIN
    isotropic, deviatoric, volume = _stress_work(a, b, 0 * log_strain if still else log_strain, back)
    assert a.labels.energy is not None
    assert b.labels.energy is not None
    force_work, curvature, bend = work if work and moved.max() > 1e-6 else (0.0, 0.0, 0.0)
    rms = float(np.sqrt((moved**2).mean()))
    return (
        b.labels.energy - a.labels.energy,
        force_work,
        isotropic,
        deviatoric,
        float(has_stress),
        strain,
        curvature,
        bend,
        rms,
        float(len(a.atoms)),
        volume,
    )


def _aligned(a: Entry, b: Entry) -> tuple[Floats, Floats, Floats, Floats] | None:
    """Displacements in the first and in the second cell, log strain, and the rotation of b back to a."""
    if a.atoms.pbc.any():
        return _aligned_crystals(a, b)
    first = a.atoms.positions - a.atoms.positions.mean(axis=0)
    second = b.atoms.positions - b.atoms.positions.mean(axis=0)
    u, _, vt = np.linalg.svd(second.T @ first)
    u[:, -1] *= np.sign(np.linalg.det(u @ vt)) or 1.0
    rotation = u @ vt  # second @ rotation lies on first
    displacement = second @ rotation - first
    return displacement, displacement, np.zeros((3, 3)), rotation


def _aligned_crystals(a: Entry, b: Entry) -> tuple[Floats, Floats, Floats, Floats] | None:
    from atomml.graph.neighbours import complete_cell

    pbc = np.asarray(a.atoms.pbc, dtype=bool)
    first = complete_cell(a.atoms.cell.array, pbc)
    second = complete_cell(b.atoms.cell.array, pbc)
    deformation = np.linalg.solve(first, second)
    if not pbc.all() and np.abs(deformation - np.eye(3)).max() > _NO_STRAIN:
        return None
    u, stretches, vt = np.linalg.svd(deformation)
    if np.linalg.det(deformation) <= 0 or np.abs(stretches - 1).max() > _LARGEST_STRAIN:
        return None
    stretch = (u * stretches) @ u.T
    log_strain = (u * np.log(stretches)) @ u.T
    scaled = b.atoms.positions @ np.linalg.inv(second) - a.atoms.positions @ np.linalg.inv(first)
    scaled -= np.round(scaled) * pbc
    scaled -= _drift(scaled, pbc)
    scaled -= np.round(scaled) * pbc
    displacement = scaled @ first
    return displacement, displacement @ stretch, log_strain, (u @ vt).T


def _drift(scaled: Floats, pbc: NDArray[np.bool_]) -> Floats:
    """The common motion of all atoms, found on the circle where the direction is periodic."""
    angles = 2 * np.pi * scaled
    around = np.arctan2(np.sin(angles).mean(axis=0), np.cos(angles).mean(axis=0)) / (2 * np.pi)
    inside = scaled - around
    inside -= np.round(inside) * pbc
    return np.where(pbc, around + inside.mean(axis=0), scaled.mean(axis=0))


def _force_work(
    a: Entry, b: Entry, displacement: Floats, later: Floats, back: Floats
) -> tuple[float, float, float] | None:
    if a.labels.forces is None or b.labels.forces is None:
        return None
    before = (a.labels.forces * displacement).sum(axis=1)
    after = ((b.labels.forces @ back) * later).sum(axis=1)
    bend = 0.5 * (after - before)
    return -0.5 * float((before + after).sum()), float(np.sqrt((bend**2).sum())), float(abs(bend.sum()))


def _stress_work(a: Entry, b: Entry, log_strain: Floats, back: Floats) -> tuple[float, float, float]:
    if not a.atoms.pbc.all():
        return 0.0, 0.0, 0.0
    volumes = a.atoms.get_volume(), b.atoms.get_volume()
    volume = 0.5 * sum(volumes)
    if a.labels.stress is None or b.labels.stress is None:
        return 0.0, 0.0, volume
    mean = 0.5 * (volumes[0] * a.labels.stress + volumes[1] * back.T @ b.labels.stress @ back)
    isotropic = float(np.trace(mean) * np.trace(log_strain)) / 3
    return isotropic, float((mean * log_strain).sum()) - isotropic, volume
