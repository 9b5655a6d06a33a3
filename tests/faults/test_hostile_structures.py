"""Structures that no model can take are refused in one sentence; sound ones, however odd, are not."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule

from atomml.graph.validate import MIN_DISTANCE, check_arrays, check_finite, closest_pair, validate_atoms

NAN, INF = float("nan"), float("inf")


def crystal() -> Atoms:
    return bulk("NaCl", "rocksalt", a=5.64, cubic=True)


def moved(atom: int, position: tuple[float, float, float]) -> Atoms:
    atoms = crystal()
    atoms.positions[atom] = position
    return atoms


def pair(first: list[float], second: list[float], cell: object = None, pbc: object = False) -> Atoms:
    return Atoms("SiO", positions=[first, second], cell=cell, pbc=pbc)


def with_cell(cell: object, pbc: object = True) -> Atoms:
    return Atoms("SiO", positions=[[0, 0, 0], [0.9, 1.1, 1.3]], cell=cell, pbc=pbc)


def with_array(name: str, values: object) -> Atoms:
    atoms = crystal()
    atoms.arrays[name] = np.asarray(values)
    return atoms


def numbered(number: int) -> Atoms:
    atoms = crystal()
    atoms.numbers[5] = number
    return atoms


def crowd() -> Atoms:
    """Twenty thousand atoms in a nanometre: coordinates in the wrong unit."""
    grid = np.stack(np.meshgrid(*[np.arange(28)] * 3), -1).reshape(-1, 3)[:20000]
    return Atoms(np.full(len(grid), 14), positions=grid * 0.3)


LEFT = [[0, 4.0, 0], [4.0, 0, 0], [0, 0, 4.0]]
SKEWED = [[4.0, 0, 0], [3.9, 4.0, 0], [-3.9, 3.9, 4.0]]
CUBE = np.eye(3) * 4.0

HOSTILE: dict[str, tuple[Callable[[], Atoms], tuple[str, ...]]] = {
    "NaN position": (lambda: moved(3, (NAN, 0, 0)), ("atom 3 (Cl)", "position")),
    "NaN in the last coordinate": (lambda: moved(7, (0, 0, NAN)), ("atom 7",)),
    "NaN everywhere": (lambda: with_array("positions", np.full((8, 3), NAN)), ("atom 0 (Na)",)),
    "infinite position": (lambda: moved(2, (INF, 0, 0)), ("atom 2 (Na)", "not finite")),
    "minus infinity": (lambda: moved(1, (0, -INF, 0)), ("atom 1",)),
    "both signs of infinity": (lambda: moved(1, (INF, -INF, NAN)), ("atom 1",)),
    "position of 1e30": (lambda: moved(4, (1e30, 0, 0)), ("atom 4", "units")),
    "position near the largest float": (lambda: moved(4, (0, -1e308, 0)), ("atom 4", "units")),
    "position in the next room": (lambda: moved(4, (0, 0, 1e7)), ("atom 4", "units")),
    "twice the same atom": (lambda: pair([1, 1, 1], [1, 1, 1]), ("atom 0 (Si)", "atom 1 (O)", "0 Å apart")),
    "a thousandth apart": (lambda: pair([1, 1, 1], [1, 1, 1.001]), ("0.001 Å",)),
    "just below the least distance": (lambda: pair([0, 0, 0], [0, 0, 0.0999]), ("0.0999",)),
    "coincident in a crystal": (lambda: moved(6, (0, 0.05, 0)), ("atom 0 (Na)", "atom 6 (Na)")),
    "across a face": (lambda: pair([0.01, 1, 1], [3.98, 1, 1], CUBE, True), ("0.03 Å",)),
    "across an edge": (lambda: pair([0.01, 3.99, 1], [3.99, 0.01, 1], CUBE, True), ("closer than",)),
    "across a corner": (lambda: pair([0.01, 3.99, 3.99], [3.99, 0.01, 0.01], CUBE, True), ("closer than",)),
    "ten cells away": (lambda: pair([1, 1, 1], [41.02, -38.98, 1], CUBE, True), ("closer than",)),
    "in a left-handed cell": (lambda: pair([1, 0.02, 1], [1, 3.99, 1], LEFT, True), ("0.03 Å",)),
    "in a skewed cell": (lambda: pair([0, 0, 0], [4.05, 7.9, 4.02], SKEWED, True), ("closer than",)),
    "across a slab's edge": (lambda: pair([0, 1, 7], [3.97, 1, 7], CUBE, (1, 1, 0)), ("0.03 Å",)),
    "in a chain": (lambda: pair([9, 9, 0.01], [9, 9, 3.99], np.diag([0, 0, 4.0]), (0, 0, 1)), ("0.02 Å",)),
    "five hundred in one place": (lambda: Atoms("H500", positions=np.zeros((500, 3))), ("0 Å apart",)),
    "zero cell": (lambda: with_cell(np.zeros((3, 3))), ("periodic along a", "zero")),
    "one zero vector": (lambda: with_cell(np.diag([4.0, 0, 4.0])), ("periodic along b",)),
    "chain without its vector": (lambda: with_cell(np.diag([4.0, 4, 0]), (0, 0, 1)), ("periodic along c",)),
    "two equal vectors": (lambda: with_cell([[4, 0, 0], [4, 0, 0], [0, 0, 4]]), ("no volume",)),
    "opposite vectors": (lambda: with_cell([[4, 0, 0], [-4, 0, 0], [0, 0, 4]]), ("no volume",)),
    "vectors in a plane": (lambda: with_cell([[4, 0, 0], [0, 4, 0], [4, 4, 0]]), ("no volume",)),
    "a plane but for rounding": (lambda: with_cell([[4, 0, 0], [0, 4, 0], [4, 4, 1e-9]]), ("no volume",)),
    "slab with parallel vectors": (
        lambda: with_cell([[4, 0, 0], [8, 0, 0], [0, 0, 9]], (1, 1, 0)),
        ("no volume",),
    ),
    "NaN cell": (lambda: with_cell(np.full((3, 3), NAN)), ("cell is not finite",)),
    "NaN in a vector that does not repeat": (lambda: with_cell(np.diag([4, 4, NAN]), (1, 1, 0)), ("cell",)),
    "infinite cell": (lambda: with_cell(np.diag([4, 4, INF])), ("cell is not finite",)),
    "cell of a metre": (lambda: with_cell(np.diag([4, 4, 1e10])), ("units",)),
    "cell of a hundredth of an ångström": (lambda: with_cell(np.eye(3) * 0.01), ("0.01 Å thick",)),
    "thin in one direction": (lambda: with_cell(np.diag([4, 4, 1e-4])), ("Å thick",)),
    "cell in nanometres": (
        lambda: Atoms("Na4Cl4", crystal().get_scaled_positions() * 0.564, cell=np.eye(3) * 0.564, pbc=True),
        ("Å",),
    ),
    "needle of a cell": (lambda: with_cell([[4, 0, 0], [4e5, 4, 0], [0, 0, 4]]), ("Å",)),
    "crowd": (crowd, ("neighbours", "check that positions")),
    "dummy atom": (lambda: numbered(0), ("atom 5", "atomic number 0", "dummy")),
    "element 119": (lambda: numbered(119), ("atom 5", "119")),
    "element -1": (lambda: numbered(-1), ("atom 5", "-1")),
    "element a billion": (lambda: numbered(10**9), ("atom 5",)),
    "no atoms": (lambda: Atoms(), ("no atoms",)),
    "no atoms in a cell": (lambda: Atoms(cell=[4, 4, 4], pbc=True), ("no atoms",)),
    "two coordinates": (lambda: with_array("positions", np.zeros((8, 2))), ("(8, 2)", "8 rows of 3")),
    "flat positions": (lambda: with_array("positions", np.zeros(8)), ("shape",)),
    "a row too few": (lambda: with_array("positions", np.zeros((7, 3))), ("7 rows for 8 atoms",)),
    "complex positions": (lambda: with_array("positions", crystal().positions * 1j), ("complex128",)),
    "positions as text": (
        lambda: with_array("positions", crystal().positions.astype(str)),
        ("real numbers",),
    ),
    "fractional elements": (lambda: with_array("numbers", np.full(8, 11.5)), ("float64",)),
    "tags too many": (lambda: with_array("tags", np.zeros(9)), ("tags has 9 rows",)),
    "NaN momentum": (lambda: with_array("momenta", np.full((8, 3), NAN)), ("momentum of atom 0 (Na)",)),
    "infinite momentum": (lambda: with_array("momenta", np.full((8, 3), INF)), ("momentum",)),
    "NaN mass": (lambda: with_array("masses", np.full(8, NAN)), ("mass of atom 0",)),
    "massless atom": (lambda: with_array("masses", [1, 1, 0, 1, 1, 1, 1, 1.0]), ("atom 2", "mass")),
    "negative mass": (lambda: with_array("masses", np.full(8, -1.0)), ("not positive",)),
    "NaN charge": (lambda: with_array("initial_charges", np.full(8, NAN)), ("charge of atom 0",)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_structure_is_refused_in_one_sentence(name: str, refused: Callable[..., str]) -> None:
    make, words = HOSTILE[name]
    refused(lambda: validate_atoms(make(), where="bad.cif, frame 7"), "bad.cif, frame 7: ", *words)


def test_there_are_at_least_forty_of_them() -> None:
    assert len(HOSTILE) >= 40


def test_an_element_the_model_never_saw_is_named(refused: Callable[..., str]) -> None:
    from atomml.graph import build_graph
    from atomml.registry import load_model

    model = load_model("lj-argon", dtype="float64", device="cpu")
    atoms = Atoms("ArAm", positions=[[0, 0, 0], [0, 0, 4.0]])
    graph = build_graph(atoms, cutoff=model.info.cutoff)
    refused(lambda: model.predict(graph), "Atom 1 is Am (Z=95)", "lj-argon")


SOUND: dict[str, Callable[[], Atoms]] = {
    "one atom": lambda: Atoms("Ar"),
    "one atom in a primitive cell": lambda: bulk("Po", "sc", a=3.35),
    "densest element": lambda: bulk("C", "diamond", a=3.567),
    "hydrogen at 500 GPa": lambda: bulk("H", "sc", a=1.2),
    "molecule": lambda: molecule("C6H6"),
    "molecule in vacuum of 1000 Å": lambda: Atoms(
        "H2", [[0, 0, 0], [0.74, 0, 0]], cell=np.eye(3) * 1e3, pbc=True
    ),
    "collision": lambda: Atoms("H2", [[0, 0, 0], [0.2, 0, 0]]),
    "at the least distance": lambda: Atoms("H2", [[0, 0, 0], [MIN_DISTANCE, 0, 0]]),
    "slab without a third vector": lambda: fcc111("Al", (2, 2, 3)),
    "sheet": graphene,
    "left-handed": lambda: Atoms("Si", cell=LEFT, pbc=True),
    "skewed": lambda: Atoms("Si", cell=SKEWED, pbc=True),
    "far outside its cell": lambda: Atoms("Si", [[1e4, -1e4, 3]], cell=CUBE, pbc=True),
    "cell without periodicity": lambda: Atoms("SiO", [[0, 0, 0], [3.99, 0, 0]], cell=CUBE),
    "flat cell without periodicity": lambda: Atoms("Si", cell=np.ones((3, 3))),
    "vacuum vector in the slab's plane": lambda: Atoms(
        "Si", cell=[[4, 0, 0], [0, 4, 0], [4, 4, 0]], pbc=(1, 1, 0)
    ),
    "coincident but for the periodicity": lambda: Atoms(
        "SiO", [[0, 0, 0], [0, 0, 4]], cell=CUBE, pbc=(1, 1, 0)
    ),
    "moving": lambda: Atoms("Ar", momenta=[[1, 2, 3]], masses=[40]),
    "oganesson": lambda: Atoms(numbers=[118]),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_structure_is_let_through(name: str) -> None:
    validate_atoms(SOUND[name]())


@pytest.mark.parametrize("pbc", list(itertools.product((False, True), repeat=3)))
def test_the_closest_pair_is_that_of_brute_force(pbc: tuple[bool, bool, bool]) -> None:
    generator = np.random.default_rng(sum(2**i for i, on in enumerate(pbc) if on))
    for _ in range(20):
        cell = np.eye(3) * 3.0 + generator.uniform(-1, 1, (3, 3))
        positions = generator.uniform(-8, 8, (6, 3))
        atoms = Atoms(numbers=np.full(6, 6), positions=positions, cell=cell, pbc=pbc)
        # images up to ten cells away cover positions of 8 Å in cells at least 1 Å thick
        wrapped = positions - np.floor(positions @ np.linalg.inv(cell)) * pbc @ cell
        ranges = [range(-2, 3) if on else (0,) for on in pbc]
        shifts = np.array(list(itertools.product(*ranges))) @ cell
        vectors = wrapped[None, :, None] + shifts[None, None] - wrapped[:, None, None]
        lengths = np.linalg.norm(vectors, axis=-1)
        lengths[lengths < 1e-9] = np.inf  # an atom and itself
        found = closest_pair(atoms, below=0.9)
        if lengths.min() >= 0.9:
            assert found is None
        else:
            assert found is not None
            # positions of order 10 Å, each rounded a few times
            assert found[2] == pytest.approx(lengths.min(), abs=1e-13)
            assert np.min(lengths[found[0], found[1]]) == pytest.approx(found[2], abs=1e-13)


def test_four_thousand_atoms_are_checked_in_a_moment() -> None:
    atoms = crystal() * (8, 8, 8)
    validate_atoms(atoms)
    start = time.perf_counter()
    validate_atoms(atoms)
    assert time.perf_counter() - start < 10  # 5 ms on a quiet machine


def test_many_coincident_atoms_cost_no_quadratic_memory(refused: Callable[..., str]) -> None:
    atoms = Atoms(numbers=np.full(9000, 1), positions=np.zeros((9000, 3)))
    start = time.perf_counter()
    refused(lambda: validate_atoms(atoms), "0 Å apart")
    assert time.perf_counter() - start < 10


def test_the_cheap_part_can_be_called_at_each_step() -> None:
    atoms = crystal() * (5, 5, 5)
    start = time.perf_counter()
    for _ in range(100):
        check_finite(atoms.positions, atoms.numbers)
        check_arrays(atoms)
    assert time.perf_counter() - start < 10  # 0.1 ms each on a quiet machine
