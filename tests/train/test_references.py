"""Reference energies that were planted are found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from atomml.data.dataset import ListDataset
from atomml.data.entry import Entry, Labels
from atomml.errors import OptionError
from atomml.graph import GraphBuilder
from atomml.model import Potential
from atomml.potentials.lennard_jones import argon
from atomml.train.batches import Limits
from atomml.train.references import fit_references, is_isolated_atom, isolated_energies
from atomml.workflows.trainings.training_references import shifts_for

LIMITS = Limits(1000, 100_000)


class Said:
    """Takes what is reported."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def event(self, kind: str, **data: Any) -> None:
        """Not looked at."""

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def test_planted_energies_are_found() -> None:
    numbers = [np.array(z) for z in ([29, 29, 13], [13, 13], [29, 13, 13, 13], [29])]
    planted = {13: -3.25, 29: 1.5}
    energies = np.array([sum(planted[int(z)] for z in one) for one in numbers])
    fit = fit_references(numbers, energies)
    assert fit.unique
    assert fit.energies == pytest.approx(planted, abs=1e-12)
    assert fit.residual < 1e-12


def test_compositions_that_tell_nothing_apart_give_the_smallest_answer_and_say_so() -> None:
    """SiO2 alone: of all pairs with x_Si + 2 x_O = E, the least-norm one is E (1, 2) / 5."""
    numbers = [np.array([14, 8, 8]), np.array([14, 14, 8, 8, 8, 8])]
    fit = fit_references(numbers, np.array([-10.0, -20.0]))
    assert not fit.unique
    assert fit.energies == pytest.approx({8: -4.0, 14: -2.0})
    assert "1 independent compositions" in fit.sentence()


def test_a_large_structure_counts_as_much_as_a_small_one() -> None:
    """Per atom: -1 in a cell of one and -2 in a cell of 99 average to -1.5."""
    fit = fit_references([np.full(1, 29), np.full(99, 29)], np.array([-1.0, -198.0]))
    assert fit.energies[29] == pytest.approx(-1.5)
    assert fit.residual == pytest.approx(0.5)


def predicted(model: Potential, atoms: Atoms) -> float:
    return float(model.predict(GraphBuilder.for_model(model)(atoms)).energy)


def test_refit_onto_a_model_recovers_what_was_added(
    tiny: Callable[..., Potential], entries: list[Entry]
) -> None:
    """Labels that are the model's own energies plus a constant per element: the constants come back."""
    model, planted = tiny(), {13: 2.5, 29: -7.125}
    data = [
        replace(e, labels=Labels(predicted(model, e.atoms) + sum(planted[int(z)] for z in e.atoms.numbers)))
        for e in entries
    ]
    said = Said()
    shifts = shifts_for("refit", model, ListDataset(data), LIMITS, said)[""]
    # the fast path and the energies of the labels agree to rounding in float64
    assert shifts == pytest.approx(planted, abs=1e-6)
    assert said.warnings == []
    before = predicted(model, entries[0].atoms)
    model.shift_references(shifts)
    after = predicted(model, entries[0].atoms)
    assert after - before == pytest.approx(sum(shifts[int(z)] for z in entries[0].atoms.numbers), abs=1e-9)


def test_one_atom_crystals_are_no_isolated_atoms() -> None:
    crystal = Entry(Atoms("Cu", cell=[[0, 2, 2], [2, 0, 2], [2, 2, 0]], pbc=True), Labels(-3.7))
    atom = Entry(Atoms("Cu"), Labels(-0.5))
    boxed = Entry(Atoms("Al", cell=[9, 9, 9], pbc=True), Labels(-0.2), group="IsolatedAtom")
    assert [is_isolated_atom(entry) for entry in (crystal, atom, boxed)] == [False, True, True]
    assert isolated_energies([crystal, atom, boxed]) == {29: -0.5, 13: -0.2}


def test_isolated_atoms_get_their_labels(tiny: Callable[..., Potential], entries: list[Entry]) -> None:
    """Whatever the network says of a lone atom, the shifted model gives it the label's energy."""
    model = tiny()
    atoms = [Entry(Atoms("Cu"), Labels(-0.5)), Entry(Atoms("Al"), Labels(-0.25))]
    shifts = shifts_for("isolated", model, ListDataset([*entries, *atoms]), LIMITS, Said())[""]
    model.shift_references(shifts)
    builder = GraphBuilder.for_model(model)
    for entry in atoms:
        assert entry.labels.energy == pytest.approx(
            float(model.predict(builder(entry.atoms), path="plain").energy)
        )


def test_an_element_without_isolated_atom_is_named(
    tiny: Callable[..., Potential], entries: list[Entry]
) -> None:
    data = ListDataset([*entries, Entry(Atoms("Cu"), Labels(-0.5))])
    with pytest.raises(OptionError, match="isolated atom of Al"):
        shifts_for("isolated", tiny(), data, LIMITS, Said())


def test_isolated_atoms_that_disagree_are_refused() -> None:
    atoms = [Entry(Atoms("Cu"), Labels(-0.5), source="a.xyz", frame=k) for k in range(2)]
    with pytest.raises(OptionError, match=r"a\.xyz, frame 1"):
        isolated_energies([atoms[0], replace(atoms[1], labels=Labels(-0.6))])


def test_a_model_without_references_says_so() -> None:
    said = Said()
    data = ListDataset([Entry(Atoms("Ar"), Labels(0.0))])
    assert shifts_for("refit", argon(), data, LIMITS, said) == {"": {}}
    assert "no reference energies" in said.warnings[0]
    with pytest.raises(OptionError, match="keep"):
        shifts_for("isolated", argon(), data, LIMITS, Said())
    assert shifts_for("keep", argon(), data, LIMITS, Said()) == {}
