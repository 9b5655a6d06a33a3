"""Elastic constants against closed answers: pair sums, springs, symmetry, rotation, and known identities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.neighborlist import neighbor_list
from ase.units import _amu, _hbar, _k
from interrupted import Interrupted
from scipy.spatial.transform import Rotation

from atomml.cli.main import main
from atomml.data.symmetry import point_group
from atomml.errors import ModelError, OptionError, StructureError
from atomml.run import read_events
from atomml.workflows import elastic
from atomml.workflows.crystals.elastic_tensor import (
    fit_tensor,
    moduli_of,
    needed_patterns,
    rotated,
    strain_matrix,
    tensor_basis,
    youngs_modulus,
)

GPA = 160.21766208
EPSILON, SIGMA = 0.0104, 3.40
# In the middle between the 8th and 9th shell of the fcc crystal: no pair crosses it at small strains.
FAR = LennardJones(epsilon=EPSILON, sigma=SIGMA, rc=3.18 * SIGMA)
SMOOTH = LennardJones(epsilon=EPSILON, sigma=SIGMA, rc=2.5 * SIGMA, ro=2.0 * SIGMA, smooth=True)
TIGHT: dict[str, Any] = {"smax": 1e-5, "fmax": 1e-5}


def pair_sums(atoms: Atoms, rc: float) -> np.ndarray[Any, Any]:
    """The tensor of a Lennard-Jones crystal whose ions have no freedom, GPa.

    ``C_ijkl = 1/2V Σ (φ'' - φ'/r) x_i x_j x_k x_l / r²`` (M. Born and K. Huang, Dynamical Theory of
    Crystal Lattices, section 11), which holds without stress.
    """
    distance, vector = neighbor_list("dD", atoms, rc)
    s6 = (SIGMA / distance) ** 6
    first = 4 * EPSILON * (-12 * s6**2 + 6 * s6) / distance
    second = 4 * EPSILON * (156 * s6**2 - 42 * s6) / distance**2
    weight = (second - first / distance) / distance**2
    pairs = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
    columns = np.array([vector[:, i] * vector[:, j] for i, j in pairs])
    return np.einsum("n,in,jn->ij", weight, columns, columns) / (2 * atoms.cell.volume) * GPA


def test_a_lennard_jones_crystal_has_the_constants_of_the_pair_sums() -> None:
    """The slopes are off by the fourth order of a strain of 0.005: below 1e-5 for one as steep as r⁻¹²."""
    found = elastic(bulk("Ar", "fcc", a=5.3, cubic=True), FAR, **TIGHT)
    assert found.atoms is not None
    expected = pair_sums(found.atoms, FAR.parameters.rc)
    assert np.allclose(found.elastic_tensor, expected, atol=1e-4 * expected.max())
    # Cauchy's relation: pair forces, no stress, every atom a centre of inversion.
    assert found.elastic_tensor[0][1] == pytest.approx(found.elastic_tensor[3][3], rel=1e-4)
    assert found.bulk_modulus == pytest.approx((expected[0, 0] + 2 * expected[0, 1]) / 3, rel=1e-4)
    assert (found.n_independent, found.n_strains, found.space_group) == (3, 8, "Fm-3m")
    assert found.stable
    assert found.converged


class Springs(Calculator):  # type: ignore[misc]
    """Harmonic springs between nearest neighbours: ``k/2 (r - r0)²`` a bond."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, length: float, constant: float) -> None:
        super().__init__()
        self.length, self.constant = length, constant

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        i, r, d = neighbor_list("idD", self.atoms, 1.2 * self.length)
        pull = self.constant * (r - self.length)
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, pull[:, None] * d / r[:, None])
        virial = np.einsum("n,ni,nj->ij", pull / r, d, d) / 2 / self.atoms.cell.volume
        energy = self.constant * ((r - self.length) ** 2).sum() / 4
        self.results = {"energy": energy, "forces": forces, "stress": virial.ravel()[[0, 4, 8, 5, 2, 1]]}


def test_springs_between_neighbours_of_fcc() -> None:
    """C11 = 2k/a, C12 = C44 = k/a: half the sum of k x⁴/r² over twelve bonds of an atom's volume a³/4."""
    a, k = 4.0, 3.0
    found = elastic(bulk("Ar", "fcc", a=a), Springs(a / np.sqrt(2), k), start="given", strain=0.002)
    expected = k / a * GPA
    tensor = np.array(found.elastic_tensor)
    assert tensor[0, 0] == pytest.approx(2 * expected, rel=1e-4)
    assert tensor[0, 1] == pytest.approx(expected, rel=1e-4)
    assert tensor[3, 3] == pytest.approx(expected, rel=1e-4)


def test_ions_that_relax_soften_the_shear_of_a_diamond_of_springs() -> None:
    """Clamped, all three constants are k/3a. Relaxed, the shear costs nothing: the bonds only turn."""
    a, k = 5.0, 3.0
    crystal = bulk("Si", "diamond", a=a)
    found = elastic(crystal, Springs(a * np.sqrt(3) / 4, k), start="given", strain=0.002, fmax=1e-6)
    assert found.clamped_elastic_tensor is not None
    clamped, relaxed = np.array(found.clamped_elastic_tensor), np.array(found.elastic_tensor)
    expected = k / (3 * a) * GPA
    for i, j in ((0, 0), (0, 1), (3, 3)):
        assert clamped[i, j] == pytest.approx(expected, rel=1e-3)
    assert relaxed[0, 0] == pytest.approx(expected, rel=1e-3)
    assert abs(relaxed[3, 3]) < 1e-3 * expected
    alone = elastic(crystal, Springs(a * np.sqrt(3) / 4, k), start="given", strain=0.002, ions="clamped")
    assert alone.clamped_elastic_tensor is None
    assert np.allclose(alone.elastic_tensor, clamped)


def hexagonal() -> Atoms:
    return bulk("Ar", "hcp", a=3.75, c=6.0)


@pytest.mark.slow
def test_strains_that_symmetry_spares_are_not_missed() -> None:
    """A hexagonal crystal whose ions relax: 3 patterns give the tensor of all 6.

    Strains up to 0.2 % leave a fourth-order error of 1e-6, and forces of 1e-5 eV/Å beside those of a
    strain (k a ε, some 1e-3 eV/Å) one of 1 %  of the ions' share, itself below 1 % of the constants.
    """
    few = elastic(hexagonal(), SMOOTH, strain=0.002, **TIGHT)
    assert few.atoms is not None
    all_six = elastic(few.atoms, SMOOTH, strain=0.002, symmetry=False, start="given", **TIGHT)
    assert (few.n_independent, few.n_strains) == (5, 12)
    assert (all_six.n_independent, all_six.n_strains) == (21, 24)
    scale = np.abs(all_six.elastic_tensor).max()
    assert np.allclose(few.elastic_tensor, all_six.elastic_tensor, atol=2e-4 * scale)
    assert few.elastic_tensor[5][5] == pytest.approx(
        (few.elastic_tensor[0][0] - few.elastic_tensor[0][1]) / 2, rel=1e-9
    )


def test_the_tensor_turns_with_the_crystal() -> None:
    start = elastic(hexagonal(), SMOOTH, ions="clamped", **TIGHT)
    assert start.atoms is not None
    turn = Rotation.from_euler("xyz", [0.3, -0.7, 1.1]).as_matrix()
    turned = start.atoms.copy()
    turned.set_cell(turned.cell.array @ turn.T, scale_atoms=True)
    found = elastic(turned, SMOOTH, ions="clamped", start="given", **TIGHT)
    before, after = np.array(start.elastic_tensor), np.array(found.elastic_tensor)
    assert np.allclose(after, rotated(before, turn), atol=1e-5 * before.max())
    assert not np.allclose(after, before, atol=1e-2 * before.max())
    assert found.universal_anisotropy == pytest.approx(start.universal_anisotropy, rel=1e-3)
    assert np.allclose(found.ieee_elastic_tensor, start.ieee_elastic_tensor, atol=1e-4 * before.max())


def generated(*generators: Any) -> np.ndarray[Any, Any]:
    """The group of matrices that the generators make."""
    group = [np.eye(3)]
    for one in group:
        for other in generators:
            new = one @ other
            if not any(np.allclose(new, known) for known in group):
                group.append(new)
    return np.array(group)


def about(axis: list[float], order: int) -> np.ndarray[Any, Any]:
    return Rotation.from_rotvec(2 * np.pi / order * np.array(axis) / np.linalg.norm(axis)).as_matrix()


@pytest.mark.parametrize(
    ("generators", "n"),
    [
        ([], 21),
        ([about([0, 1, 0], 2)], 13),
        ([about([0, 0, 1], 2), about([1, 0, 0], 2)], 9),
        ([about([0, 0, 1], 3)], 7),
        ([about([0, 0, 1], 3), about([1, 0, 0], 2)], 6),
        ([about([0, 0, 1], 4)], 7),
        ([about([0, 0, 1], 4), about([1, 0, 0], 2)], 6),
        ([about([0, 0, 1], 6)], 5),
        ([about([0, 0, 1], 2), about([1, 1, 1], 3)], 3),
    ],
    ids=["triclinic", "monoclinic", "orthorhombic", "3", "32", "4", "422", "hexagonal", "cubic"],
)
def test_each_crystal_class_has_its_number_of_constants_and_they_are_all_found(
    generators: Any, n: int
) -> None:
    """Nye, Physical Properties of Crystals, table 9; a random tensor of the class comes back."""
    group = generated(*generators)
    basis = tensor_basis(group)
    assert len(basis) == n
    tensor = np.einsum("n,nij->ij", np.random.default_rng(1).normal(size=n), basis)
    assert all(np.allclose(rotated(tensor, one), tensor) for one in group)
    patterns = needed_patterns(basis)
    found, rms = fit_tensor(basis, patterns, tensor[:, list(patterns)].T)
    assert np.allclose(found, tensor, atol=1e-10)
    assert rms < 1e-10
    if len(patterns) > 1:  # one fewer would not do
        fewer = fit_tensor(basis, patterns[:-1], tensor[:, list(patterns[:-1])].T)[0]
        assert not np.allclose(fewer, tensor, atol=1e-6)


def test_symmetry_is_found_in_the_frame_of_the_cell() -> None:
    group = point_group(bulk("Cu", "fcc", a=3.6), 0.01)
    assert group.symbol == "Fm-3m"
    assert len(group.rotations) == 48
    assert np.allclose(group.rotations @ group.rotations.transpose(0, 2, 1), np.eye(3))


def test_a_rotation_of_strain_and_stress_keeps_the_energy() -> None:
    """1/2 ε·C·ε of a turned strain and a turned tensor is that before."""
    rng = np.random.default_rng(2)
    tensor = (lambda m: m + m.T)(rng.normal(size=(6, 6)))
    turn = Rotation.random(rng=3).as_matrix()
    strain = sum((strain_matrix(p, x) for p, x in enumerate(rng.normal(size=6))), np.zeros((3, 3)))
    voigt = lambda e: np.array([e[0, 0], e[1, 1], e[2, 2], 2 * e[1, 2], 2 * e[0, 2], 2 * e[0, 1]])  # noqa: E731
    before = voigt(strain) @ tensor @ voigt(strain)
    after = voigt(turn @ strain @ turn.T) @ rotated(tensor, turn) @ voigt(turn @ strain @ turn.T)
    assert after == pytest.approx(before, rel=1e-12)


def isotropic(bulk_modulus: float, shear: float) -> np.ndarray[Any, Any]:
    tensor = np.diag([2 * shear] * 3 + [shear] * 3)
    tensor[:3, :3] += bulk_modulus - 2 * shear / 3
    return tensor


def test_moduli_of_an_isotropic_solid_are_the_textbooks() -> None:
    """Units too: pymatgen's Young's modulus is in Pa, its bulk and shear moduli in GPa."""
    copper = bulk("Cu", "fcc", a=3.6, cubic=True)
    K, G = 140.0, 48.0
    found = moduli_of(isotropic(K, G), copper)
    young = 9 * K * G / (3 * K + G)
    assert found.bulk == pytest.approx((K, K, K))
    assert found.shear == pytest.approx((G, G, G))
    assert found.youngs == pytest.approx(young)
    assert found.poisson == pytest.approx((3 * K - 2 * G) / (2 * (3 * K + G)))
    assert found.anisotropy == pytest.approx(0, abs=1e-9)
    assert found.youngs_range == pytest.approx((young, young))
    density = copper.get_masses().sum() * _amu / (copper.cell.volume * 1e-30)
    slow, fast = np.sqrt(G * 1e9 / density), np.sqrt((K + 4 * G / 3) * 1e9 / density)
    mean = (3 / (2 / slow**3 + 1 / fast**3)) ** (1 / 3)
    assert found.sound == pytest.approx((slow, fast, mean), rel=1e-5)
    # Debye: hbar v (6 π² N/V)^(1/3) / k_B.
    debye = _hbar * mean * (6 * np.pi**2 * 4 / (copper.cell.volume * 1e-30)) ** (1 / 3) / _k
    assert found.debye == pytest.approx(debye, rel=1e-4)


def test_youngs_modulus_of_a_cubic_crystal_along_its_axes_and_diagonals() -> None:
    """1/E = S11 - 2 (S11 - S12 - S44/2)(l²m² + m²n² + n²l²), Nye chapter 8; copper-like constants."""
    tensor = np.diag([170.0] * 3 + [75.0] * 3)
    tensor[:3, :3] += 122 * (1 - np.eye(3))
    s = np.linalg.inv(tensor)
    directions = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]]) / np.sqrt([[1], [2], [3]])
    mixed = np.array([0, 1 / 4, 1 / 3])
    expected = 1 / (s[0, 0] - 2 * (s[0, 0] - s[0, 1] - s[3, 3] / 2) * mixed)
    assert np.allclose(youngs_modulus(tensor, directions), expected)
    low, high = moduli_of(tensor, bulk("Cu")).youngs_range or (0.0, 0.0)
    assert low == pytest.approx(expected[0])
    assert high == pytest.approx(expected[2])


def test_an_unstable_crystal_is_called_so(here: Path) -> None:
    """Lennard-Jones bcc has C11 < C12; symmetry keeps it bcc while it relaxes."""
    found = elastic(bulk("Ar", "bcc", a=4.2, cubic=True), FAR, ions="clamped", out="run")
    assert not found.stable
    assert found.smallest_eigenvalue < 0
    assert found.elastic_tensor[0][0] < found.elastic_tensor[0][1]
    assert found.youngs_modulus is None
    assert found.debye_temperature is None
    assert any("unstable" in warning for warning in found.warnings)
    assert "unstable" in Path("run/report.html").read_text()


def test_a_crystal_under_stress_is_called_so() -> None:
    found = elastic(bulk("Cu", "fcc", a=3.5), EMT(), start="given", ions="clamped")
    assert any("crystal under stress" in warning for warning in found.warnings)


class Stops(Interrupted, LennardJones):  # type: ignore[misc]
    """Argon that is interrupted once it has answered so many times, and counts its answers."""


def test_an_interrupted_run_goes_on_to_the_same_numbers(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Stops(**SMOOTH.parameters)
    settings: dict[str, Any] = {"start": "given", "points": 2, "fmax": 1e-5}
    whole = elastic(hexagonal(), model, out="whole", **settings)
    monkeypatch.setattr(Stops, "left", 16)
    with pytest.raises(KeyboardInterrupt):
        elastic(hexagonal(), model, out="part", **settings)
    assert Path("part/restart.safetensors").exists()
    monkeypatch.setattr(Stops, "left", 1 << 30)
    part = elastic(hexagonal(), model, out="part", resume=True, **settings)
    assert part.results() == whole.results()
    steps = [event["step"] for event in read_events("part") if event["event"] == "relaxed"]
    assert steps == sorted(set(steps))


def test_the_folder_holds_what_the_contract_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["elastic", "cu.extxyz", "--model", "ase:ase.calculators.emt:EMT", "--out", "run"]) == 0
    assert "elastic tensor (GPa)" in capsys.readouterr().out
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["units"]["bulk_modulus_GPa"] == "GPa"
    assert summary["units"]["mean_sound_speed_m_per_s"] == "m/s"
    assert summary["units"]["debye_temperature_K"] == "K"
    assert np.shape(summary["results"]["elastic_tensor_GPa"]) == (6, 6)
    assert len(Path("run/log.csv").read_text().splitlines()) == summary["results"]["n_strains"] + 1
    page = Path("run/report.html").read_text()
    assert all(
        words in page for words in ("Elastic tensor", "modulus against direction", "xz plane", "Strains")
    )
    assert main(["report", "run", "--quiet"]) == 0
    assert Path("run/report.html").read_text() == page


def test_wrong_options_models_and_structures_are_refused() -> None:
    class NoStress(EMT):  # type: ignore[misc]
        implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    copper = bulk("Cu", "fcc", a=3.6)
    with pytest.raises(ModelError, match="gives no stress"):
        elastic(copper, NoStress(), start="given")
    with pytest.raises(OptionError, match="strain"):
        elastic(copper, EMT(), strain=0.0)
    with pytest.raises(StructureError, match="not periodic"):
        elastic(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]], cell=[9, 9, 9], pbc=[1, 1, 0]), EMT())
