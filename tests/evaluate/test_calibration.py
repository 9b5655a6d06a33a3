"""Calibration: what is true of errors drawn from what was predicted, and what a wrong size does to it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from atomml.checkpoint import save_model
from atomml.cli.main import main
from atomml.data.calibration import calibrate
from atomml.potentials.mace import MACE
from atomml.registry import seeded_generator


def drawn(factor: float, dimensions: int, n: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spreads, and errors whose standard deviation is ``factor`` times as large."""
    random = np.random.default_rng(1)
    sigma = random.lognormal(size=n)
    each = random.normal(size=(n, dimensions)) * (factor * sigma / np.sqrt(dimensions))[:, None]
    return sigma, np.linalg.norm(each, axis=1), np.arange(n) % 2 == 0


@pytest.mark.parametrize("dimensions", [1, 3])
def test_errors_as_large_as_predicted_are_calibrated(dimensions: int) -> None:
    found = calibrate(*drawn(1.0, dimensions), dimensions=dimensions)
    assert found is not None
    # Each of 20 bins has 1,000 errors: an RMSE within 1 / sqrt(2 d n) = 2% of its expectation.
    assert found.ence < 0.04
    assert found.scale == pytest.approx(1.0, abs=0.02)
    for row in found.coverage:
        assert row["observed"] == pytest.approx(row["level"], abs=0.015)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_one_factor_mends_what_is_wrong_by_one_factor(factor: float) -> None:
    found = calibrate(*drawn(factor, 3), dimensions=3)
    assert found is not None
    assert found.scale == pytest.approx(factor, rel=0.02)
    assert found.ence == pytest.approx(abs(1 - factor), rel=0.05)
    assert found.ence_scaled < 0.04
    at = {row["level"]: row for row in found.coverage}[0.9]
    assert (at["observed"] < 0.3) == (factor > 1)
    assert at["observed_scaled"] == pytest.approx(0.9, abs=0.015)


def test_spreads_that_know_nothing_do_not_rank() -> None:
    random = np.random.default_rng(2)
    sigma, errors = random.lognormal(size=(2, 5000))
    found = calibrate(sigma, errors, np.arange(5000) % 2 == 0)
    assert found is not None
    assert found.rank_correlation == pytest.approx(0.0, abs=0.05)
    sigma, errors, halves = drawn(1.0, 3)
    ranked = calibrate(sigma, errors, halves, dimensions=3)
    assert ranked is not None
    assert ranked.rank_correlation is not None
    assert ranked.rank_correlation > 0.6


def test_too_little_says_nothing() -> None:
    ones = np.ones(9)
    assert calibrate(ones, ones, np.arange(9) % 2 == 0) is None
    ones = np.ones(20)
    assert calibrate(ones, ones, np.zeros(20, dtype=bool)) is None


def test_the_command_writes_bins_of_a_committee_and_an_interrupted_run_ends_alike(tmp_path: Path) -> None:
    """Of one model there is no spread and no such table."""
    files = []
    for seed in (1, 2):
        with seeded_generator(seed):
            model = MACE.fresh(f"m{seed}", (29,), {"hidden": "4x0e", "max_degree": 1, "cutoff": 4.0})
        files.append(str(tmp_path / f"m{seed}.safetensors"))
        save_model(model, files[-1])
    frames = []
    for seed in range(12):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = SinglePointCalculator(atoms, energy=float(seed), forces=np.zeros((4, 3)))
        frames.append(atoms)
    write(tmp_path / "data.extxyz", frames)
    call = ["evaluate", str(tmp_path / "data.extxyz"), "--quiet", "--device", "cpu", "--batch-edges", "500"]
    whole = [*call, "--model", ",".join(files), "--out", str(tmp_path / "whole")]
    assert main(whole) == 0
    results = json.loads((tmp_path / "whole" / "summary.json").read_text())["results"]
    forces, energies = results["calibration"]
    assert forces["n"] == 48
    assert energies["n"] == 12
    with (tmp_path / "whole" / "calibration.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert sum(float(r["n"]) for r in rows if r["part"] == "bin" and r["quantity"].startswith("force")) == 48
    assert "Reliability: force vectors" in (tmp_path / "whole" / "report.html").read_text()
    (tmp_path / "whole" / "summary.json").unlink()  # as if it had been killed before its end
    assert main([*whole, "--resume"]) == 0
    again = json.loads((tmp_path / "whole" / "summary.json").read_text())["results"]
    assert again["calibration"] == results["calibration"]
    assert main([*call, "--model", files[0], "--out", str(tmp_path / "one")]) == 0
    assert not (tmp_path / "one" / "calibration.csv").exists()
