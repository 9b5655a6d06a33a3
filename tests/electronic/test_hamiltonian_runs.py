"""Predictors from labels to the next SCF: trained, resumed, evaluated, and never trusted blindly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import write

from atomml.checkpoint import load_any_model
from atomml.cli.main import main
from atomml.data.dataset import ListDataset, open_dataset
from atomml.data.entry_files import write_entries
from atomml.electronic.matrix_errors import matrix_errors, orbital_similarity
from atomml.electronic.orbital_levels import density_of, dm_from, inverse_root, molecule_of, solve_orbitals
from atomml.electronic.predictor import load_predictor
from atomml.electronic.scf_start import run_scf
from atomml.errors import LabelError, ModelError, OptionError, StructureError
from atomml.train.batches import Limits
from atomml.train.hamiltonian_objective import HamiltonianObjective, HamiltonianSamples
from atomml.train.processes import Processes
from atomml.train.step import BatchGroup, Gradients
from atomml.workflows.electronic.hamiltonian_evaluation import evaluate_hamiltonian
from atomml.workflows.electronic.hamiltonian_prediction import predict_hamiltonian
from atomml.workflows.electronic.hamiltonian_scf import scf_hamiltonian
from atomml.workflows.electronic.hamiltonian_training import train_hamiltonian

pytest.importorskip("pyscf")

Waters = Callable[[int], list[Atoms]]


def test_the_loss_is_its_formula_over_whole_matrices(store: Path, trained: Path) -> None:
    """|e| + e² in mEh over all numbers, the upper triangle counted like the lower; and between orbitals."""
    model: Any = load_any_model(trained, "float64", "cpu")
    samples = HamiltonianSamples(open_dataset(store, unlabelled=True), model, aligned=True)
    chosen = [samples[i] for i in range(3)]
    objective = HamiltonianObjective(2.0, 3.0)
    counts = objective.counts(chosen)
    assert counts == {"hamiltonian": 3 * 49, "levels": 21}
    found, errors = objective.judge(model, chosen, counts, 0.0, torch.device("cpu"), learning=False)
    total, absolute = 0.0, 0.0
    for i in range(3):
        entry = open_dataset(store, unlabelled=True)[i]
        error = model.predict(chosen[i].graph)[0].numpy()
        error = error - (entry.matrices["hamiltonian"] - entry.matrices["minao-pbe"])
        orbitals = solve_orbitals(entry.matrices["hamiltonian"], entry.atoms, "sto-3g").coefficients
        between = orbitals.T @ error @ orbitals
        for weight, values, n in ((2, error, 147), (3, between, 147), (3, np.diag(between), 21)):
            total += weight * float((np.abs(1e3 * values) + np.square(1e3 * values)).sum()) / n
        absolute += float(np.abs(error).sum())
    assert float(found) == pytest.approx(total, rel=1e-9)
    assert errors.sums["hamiltonian"] == pytest.approx(absolute, rel=1e-9)


def test_errors_count_in_the_orthonormal_basis_of_loewdin(store: Path, trained: Path) -> None:
    """|e| + e² of ``S^-1/2 e S^-1/2`` in mEh; no orbitals are needed, and none of their errors counted."""
    from scipy.linalg import inv, sqrtm

    model: Any = load_any_model(trained, "float64", "cpu")
    samples = HamiltonianSamples(open_dataset(store, unlabelled=True), model, orthogonal=True)
    objective = HamiltonianObjective(0.0, 0.0, 2.0)
    counts = objective.counts([samples[0]])
    found, errors = objective.judge(model, [samples[0]], counts, 0.0, torch.device("cpu"), learning=False)
    entry = open_dataset(store, unlabelled=True)[0]
    error = model.predict(samples[0].graph)[0].numpy()
    error = error - (entry.matrices["hamiltonian"] - entry.matrices["minao-pbe"])
    root = inv(np.real(sqrtm(molecule_of(entry.atoms, "sto-3g").intor("int1e_ovlp"))))
    between = 1e3 * root @ error @ root
    assert float(found) == pytest.approx(2.0 * float((np.abs(between) + between**2).mean()), rel=1e-9)
    assert "levels" not in errors.counts


def test_samples_are_kept_while_there_is_room(store: Path, trained: Path) -> None:
    model: Any = load_any_model(trained, "float64", "cpu")
    samples = HamiltonianSamples(open_dataset(store, unlabelled=True), model)
    samples.room = 8 * 49 * 2
    first, third = samples[0], samples[2]
    again = samples[5]
    assert samples[0] is first
    assert samples[2] is third
    assert samples[5] is not again
    assert torch.equal(samples[5].target.atoms[8], again.target.atoms[8])


def test_the_gradient_is_the_slope_of_the_loss_however_it_is_cut(store: Path, trained: Path) -> None:
    model: Any = load_any_model(trained, "float64", "cpu")
    model.requires_grad_(True)
    samples = HamiltonianSamples(open_dataset(store, unlabelled=True), model)
    chosen = [samples[i] for i in range(4)]
    alone = Processes("cpu")
    whole = Gradients(model, HamiltonianObjective(), alone, Limits(1000, 10_000))([BatchGroup(chosen)], 0.0)
    cut = Gradients(model, HamiltonianObjective(), alone, Limits(3, 10_000))([BatchGroup(chosen)], 0.0)
    for one, two in zip(whole.tensors, cut.tensors, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in model.parameters()]
    slope = sum(float((g * d).sum()) for g, d in zip(whole.tensors, direction, strict=True))
    values = []
    for sign in (1e-6, -1e-6):
        with torch.no_grad():
            for parameter, step in zip(model.parameters(), direction, strict=True):
                parameter.add_(step, alpha=sign)
            gradients = Gradients(model, HamiltonianObjective(), alone, Limits(1000, 10_000))
            values.append(_loss(gradients, chosen))
            for parameter, step in zip(model.parameters(), direction, strict=True):
                parameter.sub_(step, alpha=sign)
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-5)


def _loss(gradients: Gradients, chosen: list[Any]) -> float:
    with torch.enable_grad():
        return gradients([BatchGroup(chosen)], 0.0).loss


def test_training_learns_repeats_and_resumes_to_the_same_bits(
    store: Path, tmp_path: Path, shape: dict[str, Any]
) -> None:
    """With gates on: their schedule goes on where it was."""
    from atomml.train import trainer

    model = {**shape, "sparsity": 0.5, "pair_sparsity": 0.3}
    how: dict[str, Any] = {"model": model, "epochs": 8, "batch_size": 4, "seed": 2, "save_every": 3}
    result = train_hamiltonian(store, out=tmp_path / "whole", **how)
    assert result.prior_mae is not None
    assert result.valid_mae is not None
    assert result.valid_mae < 0.7 * result.prior_mae
    original = trainer.Trainer._step
    seen = []

    def interrupted(self: Any, stop: bool) -> bool:
        """Fails once in the middle."""
        seen.append(self.progress.step)
        if len(seen) == 11:
            raise KeyboardInterrupt
        return original(self, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_hamiltonian(store, out=tmp_path / "broken", **how)
    train_hamiltonian(store, out=tmp_path / "broken", resume=True, **how)
    files = [(tmp_path / name / "last.safetensors").read_bytes() for name in ("whole", "broken")]
    assert files[0] == files[1]


def test_mixed_levels_and_missing_matrices_are_refused(store: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    entries = list(open_dataset(store, unlabelled=True))
    mixed = [replace(entries[0], method="b3lyp/sto-3g grid=1"), *entries[1:]]
    bare = [replace(entries[0], matrices={}), *entries[1:]]
    for name, some, error, word in (
        ("mixed", mixed, OptionError, "one level"),
        ("bare", bare, StructureError, "no matrix"),
    ):
        path = tmp_path / f"{name}.lmdb"
        write_entries(path, ListDataset(some), [])
        with pytest.raises(error, match=word):
            train_hamiltonian(path, out=tmp_path / "run")
    with pytest.raises(StructureError, match="minao"):
        train_hamiltonian(store, out=tmp_path / "run", prior="minao")
    assert not (tmp_path / "run").exists()


def test_charges_are_refused_before_a_training(store: Path, tmp_path: Path) -> None:
    """What the predictor could not be asked for later is not learned in silence."""
    from dataclasses import replace

    entries = list(open_dataset(store, unlabelled=True))
    charged = entries[3].atoms.copy()
    charged.info["charge"] = 2
    write_entries(
        tmp_path / "charged.lmdb", ListDataset([*entries[:3], replace(entries[3], atoms=charged)]), []
    )
    with pytest.raises(StructureError, match=r"charge \+2 and 0 unpaired"):
        train_hamiltonian(tmp_path / "charged.lmdb", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_basis_sets_of_s_functions_alone_are_learned(tmp_path: Path, shape: dict[str, Any]) -> None:
    """An atom by itself, without an empty orbital: no pairs, no LUMO, and no trouble."""
    from concurrent.futures import ThreadPoolExecutor

    from atomml.workflows import label_data

    helium = Atoms("He", info={"spin": 0})
    with ThreadPoolExecutor(1) as executor:
        label_data(helium, to=tmp_path / "he.lmdb", method="hf/sto-3g", hamiltonian=True, executor=executor)
    found = train_hamiltonian(
        tmp_path / "he.lmdb", tmp_path / "he.lmdb", model=shape, out=tmp_path / "run", epochs=2, warmup=1
    )
    result = predict_hamiltonian(helium, found.model, out=tmp_path / "he", cube=("lumo",))
    assert result.lumo is None
    assert result.gap is None
    assert result.homo is not None
    assert any("no empty orbital" in warning for warning in result.warnings)
    errors = evaluate_hamiltonian(found.model, tmp_path / "he.lmdb").errors["prediction"]
    assert errors["lumo"][0] == 0
    json.loads((tmp_path / "he" / "summary.json").read_text(), parse_constant=pytest.fail)


def test_an_scf_from_the_prediction_ends_where_pyscf_s_own_does(
    trained: Path, tmp_path: Path, waters: Waters
) -> None:
    """The same energy to 1e-9 Eh in fewer cycles; all Fock builds counted, the prior's too."""
    result = scf_hamiltonian(waters(14)[12:], trained, out=tmp_path / "run")
    assert result.largest_difference is not None
    assert result.largest_difference < 1e-9
    assert result.n_other_states == 0
    assert result.cycle_ratio is not None
    assert result.cycle_ratio < 1
    for row in result.rows:
        assert row["fock_builds"] >= row["cycles"] + 1  # the prior's
    assert (tmp_path / "run" / "report.html").exists()


def test_another_state_and_a_default_that_fails_are_told(trained: Path, waters: Waters) -> None:
    """No count of other states where nobody looked; an energy that did not converge is compared with none."""
    atoms = waters(14)[12]
    alone = scf_hamiltonian(atoms, trained, compare=False)
    assert alone.n_other_states is None
    cycles = int(alone.mean_cycles)
    found = scf_hamiltonian(atoms, trained, max_cycle=cycles)
    (row,) = found.rows
    assert row["default_cycles"] == cycles  # it needs more
    assert row["difference_Eh"] is None
    assert found.largest_difference is None
    assert found.n_other_states is None
    assert any("did not converge" in warning for warning in found.warnings)
    with pytest.raises(LabelError, match="--max-cycle"):
        scf_hamiltonian(atoms, trained, max_cycle=2)


def test_a_density_matrix_is_that_of_its_molecule_or_none(trained: Path, waters: Waters) -> None:
    """Trace, idempotency; matrices of another basis set and open shells are refused."""
    atoms = waters(1)[0]
    predictor = load_predictor(trained)
    mol = predictor.level.molecule(atoms)
    matrix, overlap = predictor(atoms).matrix, mol.intor("int1e_ovlp")
    density = dm_from(matrix, mol)
    assert np.trace(density @ overlap) == pytest.approx(10, abs=1e-10)
    np.testing.assert_allclose(density @ overlap @ density, 2 * density, atol=1e-10)
    root = inverse_root(overlap)
    np.testing.assert_allclose(root @ overlap @ root, np.eye(7), atol=1e-12)
    with pytest.raises(StructureError, match=r"no 24 by 24 .* \(7, 7\)"):
        dm_from(matrix, molecule_of(atoms, "def2-svp"))
    with pytest.raises(StructureError, match="finite"):
        dm_from(matrix * np.nan, mol)
    atoms.info["spin"] = 2
    with pytest.raises(StructureError, match="2 unpaired"):
        dm_from(matrix, molecule_of(atoms, "sto-3g"))


def test_unknown_molecules_and_poor_answers_are_told(trained: Path, tmp_path: Path, waters: Waters) -> None:
    """A formula that no training molecule had; and, with a Fock build, matrices that are nonsense."""
    known = predict_hamiltonian(waters(1), trained)
    assert known.warnings == []
    other = predict_hamiltonian(molecule("H2"), trained)
    assert any("is H2, and sphnet-trained was trained on H2O." in warning for warning in other.warnings)
    built = predict_hamiltonian(waters(1), trained, build=True)
    assert 0 < built.rows[0]["commutator_Eh"] < 0.5
    assert built.warnings == []
    model: Any = load_any_model(trained, "float32", "cpu")
    for block in model.atom_blocks.values():
        block.scale.mul_(50.0)
    poor = predict_hamiltonian(waters(1), model, build=True)
    assert poor.rows[0]["commutator_Eh"] > 0.5
    assert any("its own Fock matrix" in warning for warning in poor.warnings)


def test_a_bad_guess_costs_one_build(trained: Path, waters: Waters) -> None:
    """Nonsense is dropped for PySCF's default after its first Fock matrix."""
    predictor = load_predictor(trained)
    atoms = waters(1)[0]
    usual = run_scf(predictor.level.mean_field(atoms), None, "default")
    field = predictor.level.mean_field(atoms)
    orbitals = solve_orbitals(predictor(atoms).matrix, None, molecule=field.mol)
    mixed, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((7, 7)))
    random = orbitals.coefficients @ mixed
    wrong = 2 * random[:, :5] @ random[:, :5].T
    found = run_scf(field, wrong, "prediction")
    assert "dropped" in found.guess
    assert "get_veff" not in vars(field)  # it is PySCF's own again
    assert found.energy == pytest.approx(usual.energy, abs=1e-9)
    assert found.fock_builds == usual.fock_builds + 1


def test_what_follows_from_a_matrix_is_pyscf_s(store: Path) -> None:
    """Levels, dipole and Mulliken charges of the labelled matrix are those of a converged SCF."""
    entry = open_dataset(store, unlabelled=True)[3]
    from pyscf import dft

    mol = molecule_of(entry.atoms, "sto-3g")
    field = dft.RKS(mol, xc="pbe")
    field.grids.level, field.verbose = 1, 0
    field.kernel()
    orbitals = solve_orbitals(entry.matrices["hamiltonian"], None, molecule=mol)
    np.testing.assert_allclose(orbitals.energies, field.mo_energy, atol=1e-4)
    found = density_of(orbitals, mol)
    np.testing.assert_allclose(found["dipole"], field.dip_moment(verbose=0), atol=1e-3)
    np.testing.assert_allclose(found["mulliken"], field.mulliken_pop(verbose=0)[1], atol=1e-4)
    assert found["loewdin"].sum() == pytest.approx(0, abs=1e-9)


def test_degenerate_orbitals_are_compared_as_a_space() -> None:
    """Ammonia's pair of degenerate levels, turned among themselves, is the same."""
    from dataclasses import replace

    from pyscf import scf

    mol = molecule_of(molecule("NH3"), "sto-3g")
    field = scf.RHF(mol)
    field.verbose = 0
    field.kernel()
    orbitals = solve_orbitals(np.asarray(field.get_fock()), None, molecule=mol)
    gaps = np.diff(orbitals.energies[: orbitals.n_occupied])
    pair = int(np.argmin(gaps))
    assert gaps[pair] < 1e-3
    turned = orbitals.coefficients.copy()
    turned[:, [pair, pair + 1]] = turned[:, [pair, pair + 1]] @ np.array([[0.6, -0.8], [0.8, 0.6]])
    assert orbital_similarity(orbitals, replace(orbitals, coefficients=turned)) == pytest.approx(1, abs=1e-10)
    turned[:, [0, 1]] = turned[:, [1, 0]]
    assert orbital_similarity(orbitals, replace(orbitals, coefficients=turned)) < 0.8


def test_evaluation_prints_what_is_cheap_beside_it(store: Path, trained: Path, tmp_path: Path) -> None:
    result = evaluate_hamiltonian(trained, store, train=[str(store)], out=tmp_path / "run")
    assert result.hamiltonian_mae < result.prior_mae
    assert result.nearest_mae == pytest.approx(0, abs=1e-3)  # each is its own nearest
    entry = open_dataset(store, unlabelled=True)[0]
    exact = entry.matrices["hamiltonian"]
    zero = matrix_errors(exact, exact, molecule_of(entry.atoms, "sto-3g"))
    assert zero["similarity"] == pytest.approx(1)
    assert max(value for name, value in zero.items() if name != "similarity") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    errors = summary["results"]["errors"]
    assert set(errors) == {"prediction", "prior", "nearest"}
    assert errors["prior"].keys() == errors["nearest"].keys() == errors["prediction"].keys()
    assert errors["nearest"]["energy"][0] < 1 < errors["prior"]["energy"][0]


def test_predictions_land_in_a_folder(trained: Path, tmp_path: Path, waters: Waters) -> None:
    result = predict_hamiltonian(waters(2), trained, out=tmp_path / "run", cube=("homo", "density"))
    assert [len(matrix) for matrix in result.matrices] == [7, 7]
    assert result.rows[0]["gap_eV"] == pytest.approx(result.rows[0]["lumo_eV"] - result.rows[0]["homo_eV"])
    for name in ("results.csv", "charges.csv", "levels-0001.csv", "homo-0000.cube", "density-0001.cube"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    built = predict_hamiltonian(waters(1), trained, build=True)
    assert built.gap != pytest.approx(result.rows[0]["gap_eV"], abs=1e-9)


def test_commands_say_what_is_missing(
    store: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "methane.xyz", molecule("CH4"))
    calls = [
        (["predict", str(tmp_path / "methane.xyz"), "--model", str(trained)], "is C"),
        (["predict", str(tmp_path / "methane.xyz")], "--model"),
        (["scf", "--model", str(trained)], "name files"),
        (["train"], "--train"),
        (["train", "--train", str(store), "--model", "chgnet"], "chgnet predicts no"),
        (["evaluate", str(store), "--model", "chgnet-0.3.0"], "no model file"),
        (["guess"], "there are sample"),
    ]
    for call, word in calls:
        assert (
            main(["hamiltonian", *call, *([] if call == ["guess"] else ["--out", str(tmp_path / "x")])]) == 2
        )
        assert word in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    assert main(["models", "info", str(trained)]) == 0
    assert "hamiltonian" in capsys.readouterr().out
    assert main(["relax", str(tmp_path / "methane.xyz"), "--model", str(trained)]) == 2
    assert "hamiltonian" in capsys.readouterr().err


def test_labels_of_other_settings_are_compared_with_a_warning(
    store: Path, trained: Path, tmp_path: Path
) -> None:
    """Names drift: functional and basis by another PySCF, or on another grid, may be another level."""
    from dataclasses import replace

    first = open_dataset(store, unlabelled=True)[0]
    assert evaluate_hamiltonian(trained, store, energy=False).warnings == []
    method = first.method.replace("grid=1", "grid=3")
    write_entries(tmp_path / "finer.lmdb", ListDataset([replace(first, method=method)]), [])
    found = evaluate_hamiltonian(trained, tmp_path / "finer.lmdb", energy=False)
    assert any("grid=3" in warning and "grid=1" in warning for warning in found.warnings)
    other = [replace(first, method="b3lyp/sto-3g grid=1")]
    write_entries(tmp_path / "other.lmdb", ListDataset(other), [])
    with pytest.raises(OptionError, match="b3lyp/sto-3g"):
        evaluate_hamiltonian(trained, store, train=[str(tmp_path / "other.lmdb")])


def test_other_levels_and_models_are_refused(store: Path, trained: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    other = [replace(e, method="b3lyp/sto-3g grid=1") for e in open_dataset(store, unlabelled=True)]
    write_entries(tmp_path / "other.lmdb", ListDataset(other), [])
    with pytest.raises(OptionError, match="b3lyp/sto-3g"):
        evaluate_hamiltonian(trained, tmp_path / "other.lmdb")
    with pytest.raises(ModelError, match="no model file"):
        load_predictor(tmp_path / "none.safetensors")
