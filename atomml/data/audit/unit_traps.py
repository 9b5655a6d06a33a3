"""Units and signs of labels, from the work along near-by structures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atomml.data.audit.evidence import Evidence
from atomml.data.audit.finding import ERROR, WARNING, Finding
from atomml.data.audit.hypotheses import (
    ENERGY_NAMES,
    FORCE_NAMES,
    Hypothesis,
    energy_hypotheses,
    stress_hypotheses,
)
from atomml.data.audit.near_pairs import Pairs
from atomml.data.audit.scale_fit import Floats, Slope, partial_slopes

__all__ = ["Verdict", "advice_for", "consistent_units", "energy_jumps", "verdict_of"]

_NOISE = 0.1  # of the curvature: what the trapezoidal rule misses of it, with room
_UNRELATED = 0.4
_SIGNAL = 5.0
_FORCES = (0.005, 10.0)  # eV/Å: noble gases near 0 K to metals at thousands of K
_CERTAIN = 0.8
_SOUND_WITHIN = 1.25
_FEWEST_SURE = 10
_MOST_PAIRS = 3000


@dataclass(frozen=True)
class Verdict:
    """What near-by structures say of the labels' units.

    Attributes:
        pairs: Pairs in which something does work.
        noise: ``(n_pairs,)`` relative error of each.
        forces: Slope of the energy over the work of the forces, as they stand; None if unknown.
        stress: The same of the stress.
        energy_case: What is true of energies and forces; None if nothing fits, or nothing is known.
        stress_case: What is true of the stress; None likewise.
        others: Words of other cases that fit as well.
    """

    pairs: Pairs
    noise: Floats
    forces: Slope | None
    stress: Slope | None
    energy_case: Hypothesis | None = None
    stress_case: Hypothesis | None = None
    others: tuple[str, ...] = ()

    def change(self) -> Floats:
        """``(n_pairs,)`` change of energy in eV, by the case that fits."""
        factor = self.energy_case.energy(self.pairs) if self.energy_case else 1.0
        return self.pairs.change * factor

    def work(self, *, stress: bool = True) -> Floats:
        """``(n_pairs,)`` work in eV, by the case that fits."""
        case = self.energy_case
        work = self.pairs.force_work * (case.forces * case.length if case else 1.0)
        if stress:
            work = work + (self.pairs.isotropic + self.pairs.deviatoric) * self.stress_factor()
        return work

    def stress_factor(self) -> Floats | float:
        """From the stress as it stands to eV/Å³."""
        return self.stress_case.stress(self.pairs) if self.stress_case else 1.0


def verdict_of(pairs: Pairs, usual_force: float = 1.0) -> Verdict:
    """Compare the change of energy along near-by structures with the work of forces and stress.

    Args:
        pairs: Near-by structures.
        usual_force: Root mean square force of the set as it stands; of two cases that fit, one that
            leaves forces as matter has them is preferred.
    """
    pairs = _thinned(pairs.take((pairs.force_work != 0) | (pairs.isotropic + pairs.deviatoric != 0)))
    noise = _noise(pairs)
    forces, stress = _slopes(pairs, noise, _SOUND, _SOUND)
    plain = Verdict(pairs, noise, forces, stress)
    if _tells(forces) or _tells(stress):
        fits = [(off + _odd(usual_force, e), e, s) for off, e, s in _fits(pairs, noise)]
        if fits:
            least = min(len(e.traps) + len(s.traps) for _, e, s in fits)
            fits = sorted(
                (one for one in fits if len(one[1].traps) + len(one[2].traps) <= max(least, 0)),
                key=lambda one: one[0],
            )
            _, energy, tensor = fits[0]
            others = tuple(_words(e, s) for _, e, s in fits[1:4]) if least else ()
            return Verdict(pairs, noise, forces, stress, energy, tensor, others)
    return plain


_SOUND = Hypothesis((), "all is sound")


def _fits(pairs: Pairs, noise: Floats) -> list[tuple[float, Hypothesis, Hypothesis]]:
    """Every case that the slopes allow, with how far off they are; only the sound one if it is allowed."""
    found = []
    energies, tensors = energy_hypotheses(), stress_hypotheses()
    forces, stress = _slopes(pairs, noise, _SOUND, _SOUND)
    if _sound(forces) and _sound(stress):
        return [(0.0, energies[0], tensors[0])]
    for energy in energies:
        forces, stress = _slopes(pairs, noise, energy, _SOUND)
        if _tells(forces) and not _allows(forces):
            continue
        if not _tells(forces) and (energy.forces != 1.0 or energy.length != 1.0):
            continue  # nothing speaks of the forces
        if not _tells(stress) or _allows(stress):
            found.append((_off(forces) + _off(stress) + energy.rarity, energy, tensors[0]))
            continue
        for tensor in tensors[1:]:
            again = _slopes(pairs, noise, energy, tensor)
            if _tells(again[1]) and _allows(again[1]) and (not _tells(again[0]) or _allows(again[0])):
                off = _off(again[0]) + _off(again[1]) + energy.rarity + tensor.rarity
                found.append((off, energy, tensor))
    return found


def _slopes(
    pairs: Pairs, noise: Floats, energy: Hypothesis, tensor: Hypothesis
) -> tuple[Slope | None, Slope | None]:
    work = pairs.force_work * energy.forces * energy.length
    strain_work = (pairs.isotropic + pairs.deviatoric) * tensor.stress(pairs) * energy.length**3
    first, second = partial_slopes((work, strain_work), pairs.change * energy.energy(pairs), noise)
    return first, second


def _tells(slope: Slope | None) -> bool:
    return slope is not None and slope.tells


def _allows(slope: Slope | None) -> bool:
    return slope is not None and slope.allows(1.0)


def _sound(slope: Slope | None) -> bool:
    """Nothing wrong to see: no unit, sign or norm at hand is nearer to 1 than a bohr to an ångström."""
    return slope is None or not slope.tells or slope.allows(1.0, _SOUND_WITHIN)


def _odd(usual_force: float, energy: Hypothesis) -> float:
    """How far (in the logarithm) the forces would lie outside 0.005 to 10 eV/Å."""
    force = max(usual_force * abs(energy.forces), 1e-12)
    return max(0.0, float(np.log(force / _FORCES[1])), float(np.log(_FORCES[0] / force)))


def _off(slope: Slope | None) -> float:
    return abs(float(np.log(abs(slope.value)))) if slope is not None and slope.tells else 0.0


def _words(energy: Hypothesis, tensor: Hypothesis) -> str:
    return " and ".join(one.words for one in (energy, tensor) if one.traps)


def _thinned(pairs: Pairs) -> Pairs:
    """At most 3,000 pairs, the nearest first: their work is the surest."""
    if len(pairs) <= _MOST_PAIRS:
        return pairs
    reach = pairs.displacement / max(float(np.median(pairs.displacement)), 1e-12)
    reach = reach + pairs.strain / max(float(np.median(pairs.strain)), 1e-12)
    keep = np.zeros(len(pairs), dtype=bool)
    keep[np.argsort(reach, kind="stable")[:_MOST_PAIRS]] = True
    return pairs.take(keep)


def _noise(pairs: Pairs) -> Floats:
    """Relative errors: what the trapezoidal rule misses grows with the curvature and with the strain.

    The units of both are open, so each is taken relative to its own median.
    """
    strain_work = np.abs(pairs.isotropic + pairs.deviatoric)
    total = np.full(len(pairs), 0.5)
    for part in (pairs.curvature, strain_work * pairs.strain):
        usual = float(np.median(part[part > 0])) if (part > 0).any() else 0.0
        if usual > 0:
            total = total + part / usual
    return total


def consistent_units(evidence: Evidence) -> list[Finding]:
    """Energies, forces and stress that belong together by the work along near-by structures."""
    verdict = evidence.verdict
    entries = np.unique(np.concatenate([verdict.pairs.first, verdict.pairs.second]))
    if verdict.energy_case is None or verdict.stress_case is None:
        return _unrelated(verdict) or _without_a_case(verdict, entries)
    traps = (*verdict.energy_case.traps, *verdict.stress_case.traps)
    if not traps:
        return [] if _tells(verdict.forces) else _unrelated(verdict)
    others = f" It could also be that {', or that '.join(verdict.others)}." if verdict.others else ""
    words = _words(verdict.energy_case, verdict.stress_case)
    sentence = f"It looks as if {words}: {_seen(verdict)}.{others}"
    return [Finding.of(trap, ERROR, sentence, advice_for(trap), entries) for trap in dict.fromkeys(traps)]


def _seen(verdict: Verdict) -> str:
    parts = [
        f"{slope.value:.4g} times the work of the {what} (squared correlation {slope.correlation:.3f})"
        for what, slope in (("forces", verdict.forces), ("stress", verdict.stress))
        if slope is not None and slope.tells
    ]
    where = f"along {len(verdict.pairs)} pairs of near-by structures"
    return f"{where} the energy changes by {' and by '.join(parts)}"


def _without_a_case(verdict: Verdict, entries: NDArray[np.int64]) -> list[Finding]:
    """Slopes that are sure and that no unit explains."""
    found = []
    for what, slope in (("forces", verdict.forces), ("stress", verdict.stress)):
        if slope is None or _sound(slope) or slope.correlation < _CERTAIN:
            continue
        sentence = f"Energies and {what} disagree: {_seen(verdict)}, a factor that no usual unit explains."
        name = f"{what}-disagree-with-energies"
        found.append(Finding.of(name, ERROR, sentence, advice_for("disagree"), entries))
    return found


def _unrelated(verdict: Verdict) -> list[Finding]:
    """Pairs so near that the work of the forces is certain, and energies that do not follow it."""
    pairs = verdict.pairs
    rest = np.abs(pairs.isotropic + pairs.deviatoric)
    sure = np.abs(pairs.force_work) > 1e-3 + _SIGNAL * (_NOISE * (pairs.bend + pairs.curvature))
    sure &= np.abs(pairs.force_work) > rest
    if sure.sum() < _FEWEST_SURE:
        return []
    chosen = pairs.take(sure)
    strain_work = chosen.isotropic + chosen.deviatoric
    slope = partial_slopes((chosen.force_work, strain_work), chosen.change, verdict.noise[sure])[0]
    if slope is not None and slope.correlation > _UNRELATED:
        return []
    sentence = (
        f"Along {int(sure.sum())} pairs of near-by structures the energy doesn't follow the work of the "
        f"forces (squared correlation {0.0 if slope is None else slope.correlation:.2f})."
    )
    entries = np.unique(np.concatenate([chosen.first, chosen.second]))
    advice = advice_for("disagree")
    return [Finding.of("forces-disagree-with-energies", ERROR, sentence, advice, entries)]


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
    """Entries whose energy lies off what the work from most of their neighbours gives."""
    verdict = evidence.verdict
    if verdict.energy_case is None or verdict.energy_case.traps or not len(verdict.pairs):
        return []
    pairs = verdict.pairs
    work = verdict.work()
    residual = verdict.change() - work
    miss = _NOISE * (pairs.bend + pairs.curvature) + np.abs(work) * (0.2 + 3 * pairs.strain)
    scale = 1.4826 * np.median(np.abs(residual))
    jump = np.abs(residual) > np.maximum(8 * scale, 3 * miss + 0.002 * pairs.n_atoms)
    touched = np.bincount(np.concatenate([pairs.first, pairs.second]), minlength=len(evidence))
    wrong = np.bincount(np.concatenate([pairs.first[jump], pairs.second[jump]]), minlength=len(evidence))
    off = (wrong >= 2) & (wrong >= 0.7 * touched)
    if not off.any():
        return []
    worst = float(np.abs(residual[jump] / pairs.n_atoms[jump]).max()) * 1000
    sentence = (
        f"The energy of {int(off.sum())} entries lies up to {worst:.0f} meV/atom off what the forces give on "
        "the way from their neighbours: a calculation that didn't converge, or another level of theory."
    )
    advice = "Repeat these calculations or leave the entries out."
    return [Finding.of("energy-outlier", WARNING, sentence, advice, off)]
