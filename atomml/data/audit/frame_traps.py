"""Stress tensors left in another frame than the cell: only their trace is right.

One public set (mlearn, Zuo et al., J. Phys. Chem. A 124, 731, 2020) has its cells and forces turned
into another orientation and its stress tensors not. Two tests need no model: the work of the
deviatoric stress along strained pairs, and the symmetry of the crystal, which its stress must share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atomml.data.audit.evidence import Evidence
from atomml.data.audit.finding import ERROR, Finding
from atomml.data.audit.hypotheses import stress_hypotheses
from atomml.data.audit.scale_fit import Floats, Slope, fit_slope, partial_slopes
from atomml.data.audit.unit_traps import Verdict
from atomml.data.symmetry import point_group

if TYPE_CHECKING:
    from atomml.data.entry import Entry

__all__ = ["stress_frame", "symmetry_violation"]

_FEWEST_PAIRS = 8
_FEWEST_CRYSTALS = 3
_STRAINED = 1e-4
_SURE = 0.5
_LOOSE = 0.35
_VIOLATION = 0.3
_MOST_CRYSTALS = 150
_MOST_ATOMS = 120
_SYMPREC = 2e-4  # Å
_ADVICE = (
    "Turn the tensors as the cells were turned (R sigma R^T), or read the set with --stress-key none; the "
    "pressure alone is still right."
)


def stress_frame(evidence: Evidence) -> list[Finding]:
    """Tensors whose trace does its work and whose rest doesn't, or which break the crystal's symmetry."""
    found = _by_work(evidence)
    return found or _by_symmetry(evidence)


def _by_work(evidence: Evidence) -> list[Finding]:
    verdict = evidence.verdict
    pairs = verdict.pairs
    strained = pairs.strain > _STRAINED
    if strained.sum() < _FEWEST_PAIRS or not (pairs.isotropic.any() and pairs.deviatoric.any()):
        return []
    rest = verdict.change() - verdict.work(stress=False)
    factor = _unit_factor(verdict, rest)
    if factor is None:
        return []
    columns = (factor * pairs.isotropic, factor * pairs.deviatoric)
    trace, tensor = partial_slopes(
        tuple(column[strained] for column in columns), rest[strained], verdict.noise[strained]
    )
    if trace is None or not trace.tells or not trace.allows(1.0, 1.25) or trace.correlation < _SURE:
        return []
    if not _matters(columns, rest, strained) or _works(tensor):
        return []
    share = 0.0 if tensor is None else tensor.value
    sentence = (
        f"Along {int(strained.sum())} strained pairs the trace of the stress does the work that the "
        f"energies ask for ({trace.value:.2f} of it, squared correlation {trace.correlation:.2f}) and the "
        f"rest of the tensor doesn't ({share:.2f}, {0.0 if tensor is None else tensor.correlation:.2f}): "
        "the tensors stand in another frame than the cells."
    )
    entries = np.unique(np.concatenate([pairs.first, pairs.second]))
    return [Finding.of("stress-frame", ERROR, sentence, _ADVICE, entries)]


def _works(tensor: Slope | None) -> bool:
    """Whether the deviatoric work goes with the energy at all, by about the right factor."""
    return tensor is not None and tensor.correlation > _LOOSE and tensor.allows(1.0, 1.6)


def _matters(columns: tuple[Floats, Floats], rest: Floats, strained: NDArray[np.bool_]) -> bool:
    """Whether the tensor's own work is large beside what the trace leaves unexplained."""
    left = np.abs(rest - columns[0])[strained]
    return float(np.median(np.abs(columns[1][strained]))) > 0.5 * float(np.median(left))


def _unit_factor(verdict: Verdict, rest: Floats) -> Floats | None:
    """From the stress as it stands to eV/Å³, as the whole work or its isotropic part alone says."""
    pairs = verdict.pairs
    if verdict.stress_case is not None and verdict.stress is not None and verdict.stress.tells:
        return np.broadcast_to(verdict.stress_factor(), rest.shape)
    best: tuple[float, Floats] | None = None
    for case in stress_hypotheses():
        factor = np.broadcast_to(np.asarray(case.stress(pairs), dtype=np.float64), rest.shape)
        slope = fit_slope(factor * pairs.isotropic, rest, verdict.noise)
        if slope is not None and slope.tells and slope.allows(1.0):
            off = abs(float(np.log(abs(slope.value)))) + (0.5 if case.traps else 0.0)
            if best is None or off < best[0]:
                best = off, factor
    return None if best is None else best[1]


def _by_symmetry(evidence: Evidence) -> list[Finding]:
    usable = (
        (evidence["has_stress"] > 0) & (evidence["n_periodic"] == 3) & (evidence["n_atoms"] <= _MOST_ATOMS)
    )
    rows = np.flatnonzero(usable)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(_MOST_CRYSTALS, len(rows))).astype(int))]
    if len(rows) < _FEWEST_CRYSTALS:
        return []
    smallest = max(0.1 * float(np.median(evidence["largest_stress"][rows])), 2e-3)
    violations = {int(row): symmetry_violation(evidence.entries[int(row)], smallest) for row in rows}
    known = {row: value for row, value in violations.items() if value is not None}
    broken = [row for row, value in known.items() if value > _VIOLATION]
    if len(broken) < max(_FEWEST_CRYSTALS, 0.3 * len(known)):
        return []
    sentence = (
        f"The stress of {len(broken)} of {len(known)} symmetric crystals doesn't have their symmetry: the "
        "tensors stand in another frame than the cells."
    )
    return [Finding.of("stress-frame", ERROR, sentence, _ADVICE, broken)]


def symmetry_violation(entry: Entry, smallest: float) -> float | None:
    """Part of the deviatoric stress that the crystal's point group forbids, 0 to 1.

    Args:
        entry: Periodic, with a stress.
        smallest: Deviatoric stress (largest component, as it stands) below which nothing is said.

    Returns:
        None for a crystal without symmetry to speak of, or too small a stress.
    """
    stress = entry.labels.stress
    assert stress is not None
    deviatoric = stress - np.eye(3) * np.trace(stress) / 3
    if np.abs(deviatoric).max() < smallest:
        return None
    operations = _point_group(entry)
    if len(operations) < 2:
        return None
    averaged = np.einsum("nij,jk,nlk->il", operations, deviatoric, operations) / len(operations)
    return float(np.linalg.norm(deviatoric - averaged) / np.linalg.norm(deviatoric))


def _point_group(entry: Entry) -> NDArray[np.float64]:
    """``(n, 3, 3)`` Cartesian rotations of the crystal; none but the identity and inversion gives one."""
    rotations = point_group(entry.atoms, _SYMPREC).rotations
    proper = rotations * np.sign(np.linalg.det(rotations))[:, None, None]
    return np.unique(proper.round(6), axis=0)
