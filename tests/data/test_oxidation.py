"""Oxidation states: charge neutrality as a law, the peer's ranges, known crystals."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from atomml.oxidation import MOMENT_RANGES, has_readable_moments, oxidation_states


def layered(n_lithium: int, n_metal: int = 4, metal: str = "Mn") -> Atoms:
    """``Li_x M O2`` on sites whose places do not matter."""
    symbols = ["Li"] * n_lithium + [metal] * n_metal + ["O"] * (2 * n_metal)
    return Atoms(symbols, np.arange(3 * len(symbols)).reshape(-1, 3) * 1.7, cell=[99, 99, 99], pbc=True)


@given(st.integers(0, 8), st.lists(st.floats(0, 5.0), min_size=4, max_size=4), st.sampled_from(["Mn", "V"]))
@settings(max_examples=60)
def test_the_charge_is_neutral_whatever_the_moments(n_lithium: int, moments: list[float], metal: str) -> None:
    """X from 0 to 2: four metals between 4+ and 2+ can always balance it."""
    atoms = layered(n_lithium, metal=metal)
    magmoms = np.zeros(len(atoms))
    magmoms[atoms.symbols == metal] = moments
    found = oxidation_states(atoms, magmoms)
    assert found.balanced
    assert found.states.sum() == found.charge == 0
    assert found.method == "magnetic moments"
    assert sum(found.counts.values()) == len(atoms)
    assert (found.states[atoms.symbols == "Li"] == 1).all()


@given(st.lists(st.floats(0, 5.0), min_size=4, max_size=4), st.integers(0, 8))
@settings(max_examples=40)
def test_what_is_moved_costs_least_of_all_ways(moments: list[float], n_lithium: int) -> None:
    """Against every combination of states of four atoms."""
    atoms = layered(n_lithium)
    magmoms = np.concatenate([np.zeros(n_lithium), moments, np.zeros(8)])
    found = oxidation_states(atoms, magmoms)

    def cost(moment: float, state: int) -> float:
        ends = [(low, high) for low, high, value in MOMENT_RANGES["Mn"] if value == state]
        return min(max(low - moment, moment - high, 0.0) for low, high in ends)

    def total(states: tuple[int, ...]) -> float:
        return sum(cost(moment, state) for moment, state in zip(moments, states, strict=True))

    states = found.states[atoms.symbols == "Mn"]
    ways = [way for way in product((2, 3, 4, 7), repeat=4) if sum(way) == 16 - n_lithium]
    assert total(tuple(states.tolist())) == pytest.approx(min(map(total, ways)), abs=1e-9)


def test_half_lithiated_manganese_oxide_has_both_states() -> None:
    """CHGNet's moments of Li0.5MnO2: two near 3.9 and two near 3.1; no atom has to be moved."""
    atoms = layered(2)
    magmoms = np.concatenate([[0, 0], [3.9, -3.1, 3.85, 3.2], np.full(8, 0.02)])
    found = oxidation_states(atoms, magmoms)
    assert found.counts == {"Li+": 2, "Mn3+": 2, "Mn4+": 2, "O2-": 8}
    assert found.states[2:6].tolist() == [3, 4, 3, 4]
    assert found.moved == []


def test_an_atom_near_the_end_of_its_range_is_the_one_that_moves() -> None:
    atoms = layered(2)
    magmoms = np.concatenate([[0, 0], [3.9, 3.45, 3.1, 3.2], np.zeros(8)])
    found = oxidation_states(atoms, magmoms)
    assert found.moved == [3]
    assert found.states[2:6].tolist() == [3, 3, 4, 4]
    assert found.farthest == pytest.approx(0.05)


def test_a_charge_that_no_states_make_is_said() -> None:
    atoms = layered(9)
    found = oxidation_states(atoms, np.zeros(len(atoms)) + 3.0)
    assert not found.balanced
    assert found.charge != 0


def test_manganese_is_read_as_the_peer_reads_it() -> None:
    """The chgnet package's own function, where nothing has to be balanced."""
    from chgnet.utils import solve_charge_by_mag
    from pymatgen.core import Lattice, Structure

    for moment in np.arange(0.55, 5.0, 0.1):
        peer = solve_charge_by_mag(
            Structure(Lattice.cubic(4), ["Mn"], [[0, 0, 0]], site_properties={"final_magmom": [moment]})
        )
        assert peer is not None
        state = int(peer[0].specie.oxi_state)
        found = oxidation_states(Atoms("Mn", cell=[4, 4, 4], pbc=True), np.array([moment]), charge=state)
        assert found.states.tolist() == [state]
        assert found.moved == [], moment


@pytest.mark.parametrize(
    ("formula", "length", "state"),
    [("MnO", 4.44, 2), ("FeO", 4.33, 2), ("CoO", 4.26, 2), ("NiO", 4.18, 2)],
)
def test_chgnets_moments_of_monoxides_need_no_balancing(formula: str, length: float, state: int) -> None:
    from atomml import AtomMLCalculator, load_model

    atoms = bulk(formula, "rocksalt", a=length)
    atoms.calc = AtomMLCalculator(load_model("chgnet-0.3.0", device="cpu"))
    found = oxidation_states(atoms, atoms.get_magnetic_moments())
    assert found.states.tolist() == [state, -2]
    assert found.moved == []


def test_without_moments_bonds_decide_and_metals_have_no_states() -> None:
    salt = bulk("NaCl", "rocksalt", a=5.64)
    found = oxidation_states(salt)
    assert found.method == "bond valences"
    assert found.states.tolist() == [1, -1]
    assert found.balanced
    assert not has_readable_moments(bulk("Fe", "bcc", a=2.87))
    assert has_readable_moments(layered(2))
    iron = oxidation_states(bulk("Cu", "fcc", a=3.6))
    assert iron.method in ("none", "composition")
    assert not iron.states.any()


def test_ranges_join_and_name_each_moment_once() -> None:
    for ranges in MOMENT_RANGES.values():
        ordered = sorted(ranges)
        assert all(a[1] <= b[0] for a, b in pairwise(ordered))
        assert ordered[0][0] == 0


def test_a_thousand_atoms_are_balanced_at_once() -> None:
    atoms = layered(150, n_metal=300)
    generator = np.random.default_rng(0)
    magmoms = np.concatenate([np.zeros(150), generator.uniform(2.6, 4.1, 300), np.zeros(600)])
    found = oxidation_states(atoms, magmoms)
    assert found.states.sum() == 0
    assert Counter(found.states.tolist())[3] == 150
