"""Energies against a linear model of the composition, and what doesn't fit: outliers, offsets, norms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atomml.data.audit.evidence import Evidence
from atomml.data.audit.finding import ERROR, WARNING, Finding

__all__ = [
    "CompositionModel",
    "energy_outliers",
    "fit_composition",
    "local_residuals",
    "mixed_theory",
    "per_atom",
]

Floats = NDArray[np.float64]

_ROUNDS = 40
_TUKEY = 4.685
_N_DIRECTIONS = 8
_OUTLIER = 0.75  # eV/atom; surfaces of molybdenum lie 0.3 above its bulk, an SCF that failed lies anywhere
_MIXED_WITHIN = 3.0
_OFFSET = 0.03  # eV/atom; dispersion corrections and other potentials differ by as much


@dataclass(frozen=True)
class CompositionModel:
    """Energy = sum over elements of atoms times a constant.

    Attributes:
        elements: Atomic numbers.
        energies: ``(n_elements,)`` eV; NaN where the compositions of the set don't fix it.
        predicted: ``(n_entries,)`` eV/atom; NaN for isolated atoms.
        residual: ``(n_entries,)`` energy per atom less that of the model, eV/atom.
        deviation: Robust standard deviation of the residual, eV/atom.
    """

    elements: tuple[int, ...]
    energies: Floats
    predicted: Floats
    residual: Floats
    deviation: float


def fit_composition(evidence: Evidence) -> CompositionModel | None:
    """Least squares with Tukey's weights; None without energies.

    An outlier gets no weight. Energies of elements that always come in one ratio are not determined.
    """
    used = np.isfinite(evidence["energy"]) & ~evidence.isolated
    if used.sum() < 1:
        return None
    design = evidence.counts / evidence["n_atoms"][:, None]
    energy = evidence["energy"] / evidence["n_atoms"]
    energies = robust_fit(design[used], energy[used])
    predicted = np.where(used, design @ energies, np.nan)
    residual = energy - predicted
    fixed = _determined(design[used])
    return CompositionModel(
        tuple(evidence.elements),
        np.where(fixed, energies, np.nan),
        predicted,
        residual,
        robust_deviation(residual[used]),
    )


def robust_fit(design: Floats, values: Floats) -> Floats:
    """Coefficients of least norm by iterated weights: first those of least absolute values, then Tukey's."""
    weight = np.ones(len(values))
    coefficients: Floats = np.zeros(design.shape[1])
    for turn in range(_ROUNDS):
        root = np.sqrt(weight)[:, None]
        solution = np.linalg.lstsq(design * root, values * root[:, 0], rcond=1e-9)[0]
        coefficients = np.asarray(solution, dtype=np.float64)
        residual = values - design @ coefficients
        scale = max(1.4826 * float(np.median(np.abs(residual))), 1e-10)
        if turn < _ROUNDS // 2:
            weight = 1.0 / np.maximum(np.abs(residual), 1e-3 * scale)
            weight /= weight.max()
        else:
            u = residual / (_TUKEY * scale)
            weight = np.where(np.abs(u) < 1, (1 - u**2) ** 2, 1e-12)
    return coefficients


def robust_deviation(values: Floats) -> float:
    """1.4826 times the median distance from the median."""
    finite = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(finite - np.median(finite)))) if finite.size else 0.0


def _determined(design: Floats) -> NDArray[np.bool_]:
    """Elements whose energy no change of the others can make up for."""
    _, sizes, vt = np.linalg.svd(np.unique(design, axis=0), full_matrices=True)
    rank = int((sizes > 1e-9 * sizes.max(initial=1.0)).sum())
    return (np.abs(vt[rank:]) < 1e-6).all(axis=0)


def local_residuals(evidence: Evidence) -> Floats:
    """``(n_entries,)`` eV/atom that composition and fingerprint do not explain linearly; NaN elsewhere."""
    result = np.full(len(evidence), np.nan)
    used, design, energy = _local_design(evidence)
    if len(energy):
        result[used] = energy - design @ robust_fit(design, energy)
    return result


def _local_design(evidence: Evidence) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Which entries, their fractions of elements and main directions of the fingerprint, energy per atom."""
    energy = evidence["energy"] / evidence["n_atoms"]
    used = np.isfinite(energy) & np.isfinite(evidence.fingerprints).all(axis=1) & ~evidence.single
    n = int(used.sum())
    if n < 6:
        return used, np.empty((0, 0)), np.empty(0)
    fractions = (evidence.counts / evidence["n_atoms"][:, None])[used]
    prints = evidence.fingerprints[used]
    prints = prints - fractions @ np.linalg.lstsq(fractions, prints, rcond=1e-9)[0]
    _, sizes, vt = np.linalg.svd(prints / max(float(prints.std()), 1e-12), full_matrices=False)
    keep = min(_N_DIRECTIONS, n // 8, int((sizes > 1e-6 * np.sqrt(n)).sum()))
    return used, np.hstack([fractions, prints @ vt[:keep].T]), energy[used]


def two_branches(evidence: Evidence) -> Floats:
    """``(n_entries,)`` residuals of one linear model with two levels, eV/atom; NaN elsewhere.

    The levels are found by turns: a fit with a step between them, then each entry to the nearer
    level. A model without the step would bend towards both levels and blur them.
    """
    result = np.full(len(evidence), np.nan)
    used, design, energy = _local_design(evidence)
    if not len(energy):
        return result
    rest = energy - design @ robust_fit(design, energy)
    for _ in range(_ROUNDS):
        upper = rest > 0.5 * (rest.min() + rest.max())
        stepped = np.hstack([design, upper[:, None].astype(np.float64)])
        again = energy - design @ np.linalg.lstsq(stepped, energy, rcond=1e-9)[0][:-1]
        if np.allclose(again, rest):
            break
        rest = again
    result[used] = rest
    return result


def energy_outliers(evidence: Evidence) -> list[Finding]:
    """Single entries whose energy lies far from what their composition and structure suggest."""
    residual = local_residuals(evidence)
    scale = robust_deviation(residual)
    far = np.abs(residual) > max(12 * scale, _OUTLIER)
    n = int(np.isfinite(residual).sum())
    if not far.any() or far.sum() > max(1, 0.05 * n):
        return []
    worst = float(np.nanmax(np.abs(residual[far])))
    sentence = (
        f"The energy of {int(far.sum())} entries lies up to {worst:.2f} eV/atom off the rest "
        f"(robust deviation {1000 * scale:.1f} meV/atom)."
    )
    advice = (
        "Look at these calculations: an SCF that didn't converge, a wrong composition or another functional."
    )
    return [Finding.of("energy-outlier", WARNING, sentence, advice, far)]


def mixed_theory(evidence: Evidence) -> list[Finding]:
    """Two or more methods by name, or two branches of energies with nothing between them."""
    found = []
    methods = [word for word in evidence.words["method"] if word]
    if len(methods) > 1:
        shown = "; ".join(f"{one!r}" for one in methods[:4])
        sentence = f"The set holds labels of {len(methods)} methods: {shown}."
        found.append(Finding.of("mixed-theory", ERROR, sentence, _MIXED))
    residual = two_branches(evidence)
    branch = split(residual[np.isfinite(residual)])
    if branch is not None and not found and _same_structures(evidence, residual, branch[0]):
        threshold, gap = branch
        upper = residual > threshold
        sentence = (
            f"Energies of like compositions and structures lie on two branches, {int(upper.sum())} entries "
            f"at least {gap:.3f} eV/atom above the "
            f"others{_aligned_with(evidence, upper, np.isfinite(residual))}."
        )
        found.append(Finding.of("mixed-theory", ERROR, sentence, _MIXED, _smaller(upper, residual)))
    return found


_MIXED = (
    "Keep one level of theory (functional, U, dispersion, basis or cutoff), or shift each part by its own "
    "atomic reference energies before they are joined."
)


def split(values: Floats) -> tuple[float, float] | None:
    """Where a sample falls into two clusters: a point between them and the width of the gap; else None.

    The gap must be wider than either cluster (5th to 95th percentile), and each must hold a
    twentieth of the sample and four values.
    """
    ordered = np.sort(values)
    fewest = max(4, len(ordered) // 20)
    if len(ordered) < 2 * fewest + 1:
        return None
    steps = np.diff(ordered)[fewest - 1 : len(ordered) - fewest]
    place = int(np.argmax(steps)) + fewest
    lower, upper = ordered[:place], ordered[place:]
    gap = float(upper[0] - lower[-1])
    width = max(float(np.ptp(np.percentile(part, [5, 95]))) for part in (lower, upper))
    if gap < _OFFSET or gap < 1.2 * width:
        return None
    return 0.5 * float(lower[-1] + upper[0]), gap


def _same_structures(evidence: Evidence, residual: Floats, threshold: float) -> bool:
    """Whether the branches mix in structure: surfaces that lie above their bulk are no other theory.

    The nearest fingerprint on the other branch must be about as near as the nearest on one's own.
    """
    from scipy.spatial import cKDTree

    known = np.isfinite(residual)
    upper, lower = (
        evidence.fingerprints[known & (residual > threshold)],
        evidence.fingerprints[known & (residual <= threshold)],
    )
    small, large = sorted((upper, lower), key=len)
    across = cKDTree(large).query(small)[0]
    own = cKDTree(small).query(small, k=2)[0][:, 1]
    return float(np.median(across)) < _MIXED_WITHIN * max(float(np.median(own)), 1e-6)


def _smaller(upper: NDArray[np.bool_], residual: Floats) -> NDArray[np.bool_]:
    lower = np.isfinite(residual) & ~upper
    return upper if upper.sum() <= lower.sum() else lower


def _aligned_with(evidence: Evidence, upper: NDArray[np.bool_], known: NDArray[np.bool_]) -> str:
    """The file, group or trajectory that the branches follow, if they do."""
    for name in ("source", "group", "trajectory"):
        codes = evidence.codes[name]
        above, below = set(codes[upper].tolist()), set(codes[known & ~upper].tolist())
        if not above & below:
            words = [evidence.words[name][code] for code in sorted(above)][:3]
            return f" (those of {name} {', '.join(words)})"
    return ""


def per_atom(evidence: Evidence) -> list[Finding]:
    """Energies that follow the composition but not the number of atoms."""
    used = np.isfinite(evidence["energy"]) & ~evidence.single
    sizes = evidence["n_atoms"][used]
    if used.sum() < 6 or sizes.max() < 1.3 * sizes.min():
        return []
    counts, energy = evidence.counts[used], evidence["energy"][used]
    fractions = counts / sizes[:, None]
    extensive = robust_deviation(
        (energy - counts @ robust_fit(counts / sizes[:, None], energy / sizes)) / sizes
    )
    intensive = robust_deviation(energy - fractions @ robust_fit(fractions, energy))
    varied = robust_deviation(energy / sizes)
    if not (intensive < 0.2 * extensive and intensive < 0.2 * varied):
        return []
    sentence = (
        "It looks as if the energies are per atom: a linear model of the composition leaves "
        f"{intensive:.3g} eV if they are, and {extensive:.3g} eV/atom if they are totals, over sizes from "
        f"{sizes.min():.0f} to {sizes.max():.0f} atoms."
    )
    advice = "Read the set with --energy-per-atom, or multiply each energy by its number of atoms."
    return [Finding.of("energy-per-atom", ERROR, sentence, advice, used)]
