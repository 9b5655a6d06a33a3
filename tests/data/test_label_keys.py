"""Labels are found under their names, converted to ASE's units, and refused where they cannot be right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from atomml.data.dataset import open_dataset
from atomml.data.entry import Entry
from atomml.data.label_keys import LabelKeys, entry_of
from atomml.errors import InputError

FORCES = np.arange(12.0).reshape(4, 3) / 10
STRESS = np.array([[0.01, 0.004, 0.003], [0.004, 0.02, 0.002], [0.003, 0.002, 0.03]])
VOIGT = np.array([0.01, 0.02, 0.03, 0.002, 0.003, 0.004])


def _copper(**info: Any) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.info.update(info)
    return atoms


def test_a_calculators_results_are_labels() -> None:
    atoms = _copper()
    magmoms = np.array([1.0, -1.0, 0.5, 0.0])
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=FORCES, stress=VOIGT, magmoms=magmoms)
    entry = entry_of(atoms, source="a.traj", frame=3)
    assert entry.labels.energy == -3.0
    np.testing.assert_array_equal(entry.labels.forces, FORCES)
    np.testing.assert_array_equal(entry.labels.stress, STRESS)
    np.testing.assert_array_equal(entry.labels.magmoms, magmoms)
    assert (entry.source, entry.frame, entry.atoms.calc) == ("a.traj", 3, None)


@pytest.mark.parametrize(
    "name", ["energy", "REF_energy", "dft_energy", "energy_dft", "DFT_Energy", "total_energy"]
)
def test_usual_names_of_the_energy(name: str) -> None:
    entry = entry_of(_copper(**{name: -3.5}))
    assert entry.labels.energy == -3.5
    assert name not in entry.atoms.info


@pytest.mark.parametrize("name", ["forces", "REF_forces", "dft_force", "force", "forces_ref"])
def test_usual_names_of_the_forces(name: str) -> None:
    atoms = _copper()
    atoms.set_array(name, FORCES)
    entry = entry_of(atoms)
    np.testing.assert_array_equal(entry.labels.forces, FORCES)
    assert set(entry.atoms.arrays) == {"numbers", "positions"}


@pytest.mark.parametrize("value", [STRESS, STRESS.ravel(), VOIGT, STRESS.tolist()])
def test_shapes_of_a_stress(value: Any) -> None:
    np.testing.assert_allclose(entry_of(_copper(stress=value)).labels.stress, STRESS, rtol=1e-15)


def test_a_virial_becomes_a_stress() -> None:
    atoms = _copper()
    atoms.info["virial"] = -STRESS * atoms.get_volume()
    np.testing.assert_allclose(entry_of(atoms).labels.stress, STRESS, rtol=1e-14)
    entry = entry_of(
        _copper(w=-STRESS * atoms.get_volume()), LabelKeys(stress_key="w", stress_quantity="virial")
    )
    np.testing.assert_allclose(entry.labels.stress, STRESS, rtol=1e-14)


def test_stress_and_virial_that_agree_are_one_label_and_otherwise_an_error() -> None:
    atoms = _copper(stress=STRESS)
    atoms.info["virial"] = -STRESS * atoms.get_volume()
    np.testing.assert_array_equal(entry_of(atoms).labels.stress, STRESS)
    atoms.info["virial"] = STRESS * atoms.get_volume()
    with pytest.raises(InputError, match=r"stress and virial .* disagree: say which with --stress-key"):
        entry_of(atoms)


# Energies, forces and stresses in units that programs print, and what they are in ASE's: values of
# CODATA 2014, as ASE has them, typed in by hand. 1e-8 relative is the precision of what is typed.
@pytest.mark.parametrize(
    ("keys", "label", "factor"),
    [
        ({"energy_unit": "Ha"}, "energy", 27.21138602),
        ({"energy_unit": "Ry"}, "energy", 13.60569301),
        ({"energy_unit": "kcal/mol"}, "energy", 0.04336410389),
        ({"energy_unit": "kJ/mol"}, "energy", 0.01036426957),
        ({"energy_per_atom": True}, "energy", 4.0),
        ({"forces_unit": "Ha/bohr"}, "forces", 51.42206707),
        ({"forces_unit": "Ry/bohr"}, "forces", 25.711033535),
        ({"forces_unit": "kcal/mol/Å"}, "forces", 0.04336410389),
        ({"forces_unit": "kJ/mol/nm"}, "forces", 0.001036426957),
        ({"stress_unit": "GPa"}, "stress", 0.006241509126),
        ({"stress_unit": "kbar"}, "stress", 0.0006241509126),
        ({"stress_unit": "kbar", "stress_sign": "compression"}, "stress", -0.0006241509126),
        ({"stress_unit": "Ry/bohr³"}, "stress", 91.81576765),
    ],
)
def test_units(keys: dict[str, Any], label: str, factor: float) -> None:
    atoms = _copper(energy=-2.0, stress=STRESS)
    atoms.set_array("forces", FORCES)
    plain = getattr(entry_of(atoms).labels, label)
    found = getattr(entry_of(atoms, LabelKeys(**keys)).labels, label)
    np.testing.assert_allclose(found, plain * factor, rtol=1e-8)


def test_a_named_key_is_taken_and_the_usual_one_left() -> None:
    atoms = _copper(energy=-1.0, scan_energy=-2.0)
    entry = entry_of(atoms, LabelKeys(energy_key="scan_energy"))
    assert entry.labels.energy == -2.0
    assert entry.atoms.info["energy"] == -1.0
    assert entry_of(atoms, LabelKeys(energy_key="none")).labels.energy is None


def test_two_names_that_disagree_are_an_error() -> None:
    with pytest.raises(InputError, match=r"a\.xyz, frame 7: energy and REF_energy .* disagree"):
        entry_of(_copper(energy=-1.0, REF_energy=-2.0), source="a.xyz", frame=7)
    assert entry_of(_copper(energy=-1.0, REF_energy=-1.0 - 1e-9)).labels.energy == -1.0


def test_a_pressure_is_no_stress() -> None:
    entry = entry_of(_copper(pressure_GPa=1.5, energy=-1.0))
    assert entry.labels.stress is None
    assert entry.atoms.info["pressure_GPa"] == 1.5


@pytest.mark.parametrize(
    ("info", "arrays", "words"),
    [
        ({"energy": np.nan}, {}, "frame 2: energy is not finite"),
        ({"energy": "low"}, {}, "frame 2: energy is no numbers"),
        ({"energy": [1.0, 2.0]}, {}, "energy has the shape 2 where 1 is meant"),
        (
            {},
            {"REF_forces": np.where(np.eye(4, 3) * [0, 0, 1], np.inf, FORCES)},
            "REF_forces of atom 2 is not finite",
        ),
        ({}, {"forces": FORCES[:, :2]}, "forces has the shape 4 x 2 where 4 x 3 is meant"),
        ({}, {"forces": FORCES[:, 0]}, "forces has the shape 4 where 4 x 3"),
        ({"stress": [1.0, 2.0, 3.0]}, {}, "stress has the shape 3 where 6"),
        ({"stress": STRESS + np.triu(np.ones((3, 3)), 1)}, {}, "stress is not symmetric"),
        ({}, {"magmoms": FORCES}, "magmoms has the shape 4 x 3 where 4 is"),
        ({"energy": -1.0, "config_weight": -2.0}, {}, "weight is '-2.0'"),
        ({"energy": -1.0, "charge": "two"}, {}, "charge is 'two'"),
    ],
)
def test_wrong_labels_are_refused_by_file_frame_and_atom(
    info: dict[str, Any], arrays: dict[str, Any], words: str
) -> None:
    atoms = _copper(**info)
    for name, array in arrays.items():
        atoms.set_array(name, array)
    with pytest.raises(InputError, match=words) as caught:
        entry_of(atoms, source="a.xyz", frame=2)
    assert str(caught.value).startswith("a.xyz, frame 2: ")


def test_a_stress_without_periodicity() -> None:
    water = molecule("H2O", vacuum=3.0)
    water.info["stress"] = np.zeros(6)
    assert entry_of(water).labels.stress is None
    water.info["stress"] = VOIGT
    with pytest.raises(InputError, match=r"not periodic"):
        entry_of(water)
    bare = molecule("H2O")
    bare.info["virial"] = STRESS
    with pytest.raises(InputError, match=r"a virial is given without a cell"):
        entry_of(bare)


def test_group_trajectory_weight_method_charge_and_spin() -> None:
    info = {
        "config_type": "bulk",
        "traj_id": 7,
        "config_weight": 2,
        "method": "PBE",
        "total_charge": -1,
        "id": "x",
    }
    entry = entry_of(_copper(energy=0.0, **info))
    assert (entry.group, entry.trajectory, entry.weight, entry.method) == ("bulk", "7", 2.0, "PBE")
    assert entry.atoms.info == {"charge": -1, "id": "x"}
    named = entry_of(_copper(energy=0.0, kind="slab"), LabelKeys(group_key="kind"))
    assert named.group == "slab"


def test_a_multiplicity_is_not_taken_for_unpaired_electrons() -> None:
    water = molecule("H2O")
    water.info.update(energy=-1.0, spin=1)  # ten electrons: a singlet by multiplicity, impossible as unpaired
    with pytest.raises(
        InputError, match=r"10 electrons cannot leave 1 unpaired.*--spin-convention multiplicity"
    ):
        entry_of(water)
    assert entry_of(water, LabelKeys(spin_convention="multiplicity")).atoms.info["spin"] == 0
    oxygen = molecule("O2")
    oxygen.info.update(energy=-1.0, multiplicity=3)
    assert entry_of(oxygen).atoms.info["spin"] == 2


TWO_FRAMES = """1
Lattice="9 0 0 0 9 0 0 0 9" my_energy=-1.0 note=a pbc="T T T"
Cu 0 0 0
1
Lattice="9 0 0 0 9 0 0 0 9" note=b pbc="T T T"
Cu 0 0 0
"""


def test_no_label_under_a_given_key_lists_the_keys_that_are_there(write: Callable[[str, str], Path]) -> None:
    path = write("a.xyz", TWO_FRAMES)
    with pytest.raises(
        InputError, match=r"no frame has energy under the key 'E'; the file's keys are my_energy, note"
    ):
        open_dataset(path, LabelKeys(energy_key="E"))
    with pytest.raises(InputError, match=r"no labels were found under the usual names; .* my_energy, note"):
        open_dataset(path)
    assert len(open_dataset(path, unlabelled=True)) == 2
    assert (
        open_dataset(path, LabelKeys(energy_key="my_energy")).label_counts["energy"] == 1
    )  # one frame is enough


def _signature(entry: Entry) -> tuple[int, str]:
    return entry.frame, entry.trajectory


def test_frames_with_the_same_atoms_in_a_row_are_a_trajectory(
    frames: Callable[..., list[Atoms]], tmp_path: Path
) -> None:
    from atomml.data.structures import write_structures

    path = tmp_path / "a.xyz"
    write_structures(path, [*frames(3), *frames(1, element="Ni"), *frames(2, seed=1)])
    found = [_signature(entry) for entry in open_dataset(path)]
    assert found == [
        (0, f"{path}#0"),
        (1, f"{path}#0"),
        (2, f"{path}#0"),
        (3, ""),
        (4, f"{path}#4"),
        (5, f"{path}#4"),
    ]
    assert {entry.trajectory for entry in open_dataset(path, LabelKeys(trajectory_key="none"))} == {""}
