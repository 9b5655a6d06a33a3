"""Units and signs of labels, from the work along near-by structures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atomml.data.audit.evidence import Evidence
from atomml.data.audit.finding import ERROR, WARNING, Finding
from atomml.data.audit.hypotheses import ENERGY_NAMES, FORCE_NAMES, energy_hypotheses, stress_hypotheses
from atomml.data.audit.near_pairs import Pairs
from atomml.data.audit.scale_fit import Floats, Verdict, decide, fit_slope

__all__ = ["Works", "advice_for", "consistent_units", "works_of"]

_NOISE = 0.1  # of the curvature: what the trapezoidal rule misses of it, with room
_STRAINED = 1e-4
_UNRELATED = 0.2
_SIGNAL = 5.0


@dataclass(frozen=True)
class Works:
    """The pairs that a test used, and what it found.

    Attributes:
        pairs: The pairs.
        work: ``(n_pairs,)`` work as it stands in the file.
        change: ``(n_pairs,)`` change of energy.
        noise: ``(n_pairs,)`` estimated error of the work.
        verdict: What they say.
    """

    pairs: Pairs
    work: Floats
    change: Floats
    noise: Floats
    verdict: Verdict


def works_of(pairs: Pairs) -> tuple[Works, Works]:
    """The test of forces against energies, and then that of the stress."""
    forces = _force_test(pairs)
    return forces, _stress_test(pairs, forces.verdict)


def _force_test(pairs: Pairs) -> Works:
    """Pairs in one cell; and strained ones only where there are no others."""
    still = pairs.strain < _STRAINED
    chosen = pairs.take((pairs.force_work != 0) & still)
    noise = _noise(chosen)
    verdict = decide(chosen.force_work, chosen.change, noise, chosen, energy_hypotheses())
    return Works(chosen, chosen.force_work, chosen.change, noise, verdict)


def _stress_test(pairs: Pairs, forces: Verdict) -> Works:
    """Strained pairs; what the forces did is taken off the energy first, in the units found for them."""
    chosen = pairs.take((pairs.strain >= _STRAINED) & pairs.has_stress)
    hypothesis = forces.hypothesis
    energy = 1.0 if hypothesis is None else hypothesis.energy_factor(chosen)
    force = 1.0 if hypothesis is None else hypothesis.force_factor
    change = chosen.change * energy - chosen.force_work * force
    work = chosen.isotropic + chosen.deviatoric
    noise = np.abs(work) * np.minimum(1.0, 0.02 + 3 * chosen.strain)
    if forces.kind in ("scaled",) or (hypothesis and "positions-in-bohr" in hypothesis.traps):
        return Works(chosen, work, change, noise, Verdict("open"))
    open_energy = forces.kind == "open"
    floor = np.median(noise) if len(noise) else 0.0
    verdict = decide(work, change, noise + floor, chosen, stress_hypotheses(open_energy))
    return Works(chosen, work, change, noise + floor, verdict)


def _noise(pairs: Pairs) -> Floats:
    noise = _NOISE * pairs.curvature
    return noise + (0.1 * np.median(noise) if len(noise) else 0.0)


def consistent_units(evidence: Evidence) -> list[Finding]:
    """Energies, forces and stress that belong together by the work along near-by structures."""
    forces, stress = works_of(evidence.pairs)
    found = _explain(forces, "forces")
    found += _explain(stress, "stress")
    if not found and forces.verdict.kind == "open":
        found += _unrelated(forces)
    return found


def _explain(works: Works, what: str) -> list[Finding]:
    verdict = works.verdict
    if verdict.kind not in ("named", "scaled") or verdict.slope is None:
        return []
    entries = np.unique(np.concatenate([works.pairs.first, works.pairs.second]))
    slope = verdict.slope
    seen = (
        f"along {slope.n} pairs of near-by structures the energy changes by {slope.value:.4g} times "
        f"the work of the {what} (squared correlation {slope.correlation:.3f})"
    )
    if verdict.hypothesis is None:
        if 0.5 < slope.value < 2.0 and slope.correlation < 0.8:
            return []
        sentence = f"Energies and {what} disagree: {seen}, a factor that no usual unit explains."
        return [
            Finding.of(f"{what}-disagree-with-energies", ERROR, sentence, advice_for("disagree"), entries)
        ]
    hypothesis = verdict.hypothesis
    others = f" It could also be that {' or that '.join(verdict.others)}." if verdict.others else ""
    sentence = f"It looks as if {hypothesis.words}: {seen}.{others}"
    return [Finding.of(trap, ERROR, sentence, advice_for(trap), entries) for trap in hypothesis.traps]


def _unrelated(works: Works) -> list[Finding]:
    """Pairs so near that the work is certain, and energies that do not follow it."""
    pairs = works.pairs
    sure = np.abs(pairs.force_work) > _SIGNAL * _NOISE * (pairs.bend + pairs.curvature)
    sure &= np.abs(pairs.force_work) > 1e-3
    if sure.sum() < 10:
        return []
    chosen = pairs.take(sure)
    slope = fit_slope(chosen.force_work, chosen.change, works.noise[sure])
    if slope is not None and slope.correlation > _UNRELATED:
        return []
    sentence = (
        f"Along {int(sure.sum())} pairs of near-by structures the energy doesn't follow the work of the forces "
        f"(squared correlation {0.0 if slope is None else slope.correlation:.2f})."
    )
    entries = np.unique(np.concatenate([chosen.first, chosen.second]))
    return [
        Finding.of("forces-disagree-with-energies", ERROR, sentence, advice_for("disagree"), entries)
    ]


def advice_for(trap: str) -> str:
    """What to do about a trap of units or signs."""
    if trap in ENERGY_NAMES:
        return f"Read the set with --energy-unit {ENERGY_NAMES[trap]}."
    if trap in FORCE_NAMES:
        return f"Read the set with --forces-unit {FORCE_NAMES[trap]}."
    if trap.startswith("stress-in-"):
        unit = trap.removeprefix("stress-in-").replace("-per-bohr3", "/bohr³")
        return f"Read the set with --stress-unit {unit}."
    return _ADVICE[trap]


_ADVICE = {
    "energy-per-atom": "Read the set with --energy-per-atom, or multiply each energy by its number of atoms.",
    "gradients-for-forces": "Change the sign of the forces: a force is minus the gradient.",
    "positions-in-bohr": "Multiply positions and cell by 0.529177 Å.",
    "stress-sign": "Read the set with --stress-sign compression (VASP's convention).",
    "virial-for-stress": "Read the set with --stress-quantity virial, which divides by minus the volume.",
    "disagree": "Check that energies and forces come from the same calculation and the same step, "
    "and in which units they are.",
}


def energy_jumps(evidence: Evidence) -> list[Finding]:
    """Entries whose energy lies off what the work from all their neighbours gives: unconverged, or mixed."""
    works = _force_test(evidence.pairs)
    if works.verdict.kind != "agrees" or works.verdict.slope is None:
        return []
    pairs = works.pairs
    residual = works.change - works.work
    allowed = 3 * _NOISE * (pairs.bend + pairs.curvature) + 0.002 * np.sqrt(pairs.n_atoms)
    scale = 1.4826 * np.median(np.abs(residual))
    jump = np.abs(residual) > np.maximum(8 * scale, allowed)
    touched = np.bincount(np.concatenate([pairs.first, pairs.second]), minlength=len(evidence))
    wrong = np.bincount(np.concatenate([pairs.first[jump], pairs.second[jump]]), minlength=len(evidence))
    off = (touched >= 2) & (wrong == touched)
    if not off.any():
        return []
    worst = float(np.abs(residual[jump] / pairs.n_atoms[jump]).max()) * 1000
    sentence = (
        f"The energy of {int(off.sum())} entries lies up to {worst:.0f} meV/atom off what the forces give on the "
        "way from all their neighbours: a calculation that didn't converge, or another level of theory."
    )
    advice = "Repeat these calculations or leave the entries out."
    return [Finding.of("energy-outlier", WARNING, sentence, advice, off)]
