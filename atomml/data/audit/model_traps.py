"""Labels against a model's predictions: slopes that name a unit where no near-by structures do.

A model needs to be no more than roughly right: units differ by factors of two and more, and a
tensor in another frame loses its correlation with the prediction whatever the model's error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atomml.data.audit.composition import robust_fit
from atomml.data.audit.evidence import Evidence
from atomml.data.audit.finding import ERROR, Finding
from atomml.data.audit.hypotheses import energy_hypotheses, stress_hypotheses
from atomml.data.audit.near_pairs import Pairs
from atomml.data.audit.scale_fit import Floats, Slope, fit_slope
from atomml.data.audit.unit_traps import advice_for

if TYPE_CHECKING:
    from atomml.data.entry import Entry
    from atomml.model import Potential

__all__ = ["Comparison", "against_model", "compare_with_model"]

_SAMPLE = 96
_MOST_ATOMS = 300
_SURE = 0.5  # squared correlation
_ROUGH = 1.6  # factor that a model may be off by
_BATCH = 8


@dataclass(frozen=True)
class Comparison:
    """Labels and predictions of a sample.

    Attributes:
        rows: ``(n,)`` indices of the entries.
        energy: ``(n,)`` predicted, eV.
        forces: Predicted, one ``(n_atoms, 3)`` for each entry, eV/Å.
        stress: ``(n, 3, 3)`` predicted, eV/Å³; NaN without a cell.
    """

    rows: NDArray[np.int64]
    energy: Floats
    forces: list[Floats]
    stress: Floats


def compare_with_model(evidence: Evidence, model: Potential) -> Comparison | None:
    """Predict at most 96 entries, evenly spread, of elements that the model knows; None if there are none."""
    known = np.array([number in model.info.elements for number in evidence.elements], dtype=bool)
    usable = (evidence.counts[:, ~known] == 0).all(axis=1) & (evidence["n_atoms"] <= _MOST_ATOMS)
    usable &= ~evidence.single & (evidence["charge"] == 0) & (evidence["closest"] > 0.5)
    usable &= np.isfinite(evidence["energy"]) | (evidence["has_forces"] > 0) | (evidence["has_stress"] > 0)
    rows = np.flatnonzero(usable)
    if len(rows) < 4:
        return None
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).astype(int))]
    return _predict([evidence.entries[int(row)] for row in rows], rows, model)


def _predict(entries: Sequence[Entry], rows: NDArray[np.int64], model: Potential) -> Comparison:
    from atomml.graph import GraphBuilder, collate

    build = GraphBuilder.for_model(model, angles=model.fast_path() is None)
    energies, forces, stresses = [], [], []
    for start in range(0, len(entries), _BATCH):
        graph = collate([build(entry.atoms) for entry in entries[start : start + _BATCH]])
        for part in model.predict(graph).split(graph):
            energies.append(float(part.energy))
            assert part.forces is not None
            forces.append(part.forces.double().cpu().numpy())
            stress = np.full((3, 3), np.nan) if part.stress is None else part.stress[0].double().cpu().numpy()
            stresses.append(stress)
    return Comparison(rows, np.array(energies), forces, np.stack(stresses))


def against_model(evidence: Evidence, model: Potential) -> list[Finding]:
    """Energies, forces and stress of a sample against the model's."""
    compared = compare_with_model(evidence, model)
    if compared is None:
        return []
    entries = [evidence.entries[int(row)] for row in compared.rows]
    name = model.info.name
    found = _frame(entries, compared, name)
    volume = np.array([abs(float(np.linalg.det(entry.atoms.cell.array))) for entry in entries])
    sizes = np.array([len(entry.atoms) for entry in entries], dtype=np.float64)
    energy = _energy_slope(evidence, entries, compared)
    found += _name(energy, _energy_factors(float(np.median(sizes))), "energies", name, compared)
    found += _name(_force_slope(entries, compared), _force_factors(), "forces", name, compared)
    stress = _stress_slope(entries, compared)
    found += _name(stress, _stress_factors(float(np.median(volume))), "stress", name, compared)
    return found


def _energy_slope(evidence: Evidence, entries: Sequence[Entry], compared: Comparison) -> Slope | None:
    """Energies less what the composition explains of each, per atom."""
    label = np.array([np.nan if e.labels.energy is None else e.labels.energy for e in entries])
    sizes = evidence["n_atoms"][compared.rows]
    used = np.isfinite(label)
    if used.sum() < 10:
        return None
    fractions = (evidence.counts[compared.rows] / sizes[:, None])[used]
    rest = [
        values - fractions @ robust_fit(fractions, values)
        for values in (compared.energy[used] / sizes[used], label[used] / sizes[used])
    ]
    return fit_slope(rest[0], rest[1], np.ones(int(used.sum())))


def _force_slope(entries: Sequence[Entry], compared: Comparison) -> Slope | None:
    pairs = [
        (predicted.ravel(), entry.labels.forces.ravel())
        for predicted, entry in zip(compared.forces, entries, strict=True)
        if entry.labels.forces is not None
    ]
    if not pairs:
        return None
    x, y = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return fit_slope(x, y, np.ones(len(x)))


def _stress_slope(entries: Sequence[Entry], compared: Comparison) -> Slope | None:
    label, predicted = _stresses(entries, compared)
    if len(label) < 4:
        return None
    return fit_slope(predicted.trace(axis1=1, axis2=2), label.trace(axis1=1, axis2=2), np.ones(len(label)))


def _stresses(entries: Sequence[Entry], compared: Comparison) -> tuple[Floats, Floats]:
    blank = np.full((3, 3), np.nan)
    label = np.stack([blank if e.labels.stress is None else e.labels.stress for e in entries])
    good = np.isfinite(label).all(axis=(1, 2)) & np.isfinite(compared.stress).all(axis=(1, 2))
    return label[good], compared.stress[good]


def _frame(entries: Sequence[Entry], compared: Comparison, model: str) -> list[Finding]:
    """Traces that go together and tensors that don't, though their eigenvalues do."""
    label, predicted = _stresses(entries, compared)
    if len(label) < 4:
        return []
    label, predicted = _deviatoric(label), _deviatoric(predicted)
    whole = _correlation(label.ravel(), predicted.ravel())
    principal = [np.linalg.eigvalsh(tensors).ravel().astype(np.float64) for tensors in (label, predicted)]
    eigenvalues = _correlation(principal[0], principal[1])
    trace = _stress_slope(entries, compared)
    if trace is None or trace.correlation < _SURE or whole > 0.35 or eigenvalues < 0.6:
        return []
    sentence = (
        f"The trace of the stress follows {model} (squared correlation {trace.correlation:.2f}), and so do "
        f"the principal stresses ({eigenvalues:.2f}), but the deviatoric tensor doesn't ({whole:.2f}): the "
        "tensors stand in another frame than the cells."
    )
    advice = (
        "Turn the tensors as the cells were turned (R sigma R^T), or read the set with --stress-key none."
    )
    return [Finding.of("stress-frame", ERROR, sentence, advice, compared.rows)]


def _deviatoric(tensors: Floats) -> Floats:
    return tensors - np.eye(3) * tensors.trace(axis1=1, axis2=2)[:, None, None] / 3


def _correlation(a: Floats, b: Floats) -> float:
    """Squared correlation about zero, with its sign."""
    norm = float((a * a).sum() * (b * b).sum())
    product = float((a * b).sum())
    return product * abs(product) / norm if norm > 0 else 0.0


Factors = dict[tuple[str, ...], float]

_NO_PAIRS = Pairs.from_rows(np.empty((0, 13)))


def _energy_factors(size: float) -> Factors:
    found: Factors = {
        one.traps: float(1 / np.asarray(one.energy(_NO_PAIRS)))
        for one in energy_hypotheses()
        if len(one.traps) == 1 and one.traps[0].startswith("energy-in-")
    }
    return {**found, ("energy-per-atom",): 1 / size}


def _force_factors() -> Factors:
    return {
        one.traps: 1 / one.forces
        for one in energy_hypotheses()
        if one.traps and all(trap.startswith(("forces-in-", "gradients")) for trap in one.traps)
    }


def _stress_factors(volume: float) -> Factors:
    found: Factors = {
        one.traps: float(1 / np.asarray(one.stress(_NO_PAIRS)))
        for one in stress_hypotheses()
        if one.traps and "virial-for-stress" not in one.traps
    }
    return {**found, ("virial-for-stress",): -volume, ("virial-for-stress", "stress-sign"): volume}


def _name(
    slope: Slope | None, factors: Factors, what: str, model: str, compared: Comparison
) -> list[Finding]:
    """The findings that a slope of labels over predictions stands for."""
    if slope is None or slope.correlation < _SURE or (slope.value > 0 and 0.4 < slope.value < 2.5):
        return []
    off = {
        traps: abs(np.log(abs(slope.value / factor)))
        for traps, factor in factors.items()
        if np.sign(factor) == np.sign(slope.value)
    }
    near = sorted((value, traps) for traps, value in off.items() if value < np.log(_ROUGH))
    words = (
        f"The {what} are {slope.value:.4g} times those of {model} (squared correlation "
        f"{slope.correlation:.2f} over {len(compared.rows)} entries)"
    )
    if not near:
        sentence = f"{words}, a factor that no usual unit explains."
        advice = f"Check the unit of the {what}."
        return [Finding.of(f"{what}-unlike-the-model", ERROR, sentence, advice, compared.rows)]
    others = [" and ".join(traps) for _, traps in near[1:]]
    tail = f"; it could also be {' or '.join(others)}" if others else ""
    return [
        Finding.of(trap, ERROR, f"{words}: {trap.replace('-', ' ')}{tail}.", advice_for(trap), compared.rows)
        for trap in near[0][1]
    ]
