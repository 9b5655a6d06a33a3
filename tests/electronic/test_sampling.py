"""Geometries to label have the temperature that was asked for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.io import read

from atomml.cli.main import main
from atomml.electronic.rotation import align
from atomml.errors import OptionError, StructureError
from atomml.workflows.electronic.hamiltonian_sampling import sample_geometries

pytest.importorskip("tblite")


def stretches(path: Path) -> np.ndarray:
    frames = read(path, ":")
    assert isinstance(frames, list)
    return np.array([[f.get_distance(0, 1), f.get_distance(0, 2)] for f in frames])


def test_normal_modes_are_classical_and_harmonic(tmp_path: Path) -> None:
    """Displacements double in square when the temperature does; equipartition holds mode by mode."""
    spreads = []
    for temperature in (100.0, 200.0):
        out = tmp_path / f"{temperature}.extxyz"
        sample_geometries(molecule("H2O"), out, sampler="modes", frames=600, temperature=temperature, seed=1)
        spreads.append(stretches(out).var(axis=0).mean())
    assert spreads[1] / spreads[0] == pytest.approx(2.0, rel=0.02)  # the same draws, scaled
    # an O-H stretch of 3,600 to 3,700 cm-1: kT / (mu omega²) at 100 K, mu = 0.948 u
    kt, omega = 1.380649e-23 * 100, 2 * np.pi * 2.998e10 * 3650
    expected = kt / (0.948 * 1.66054e-27 * omega**2) * 1e20
    assert spreads[0] == pytest.approx(expected, rel=0.2)


def test_dynamics_follow_from_their_seed_and_move_apart(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sample_geometries(molecule("H2O"), tmp_path / f"{name}.extxyz", frames=8, seed=seed)
    texts = [(tmp_path / f"{name}.extxyz").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    frames = read(tmp_path / "a.extxyz", ":")
    assert isinstance(frames, list)
    apart = [align(one.positions, two.positions)[1] for one, two in pairwise(frames)]
    assert 0.01 < np.mean(apart) < 0.3


def test_a_linear_molecule_bends_in_both_directions(tmp_path: Path) -> None:
    """Five of its motions are rigid, not six: carbon dioxide leaves every plane through its axis."""
    sample_geometries(molecule("CO2"), tmp_path / "c.extxyz", sampler="modes", frames=200, seed=1)
    frames = read(tmp_path / "c.extxyz", ":")
    assert isinstance(frames, list)
    spread = np.array([f.positions[0] - f.positions[1:].mean(axis=0) for f in frames]).std(axis=0)
    axis = int(np.argmax(np.abs(np.asarray(frames[0].positions[1] - frames[0].positions[2]))))
    across = np.delete(spread, axis)
    assert across.min() == pytest.approx(across.max(), rel=0.3)


def test_dft_moves_the_atoms_too(tmp_path: Path) -> None:
    sample_geometries(
        molecule("H2"), tmp_path / "h.extxyz", sampler="modes", method="hf/sto-3g", frames=400, seed=0
    )
    frames = read(tmp_path / "h.extxyz", ":")
    assert isinstance(frames, list)
    lengths = np.array([f.get_distance(0, 1) for f in frames])
    assert lengths.mean() == pytest.approx(0.712, abs=2e-3)  # HF/STO-3G's, Szabo and Ostlund, table 3.11
    assert 0.01 < lengths.std() < 0.1


def test_what_cannot_be_sampled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="periodic"):
        sample_geometries(bulk("Si"), tmp_path / "x.extxyz")
    with pytest.raises(OptionError, match="gfn3"):
        sample_geometries(molecule("H2O"), tmp_path / "x.extxyz", method="gfn3")
    cation = molecule("H2O")
    cation.info.update(charge=1, spin=1)
    with pytest.raises(StructureError, match=r"charge \+1"):
        sample_geometries(cation, tmp_path / "x.extxyz")
    with pytest.raises(OptionError, match="extxyz"):
        sample_geometries(molecule("H2O"), tmp_path / "x.lmdb")
    call = ["hamiltonian", "sample", "O", "--to", str(tmp_path / "w.extxyz"), "--frames", "2", "--quiet"]
    assert main([*call, "--out", str(tmp_path / "run")]) == 0
    assert main([*call, "--out", str(tmp_path / "other")]) == 2
