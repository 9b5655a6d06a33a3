"""Laws of the viewer: positions come back within 0.005 Å, small; its geometry, run by Node, is right."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from atomml.errors import InputError
from atomml.report.frames import MAX_STEP, bond_cutoffs, pack_frames, unpack_positions

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node is not installed: the viewer's script is not run")


def in_node(expression: str, *arguments: Any) -> Any:
    """The value of a JavaScript expression over ``G`` (geometry.js) and ``a`` (the arguments)."""
    assert NODE is not None
    path = str(files("atomml.report").joinpath("geometry.js"))
    code = (
        f"const G = require({json.dumps(path)}); const a = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "const plain = (k, v) => (ArrayBuffer.isView(v) ? Array.from(v) : v);"
        f"process.stdout.write(JSON.stringify({expression}, plain));"
    )
    text = json.dumps(arguments)
    done = subprocess.run([NODE, "-e", code], input=text, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def oxide() -> Atoms:
    """A rattled rock-salt cell: two elements, periodic, no symmetry left."""
    atoms = bulk("MgO", "rocksalt", 4.2, cubic=True).repeat((2, 2, 1))
    atoms.rattle(0.1, seed=3)
    return atoms


# ------------------------------------------------------------------ packing


@given(st.integers(1, 30), st.floats(0.0, 3000.0), st.floats(-1e3, 1e3), st.integers(0, 2**32 - 1))
def test_positions_come_back_within_half_a_step(n: int, span: float, origin: float, seed: int) -> None:
    """Half of 0.01 Å; as float32, which takes over above 655 Å, 4000 Å round by 2.5e-4 Å at most."""
    positions = origin + span * np.random.default_rng(seed).uniform(size=(n, 3))
    packed = pack_frames([Atoms(numbers=[1] * n, positions=positions)])["positions"]
    error = np.abs(unpack_positions(packed) - positions).max()
    assert error <= MAX_STEP / 2 + 1e-6
    spread = np.ptp(positions, axis=0).max()
    assert packed["type"] == ("uint16" if spread <= 65535 * MAX_STEP else "float32")


def test_a_crystals_positions_are_better_than_a_ten_thousandth() -> None:
    """The step follows the extent: 13 Å over 65,535 steps is 2e-4 Å, the error half of that."""
    atoms = oxide()
    error = unpack_positions(pack_frames([atoms])["positions"]) - atoms.positions
    assert np.abs(error).max() < 1.1e-4


def test_a_frame_costs_eight_bytes_an_atom() -> None:
    atoms = oxide()
    one, many = (len(json.dumps(pack_frames([atoms] * n))) for n in (1, 101))
    assert (many - one) / (100 * len(atoms)) == pytest.approx(8, abs=0.2)


def test_what_never_changes_is_stored_once() -> None:
    atoms = oxide()
    data = pack_frames([atoms] * 5)
    assert len(data["counts"]) == len(data["cells"]) == len(data["pbc"]) == 1
    stretched = atoms.copy()
    stretched.set_cell(atoms.cell * 1.01)
    assert len(pack_frames([atoms, stretched])["cells"]) == 2


def test_bonds_reach_beyond_nearest_neighbours_and_not_to_the_second() -> None:
    """In copper (2.556 and 3.615 Å), diamond (1.545, 2.52), rock salt (Na-Cl 2.82, Cl-Cl 3.99)."""
    copper, carbon = float(bond_cutoffs(np.array([29]))[0, 0]), float(bond_cutoffs(np.array([6]))[0, 0])
    assert 2.556 < copper < 3.615
    assert 1.545 < carbon < 2.52
    salt = bond_cutoffs(np.array([11, 17]))
    assert salt[0, 1] > 2.82
    assert salt[1, 1] < 3.99


def test_what_cannot_be_shown_is_refused() -> None:
    atoms = oxide()
    broken = atoms.copy()
    broken.positions[3, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        pack_frames([atoms, broken])
    with pytest.raises(InputError, match="at least one"):
        pack_frames([])
    with pytest.raises(InputError, match="2 values of time_fs for 1 frames"):
        pack_frames([atoms], {"time_fs": [0.0, 1.0]})


# ------------------------------------------------------------------ the script, run by Node


@needs_node
def test_the_script_reads_what_python_wrote() -> None:
    """Frames of one system, of unlike ones, and beyond 16 bits: positions, kinds, cells and flags agree."""
    far = Atoms("H2", positions=[[0, 0, 0], [2000, 1, 1]])
    for frames in ([oxide()] * 3, [oxide(), molecule("CH3OH"), fcc111("Pt", (1, 1, 2), vacuum=4)], [far]):
        data = pack_frames(frames)
        read = in_node("G.unpackFrames(a[0])", data)
        assert len(read) == len(frames)
        for frame, atoms in zip(read, frames, strict=True):
            np.testing.assert_allclose(np.reshape(frame["positions"], (-1, 3)), atoms.positions, atol=5e-3)
            symbols = [data["species"][kind]["symbol"] for kind in frame["kinds"]]
            assert symbols == atoms.get_chemical_symbols()
            assert frame["pbc"] == atoms.pbc.tolist()
            assert (frame["cell"] is None) == (not atoms.pbc.any())


@needs_node
@pytest.mark.parametrize("shift", [0.0, -37.0])
def test_the_script_finds_exactly_the_bonds(shift: float) -> None:
    """Against ASE's neighbour list without periodicity; positions below zero fall in other boxes."""
    atoms = oxide()
    atoms.pbc = False
    atoms.positions += shift
    data = pack_frames([atoms])
    positions = unpack_positions(data["positions"])
    cutoffs = np.array(data["bondCutoffs"])
    kinds = np.searchsorted(np.unique(atoms.numbers), atoms.numbers)
    bonds = in_node(
        "G.findBonds(a[0], a[1], a[2])", positions.ravel().tolist(), kinds.tolist(), cutoffs.tolist()
    )
    atoms.positions = positions
    i, j, d = neighbor_list("ijd", atoms, float(cutoffs.max()))
    expected = {(p, q) for p, q, r in zip(i, j, d, strict=True) if p < q and r < cutoffs[kinds[p], kinds[q]]}
    assert {tuple(pair) for pair in np.reshape(bonds, (-1, 2)).tolist()} == expected
    assert len(expected) > 20


@needs_node
def test_metals_are_bonded_in_metals_only() -> None:
    """In MgO no Mg-Mg bond is drawn; in a slab with one oxygen atom the metal's bonds stay."""
    cutoffs, metals = [[2.0, 3.0], [3.0, 4.0]], [False, True]
    half, few = ([0, 1] * 10, [0] + [1] * 19)
    assert in_node("G.frameCutoffs(a[0], a[1], a[2])", cutoffs, metals, half) == [[2.0, 3.0], [3.0, 0]]
    assert in_node("G.frameCutoffs(a[0], a[1], a[2])", cutoffs, metals, few) == cutoffs


@needs_node
def test_a_rotation_stays_one_however_often_it_is_turned() -> None:
    """Lengths, angles and handedness are kept to rounding after 20,000 small turns."""
    bent = np.reshape(in_node("G.aboutX(0.4)"), (3, 3)) + 1e-3 * np.arange(9).reshape(3, 3)
    straight = np.reshape(in_node("G.straighten(a[0])", bent.ravel().tolist()), (3, 3))
    np.testing.assert_allclose(straight @ straight.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(straight, bent, atol=0.02)  # no further away than it was bent
    code = (
        "(() => { let r = G.aboutX(0.3); for (let i = 0; i < 20000; i++)"
        "r = G.straighten(G.multiply(G.multiply(G.aboutX(0.01), G.aboutY(0.017)), r)); return r; })()"
    )
    rotation = np.reshape(in_node(code), (3, 3))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-12)


@needs_node
def test_looking_along_an_axis_shows_it_pointing_at_the_reader() -> None:
    for axis, up in (([1, 2, 3], [0, 0, 1]), ([0, 0, 5], [0, 0, 1]), ([2, 0, 0], [4, 0, 0])):
        rotation = np.reshape(in_node("G.lookAlong(a[0], a[1])", axis, up), (3, 3))
        length = float(np.linalg.norm(axis))
        np.testing.assert_allclose(
            rotation @ np.array(axis, dtype=float), np.array([0, 0, length]), atol=1e-12
        )
        assert np.linalg.det(rotation) == pytest.approx(1)


@needs_node
def test_wrapping_moves_by_whole_cells_into_the_cell() -> None:
    """As ASE wraps, in a skewed cell and along the periodic directions only."""
    atoms = oxide()
    atoms.set_cell(atoms.cell.array + np.array([[0, 1.5, 0], [0, 0, 1.0], [0.7, 0, 0]]))
    atoms.positions += np.random.default_rng(0).integers(-3, 4, (len(atoms), 3)) @ atoms.cell.array
    atoms.pbc = (True, False, True)
    flat = atoms.positions.ravel().tolist()
    cell = atoms.cell.array.ravel().tolist()
    wrapped = np.asarray(in_node("G.wrap(a[0], a[1], a[2])", flat, cell, [True, False, True]), dtype=float)
    atoms.wrap(eps=1e-4)
    np.testing.assert_allclose(
        wrapped, atoms.positions.ravel(), atol=1e-4
    )  # float32 over 40 Å: 2e-6 Å, and eps


@needs_node
def test_a_corner_atom_shows_at_all_eight_corners() -> None:
    """Primitive NaCl: Na at the origin eight times, Cl in the middle once; along open directions no copy."""
    salt = bulk("NaCl", "rocksalt", 5.64)
    arguments = (salt.positions.ravel().tolist(), [0, 1], salt.cell.array.ravel().tolist())
    shown = in_node("G.withImages(a[0], a[1], a[2], a[3])", *arguments, [True, True, True])
    assert shown["source"].count(0) == 8
    assert shown["source"].count(1) == 1
    fractions = np.linalg.solve(
        salt.cell.array.T, np.reshape(shown["positions"], (-1, 3))[np.array(shown["kinds"]) == 0].T
    )
    assert {tuple(row) for row in np.rint(fractions.T).astype(int).tolist()} == {
        (i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)
    }
    near = (0.999 * salt.cell.array[0]).tolist()
    twice = in_node("G.withImages(a[0], [0], a[1], [true, false, false])", near, arguments[2])["positions"]
    np.testing.assert_allclose(twice[3:], near - salt.cell.array[0], atol=1e-9)
    open_z = in_node("G.withImages(a[0], a[1], a[2], a[3])", *arguments, [True, True, False])
    assert open_z["source"].count(0) == 4


@needs_node
@settings(max_examples=5)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=400))
def test_painting_order_is_far_to_near(depths: list[float]) -> None:
    """Each index once; out of order by no more than one bucket of 2048."""
    order = in_node("G.byDepth(a[0])", depths)
    assert sorted(order) == list(range(len(depths)))
    sorted_depths = np.array(depths)[order]
    assert (np.diff(sorted_depths) >= -(max(depths) - min(depths)) / 2000 - 1e-9).all()
