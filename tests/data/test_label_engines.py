"""Labels are right: published energies, forces and stress against the engines' own energies, units, spins."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule

from atomml.data.label import (
    Labelled,
    LabelSettings,
    engine_of,
    label,
    label_entry,
    labels_from_json,
    labels_to_json,
    structure_digest,
)
from atomml.errors import InputError, LabelError, MissingExtraError, ModelError, OptionError, StructureError

pyscf = pytest.importorskip("pyscf")
pytest.importorskip("tblite")


def _water() -> Atoms:
    """Water, bent out of its symmetry so that no force is zero by chance."""
    atoms = molecule("H2O")
    atoms.positions += [[0.05, -0.02, 0.01], [-0.03, 0.04, 0.02], [0.02, 0.01, -0.06]]
    return atoms


def _charged(atoms: Atoms, charge: int, spin: int) -> Atoms:
    atoms.info |= {"charge": charge, "spin": spin}
    return atoms


def _slope(energy: Callable[[float], float], h: float) -> float:
    """Derivative at 0 by the five-point rule, whose error is of order h^4."""
    return (8 * (energy(h) - energy(-h)) - (energy(2 * h) - energy(-2 * h))) / (12 * h)


def _force_by_energies(atoms: Atoms, method: str, settings: LabelSettings, atom: int, axis: int) -> float:
    engine = engine_of(method, settings)

    def energy(shift: float) -> float:
        moved = atoms.copy()
        moved.positions[atom, axis] += shift
        found = engine.label(moved).labels.energy
        assert found is not None
        return found

    return -_slope(energy, 0.01)


# Crawford's programming projects give this geometry (bohr) and, from independent codes, these energies
# (Hartree) to 12 digits; github.com/CrawfordGroup/ProgrammingProjects, projects 3 and 4.
CRAWFORD = np.array(
    [
        [0.000000000000, -0.143225816552, 0.000000000000],
        [1.638036840407, 1.136548822547, -0.000000000000],
        [-1.638036840407, 1.136548822547, -0.000000000000],
    ]
)
# The geometry (bohr) and energy (Hartree) of silane that tblite's documentation shows.
SILANE = 1.617683897558 * np.array([[0, 0, 0], [1, 1, -1], [-1, -1, -1], [1, -1, 1], [-1, 1, 1]])


@pytest.mark.parametrize(
    ("method", "atoms", "hartree", "tolerance"),
    [
        # conv_tol of 1e-9 Eh bounds the error; MP2 is of first order in that of the orbitals, 3e-5
        ("hf/sto-3g", Atoms("OH2", positions=CRAWFORD * units.Bohr), -74.942079928192, 1e-8),
        ("mp2/sto-3g", Atoms("OH2", positions=CRAWFORD * units.Bohr), -74.991229564312, 1e-6),
        ("gfn2", Atoms("SiH4", positions=SILANE * units.Bohr), -3.7632337506836944, 1e-6),
    ],
)
def test_published_energies(method: str, atoms: Atoms, hartree: float, tolerance: float) -> None:
    labels = label(atoms, method)
    assert labels.energy == pytest.approx(hartree * units.Hartree, abs=tolerance * units.Hartree)
    assert labels.names == ("energy", "forces")


def test_another_programs_energy_of_the_hydrogen_atom() -> None:
    """ORCA's PBE/def2-SVP, from the acetylacetone set of Batatia et al. 2022; the two grids differ."""
    hydrogen = _charged(Atoms("H"), 0, 1)
    assert label(hydrogen, "pbe/def2-svp").energy == pytest.approx(-13.568422178253735, abs=1e-4)


# An SCF that stops at a change of 1e-9 Eh has an orbital gradient of 3e-5, and forces err by about
# as much in Hartree/bohr times the displacement's effect: below 1e-4 eV/Å.
@pytest.mark.parametrize(
    ("method", "charge", "spin"),
    [
        ("hf/sto-3g", 0, 0),
        ("hf/sto-3g", 1, 1),
        ("pbe/sto-3g", 0, 0),
        ("gfn1", 0, 0),
        ("gfn2", 1, 1),
        ("gfn2", -1, 1),
        pytest.param("mp2/sto-3g", 0, 0, marks=pytest.mark.slow),
        pytest.param("r2scan/sto-3g", 1, 1, marks=pytest.mark.slow),
        pytest.param("b3lyp/def2-svp", 0, 0, marks=pytest.mark.slow),
    ],
)
def test_forces_are_the_slopes_of_the_energies(method: str, charge: int, spin: int) -> None:
    """With the coarsest grid, where forces without its response would be off by 0.1 eV/Å."""
    atoms, settings = _charged(_water(), charge, spin), LabelSettings(grid=0)
    forces = engine_of(method, settings).label(atoms).labels.forces
    assert forces is not None
    for atom, axis in ((0, 2), (1, 1)):
        slope = _force_by_energies(atoms, method, settings, atom, axis)
        assert forces[atom, axis] == pytest.approx(slope, abs=1e-4)
    assert np.abs(forces.sum(axis=0)).max() < 1e-5  # no force from outside


def _diamond() -> Atoms:
    atoms = bulk("C", "diamond", a=3.57, cubic=True)
    atoms.rattle(0.1, seed=0)
    return atoms


@pytest.mark.parametrize("method", ["gfn1", pytest.param("gfn2", marks=pytest.mark.slow)])
def test_crystals_have_forces_and_stress_that_are_slopes_too(method: str) -> None:
    """Accuracy 0.01 leaves 1e-5 of GFN1's slopes to the cutoffs of its dispersion."""
    atoms, settings = _diamond(), LabelSettings(accuracy=0.01)
    engine = engine_of(method, settings)
    found = engine.label(atoms)
    stress, forces = found.labels.stress, found.labels.forces
    assert stress is not None
    assert forces is not None
    assert found.method.endswith("kpoints=gamma")
    assert forces[0, 0] == pytest.approx(_force_by_energies(atoms, method, settings, 0, 0), abs=1e-4)
    shear = np.array([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]])
    for strain, expected in ((np.diag([1.0, 0, 0]), stress[0, 0]), (shear, stress[0, 1])):

        def energy(size: float, strain: np.ndarray = strain) -> float:
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + size * strain), scale_atoms=True)
            value = engine.label(strained).labels.energy
            assert value is not None
            return value

        assert expected == pytest.approx(_slope(energy, 1e-3) / atoms.get_volume(), abs=5e-5)


def test_a_model_labels_as_it_predicts() -> None:
    from atomml import AtomMLCalculator, load_model

    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.1, seed=1)
    found = engine_of("lj-argon", LabelSettings(dtype="float64")).label(atoms)
    atoms.calc = AtomMLCalculator(load_model("lj-argon", dtype="float64"))
    assert found.labels.energy == atoms.get_potential_energy()
    assert found.labels.forces == pytest.approx(atoms.get_forces(), abs=1e-12)
    assert found.labels.stress == pytest.approx(atoms.get_stress(voigt=False), abs=1e-15)
    assert "sha256=" in found.method
    assert "dtype=float64" in found.method


def test_charge_and_spin_are_those_of_the_structure() -> None:
    """The same numbers from PySCF itself, called by hand."""
    from pyscf import gto, scf

    for charge, spin in ((0, 0), (1, 1), (-1, 1), (0, 2)):
        mol = gto.M(
            atom=list(zip(_water().symbols, _water().positions / units.Bohr, strict=True)),
            unit="Bohr",
            basis="sto-3g",
            charge=charge,
            spin=spin,
            verbose=0,
        )
        field = scf.UHF(mol) if spin else scf.RHF(mol)
        field.conv_tol = 1e-9
        labels = label(_charged(_water(), charge, spin), "hf/sto-3g")
        assert labels.energy == pytest.approx(field.kernel() * units.Hartree, abs=1e-7)
    triplet, singlet = (_charged(molecule("O2"), 0, spin) for spin in (2, 0))
    for method in ("hf/sto-3g", "gfn2"):
        energies = [label(atoms, method).energy for atoms in (triplet, singlet)]
        assert energies[0] != energies[1]


def test_energies_alone_are_those_that_come_with_forces() -> None:
    whole, alone = (label(_water(), "pbe/sto-3g", LabelSettings(energy_only=only)) for only in (False, True))
    assert whole.forces is not None
    assert alone.forces is None
    assert alone.energy == whole.energy
    for method in ("gfn2", "mp2/sto-3g", "ccsd/sto-3g", "lj-argon"):
        with pytest.raises(OptionError, match="energy-only"):
            engine_of(method, LabelSettings(energy_only=True))


def test_the_method_says_all_that_changes_the_numbers() -> None:
    method = engine_of(" PBE/def2-SVP ", LabelSettings(grid=5, conv_tol=1e-8)).method
    assert method == f"pbe/def2-svp grid=5 conv_tol=1e-08 pyscf={pyscf.__version__}"
    assert "nlc_grid=1" in engine_of("wb97m-v/def2-svp").method
    assert "density_fit" in engine_of("hf/sto-3g", LabelSettings(density_fit=True)).method
    assert "energy_only" in engine_of("hf/sto-3g", LabelSettings(energy_only=True)).method
    assert "grid" not in engine_of("hf/sto-3g").method
    assert "temperature=300K tblite=" in engine_of("gfn2").method


def test_an_scf_that_does_not_converge_gives_no_label_but_a_reason() -> None:
    for method in ("hf/sto-3g", "gfn2", "gfn1"):
        with pytest.raises(LabelError, match=r"converge.*no label"):
            engine_of(method, LabelSettings(max_cycle=1)).label(_water())


def test_the_second_order_solver_is_tried_and_named() -> None:
    """Three cycles are too few for the usual solver and enough for the other, from where it stopped."""
    usual = engine_of("hf/sto-3g").label(_water())
    second = engine_of("hf/sto-3g", LabelSettings(max_cycle=3)).label(_water())
    assert second.method == f"{usual.method} solver=newton"
    assert second.labels.energy == pytest.approx(usual.labels.energy, abs=1e-6)


def test_heavy_elements_get_the_core_potential_of_their_basis() -> None:
    """HI in def2-SVP: 26 electrons of the iodine explicit; all-electron would be 6,900 Hartree deep."""
    hi = Atoms("HI", positions=[[0, 0, 0], [0, 0, 1.61]])
    labels = label(hi, "hf/def2-svp")
    assert labels.energy is not None
    assert -310 < labels.energy / units.Hartree < -290


PERIODIC = bulk("NaCl", "rocksalt", a=5.6)
SLAB = bulk("C", "diamond", a=3.57, cubic=True)
SLAB.pbc = (True, True, False)


@pytest.mark.parametrize(
    ("method", "atoms", "kind", "sentence"),
    [
        ("pbe/def2-svp", PERIODIC, StructureError, "is periodic, and pbe/def2-svp is for molecules"),
        ("gfn2", SLAB, StructureError, "periodic in some directions only"),
        ("gfn2", _charged(_diamond(), 1, 1), StructureError, "charge"),
        ("hf/sto-3g", _charged(_water(), 0, 1), StructureError, "10 electrons cannot leave 1 unpaired"),
        ("gfn2", _charged(_water(), 1, 0), StructureError, "9 electrons cannot leave 0 unpaired"),
        ("hf/sto-3g", _charged(_water(), 10, 0), StructureError, "leaves 0 electrons"),
        ("gfn2", _charged(_water(), 0, -2), StructureError, "cannot leave -2"),
        (
            "hf/sto-3g",
            Atoms("O"),
            StructureError,
            r"isolated atom needs its spin.*2 for the ground state of O",
        ),
        ("hf/sto-3g", Atoms("Au2", positions=[[0, 0, 0], [0, 0, 2.5]]), StructureError, "sto-3g for Au"),
        ("gfn2", Atoms("U2", positions=[[0, 0, 0], [0, 0, 2.5]]), StructureError, "up to radon"),
        ("lj-argon", _water(), ModelError, "atom 0 is O"),
        ("lj-argon", _charged(Atoms("Ar"), 1, 1), ModelError, "cannot see"),
        ("gfn2", Atoms("H2", positions=[[0, 0, 0], [0, 0, np.nan]]), StructureError, "not finite"),
    ],
)
def test_what_cannot_be_labelled_is_refused_in_one_sentence(
    method: str, atoms: Atoms, kind: type[InputError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        label(atoms, method)
    assert "\n" not in str(caught.value)


def test_charges_that_are_no_whole_numbers_are_refused() -> None:
    for value in (0.5, "x", float("nan"), [1]):
        with pytest.raises(StructureError, match=r"charge is .* give a whole number"):
            label(_charged(_water(), value, 0), "gfn2")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "kind", "sentence"),
    [
        ("b3lyp", OptionError, "no method 'b3lyp'"),
        ("", OptionError, "no method ''"),
        ("pbe/", OptionError, "no method"),
        ("pbe/def2/svp", OptionError, "no method"),
        ("hf/sto 3g", OptionError, "a basis set is named by"),
        ("nonsense/sto-3g", OptionError, "no functional 'nonsense'"),
        ("b2plyp/sto-3g", OptionError, "no functional"),
        ("wb97x-d3/sto-3g", OptionError, "no functional"),
        ("mp3/sto-3g", OptionError, "no mean field"),
        ("pbe/nonsense", InputError, "no basis set nonsense"),
        ("missing.safetensors", ModelError, "no model file"),
    ],
)
def test_methods_that_do_not_exist_are_refused(method: str, kind: type[InputError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        engine_of(method)


BASIS_THAT_RUNS = """#BASIS SET: (1s) -> [1s]
H    S
(__import__('pathlib').Path('ran').touch(),1.0) 1.0
END
"""


def test_a_basis_set_is_a_name_and_never_a_file_or_text_that_pyscf_would_evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PySCF itself does run it, which shows that the bait works."""
    monkeypatch.chdir(tmp_path)
    Path("bait").write_text(BASIS_THAT_RUNS)
    Path("bait.nw").write_text(BASIS_THAT_RUNS)
    for method in ("hf/bait", "hf/bait.nw", f"hf/{BASIS_THAT_RUNS}", "hf/sto-3g@3s", "hf/../bait", "hf/~"):
        with pytest.raises(OptionError):
            label(_water(), method)
    Path("sto-3g").write_text(BASIS_THAT_RUNS)
    with pytest.raises(OptionError, match="rename the file"):
        label(_water(), "hf/sto-3g")
    assert not Path("ran").exists()
    Path("sto-3g").unlink()
    Path("sto-3g").mkdir()  # a folder of that name is not read
    assert label(_water(), "hf/sto-3g").energy is not None
    with suppress(Exception):
        pyscf.gto.basis.load("bait", "H")
    assert Path("ran").exists()


def test_mp2_with_density_fitting_is_refused_because_it_has_no_forces() -> None:
    with pytest.raises(OptionError, match="MP2 with density fitting"):
        engine_of("mp2/sto-3g", LabelSettings(density_fit=True))


@pytest.mark.parametrize("method", ["gfn2", "mmff94s", "chgnet-0.3.0", "mp2/sto-3g", "ccsd/sto-3g"])
def test_matrices_are_not_left_out_in_silence(method: str) -> None:
    """A method without a Kohn-Sham matrix is refused where one is to be kept."""
    with pytest.raises(OptionError, match="Kohn-Sham matri"):
        engine_of(method, LabelSettings(hamiltonian=True))


def test_dispersion_that_is_not_installed_is_refused_and_never_left_out() -> None:
    from importlib.util import find_spec

    if find_spec("pyscf.dispersion") is not None:
        pytest.skip("dispersion is installed here")
    for method in ("pbe-d3bj/def2-svp", "hf-d3zero/sto-3g", "b3lyp-d4/sto-3g"):
        with pytest.raises(MissingExtraError, match="pip install pyscf-dispersion"):
            engine_of(method)


@pytest.mark.parametrize(
    ("package", "method", "extra"), [("pyscf", "hf/sto-3g", "pyscf"), ("tblite", "gfn2", "gfn2")]
)
def test_a_missing_package_is_named_with_its_extra(
    package: str, method: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"atomml\[{extra}\]"):
        engine_of(method)


def test_nothing_is_said_and_nothing_is_changed_for_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ), list(warnings.filters), np.geterr(), os.getcwd(), set(os.listdir())  # noqa: PTH109, PTH208
    for method in ("hf/sto-3g", "pbe/sto-3g", "gfn2"):
        label(_water(), method)
    after = dict(os.environ), list(warnings.filters), np.geterr(), os.getcwd(), set(os.listdir())  # noqa: PTH109, PTH208
    assert before == after
    assert capfd.readouterr() == ("", "")


def test_labels_and_method_replace_those_of_an_entry() -> None:
    from atomml.data.entry import Entry, Labels

    entry = Entry(_water(), Labels(energy=1.0, magmoms=np.ones(3)), "file", 3, "group", "run", "old", 2.0)
    found = label_entry(entry, "gfn2")
    assert found.labels.names == ("energy", "forces")
    assert found.method == engine_of("gfn2").method
    assert (found.source, found.frame, found.group, found.trajectory, found.weight) == (
        "file",
        3,
        "group",
        "run",
        2.0,
    )


def test_labels_come_back_from_json_with_the_same_bits() -> None:
    import json

    found: Labelled = engine_of("gfn1").label(_diamond())
    back = labels_from_json(json.loads(json.dumps(labels_to_json(found.labels))))
    assert back.energy == found.labels.energy
    assert back.forces is not None
    assert back.stress is not None
    assert found.labels.forces is not None
    assert found.labels.stress is not None
    assert back.forces.tobytes() == found.labels.forces.tobytes()
    assert back.stress.tobytes() == found.labels.stress.tobytes()
    assert back.magmoms is None


def test_the_digest_changes_with_all_that_a_label_depends_on_and_nothing_else() -> None:
    def changed(change: Callable[[Atoms], None]) -> str:
        atoms = _diamond()
        change(atoms)
        return structure_digest(atoms)

    same = changed(lambda atoms: None)
    assert same == changed(lambda atoms: atoms.info.update(name="x"))
    others = {
        changed(lambda atoms: atoms.info.update(charge=1)),
        changed(lambda atoms: atoms.info.update(spin=2)),
        changed(lambda atoms: atoms.positions.__setitem__((0, 0), np.nextafter(atoms.positions[0, 0], 9))),
        changed(lambda atoms: atoms.set_cell(atoms.cell.array * 1.01)),
        changed(lambda atoms: atoms.set_pbc(False)),
        changed(lambda atoms: atoms.numbers.__setitem__(0, 14)),
    }
    assert len(others | {same}) == 7
