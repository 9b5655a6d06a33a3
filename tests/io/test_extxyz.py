"""Extended XYZ: what we write comes back bit for bit, here and in ASE; what ASE reads, we read alike."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLength, FixCartesian
from ase.io import read as ase_read
from ase.io import write as ase_write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from atomml.data.structures import extxyz_frame, read_structures, write_structures
from atomml.errors import FileFormatError

DATA = Path(__file__).parents[3] / "shared" / "data"


def read_one(text: str | bytes, path: Path) -> Atoms:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    (frame,) = read_structures(path, validate=False)
    return frame.atoms


def read_ase(path: Path) -> Atoms:
    return ase_read(path, ":", format="extxyz")[0]


def equal(ours: Any, theirs: Any) -> bool:
    """The same value to the bit; ASE gives numpy scalars and lists of booleans where we give others."""
    if isinstance(ours, str | dict) or ours is None or isinstance(theirs, str | dict) or theirs is None:
        return type(ours) is type(theirs) and ours == theirs
    try:
        left, right = np.asarray(ours), np.asarray(theirs)
    except ValueError:
        return list(ours) == list(theirs)
    if left.dtype.kind == right.dtype.kind == "f":
        # the sign of zero counts, the sign of NaN is no part of a number's text
        left, right = (np.where(np.isnan(a), np.nan, a.astype(float)) for a in (left, right))
        return left.shape == right.shape and left.tobytes() == right.tobytes()
    return left.shape == right.shape and left.dtype.kind == right.dtype.kind and bool((left == right).all())


def assert_same(ours: Atoms, theirs: Atoms) -> None:
    for what in ("numbers", "positions", "pbc"):
        assert equal(getattr(ours, what), getattr(theirs, what)), what
    assert equal(np.asarray(ours.cell), np.asarray(theirs.cell))
    for part in ("arrays", "info"):
        left, right = getattr(ours, part), getattr(theirs, part)
        assert left.keys() == right.keys(), part
        for key in left:
            # ASE keeps text as objects
            same = (
                list(left[key]) == list(right[key]) if _is_text(left[key]) else equal(left[key], right[key])
            )
            assert same, (part, key, left[key], right[key])
    left, right = results(ours), results(theirs)
    assert left.keys() == right.keys()
    for key in left:
        assert equal(left[key], right[key]), (key, left[key], right[key])
    masks = [[c.todict() for c in sorted(a.constraints, key=str)] for a in (ours, theirs)]
    assert moving(ours) == moving(theirs), masks


def _is_text(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "U"


def results(atoms: Atoms) -> dict[str, Any]:
    return dict(atoms.calc.results) if atoms.calc is not None else {}


def moving(atoms: Atoms) -> list[list[bool]]:
    mask = np.ones((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            mask[constraint.index] = False
        elif isinstance(constraint, FixCartesian):
            mask[constraint.index] &= ~np.asarray(constraint.mask)
    return mask.tolist()


reals = st.floats(allow_nan=False, allow_infinity=False)
coordinates = st.floats(-1e5, 1e5)
words = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.one_of(
    reals,
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.booleans(),
    words,
    st.sampled_from(
        ["1", "T", "1 2 3", "nan", "1e5", "", "_JSON 1", '"', "a=b", "{", "x\\", "é", "1_0", "'", "\n"]
    ),
    st.none(),
    st.dictionaries(words, reals | words, max_size=3),
    st.lists(words, min_size=1, max_size=3),
    st.just([[1], [2, 3]]),
    stnp.arrays(np.float64, stnp.array_shapes(max_dims=3, max_side=3), elements=reals),
    stnp.arrays(
        np.int64, stnp.array_shapes(max_dims=3, max_side=3), elements=st.integers(-(2**63) + 1, 2**63 - 1)
    ),
    stnp.arrays(np.bool_, stnp.array_shapes(max_dims=3, max_side=3)),
)
keys = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)


@st.composite
def structures(draw: st.DrawFn) -> Atoms:
    n = draw(st.integers(1, 4))
    atoms = Atoms(
        numbers=draw(stnp.arrays(np.int64, n, elements=st.integers(1, 118))),
        positions=draw(stnp.arrays(np.float64, (n, 3), elements=coordinates)),
        cell=draw(st.none() | stnp.arrays(np.float64, (3, 3), elements=coordinates)),
        pbc=draw(st.tuples(st.booleans(), st.booleans(), st.booleans())),
    )
    for name, dtype, shape, elements in (
        ("tags", np.int64, (n,), st.integers(-(2**31) + 1, 2**31 - 1)),
        ("momenta", np.float64, (n, 3), reals),
        ("initial_magmoms", np.float64, (n,), reals),
        ("features", np.float64, (n, 2), st.floats()),
        ("flags", np.bool_, (n,), st.booleans()),
    ):
        if draw(st.booleans()):
            atoms.set_array(name, draw(stnp.arrays(dtype, shape, elements=elements)))
    if draw(st.booleans()):
        fixed = draw(stnp.arrays(np.bool_, n))
        atoms.set_constraint(FixAtoms(mask=fixed))
    atoms.info = draw(st.dictionaries(keys, values, max_size=4))
    return atoms


@st.composite
def calculated(draw: st.DrawFn) -> dict[str, Any]:
    """Results for any number of atoms: functions of it."""
    return {
        "energy": draw(reals),
        "stress": draw(stnp.arrays(np.float64, 6, elements=reals)),
        "seed": draw(st.integers(0, 99)),
    }


RESERVED = {"lattice", "properties", "pbc", "uid", "stress", "virial", "comment"} | {
    "energy",
    "free_energy",
    "magmom",
    "dipole",
    "polarization",
    "dielectric_tensor",
}
"""Keys with a meaning of their own; a test below is about them."""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(atoms=structures(), given_results=calculated())
def test_our_frames_read_back_bit_for_bit_here_and_in_ase(
    atoms: Atoms, given_results: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    atoms.info = {key: value for key, value in atoms.info.items() if key.lower() not in RESERVED}
    generator = np.random.default_rng(given_results.pop("seed"))
    given_results["forces"] = generator.normal(size=(len(atoms), 3))
    given_results["magmoms"] = generator.normal(size=len(atoms))
    path = tmp_path_factory.mktemp("frame") / "a.extxyz"
    ours = read_one(extxyz_frame(atoms, given_results), path)
    expected = atoms.copy()
    expected.calc = SinglePointCalculator(expected, **given_results)
    expected.info = {key: _as_read(value) for key, value in atoms.info.items()}
    assert_same(ours, expected)
    theirs = read_ase(path)
    for key, value in expected.info.items():
        if isinstance(value, list) and value and isinstance(value[0], list):
            theirs.info[key] = theirs.info[key]["ragged"]  # lists that ASE itself cannot read
    assert_same(theirs, expected)


def _as_read(value: Any) -> Any:
    """Numbers in lists come back as arrays."""
    if isinstance(value, list) and not any(isinstance(entry, str | list) for entry in value):
        return np.array(value)
    return value


@pytest.mark.parametrize("text", ["0_0", "1_000", "1_0.5", "1e1_0", "_1", "1__0", "nan", "12"])
def test_text_that_looks_like_a_number_stays_text_here_and_in_ase(text: str, tmp_path: Path) -> None:
    """Python reads underscores between digits, so ASE does too."""
    atoms = Atoms("H", info={"note": text})
    ours = read_one(extxyz_frame(atoms, {}), tmp_path / "a.extxyz")
    assert ours.info["note"] == text
    assert read_ase(tmp_path / "a.extxyz").info["note"] == text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(atoms=structures())
def test_we_read_what_ase_writes_as_ase_reads_it(
    atoms: Atoms, tmp_path_factory: pytest.TempPathFactory
) -> None:
    atoms.info = {}
    for key in ("features", "momenta"):
        if key in atoms.arrays:
            atoms.arrays[key] = np.clip(np.nan_to_num(atoms.arrays[key]), -1e9, 1e9)
    path = tmp_path_factory.mktemp("frame") / "a.extxyz"
    ase_write(path, atoms, format="extxyz")
    (frame,) = read_structures(path, validate=False)
    assert_same(frame.atoms, read_ase(path))


COMMENTS = [
    'Lattice="4 0 0 0 5 0 1 0 6" Properties=species:S:1:pos:R:3',
    'Lattice="4 0 0 0 5 0 1 0 6" Properties=species:S:1:pos:R:3 pbc="T F T" energy=-1.5 free_energy=-1.6',
    "Lattice='4 0 0 0 5 0 1 0 6' Properties=species:S:1:pos:R:3 note='it is \"so\"'",
    "Lattice={4,0,0,0,5,0,1,0,6} Properties=species:S:1:pos:R:3 flag",
    "Lattice=[4 0 0 0 5 0 1 0 6] Properties=species:S:1:pos:R:3 list=[1,2,3] reals={1.0 2.5}",
    'Properties=species:S:1:pos:R:3 stress="1 2 3 2 4 5 3 5 6" virial="1.0 2 3 4 5 6 7 8 9"',
    'Properties=species:S:1:pos:R:3 bools="T F T" yes=True no=F data="_JSON {\\"a\\": [1, 2]}"',
    "Properties=species:S:1:pos:R:3 uid=0012 id=0012 big=99999999999999999999 path=/a/b-c.d expr=a=b",
    'Properties=species:S:1:pos:R:3 matrix="_JSON [[1, 2], [3, 4]]" dipole="1 2 3" magmom=0.5',
    "Properties=species:S:1:pos:R:3 key = value other =1.5",
    'Properties=species:S:1:pos:R:3 text="escaped \\" quote" back="a\\\\b"',
]


@pytest.mark.parametrize("comment", COMMENTS)
def test_comment_lines_mean_what_they_mean_to_ase(comment: str, tmp_path: Path) -> None:
    ours = read_one(f"2\n{comment}\nSi 0 0 0\nO 1.0 1.5 1\n", tmp_path / "a.xyz")
    assert_same(ours, read_ase(tmp_path / "a.xyz"))


COLUMNS = [
    ("species:S:1:pos:R:3:Z:I:1", "Si 0 0 0 14\nO 1 1 1 8\n"),
    ("Z:I:1:pos:R:3", "14 0 0 0\n8 1 1 1\n"),
    ("pos:R:3:species:S:1", "0 0 0 Si\n1 1 1 O\n"),
    ("species:S:1:pos:R:3:forces:R:3:magmoms:R:1", "SI 0 0 0 1 2 3 .5\no 1 1 1 1e-3 -2 +3 -.5\n"),
    ("species:S:1:pos:R:3:label:S:1:n:I:2", "Si 0 0 0 a 1 2\nO 1 1 1 b 3 4\n"),
    ("species:S:1:pos:R:3:move_mask:L:1", "Si 0 0 0 T\nO 1 1 1 F\n"),
    ("species:S:1:pos:R:3:move_mask:L:3", "Si 0 0 0 T F T\nO 1 1 1 T T T\n"),
    ("species:S:1:pos:R:3:initial_charges:R:1:charge:R:1", "Si 0 0 0 1 .1\nO 1 1 1 -1 -.1\n"),
    ("species:S:1:pos:R:3:momenta:R:3:masses:R:1:tags:I:1", "Si 0 0 0 1 2 3 28 1\nO 1 1 1 4 5 6 16 2\n"),
    ("species:S:1:pos:R:3:q:R:2", "Si 0 0 0 nan inf\nO 1 1 1 -inf 0\n"),
]


@pytest.mark.parametrize(("properties", "rows"), COLUMNS)
def test_columns_mean_what_they_mean_to_ase(properties: str, rows: str, tmp_path: Path) -> None:
    ours = read_one(f"2\nProperties={properties}\n{rows}", tmp_path / "a.xyz")
    assert_same(ours, read_ase(tmp_path / "a.xyz"))


@pytest.mark.skipif(not DATA.is_dir(), reason="the published data sets are not here")
@pytest.mark.parametrize(
    "name", ["acac/isolated_atoms.xyz", "mlearn/Si_test.extxyz", "elements/mp_ground_states.extxyz"]
)
def test_published_data_mean_what_they_mean_to_ase(name: str, tmp_path: Path) -> None:
    ours = [frame.atoms for frame in read_structures(DATA / name)]
    theirs = ase_read(DATA / name, ":")
    assert len(ours) == len(theirs)
    for left, right in zip(ours, theirs, strict=True):
        assert_same(left, right)
    write_structures(tmp_path / "again.extxyz", ours)
    for frame, right in zip(read_structures(tmp_path / "again.extxyz"), theirs, strict=True):
        assert_same(frame.atoms, right)


def test_newer_writers_nested_lattice_is_read_by_rows(tmp_path: Path) -> None:
    """The extended XYZ specification writes arrays of two axes as nested lists of rows."""
    atoms = read_one(
        "1\nLattice=[[4, 0, 0], [0, 5, 0], [1, 0, 6]] Properties=species:S:1:pos:R:3\nSi 0 0 0\n",
        tmp_path / "a",
    )
    assert np.asarray(atoms.cell).tolist() == [[4, 0, 0], [0, 5, 0], [1, 0, 6]]


@pytest.mark.parametrize("comment", ["", "water", 'he said "hm', "i = 3, E = -1.5", "[1, 2", "100% {off}"])
def test_a_plain_comment_is_kept_as_text(comment: str, tmp_path: Path) -> None:
    atoms = read_one(f"1\n{comment}\nAr 0 0 0\n", tmp_path / "a.xyz")
    assert atoms.info == ({"comment": comment} if comment else {})
    assert not atoms.pbc.any()


def test_a_comment_of_pairs_is_read_without_properties(tmp_path: Path) -> None:
    atoms = read_one('1\nenergy=-1.0 pbc="F F F"\nAr 0 0 0\n', tmp_path / "a.xyz")
    assert atoms.get_potential_energy() == -1.0


HOSTILE_INFO: list[dict[Any, Any]] = [
    {"energy": 1.0, "forces": 2.0, "stress": np.arange(6.0)},
    {"stress": "high", "virial": [1, 2], "Lattice": "none", "Properties": 1, "pbc": "all"},
    {"energy": "low", "dipole": 3.0, "free_energy": [1, 2], "magmom": None},
    {"uid": 7, "UID": "a\nb"},
    {"a b": 1, "a=b": 2, 'a"b': 3, "": 4, 5: 6, ("t", 1): 7},
    {"ragged": [[1], [1, 2]], "deep": {"a": {"b": [1, [2]]}}, "nan": float("nan"), "inf": [np.inf, 1.0]},
    {"object": object(), "set": {1, 2}, "complex": 1j},
    {"text": "line\nbreak\ttab", "quote": "\"'{}[]\\", "unicode": "Å ☃ \U0001f600", "equals": "a=b c=d"},
    {"empty": [], "array": np.zeros((0, 3)), "one": np.array([1]), "cube": np.zeros((2, 2, 2))},
    {"lattice": 1, "PBC": 2, "properties": 3},
    {"big": 2**80, "numpy": np.float32(0.1), "int": np.int8(3), "bool": np.bool_(True)},
]


@pytest.mark.parametrize("info", HOSTILE_INFO, ids=lambda info: "-".join(map(str, info))[:30])
def test_whatever_is_in_info_the_frame_reads_back_in_both(info: dict[Any, Any], tmp_path: Path) -> None:
    """A peer's own output crashed it when it was fed back; names here are changed where ASE would fail."""
    atoms = bulk("Si")
    atoms.info = info
    for given_results in ({}, {"energy": 2.0, "stress": np.arange(6.0), "forces": np.ones((2, 3))}):
        ours = read_one(extxyz_frame(atoms, given_results), tmp_path / "a.extxyz")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            theirs = read_ase(tmp_path / "a.extxyz")
        assert equal(ours.positions, theirs.positions)
        assert ours.info.keys() == theirs.info.keys()
        if given_results:
            assert results(ours)["energy"] == results(theirs)["energy"] == 2.0
            assert equal(results(ours)["stress"], np.arange(6.0))


HOSTILE_ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "forces0": np.ones(2),
    "pos1": np.ones(2),
    "charge": np.ones(2),
    "species": np.array(["a", "b"]),
    "Z": np.array([1, 2]),
    "a b:c=d": np.ones(2),
    "wide": np.arange(12.0).reshape(2, 2, 3),
    "column": np.ones((2, 1)),
    "none": np.ones((2, 0)),
    "words": np.array(["a b", ""]),
    "unicode": np.array(["Å", "b"]),
    "large": np.array([2**40, 1]),
    "unsigned": np.array([2**64 - 1, 0], dtype=np.uint64),
    "single": np.array([0.1, 0.2], dtype=np.float32),
    "objects": np.array([None, 1.5], dtype=object),
    "energies": np.array([1.0, 2.0]),
}


@pytest.mark.parametrize("name", HOSTILE_ARRAYS)
def test_whatever_arrays_there_are_the_frame_reads_back_in_both(name: str, tmp_path: Path) -> None:
    atoms = bulk("Si")
    atoms.arrays[name] = HOSTILE_ARRAYS[name]
    given_results = {"energy": 1.0, "forces": np.ones((2, 3)), "energies": np.array([3.0, 4.0])}
    ours = read_one(extxyz_frame(atoms, given_results), tmp_path / "a.extxyz")
    theirs = read_ase(tmp_path / "a.extxyz")
    assert_same_but_integers(ours, theirs)
    for found in (ours, theirs):
        assert equal(results(found)["energies"], np.array([3.0, 4.0]))
        assert equal(results(found)["forces"], np.ones((2, 3)))


def assert_same_but_integers(ours: Atoms, theirs: Atoms) -> None:
    assert ours.arrays.keys() == theirs.arrays.keys()
    for key in ours.arrays:
        assert list(np.ravel(ours.arrays[key])) == list(np.ravel(theirs.arrays[key]))


def test_the_text_is_the_same_for_the_same_content() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    assert extxyz_frame(atoms, {"energy": 0.1}) == extxyz_frame(atoms.copy(), {"energy": 0.1})
    assert extxyz_frame(atoms, {"energy": 0.1}).isascii()


def test_stored_results_are_written_and_nothing_is_computed() -> None:
    from ase.calculators.emt import EMT

    atoms = bulk("Cu")
    atoms.calc = EMT()
    assert "energy" not in extxyz_frame(atoms)
    atoms.get_potential_energy()
    assert "energy=" in extxyz_frame(atoms)


def test_results_beyond_ases_own_are_kept_as_arrays_and_info(tmp_path: Path) -> None:
    extra = {"site_features": np.arange(6.0).reshape(2, 3), "uncertainty": 0.25, "missing": None}
    atoms = read_one(extxyz_frame(bulk("Si").repeat((2, 1, 1))[:2], extra), tmp_path / "a")
    assert equal(atoms.arrays["site_features"], extra["site_features"])
    assert atoms.info["uncertainty"] == 0.25
    assert "missing" not in atoms.info


def test_a_partial_constraint_and_a_foreign_one(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.set_constraint([FixCartesian(1, mask=(True, False, True)), FixAtoms([2]), FixBondLength(0, 1)])
    ours = read_one(extxyz_frame(atoms), tmp_path / "a")
    assert moving(ours) == [[True] * 3, [False, True, False], [False] * 3]
    assert moving(read_ase(tmp_path / "a")) == moving(ours)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    write_structures(path, [bulk("Si")])
    before = path.read_bytes()

    def failing() -> Any:
        yield bulk("Ge")
        raise FileFormatError("no more.")

    with pytest.raises(FileFormatError):
        write_structures(path, failing())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_ase_passes_over_is_what_we_refuse() -> None:
    """If ASE begins to refuse these, our own reader has less to do."""
    silent = [
        "1\nProperties=species:S:1:pos:R:3 energy=1 energy=2\nSi 0 0 0\n",
        "1\nProperties=species:S:1:pos:R:3\nSi 0 0 0 9 9 9\n",
        '1\nProperties=species:S:1:pos:R:3 note="open\nSi 0 0 0\n',
        "1\nProperties=species:S:1:pos:R:3\nSi nan 0 0\n",
        "1\nProperties=species:S:1:forces:R:3\nSi 1 1 1\n",
        "1\nx\nSi 0 0 0\n\n1\nx\nSi 0 0 0\n",
    ]
    for text in silent:
        assert len(ase_read(io.StringIO(text), ":", format="extxyz")) == 1
