"""Labels that are missing, under another key, empty, or out of all proportion; and isolated atoms."""

from __future__ import annotations

import numpy as np

from atomml.data.audit.evidence import Evidence
from atomml.data.audit.finding import ERROR, NOTE, WARNING, Finding

__all__ = [
    "constant_energy",
    "isolated_atoms",
    "labels_on_some",
    "labels_under_another_key",
    "magnitudes",
    "net_forces",
    "one_atom_cells",
    "zero_forces",
]

_NET_FORCE = 0.01  # eV/Å per atom; grids and fits leave a tenth of it
_POLAR = 0.02  # of the sum of unit vectors; below it symmetry may forbid the force
_LARGE_STRESS = 0.6  # eV/Å³, 100 GPa: as a median it is no usual set in eV/Å³, and a usual one in kbar or GPa
_LARGE_FORCE = 30.0  # eV/Å
_HUGE_FORCE = 100.0  # eV/Å


def labels_under_another_key(evidence: Evidence) -> list[Finding]:
    """Keys that look like a label which was not read."""
    found = []
    for (label, key), count in sorted(evidence.unread.items()):
        sentence = f"{count} entries have no {label}, and hold {key!r}, which looks like it."
        advice = f"Read the set with --{label}-key {key}."
        found.append(Finding("labels-under-another-key", ERROR, sentence, advice, (), count))
    return found


def labels_on_some(evidence: Evidence) -> list[Finding]:
    """A label that some entries have and others lack."""
    crystals = (evidence["n_periodic"] == 3) & ~evidence.isolated
    cases = (
        ("energy", np.isfinite(evidence["energy"]), np.ones(len(evidence), dtype=bool)),
        ("forces", evidence["has_forces"] > 0, ~evidence.single),
        ("stress", evidence["has_stress"] > 0, crystals),
    )
    found = []
    for label, has, asked in cases:
        lacking = asked & ~has
        if not lacking.any() or not (asked & has).any():
            continue
        sentence = f"{int(lacking.sum())} of {int(asked.sum())} entries have no {label}, and the others do."
        advice = (
            f"A loss on {label} leaves them out, and says so; if they should have one, look for it under "
            f"another key (--{label}-key) or in the calculation."
        )
        found.append(Finding.of(f"{label}-on-some-frames", WARNING, sentence, advice, lacking))
    return found


def zero_forces(evidence: Evidence) -> list[Finding]:
    """Forces that are exactly zero where symmetry doesn't make them so."""
    due = (evidence["has_forces"] > 0) & ~evidence.single & (evidence["polarity"] > _POLAR)
    empty = due & (evidence["max_force"] < 1e-12)
    if not empty.any():
        return []
    everywhere = empty.sum() > 0.5 * due.sum()
    sentence = (
        f"All forces of {int(empty.sum())} of {int(due.sum())} entries are exactly zero, though their atoms "
        "do not sit on symmetric sites: the forces were not computed."
    )
    advice = "Read the set with --forces-key none, or leave these entries out: they teach that nothing pulls."
    return [Finding.of("zero-forces", ERROR if everywhere else WARNING, sentence, advice, empty)]


def constant_energy(evidence: Evidence) -> list[Finding]:
    """One energy for many different structures."""
    used = np.isfinite(evidence["energy"]) & ~evidence.single & np.isfinite(evidence.fingerprints[:, 0])
    if used.sum() < 3:
        return []
    values, places, counts = np.unique(evidence["energy"][used], return_inverse=True, return_counts=True)
    common = int(np.argmax(counts))
    same = np.zeros(len(evidence), dtype=bool)
    same[np.flatnonzero(used)[places == common]] = True
    spread = np.ptp(evidence.fingerprints[same], axis=0).max()
    if counts[common] < max(3, 0.2 * used.sum()) or spread < 1e-3:
        return []
    sentence = (
        f"{int(counts[common])} different structures have the same energy, {values[common]:.10g} eV: "
        "it was filled in or copied."
    )
    return [
        Finding.of("constant-energy", ERROR, sentence, "Find the energies or leave these entries out.", same)
    ]


def net_forces(evidence: Evidence) -> list[Finding]:
    """Forces that don't add up to zero."""
    off = (evidence["net_force"] > _NET_FORCE) & ~evidence.single
    off &= evidence["net_force"] > 0.01 * np.sqrt(evidence["mean_square_force"])
    n = int((np.isfinite(evidence["net_force"]) & ~evidence.single).sum())
    if not off.any() or off.sum() < 0.01 * n:
        return []
    worst = float(evidence["net_force"][off].max())
    sentence = (
        f"The forces of {int(off.sum())} of {n} entries do not add up to zero: up to {worst:.3g} eV/Å per "
        "atom is left."
    )
    advice = (
        "Look for forces set to zero on fixed atoms, atoms left out, a mixed order of atoms, or loose grids; "
        "a model without an outer field can't learn a net force."
    )
    return [Finding.of("net-force", WARNING, sentence, advice, off)]


def one_atom_cells(evidence: Evidence) -> list[Finding]:
    """Crystals of one atom, which some programs take for isolated atoms; and the reverse."""
    found = []
    crystals = evidence.single & ~evidence.isolated
    boxed = evidence.isolated & (evidence["n_periodic"] > 0)
    if crystals.any():
        sentence = f"{int(crystals.sum())} entries are crystals with one atom in the cell."
        advice = "They are kept as crystals; other programs may take them for isolated atoms, or drop them."
        found.append(Finding.of("one-atom-cells", NOTE, sentence, advice, crystals))
    if boxed.any():
        sentence = (
            f"{int(boxed.sum())} entries are single atoms in a periodic box, more than 7 Å from their images."
        )
        advice = "They count as isolated atoms; make them non-periodic to say so."
        found.append(Finding.of("one-atom-cells", NOTE, sentence, advice, boxed))
    return found


def isolated_atoms(evidence: Evidence) -> list[Finding]:
    """Isolated atoms of some elements only, twice with different energies, or off the rest of the set."""
    from ase.data import chemical_symbols

    used = evidence.isolated & np.isfinite(evidence["energy"])
    if not used.any():
        return []
    found, reference = [], np.full(len(evidence.elements), np.nan)
    for place, number in enumerate(evidence.elements):
        rows = np.flatnonzero(used & (evidence.counts[:, place] > 0))
        if not len(rows):
            continue
        energies = evidence["energy"][rows]
        reference[place] = np.median(energies)
        if np.ptp(energies) > 1e-3:
            sentence = (
                f"The isolated {chemical_symbols[number]} atom is there {len(rows)} times, with energies "
                f"from {energies.min():.4f} to {energies.max():.4f} eV."
            )
            found.append(
                Finding.of("isolated-atoms-disagree", ERROR, sentence, "Keep one, of the set's method.", rows)
            )
    missing = np.isnan(reference)
    if missing.any():
        names = ", ".join(chemical_symbols[evidence.elements[k]] for k in np.flatnonzero(missing))
        sentence = f"There are isolated atoms of some elements, and none of {names}."
        advice = "Add them, or let the training fit all atomic energies (E0s) by least squares."
        found.append(Finding.of("isolated-atoms-missing", WARNING, sentence, advice))
    return found + _binding(evidence, reference)


def _binding(evidence: Evidence, reference: np.ndarray) -> list[Finding]:
    """Isolated atoms of another method or unit give binding energies that don't exist."""
    used = ~evidence.isolated & np.isfinite(evidence["energy"])
    binding = (evidence["energy"] - evidence.counts @ np.nan_to_num(reference)) / evidence["n_atoms"]
    known = used & (evidence.counts[:, np.isnan(reference)] == 0).all(axis=1)
    if not known.any() or not np.abs(np.nan_to_num(reference)).any():
        return []
    middle = float(np.median(binding[known]))
    if -12.0 < middle < 0.5:  # tungsten, the strongest, is bound by 8.9 eV; PBE adds some tenths
        return []
    sentence = (
        f"With the isolated atoms of the set as reference, the other entries are bound by {-middle:.3g} "
        "eV/atom in the median, which matter isn't: they are of another method or unit."
    )
    return [
        Finding.of("isolated-atoms-off", ERROR, sentence, "Compute them with the method of the set.", known)
    ]


def magnitudes(evidence: Evidence) -> list[Finding]:
    """Labels too large to be what they say, where nothing better speaks; and single huge forces."""
    found = []
    stress = evidence["largest_stress"]
    force = np.sqrt(evidence["mean_square_force"])
    if np.isfinite(stress).any() and np.nanmedian(stress) > _LARGE_STRESS:
        sentence = (
            f"The median of the largest stress component is {np.nanmedian(stress):.3g} eV/Å³, "
            f"{160.2177 * np.nanmedian(stress):.0f} GPa: kbar, GPa or a virial look like that."
        )
        advice = "Check --stress-unit and --stress-quantity; a model (--model) tells which."
        found.append(Finding.of("stress-magnitude", WARNING, sentence, advice, stress > _LARGE_STRESS))
    if np.isfinite(force).any() and np.nanmedian(force) > _LARGE_FORCE:
        sentence = f"The median of the root mean square force is {np.nanmedian(force):.3g} eV/Å."
        found.append(
            Finding.of("force-magnitude", WARNING, sentence, "Check --forces-unit.", force > _LARGE_FORCE)
        )
    else:
        usual = np.nanmedian(evidence["max_force"]) if np.isfinite(force).any() else np.nan
        huge = (evidence["max_force"] > _HUGE_FORCE) & (evidence["max_force"] > 20 * usual)
        if huge.any():
            worst = float(evidence["max_force"][huge].max())
            sentence = (
                f"{int(huge.sum())} entries have forces up to {worst:.4g} eV/Å; the median is {usual:.3g}."
            )
            advice = "Look at them: atoms that overlap, or a calculation that didn't converge."
            found.append(Finding.of("force-outlier", WARNING, sentence, advice, huge))
    return found
