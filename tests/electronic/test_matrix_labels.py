"""Matrices as labels: what is kept, exactly, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from numpy.typing import NDArray

from atomml.cli.main import main
from atomml.data.dataset import open_dataset
from atomml.data.entry import Entry
from atomml.data.label import LabelSettings, engine_of, label_payload, matrices_from_json
from atomml.data.record import decode_entry, encode_entry, packed_text, unpacked_text
from atomml.electronic.orbital_levels import dm_from, solve_orbitals
from atomml.electronic.priors import prior_matrix
from atomml.errors import OptionError, StructureError

pytest.importorskip("pyscf")


def symmetric(n: int) -> NDArray[np.float64]:
    half = np.random.default_rng(n).standard_normal((n, n))
    return np.asarray(half + half.T)


def test_records_keep_every_bit_of_a_matrix() -> None:
    entry = Entry(
        molecule("H2O"), matrices={"hamiltonian": symmetric(7), "minao": symmetric(7)}, method="pbe/x"
    )
    found = decode_entry(encode_entry(entry))
    for name, matrix in entry.matrices.items():
        assert np.array_equal(found.matrices[name], matrix)
    other = replace(entry, matrices={**entry.matrices, "minao": symmetric(7) + np.eye(7) * 1e-15})
    assert encode_entry(entry) != encode_entry(other)
    assert np.array_equal(unpacked_text(packed_text(symmetric(5))), symmetric(5))


def test_the_kept_matrix_is_that_of_the_converged_density(store: Path) -> None:
    """It is the Fock matrix of its own density, which has ten electrons and the energy of the SCF."""
    entry = open_dataset(store, unlabelled=True)[0]
    assert entry.method.startswith("pbe/sto-3g grid=1")
    assert set(entry.matrices) == {"hamiltonian", "minao-pbe"}
    orbitals = solve_orbitals(entry.matrices["hamiltonian"], entry.atoms, "sto-3g")
    overlap, density = orbitals.overlap, orbitals.density
    assert np.trace(density @ overlap) == pytest.approx(10.0, abs=1e-10)
    level = engine_of("pbe/sto-3g", LabelSettings(grid=1))._level  # type: ignore[attr-defined]
    field = level.mean_field(entry.atoms)
    again = field.get_fock(dm=density)
    assert np.abs(again - entry.matrices["hamiltonian"]).max() < 2e-4  # the SCF's last change
    energy = field.energy_tot(dm=dm_from(entry.matrices["hamiltonian"], field.mol))
    assert entry.labels.energy == pytest.approx(energy * 27.211386024367243, abs=1e-6)


def test_priors_are_what_their_names_say(store: Path) -> None:
    entry = open_dataset(store, unlabelled=True)[1]
    level = engine_of("b3lyp/sto-3g", LabelSettings(grid=1))._level  # type: ignore[attr-defined]
    field = level.mean_field(entry.atoms)
    pbe, own, nothing = (prior_matrix(field, name) for name in ("minao-pbe", "minao", "none"))
    np.testing.assert_allclose(pbe, entry.matrices["minao-pbe"], atol=1e-12)
    assert np.abs(own - pbe).max() > 1e-2
    assert not nothing.any()
    with pytest.raises(OptionError, match="minao-pbe"):
        prior_matrix(field, "hueckel")


def test_a_worker_sends_matrices_exactly(store: Path) -> None:
    entry = open_dataset(store, unlabelled=True)[2]
    settings = LabelSettings(grid=1, hamiltonian=True)
    sent = matrices_from_json(label_payload((entry.atoms, "pbe/sto-3g", settings)))
    for name, matrix in entry.matrices.items():
        np.testing.assert_allclose(sent[name], matrix, atol=1e-10)


def test_open_shells_and_mp2_have_no_matrix_here() -> None:
    settings = LabelSettings(hamiltonian=True)
    atoms = molecule("OH")
    atoms.info["spin"] = 1
    with pytest.raises(StructureError, match="unpaired"):
        engine_of("pbe/sto-3g", settings).check(atoms, "here")
    with pytest.raises(OptionError, match="mp2"):
        engine_of("mp2/sto-3g", settings)


def test_the_command_keeps_matrices_without_being_told(tmp_path: Path) -> None:
    from ase.io import write

    write(tmp_path / "water.xyz", molecule("H2O"))
    call = ["hamiltonian", "label", str(tmp_path / "water.xyz"), "--method", "hf/sto-3g", "--quiet"]
    call += ["--to", str(tmp_path / "set.lmdb"), "--out", str(tmp_path / "run"), "--prior", "minao"]
    assert main([*call, "--workers", "1"]) == 0
    entry = open_dataset(tmp_path / "set.lmdb", unlabelled=True)[0]
    assert set(entry.matrices) == {"hamiltonian", "minao"}
    assert entry.labels.forces is None
