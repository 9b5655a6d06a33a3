"""POSCARs mean what they mean to ASE and pymatgen, whoever wrote them, in every form that VASP knows."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixScaled
from ase.io.vasp import read_vasp, write_vasp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atomml.data.poscar import parse_poscar
from atomml.errors import FileFormatError

fractions = st.floats(-1.5, 2.5)
tilts = hnp.arrays(np.float64, (3, 3), elements=st.floats(-0.8, 0.8))


@st.composite
def crystals(draw: st.DrawFn) -> Atoms:
    """One to seven atoms of up to three elements in a cell of any form, some of them held in part."""
    elements = draw(st.lists(st.sampled_from(["Li", "O", "Fe"]), min_size=1, max_size=7))
    scaled = draw(hnp.arrays(np.float64, (len(elements), 3), elements=fractions))
    atoms = Atoms(elements, scaled_positions=scaled, cell=4 * np.eye(3) + draw(tilts), pbc=True)
    held = draw(hnp.arrays(bool, (len(elements), 3)))
    if draw(st.booleans()):
        atoms.set_constraint([FixScaled(k, mask=row) for k, row in enumerate(held) if row.any()])
    return atoms


def held(atoms: Atoms) -> np.ndarray[Any, Any]:
    """Which components of the scaled coordinates are fixed, ``(n_atoms, 3)``."""
    found = np.zeros((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        whole = isinstance(constraint, FixAtoms)
        assert whole or isinstance(constraint, FixScaled)
        found[constraint.index] |= True if whole else np.asarray(constraint.mask, dtype=bool)
    return found


def assert_same(ours: Atoms, theirs: Atoms) -> None:
    np.testing.assert_array_equal(ours.numbers, theirs.numbers)
    np.testing.assert_allclose(ours.cell.array, theirs.cell.array, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.positions, theirs.positions, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(held(ours), held(theirs))
    assert ours.pbc.all()


def text_of(atoms: Atoms, direct: bool) -> str:
    stream = io.StringIO()
    write_vasp(stream, atoms, direct=direct)
    return stream.getvalue()


@settings(max_examples=40)
@given(crystals(), st.booleans())
def test_what_ase_writes_is_what_was_given(atoms: Atoms, direct: bool) -> None:
    """To the sixteen decimals that ASE writes, of coordinates up to 10 Å."""
    assert_same(parse_poscar(text_of(atoms, direct)), atoms)


@settings(max_examples=40)
@given(crystals(), st.booleans(), st.sampled_from(["2.5", "0.3", "-100.0", "1.0 1.5 0.5"]))
def test_every_scale_means_what_it_means_to_ase(atoms: Atoms, direct: bool, scale: str) -> None:
    """A number, a volume, or one for each Cartesian axis."""
    lines = text_of(atoms, direct).split("\n")
    text = "\n".join([lines[0], scale, *lines[2:]])
    ours = parse_poscar(text)
    if scale.startswith("-"):
        assert abs(ours.cell.volume) == pytest.approx(100.0, rel=1e-12)
    else:
        assert_same(ours, read_vasp(io.StringIO(text)))


@settings(max_examples=40)
@given(crystals())
def test_what_pymatgen_writes_is_what_was_given(atoms: Atoms) -> None:
    """With selective dynamics in pymatgen's own flags, which are True where an atom may move."""
    vasp = pytest.importorskip("pymatgen.io.vasp")
    from pymatgen.io.ase import AseAtomsAdaptor

    bare = atoms.copy()
    bare.set_constraint()
    structure = AseAtomsAdaptor.get_structure(bare)
    free = (~held(atoms)).tolist()
    text = vasp.Poscar(structure, selective_dynamics=free).get_str(significant_figures=16)
    ours = parse_poscar(text)
    np.testing.assert_array_equal(ours.numbers, atoms.numbers)
    scaled = ours.get_scaled_positions(wrap=False) - atoms.get_scaled_positions(wrap=False)
    np.testing.assert_allclose(scaled - np.round(scaled), 0, atol=1e-12)
    np.testing.assert_array_equal(held(ours), held(atoms))


@settings(max_examples=40)
@given(crystals(), st.data())
def test_remarks_hashes_and_velocities_change_nothing(atoms: Atoms, data: st.DataObject) -> None:
    text = text_of(atoms, direct=True)
    lines = text.rstrip().split("\n")
    lines[5] = re.sub(r"(\w+)", lambda m: m[1] + data.draw(st.sampled_from(["", "_pv", "/abc1"])), lines[5])
    for place in (1, 2, 6):
        lines[place] += data.draw(st.sampled_from(["", "  ! a remark", " # 7"]))
    lines += ["", *["0.1 0.2 0.3"] * len(atoms)]
    assert_same(parse_poscar("\n".join(lines)), atoms)


@settings(max_examples=40)
@given(crystals(), st.data())
def test_a_line_that_is_missing_is_named_or_changes_nothing(atoms: Atoms, data: st.DataObject) -> None:
    """No structure comes out that has another number of atoms than line 7 says."""
    lines = text_of(atoms, direct=True).rstrip().split("\n")
    place = data.draw(st.integers(1, len(lines) - 1))
    if data.draw(st.booleans()):
        lines = lines[:place]
    else:
        del lines[place]
    try:
        found = parse_poscar("\n".join(lines))
    except FileFormatError as error:
        named = str(error)
    else:
        assert len(found) == sum(int(word) for word in lines[6].split())
        return
    assert re.search(r"line \d+", named)
