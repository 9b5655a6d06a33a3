"""Each mistake that files are known for is found by name, and sound sets give no finding at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from atomml.data.audit import ERROR, Finding, audit
from atomml.data.entry import Entry
from atomml.testing.planted_mistakes import PLANTED, Planted
from atomml.testing.planted_sets import clean_sets

NAMES = ("argon", "salt", "silicon", "alloys", "ethanol", "trajectory", "strains")
# What an explanation may drag along: a note on structures that a mistake made alike.
SIDE_EFFECTS = {"duplicates"}


@pytest.fixture(scope="module")
def clean() -> Mapping[str, list[Entry]]:
    return clean_sets()


def _names(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.trap for finding in findings}


def test_there_are_more_than_twenty_mistakes() -> None:
    assert len(PLANTED) >= 50
    assert len({trap for planted in PLANTED for trap in planted.traps}) >= 30
    assert len({planted.name for planted in PLANTED}) == len(PLANTED)


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_set_gives_no_finding(name: str, clean: Mapping[str, list[Entry]]) -> None:
    assert audit(clean[name]).findings == ()


def test_sound_sets_together_give_no_finding(clean: Mapping[str, list[Entry]]) -> None:
    """Molecules have no stress, and crystals must not be held against them."""
    names = ("salt", "silicon", "alloys", "ethanol", "trajectory")
    assert audit([entry for name in names for entry in clean[name]]).findings == ()


@pytest.mark.parametrize("planted", [p for p in PLANTED if not p.with_model], ids=lambda p: p.name)
def test_a_planted_mistake_is_found_and_nothing_else(
    planted: Planted, clean: Mapping[str, list[Entry]]
) -> None:
    found = audit(planted.plant(clean[planted.base])).findings
    assert set(planted.traps) <= _names(found)
    assert _names(found) - set(planted.traps) <= SIDE_EFFECTS
    for finding in found:
        assert finding.sentence.endswith(".")
        assert finding.advice.endswith(".")
        assert "nan" not in finding.sentence


def test_a_set_of_one_and_an_empty_set_are_audited(clean: Mapping[str, list[Entry]]) -> None:
    assert audit([]).findings == ()
    assert audit(clean["salt"][:1]).findings == ()


def test_one_wrong_file_among_sound_ones_is_found(clean: Mapping[str, list[Entry]]) -> None:
    """Few pairs of many are wrong: the robust fit passes over them, and the outliers are named."""
    entries = list(clean["trajectory"])
    energy = entries[20].labels.energy
    assert energy is not None
    entries[20] = replace(entries[20], labels=replace(entries[20].labels, energy=energy + 2.0))
    (finding,) = audit(entries).findings
    assert finding.entries == (20,)


def test_findings_say_which_entries(clean: Mapping[str, list[Entry]]) -> None:
    planted = next(p for p in PLANTED if p.name == "forces on some frames")
    (finding,) = audit(planted.plant(clean["ethanol"])).findings
    assert finding.entries == (3, 10, 17, 24, 31)
    assert finding.n_entries == 5


@pytest.mark.parametrize("raises", [False, True])
def test_a_flat_cell_is_a_finding_and_no_crash(
    raises: bool, clean: Mapping[str, list[Entry]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However spglib is set to report that it found no symmetry."""
    monkeypatch.setattr("spglib.error.OLD_ERROR_HANDLING", not raises)
    entries = list(clean["salt"])
    atoms = entries[4].atoms.copy()
    atoms.set_cell(np.diag([5.0, 5.0, 0.0]))
    entries[4] = replace(entries[4], atoms=atoms)
    found = {finding.trap: finding for finding in audit(entries).findings}
    assert found["no-structure"].severity == ERROR
    assert found["no-structure"].entries == (4,)


def test_near_units_are_named_together(clean: Mapping[str, list[Entry]]) -> None:
    """A virial over 180 Å³ and GPa (160.2) differ by less than the work is known: both are said."""
    planted = next(p for p in PLANTED if p.name == "stress in GPa")
    (finding,) = audit(planted.plant(clean["salt"])).findings
    assert finding.trap == "stress-in-GPa"
    assert "virial" in finding.sentence


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 600, 100))
def test_no_false_alarm_for_other_displacements(seed: int) -> None:
    for name, entries in clean_sets(seed).items():
        assert audit(entries).findings == (), name


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1000, 2000])
def test_mistakes_are_found_for_other_displacements(seed: int) -> None:
    sets = clean_sets(seed)
    missed = [
        planted.name
        for planted in PLANTED
        if not planted.with_model
        and not set(planted.traps) <= _names(audit(planted.plant(sets[planted.base])).findings)
    ]
    assert missed == []
