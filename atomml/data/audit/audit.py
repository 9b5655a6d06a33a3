"""The audit of a labelled data set: every trap, one after the other, on one pass over the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atomml.data.audit.composition import energy_outliers, mixed_theory, per_atom
from atomml.data.audit.duplicates import duplicates
from atomml.data.audit.evidence import Evidence, gather
from atomml.data.audit.finding import ERROR, SEVERITIES, Finding, Trap
from atomml.data.audit.frame_traps import stress_frame
from atomml.data.audit.geometry_traps import (
    atoms_far_away,
    atoms_too_close,
    length_unit,
    periodicity_lost,
    unreadable,
)
from atomml.data.audit.label_traps import (
    constant_energy,
    isolated_atoms,
    labels_on_some,
    labels_under_another_key,
    magnitudes,
    net_forces,
    one_atom_cells,
    zero_forces,
)
from atomml.data.audit.unit_traps import consistent_units, energy_jumps

if TYPE_CHECKING:
    from atomml.data.entry import Entry
    from atomml.model import Potential

__all__ = ["TRAPS", "Audit", "audit", "judge"]

TRAPS: tuple[Trap, ...] = (
    consistent_units,
    stress_frame,
    per_atom,
    length_unit,
    labels_under_another_key,
    labels_on_some,
    zero_forces,
    constant_energy,
    net_forces,
    magnitudes,
    isolated_atoms,
    one_atom_cells,
    atoms_too_close,
    atoms_far_away,
    periodicity_lost,
    unreadable,
    duplicates,
    mixed_theory,
    energy_outliers,
    energy_jumps,
)
"""Those that need no model, in the order in which they are asked; of two with one name the first counts."""

# A finding on the left explains away those on the right.
_EXPLAINS = {
    "stress-frame": ("stress-disagree-with-energies",),
    "stress-in-": ("stress-magnitude",),
    "virial-for-stress": ("stress-magnitude",),
    "zero-forces": ("forces-disagree-with-energies", "gradients-for-forces", "forces-in-"),
    "constant-energy": ("forces-disagree-with-energies", "energy-", "forces-in-", "mixed-theory"),
    "positions-in-bohr": ("far-away-atoms", "duplicates"),
    "energy-": ("isolated-atoms-off",),
    "mixed-theory": ("energy-outlier", "duplicates-disagree"),
    "forces-in-": ("force-magnitude",),
}


@dataclass(frozen=True)
class Audit:
    """What was found, and the evidence behind it.

    Attributes:
        findings: The worst first.
        evidence: Columns and pairs, for statistics and plots.
    """

    findings: tuple[Finding, ...]
    evidence: Evidence

    @property
    def passed(self) -> bool:
        """Whether there is no error among the findings."""
        return not any(finding.severity == ERROR for finding in self.findings)


def audit(entries: Sequence[Entry], model: Potential | None = None, sample: int = 50_000) -> Audit:
    """Look for every known trap.

    One pass reads the set and keeps some 300 bytes per entry; a second looks at some hundred entries
    again. Beyond ``sample`` entries, surroundings are looked at in evenly spaced ones, and work along
    near-by structures in evenly spaced blocks of eight.

    Args:
        entries: The set.
        model: A model to compare a sample of the labels with; it needs no more than rough agreement.
        sample: At most about so many entries have their surroundings looked at.
    """
    evidence = gather(entries, sample)
    return Audit(judge(evidence, model), evidence)


def judge(evidence: Evidence, model: Potential | None = None) -> tuple[Finding, ...]:
    """Findings from evidence that was gathered before."""
    found: dict[str, Finding] = {}
    for trap in TRAPS:
        for finding in trap(evidence):
            name = finding.trap
            key = f"{name}: {finding.sentence}" if name in _SEVERAL else name
            found.setdefault(key, finding)
    if model is not None:
        from atomml.data.audit.model_traps import against_model

        for finding in against_model(evidence, model):
            found.setdefault(finding.trap, finding)
    kept = _without_consequences(list(found.values()))
    return tuple(sorted(kept, key=lambda finding: SEVERITIES.index(finding.severity)))


_SEVERAL = frozenset({"labels-under-another-key", "isolated-atoms-disagree", "one-atom-cells"})


def _without_consequences(findings: list[Finding]) -> list[Finding]:
    names = {finding.trap for finding in findings}
    explained = {
        name
        for cause, effects in _EXPLAINS.items()
        if (causes := {one for one in names if one.startswith(cause)})
        for name in names - causes
        if name.startswith(effects)
    }
    return [finding for finding in findings if finding.trap not in explained]
