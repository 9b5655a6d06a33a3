"""Errors that were planted in the labels are found, whole and by part, in any order and any batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from noble_gases import labelled, rattled

from atomml.data.entry import Entry, Labels
from atomml.data.error_tally import check_labels
from atomml.errors import InputError, RunFailedError
from atomml.model import Potential
from atomml.units import GPA
from atomml.workflows import evaluate
from atomml.workflows.evaluations.evaluation import EvaluationResult


def with_labels(entry: Entry, **changes: Any) -> Entry:
    """The entry with other labels."""
    return replace(entry, labels=replace(entry.labels, **changes))


def line(result: EvaluationResult, quantity: str, kind: str = "all", name: str = "") -> dict[str, Any]:
    """One line of the tables."""
    found = [
        one
        for one in [*result.errors, *result.groups]
        if (one["quantity"], one["kind"], one["name"]) == (quantity, kind, name)
    ]
    assert len(found) == 1
    return found[0]


def test_a_perfect_model_has_no_error(exact_entries: list[Entry], lj: Potential) -> None:
    result = evaluate(exact_entries, lj)
    # sums of some hundred pair energies of 10 meV in float64, in another order in a batch
    for error in (result.mae_energy, result.mae_forces, result.mae_stress):
        assert error == pytest.approx(0, abs=1e-9)
    assert line(result, "forces_meV_per_A")["skill"] == pytest.approx(1)
    assert line(result, "energy_meV_per_atom")["r_squared"] == pytest.approx(1)
    assert result.warnings == []
    assert result.converged
    assert result.n_structures == 24
    assert result.n_atoms == sum(len(entry.atoms) for entry in exact_entries)


def test_a_constant_for_each_element_is_found_and_taken_away(
    exact_entries: list[Entry], lj: Potential
) -> None:
    shift = {18: 0.25, 36: -0.75}
    planted = [
        with_labels(e, energy=e.labels.energy - sum(shift[int(z)] for z in e.atoms.numbers))
        for e in exact_entries
    ]
    result = evaluate(planted, lj)
    assert result.element_shift_eV == pytest.approx({"Ar": 0.25, "Kr": -0.75}, abs=1e-10)
    wanted = [np.mean([1000 * shift[int(z)] for z in e.atoms.numbers]) for e in exact_entries]
    assert result.mae_energy == pytest.approx(np.abs(wanted).mean())
    assert line(result, "energy_meV_per_atom")["mean_signed_error"] == pytest.approx(np.mean(wanted))
    assert result.mae_shifted_energy == pytest.approx(0, abs=1e-7)
    assert any("other reference energies" in warning for warning in result.warnings)
    assert result.mae_forces == pytest.approx(0, abs=1e-9)


def test_errors_of_forces_are_per_component_per_vector_by_element_and_by_range(
    exact_entries: list[Entry], lj: Potential
) -> None:
    """Every argon atom is off by (3, 0, 4) meV/Å and every krypton atom by (0, 10, 0)."""
    off = {18: (0.003, 0.0, 0.004), 36: (0.0, 0.01, 0.0)}
    planted = [
        with_labels(e, forces=e.labels.forces - np.array([off[int(z)] for z in e.atoms.numbers]))
        for e in exact_entries
    ]
    result = evaluate(planted, lj, force_ranges=(0.02, 0.05))
    argon, krypton = (sum(int((e.atoms.numbers == z).sum()) for e in planted) for z in off)
    assert line(result, "forces_meV_per_A", "element", "Ar")["mae"] == pytest.approx(7 / 3)
    assert line(result, "forces_meV_per_A", "element", "Ar")["rmse"] == pytest.approx(5 / 3**0.5)
    assert line(result, "force_vectors_meV_per_A", "element", "Ar")["mae"] == pytest.approx(5)
    assert line(result, "force_vectors_meV_per_A", "element", "Kr")["mae"] == pytest.approx(10)
    whole = (5 * argon + 10 * krypton) / (argon + krypton)
    assert result.mae_force_vectors == pytest.approx(whole)
    assert line(result, "force_vectors_meV_per_A")["max_error"] == pytest.approx(10)
    assert line(result, "forces_meV_per_A")["max_error"] == pytest.approx(10)
    ranges = [one for one in result.groups if one["kind"] == "force_range"]
    counted = {one["name"]: one["n_values"] for one in ranges if one["quantity"] == "force_vectors_meV_per_A"}
    sizes = np.concatenate([np.linalg.norm(e.labels.forces, axis=1) for e in planted])
    histogram = np.histogram(sizes, [0, 0.02, 0.05, np.inf])[0].tolist()
    assert [counted[name] for name in ("0-0.02", "0.02-0.05", ">0.05")] == histogram


def test_angles_of_turned_forces(exact_entries: list[Entry], lj: Potential) -> None:
    """Labels turned by 90° about z: forces in the plane are off by 90°, with z left out of them."""
    flat = []
    for entry in exact_entries:
        forces = 100 * entry.labels.forces * (1, 1, 0)
        flat.append(with_labels(entry, forces=forces[:, [1, 0, 2]] * (-1, 1, 1)))
    result = evaluate(flat, _Scaled(lj, flat_forces=True))
    assert result.mean_force_angle == pytest.approx(90, abs=1e-6)


class _Scaled(Calculator):
    """A model whose energy and forces are off by a factor; a structure that says so it refuses."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(
        self, model: Potential, scale: float = 1.0, shrink: float = 1.0, flat_forces: bool = False
    ) -> None:
        super().__init__()
        from atomml.calculator import AtomMLCalculator

        self.inner, self.scale, self.shrink, self.flat = AtomMLCalculator(model), scale, shrink, flat_forces

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        assert atoms is not None
        if atoms.info.get("refuse"):
            raise NotImplementedError("not this one")
        forces = np.array(self.inner.get_forces(atoms))
        forces = forces * (1, 1, 0) if self.flat else forces
        self.results = {
            "energy": self.scale * self.inner.get_potential_energy(atoms),
            "forces": self.shrink * forces,
            "stress": self.inner.get_stress(atoms) if atoms.pbc.all() else np.zeros(6),
        }


def test_stress_in_two_units_and_its_pressure(exact_entries: list[Entry], lj: Potential) -> None:
    """The label is off by +0.002 eV/Å³ on the diagonal: three of the six components."""
    planted = [with_labels(e, stress=e.labels.stress - 0.002 * np.eye(3)) for e in exact_entries]
    result = evaluate(planted, lj)
    assert result.mae_stress_meV_per_A3 == pytest.approx(1.0)
    assert result.mae_stress == pytest.approx(0.001 * GPA)
    assert line(result, "stress_GPa")["mean_signed_error"] == pytest.approx(0.001 * GPA)
    assert line(result, "stress_GPa")["rmse"] == pytest.approx(0.002 * GPA / 2**0.5)


def test_missing_labels_are_left_out_counted_and_said(exact_entries: list[Entry], lj: Potential) -> None:
    some = [
        with_labels(e, forces=None if i % 2 else e.labels.forces - 0.001, stress=None)
        for i, e in enumerate(exact_entries)
    ]
    result = evaluate(some, lj)
    assert result.n_labelled == {"energy": 24, "forces": 12, "stress": 0, "magmoms": 0}
    assert result.mae_forces == pytest.approx(1)
    assert result.mae_stress is None
    assert result.not_evaluated["stress"] == "no structure has this label"
    assert "12 of 24 structures have no label forces." in result.warnings
    assert any("label stress" in warning for warning in result.warnings)
    assert result.converged


def test_labels_that_the_model_does_not_answer_are_said(exact_entries: list[Entry], lj: Potential) -> None:
    magnetic = [with_labels(e, magmoms=np.ones(len(e.atoms))) for e in exact_entries[:3]]
    result = evaluate(magnetic, lj)
    assert result.not_evaluated == {"magmoms": "the model does not give it"}
    assert any("gave no magmoms for 3 structures" in warning for warning in result.warnings)


def test_moments_are_compared_without_their_sign() -> None:
    """The published CHGNet gives sizes; a moment of -1 that it calls 1 is no error of 2."""
    nickel = bulk("Ni", "fcc", a=3.5)
    first = evaluate([Entry(nickel, Labels(energy=-5.0, magmoms=np.array([0.0])))], "chgnet-0.3.0")
    assert first.mae_magmoms is not None
    size = first.mae_magmoms
    for sign in (1, -1):
        entry = Entry(nickel, Labels(energy=-5.0, magmoms=np.array([sign * (size + 0.25)])))
        assert evaluate([entry], "chgnet-0.3.0").mae_magmoms == pytest.approx(0.25, abs=1e-5)


def test_groups_make_up_the_whole(exact_entries: list[Entry], lj: Potential) -> None:
    off = {"hot": 0.3, "cold": 0.1, "": 0.2}
    planted = [with_labels(e, energy=e.labels.energy - off[e.group] * len(e.atoms)) for e in exact_entries]
    result = evaluate(planted, lj)
    named = {name or "(none)": 1000 * value for name, value in off.items()}
    for name, value in named.items():
        found = line(result, "energy_meV_per_atom", "group", name)
        assert found["mae"] == pytest.approx(value)
        assert (found["mae_low"], found["mae_high"]) == pytest.approx((value, value))
    kinds = {one["kind"] for one in result.groups}
    assert kinds == {"element", "group", "force_range", "composition", "n_atoms"}
    for kind in ("group", "composition", "n_atoms"):
        parts = [o for o in result.groups if (o["kind"], o["quantity"]) == (kind, "forces_meV_per_A")]
        assert sum(one["n_values"] for one in parts) == line(result, "forces_meV_per_A")["n_values"]


def test_the_order_and_the_batch_change_nothing(exact_entries: list[Entry], lj: Potential) -> None:
    rng = np.random.default_rng(0)
    noisy = [
        with_labels(e, energy=e.labels.energy + rng.normal(), forces=e.labels.forces + rng.normal(size=3))
        for e in exact_entries
    ]
    one = evaluate(noisy, lj, batch_edges=1)
    for entries, edges in ((noisy[::-1], 6000), (noisy, 2000)):
        other = evaluate(entries, lj, batch_edges=edges)
        for mine, theirs in zip([*one.errors, *one.groups], [*other.errors, *other.groups], strict=True):
            # the intervals too: structures are drawn by name, not by place
            assert list(mine) == list(theirs)
            for name, value in mine.items():
                near = isinstance(value, float)
                assert value == (pytest.approx(theirs[name], rel=1e-9, abs=1e-9) if near else theirs[name])
    different = evaluate(noisy, lj, seed=1)
    assert line(different, "energy_meV_per_atom")["mae_low"] != line(one, "energy_meV_per_atom")["mae_low"]


def test_trajectories_are_drawn_as_a_whole(exact_entries: list[Entry], lj: Potential) -> None:
    """Four runs of six equal frames are four facts, not 24: their interval is wider."""
    rng = np.random.default_rng(3)
    off = rng.normal(size=4)
    runs = [
        replace(
            with_labels(e, energy=e.labels.energy - off[i // 6] * len(e.atoms)), trajectory=f"run-{i // 6}"
        )
        for i, e in enumerate(exact_entries)
    ]
    width = {}
    for draw in ("structures", "trajectories"):
        found = line(evaluate(runs, lj, resample=draw), "energy_meV_per_atom")
        width[draw] = found["mae_high"] - found["mae_low"]
    assert width["trajectories"] > 1.5 * width["structures"]


def test_a_better_model_is_told_from_its_baseline(exact_entries: list[Entry], lj: Potential) -> None:
    """Labels are up to half larger than the model's forces, and the baseline is 3% worse throughout."""
    noisy = [
        with_labels(e, forces=e.labels.forces * (1 + 0.5 * np.random.default_rng(i).random()))
        for i, e in enumerate(exact_entries)
    ]
    better = evaluate(noisy, lj, baseline=_Scaled(lj, shrink=0.97))
    found = line(better, "forces_meV_per_A")
    assert found["verdict"] == "better"
    assert found["mae_difference"] == pytest.approx(found["mae"] - found["baseline_mae"])
    assert found["mae_difference_low"] < found["mae_difference"] < found["mae_difference_high"] < 0
    assert found["mae_high"] > found["baseline_mae"]  # which the two intervals alone would not say
    worse = evaluate(noisy, _Scaled(lj, shrink=0.97), baseline=lj)
    assert line(worse, "forces_meV_per_A")["verdict"] == "worse"
    same = evaluate(noisy, lj, baseline=lj)
    assert line(same, "forces_meV_per_A")["verdict"] == "not distinguishable"
    assert line(same, "forces_meV_per_A")["mae_difference"] == 0


def test_atoms_alone_and_molecules(lj: Potential) -> None:
    """One atom in a cell, one in the void, a molecule: no stress without a volume, no NaN anywhere."""
    entries = [
        labelled(bulk("Ar", "fcc", a=5.3), lj),
        labelled(Atoms("Kr", positions=[(0, 0, 0)]), lj, 1),
        labelled(Atoms("Ar3", positions=[(0, 0, 0), (3.6, 0, 0), (0, 3.7, 0)]), lj, 2),
    ]
    result = evaluate(entries, lj)
    assert result.n_structures == 3
    assert result.n_labelled["stress"] == 1
    assert result.mae_energy == pytest.approx(0, abs=1e-9)
    assert "nan" not in str(result.results())
    assert line(result, "stress_GPa")["mae_low"] is None  # one structure has no interval


def test_one_bad_structure_does_not_stop_the_others(exact_entries: list[Entry], lj: Potential) -> None:
    helium = Entry(Atoms("He4", positions=np.eye(4, 3) * 3), Labels(energy=1.0), source="bad", frame=7)
    refused = replace(exact_entries[0], atoms=exact_entries[0].atoms.copy(), source="refused")
    refused.atoms.info["refuse"] = True
    broken = with_labels(exact_entries[1], forces=np.full((1, 3), 2.0))
    data = [exact_entries[2], refused, helium, broken, exact_entries[3]]
    result = evaluate(data, lj)
    assert not result.converged
    assert [one["frame"] for one in result.failed] == [7, 1]
    assert "He" in result.failed[0]["error"]
    assert "shape" in result.failed[1]["error"]
    result = evaluate([exact_entries[2], refused, exact_entries[3]], _Scaled(lj))
    assert [one["error"] for one in result.failed] == [
        "refused, frame 0: ase:test_evaluation:_Scaled cannot take Ar8: not this one; choose another model."
    ]
    assert result.n_structures == 2
    assert result.mae_energy == pytest.approx(0, abs=1e-9)
    # what the baseline cannot do is left out of both, so that both are judged on the same structures
    result = evaluate([exact_entries[2], refused], lj, baseline=_Scaled(lj))
    assert (result.n_structures, result.n_failed) == (1, 1)


def test_wrong_labels_are_named(exact_entries: list[Entry]) -> None:
    entry = exact_entries[4]
    assert check_labels(entry) is None
    for changes in ({"energy": np.nan}, {"stress": np.zeros(6)}, {"forces": np.zeros(3)}):
        said = check_labels(with_labels(entry, **changes))
        assert said is not None
        assert next(iter(changes)) in said
        assert "made, frame 4" in said


def test_nothing_to_compare_is_an_error(lj: Potential) -> None:
    with pytest.raises(InputError, match="no structure has a label"):
        evaluate([Entry(rattled(0))], lj)
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate([], lj)
    with pytest.raises(InputError, match="None of 1"):
        evaluate([Entry(Atoms("He"), Labels(energy=1.0))], lj)
    refused = rattled(0)
    refused.info["refuse"] = True
    with pytest.raises(RunFailedError, match="not this one"):
        evaluate([Entry(refused, Labels(energy=1.0))], _Scaled(lj))
    with pytest.raises(InputError, match="force_ranges"):
        evaluate([Entry(rattled(0), Labels(energy=1.0))], lj, force_ranges=(1.0, 0.5))
    with pytest.raises(InputError, match="no labelled structure"):
        evaluate([rattled(0)], lj)


def test_rare_compositions_are_put_together(lj: Potential) -> None:
    """Of 60 compositions the table shows 49 and the rest as one; none is lost."""
    entries = []
    for i in range(60):
        atoms = Atoms(f"Ar{i + 1}Kr", positions=np.arange(3 * (i + 2)).reshape(-1, 3) * 2.5)
        entries.append(Entry(atoms, Labels(energy=0.0), frame=i))
    result = evaluate(entries, lj)
    shown = [o for o in result.groups if (o["kind"], o["quantity"]) == ("composition", "energy_meV_per_atom")]
    assert len(shown) == 50
    assert shown[-1]["name"] == "(others)"
    assert sum(one["n_structures"] for one in shown) == 60
