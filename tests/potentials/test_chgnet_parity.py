"""Same answers as the chgnet package on the same weights, and right ones where it is wrong.

The peer is a dependency, so it is asked live: 46 structures in float32, and in float64 with
its dtype patched in the three modules that hold it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator

import chgnet.graph.converter
import chgnet.graph.crystalgraph
import chgnet.model.model
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_vacuum, bulk, fcc100, fcc111, molecule
from ase.spacegroup import crystal
from pymatgen.io.ase import AseAtomsAdaptor

from atomml import AtomMLCalculator, load_model
from atomml.errors import AtomMLError, ModelError, StructureError
from atomml.graph import build_graph
from atomml.model import Potential, Prediction

GPA = 160.21766208


def lithium_cobalt_oxide(repeat: tuple[int, int, int] = (1, 1, 1)) -> Atoms:
    """Layered LiCoO2, R-3m."""
    cell = [2.8156, 2.8156, 14.0542, 90, 90, 120]
    sites = [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.2605)]
    return crystal(["Li", "Co", "O"], sites, spacegroup=166, cellpar=cell).repeat(repeat)


def rattled(atoms: Atoms, amount: float, seed: int) -> Atoms:
    """A copy with normal displacements of ``amount`` Å."""
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(0, amount, atoms.positions.shape)
    return atoms


def strained(atoms: Atoms, seed: int) -> Atoms:
    """A copy under a random strain of 4%."""
    atoms = atoms.copy()
    strain = np.random.default_rng(seed).normal(0, 0.04, (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


def boxed(name: str) -> Atoms:
    """A molecule in a periodic box."""
    atoms = molecule(name)
    atoms.center(vacuum=4.0)
    atoms.pbc = True
    return atoms


@functools.cache
def structures() -> dict[str, Atoms]:
    """Oxides, metals, alloys, halides, molecules, slabs, rattled and strained cells; 1 to 64 atoms."""
    rutile = crystal(
        ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]
    )
    corundum = crystal(
        ["Al", "O"],
        [(0, 0, 0.352), (0.306, 0, 0.25)],
        spacegroup=167,
        cellpar=[4.76, 4.76, 12.99, 90, 90, 120],
    )
    hematite = crystal(
        ["Fe", "O"],
        [(0, 0, 0.355), (0.306, 0, 0.25)],
        spacegroup=167,
        cellpar=[5.04, 5.04, 13.75, 90, 90, 120],
    )
    quartz = crystal(
        ["Si", "O"],
        [(0.47, 0, 0), (0.414, 0.267, 0.119)],
        spacegroup=152,
        cellpar=[4.916, 4.916, 5.405, 90, 90, 120],
    )
    perovskite = crystal(
        ["Ba", "Ti", "O"],
        [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)],
        spacegroup=221,
        cellpar=[4.0] * 3 + [90] * 3,
    )
    spinel = crystal(
        ["Mg", "Al", "O"],
        [(0.125,) * 3, (0.5,) * 3, (0.262,) * 3],
        spacegroup=227,
        setting=2,
        cellpar=[8.08] * 3 + [90] * 3,
    )
    l12 = crystal(["Al", "Ni"], [(0, 0, 0), (0.5, 0.5, 0)], spacegroup=221, cellpar=[3.57] * 3 + [90] * 3)
    found = {
        "LiCoO2": lithium_cobalt_oxide(),
        "MgO": bulk("MgO", "rocksalt", 4.21),
        "NiO": bulk("NiO", "rocksalt", 4.17, cubic=True),
        "FeO": bulk("FeO", "rocksalt", 4.33, cubic=True),
        "ZnO": bulk("ZnO", "wurtzite", 3.25, 5.2),
        "TiO2": rutile,
        "Al2O3": corundum,
        "Fe2O3": hematite,
        "SiO2": quartz,
        "BaTiO3": perovskite,
        "MgAl2O4": spinel,
        "UO2": bulk("UO2", "fluorite", 5.47),
        "NiAl": bulk("NiAl", "cesiumchloride", 2.88),
        "FeCo": bulk("FeCo", "cesiumchloride", 2.85),
        "Ni3Al": l12,
        "GaAs": bulk("GaAs", "zincblende", 5.65),
        "SiC": bulk("SiC", "zincblende", 4.36),
        "GaN": bulk("GaN", "wurtzite", 3.19, 5.19),
        "ZnS": bulk("ZnS", "zincblende", 5.41, cubic=True),
        "NaCl": bulk("NaCl", "rocksalt", 5.64),
        "KBr": bulk("KBr", "rocksalt", 6.6),
        "CsCl": bulk("CsCl", "cesiumchloride", 4.12),
        "CaF2": bulk("CaF2", "fluorite", 5.46),
        "H2O": boxed("H2O"),
        "CO2": boxed("CO2"),
        "CH3CH2OH": boxed("CH3CH2OH"),
        "Al slab": fcc111("Al", (1, 1, 4), vacuum=6.0, periodic=True),
        "Cu slab": fcc100("Cu", (2, 2, 3), vacuum=6.0, periodic=True),
        "Si-64 rattled": rattled(bulk("Si", cubic=True).repeat(2), 0.05, 1),
        "Cu-27 hot": rattled(bulk("Cu").repeat(3), 0.2, 2),
        "LiCoO2 rattled": rattled(lithium_cobalt_oxide(), 0.1, 3),
        "LiCoO2 strained": strained(lithium_cobalt_oxide(), 4),
        "NaCl strained": strained(rattled(bulk("NaCl", "rocksalt", 5.64).repeat(2), 0.05, 5), 6),
        "TiO2 strained": strained(rattled(rutile, 0.05, 7), 8),
        "Fe strained": strained(bulk("Fe", cubic=True), 9),
        "outside the cell": rattled(bulk("MgO", "rocksalt", 4.21, cubic=True), 0.05, 10),
    }
    found["outside the cell"].positions += found["outside the cell"].cell[0] * 3
    for symbol in ("Cu", "Al", "Fe", "Ti", "Na", "W", "Mg", "Au", "C", "Si"):
        found[symbol] = bulk(symbol)
    return found


NAMES = sorted(structures())


@functools.cache
def peer(version: str) -> chgnet.model.model.CHGNet:
    """The peer's model, in float32 on the CPU."""
    return chgnet.model.model.CHGNet.load(model_name=version, use_device="cpu", verbose=False)


def ask_peer(model: chgnet.model.model.CHGNet, atoms: Atoms) -> dict[str, np.ndarray]:
    """The peer's answer; its own warnings are its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.predict_structure(
            AseAtomsAdaptor.get_structure(atoms),
            return_site_energies=True,
            return_atom_feas=True,
            return_crystal_feas=True,
        )


@functools.cache
def ours_of(version: str, dtype: str) -> Potential:
    """Our model on the CPU."""
    return load_model(f"chgnet-{version}", dtype=dtype, device="cpu")


def ask_us(version: str, dtype: str, atoms: Atoms) -> Prediction:
    """Our answer on the default path."""
    model = ours_of(version, dtype)
    return model.predict(build_graph(atoms, model.info.cutoff, model.info.bond_cutoff))


@pytest.fixture
def double_peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The peer's geometry in float64."""
    for module in (chgnet.graph.crystalgraph, chgnet.graph.converter, chgnet.model.model):
        monkeypatch.setattr(module, "TORCH_DTYPE", torch.float64)
    return


def double_model(version: str) -> chgnet.model.model.CHGNet:
    """The peer in float64; its composition model counts in float32 whatever it is told."""
    model = chgnet.model.model.CHGNet.load(model_name=version, use_device="cpu", verbose=False)
    composition = model.composition_model
    model.composition_model = None
    model.double()
    model.composition_model = composition
    return model


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_with_chgnet(name: str) -> None:
    atoms = structures()[name]
    ours, theirs = ask_us("0.3.0", "float32", atoms), ask_peer(peer("0.3.0"), atoms)
    assert float(ours.energy[0]) / len(atoms) == pytest.approx(float(theirs["e"]), abs=1e-5)
    np.testing.assert_allclose(ours.forces.numpy(), theirs["f"], atol=2e-4, rtol=0)
    np.testing.assert_allclose(ours.stress[0].numpy() * GPA, theirs["s"], atol=2e-3, rtol=0)
    np.testing.assert_allclose(ours.magmoms.numpy(), theirs["m"], atol=1e-4, rtol=0)
    # Site energies reach some 10 eV; features of order 1 are summed over the atoms of a crystal.
    np.testing.assert_allclose(ours.site_energies.numpy(), theirs["site_energies"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(ours.atom_features.numpy(), theirs["atom_fea"], atol=2e-4, rtol=1e-4)
    np.testing.assert_allclose(
        ours.crystal_features[0].numpy(), theirs["crystal_fea"].ravel(), atol=2e-5 * len(atoms), rtol=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_no_further_from_float64_than_chgnet(name: str) -> None:
    atoms = structures()[name]
    exact, ours = (ask_us("0.3.0", dtype, atoms).forces.numpy() for dtype in ("float64", "float32"))
    theirs = ask_peer(peer("0.3.0"), atoms)["f"]
    # Where symmetry makes a force zero, the peer may hit it by luck: one float32 rounding of the
    # largest site energy gradient, some 10 eV/Å, is 1e-6.
    assert np.abs(ours - exact).max() <= max(np.abs(theirs - exact).max(), 5e-6)


@pytest.mark.usefixtures("double_peer")
@pytest.mark.parametrize("version", ["0.3.0", "0.2.0", "r2scan"])
def test_float64_agrees_to_the_last_digits(version: str) -> None:
    model = double_model(version)
    names = NAMES if version == "0.3.0" else ["LiCoO2 rattled", "NaCl strained", "H2O", "Cu", "Al slab"]
    for name in names:
        atoms = structures()[name]
        if len(atoms) > 30:
            continue
        ours, theirs = ask_us(version, "float64", atoms), ask_peer(model, atoms)
        weights = model.composition_model.fc.weight[0].double().detach().numpy()
        reference = weights[atoms.numbers - 1].mean()
        composition = float(model.composition_model([_Composition(atoms)])[0])
        interaction = float(theirs["e"]) - composition + reference
        assert float(ours.energy[0]) / len(atoms) == pytest.approx(interaction, abs=1e-9), name
        np.testing.assert_allclose(ours.forces.numpy(), theirs["f"], atol=1e-8, rtol=0, err_msg=name)
        np.testing.assert_allclose(ours.stress[0].numpy() * GPA, theirs["s"], atol=1e-6, rtol=0, err_msg=name)


class _Composition:
    """What the peer's composition model reads of a graph."""

    def __init__(self, atoms: Atoms) -> None:
        self.atomic_number = torch.tensor(atoms.numbers)


@pytest.mark.slow
@pytest.mark.parametrize("repeat", [(3, 3, 1), (7, 6, 1)])
def test_large_cells_agree_too(repeat: tuple[int, int, int]) -> None:
    atoms = rattled(lithium_cobalt_oxide(repeat), 0.05, 11)
    ours, theirs = ask_us("0.3.0", "float32", atoms), ask_peer(peer("0.3.0"), atoms)
    assert len(atoms) in (108, 504)
    assert float(ours.energy[0]) / len(atoms) == pytest.approx(float(theirs["e"]), abs=1e-5)
    np.testing.assert_allclose(ours.forces.numpy(), theirs["f"], atol=2e-4, rtol=0)
    np.testing.assert_allclose(ours.stress[0].numpy() * GPA, theirs["s"], atol=2e-3, rtol=0)


@pytest.mark.parametrize("version", ["0.2.0", "r2scan"])
def test_other_published_weights_agree(version: str) -> None:
    for name in ("LiCoO2 rattled", "NaCl strained", "H2O", "Cu", "Fe2O3", "Al slab"):
        atoms = structures()[name]
        ours, theirs = ask_us(version, "float32", atoms), ask_peer(peer(version), atoms)
        assert float(ours.energy[0]) / len(atoms) == pytest.approx(float(theirs["e"]), abs=1e-5)
        np.testing.assert_allclose(ours.forces.numpy(), theirs["f"], atol=2e-4, rtol=0)
        np.testing.assert_allclose(ours.magmoms.numpy(), theirs["m"], atol=1e-4, rtol=0)


def test_stress_of_a_left_handed_cell_keeps_its_sign() -> None:
    right = strained(rattled(lithium_cobalt_oxide(), 0.05, 12), 13)
    left = right.copy()
    left.set_cell(right.cell[[1, 0, 2]])
    ours = [ask_us("0.3.0", "float64", atoms).stress[0].numpy() for atoms in (right, left)]
    np.testing.assert_allclose(ours[1], ours[0], atol=1e-12)
    flipped = ask_peer(peer("0.3.0"), left)["s"]
    np.testing.assert_allclose(flipped, -ours[0] * GPA, atol=2e-3)  # the peer's divides by a signed volume


def test_an_atom_without_neighbours_has_an_energy(caplog: pytest.LogCaptureFixture) -> None:
    lonely = Atoms("Na", cell=[20, 20, 20], pbc=True)
    pair = Atoms("Na2", positions=[[0, 0, 0], [5.999999, 0, 0]], cell=[30, 30, 30], pbc=True)
    alone = float(ask_us("0.3.0", "float64", lonely).energy[0])
    together = float(ask_us("0.3.0", "float64", pair).energy[0])
    fresh = load_model("chgnet-0.3.0", device="cpu")
    fresh.predict(build_graph(lonely, 6.0, 3.0))
    assert "no neighbour within 6 Å" in caplog.text
    # The envelope has two zero derivatives at the cutoff: at 1e-6 Å from it nothing is left.
    assert together == pytest.approx(2 * alone, abs=1e-9)


@pytest.mark.parametrize(
    ("atoms", "error"),
    [
        (Atoms("Cu", positions=[[np.nan, 0, 0]], cell=[3, 3, 3], pbc=True), StructureError),
        (Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 0]], cell=[5, 5, 5], pbc=True), StructureError),
        (Atoms("Cu", cell=[0, 0, 0], pbc=True), StructureError),
        (Atoms("Am", cell=[5, 5, 5], pbc=True), ModelError),
        (Atoms("Po", cell=[3.3, 3.3, 3.3], pbc=True), ModelError),
    ],
    ids=["NaN", "coincident", "zero cell", "beyond the table", "never seen"],
)
def test_what_chgnet_answers_or_muddles_is_refused(atoms: Atoms, error: type[AtomMLError]) -> None:
    atoms.calc = AtomMLCalculator(load_model("chgnet-0.3.0", device="cpu"))
    with pytest.raises(error):
        atoms.get_potential_energy()


def test_a_vacuum_beyond_the_cutoff_changes_nothing() -> None:
    thin = fcc111("Al", (1, 1, 3), vacuum=6.5, periodic=True)
    thick = thin.copy()
    add_vacuum(thick, 10.0)
    a, b = (float(ask_us("0.3.0", "float64", atoms).energy[0]) for atoms in (thin, thick))
    assert a == pytest.approx(b, abs=1e-10)
