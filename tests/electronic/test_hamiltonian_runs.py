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
from atomml.electronic.orbital_levels import density_of, molecule_of, solve_orbitals
from atomml.electronic.predictor import load_predictor
from atomml.electronic.scf_start import run_scf
from atomml.errors import ModelError, OptionError, StructureError
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
    assert set(summary["results"]["errors"]) == {"prediction", "prior", "nearest"}


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


def test_other_levels_and_models_are_refused(store: Path, trained: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    other = [replace(e, method="b3lyp/sto-3g grid=1") for e in open_dataset(store, unlabelled=True)]
    write_entries(tmp_path / "other.lmdb", ListDataset(other), [])
    with pytest.raises(OptionError, match="b3lyp/sto-3g"):
        evaluate_hamiltonian(trained, tmp_path / "other.lmdb")
    with pytest.raises(ModelError, match="no model file"):
        load_predictor(tmp_path / "none.safetensors")
