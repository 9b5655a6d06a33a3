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
from atomml.data.audit.scale_fit import Floats, decide
from atomml.data.audit.unit_traps import Works, works_of

if TYPE_CHECKING:
    from atomml.data.entry import Entry

__all__ = ["stress_frame", "symmetry_violation"]

_FEWEST_PAIRS = 8
_FEWEST_CRYSTALS = 3
_VIOLATION = 0.3
_MOST_CRYSTALS = 150
_MOST_ATOMS = 120
_ADVICE = (
    "Turn the tensors as the cells were turned (R sigma R^T), or read the set with --stress-key none; the pressure "
    "alone is still right."
)


def stress_frame(evidence: Evidence) -> list[Finding]:
    """Tensors whose trace does its work and whose rest doesn't, or which break the crystal's symmetry."""
    found = _by_work(evidence)
    return found or _by_symmetry(evidence)


def _by_work(evidence: Evidence) -> list[Finding]:
    stress = works_of(evidence.pairs)[1]
    pairs = stress.pairs
    if len(pairs) < _FEWEST_PAIRS or not (pairs.isotropic.any() and pairs.deviatoric.any()):
        return []
    factor = _unit_factor(stress)
    if factor is None:
        return []
    slopes, errors = _two_slopes(
        factor * pairs.isotropic, factor * pairs.deviatoric, stress.change, stress.noise
    )
    if not 0.8 < slopes[0] < 1.25 or 5 * errors[0] > 1 or abs(slopes[1] - 1) < max(0.3, 6 * errors[1]):
        return []
    sentence = (
        f"Along {len(pairs)} strained pairs the trace of the stress does {slopes[0]:.2f} of the work that the "
        f"energies ask for and the rest of the tensor {slopes[1]:.2f} of it: the tensors stand in another frame "
        "than the cells."
    )
    entries = np.unique(np.concatenate([pairs.first, pairs.second]))
    return [Finding.of("stress-frame", ERROR, sentence, _ADVICE, entries)]


def _unit_factor(stress: Works) -> Floats | None:
    """From the stress as it stands to eV/Å³, as the whole work or the isotropic part says."""
    verdict = stress.verdict
    if verdict.kind not in ("agrees", "named"):
        pairs = stress.pairs
        noise = stress.noise + 0.1 * np.abs(pairs.isotropic)
        verdict = decide(pairs.isotropic, stress.change, noise, pairs, stress_hypotheses(False))
    if verdict.hypothesis is None:
        return None
    return np.broadcast_to(verdict.hypothesis.factor(stress.pairs), stress.change.shape)


def _two_slopes(first: Floats, second: Floats, values: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """values = a first + b second by Tukey's weights: (a, b) and their standard errors."""
    design = np.stack([first, second], axis=1)
    base = 1.0 / np.maximum(noise, 1e-3 * np.median(noise) + 1e-300)
    weight = base / base.max()
    slopes = np.zeros(2)
    for _ in range(30):
        slopes = np.linalg.lstsq(design * weight[:, None], values * weight, rcond=None)[0]
        residual = (values - design @ slopes) * base / base.max()
        scale = max(1.4826 * float(np.median(np.abs(residual))), 1e-12)
        u = np.minimum(np.abs(residual) / (6 * scale), 1.0)
        weight = base / base.max() * (1 - u**2)
    left = ((values - design @ slopes) * weight) ** 2
    normal = np.linalg.pinv((design * weight[:, None]).T @ (design * weight[:, None]))
    variance = left.sum() / max(len(values) - 2, 1)
    return slopes, np.sqrt(np.maximum(np.diag(normal) * variance, 0.0))


def _by_symmetry(evidence: Evidence) -> list[Finding]:
    usable = (evidence["has_stress"] > 0) & (evidence["n_periodic"] == 3) & (evidence["n_atoms"] <= _MOST_ATOMS)
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
        f"The stress of {len(broken)} of {len(known)} symmetric crystals doesn't have their symmetry: the tensors "
        "stand in another frame than the cells."
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
    import spglib

    atoms = entry.atoms
    cell = np.asarray(atoms.cell.array)
    found = spglib.get_symmetry_dataset((cell, atoms.get_scaled_positions(), atoms.numbers), symprec=2e-4)
    if found is None:
        return np.eye(3)[None]
    columns = cell.T
    rotations = columns @ found.rotations @ np.linalg.inv(columns)
    proper = rotations * np.sign(np.linalg.det(rotations))[:, None, None]
    return np.unique(proper.round(6), axis=0)
