"""Relaxations with closed answers, cells under pressure, and stops that leave no trace in the bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from atomml.errors import InputError, OptionError, RunFailedError
from atomml.potentials.lennard_jones import LennardJones
from atomml.workflows import relax
from atomml.workflows.relaxing.relaxation_many import relax_many

GPA = 160.21766208  # GPa in eV/Å³
TIGHT = {"fmax": 1e-5, "smax": 1e-4}
OPTIMIZERS = ("fire", "fire2", "lbfgs", "bfgs", "bfgslinesearch")
MEMORIES = list(zip(OPTIMIZERS, ("none", "free", "free", "none", "none"), strict=True))


def rattled(amount: float = 0.15, seed: int = 0) -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True)
    atoms.rattle(amount, seed=seed)
    return atoms


def bct() -> Atoms:
    """Four argon atoms in a cell that is longer than wide and sheared: nothing of it is at rest."""
    atoms = rattled(0.05)
    atoms.set_cell(atoms.cell.array @ [[1.03, 0.04, 0], [0, 0.97, 0], [0.02, 0, 1.06]], scale_atoms=True)
    return atoms


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_dimer_ends_at_the_bottom_of_its_well(optimizer: str, lj: LennardJones) -> None:
    """At 2^(1/6) σ the energy is -ε; 3.8 Å lies before the switch."""
    pair = Atoms("Ar2", [[0, 0, 0], [2.0, 2.0, 3.0]])
    found = relax(pair, lj, optimizer=optimizer, fmax=1e-6)
    assert found.converged
    # k = 57.1 ε / r² = 0.04 eV/Å²: a force of 1e-6 eV/Å is 3e-5 Å off.
    assert found.atoms.get_distance(0, 1) == pytest.approx(2 ** (1 / 6) * 3.40, abs=3e-5)
    assert found.energy == pytest.approx(-0.0104, abs=1e-10)
    assert found.energy_change == pytest.approx(found.energy - relax(pair, lj, steps=0).energy, abs=1e-15)


@pytest.mark.parametrize(("optimizer", "cell"), MEMORIES)
def test_stopped_and_resumed_gives_the_bits_of_an_unbroken_run(
    optimizer: str, cell: str, lj: LennardJones, tmp_path: Path
) -> None:
    """All of an optimiser's memory is in the restart file, whichever it is."""
    settings: dict[str, Any] = {"optimizer": optimizer, "cell": cell, "fmax": 1e-9, "save_every": 3}
    relax(rattled(), lj, out=tmp_path / "whole", steps=7, **settings)
    for steps in (1, 4):
        found = relax(rattled(), lj, out=tmp_path / "parts", steps=steps, resume=True, **settings)
        assert found.n_steps == steps
        with (tmp_path / "parts" / "log.csv").open("a", encoding="utf-8") as stream:
            stream.write("10,torn")  # as a kill leaves it: cut off by the next
    relax(rattled(), lj, out=tmp_path / "parts", steps=7, resume=True, **settings)
    for name in ("log.csv", "trajectory.extxyz", "relaxed.extxyz"):
        whole, parts = ((tmp_path / run / name).read_bytes() for run in ("whole", "parts"))
        assert whole == parts, name


def test_a_file_shorter_than_its_restart_file_says_is_refused(lj: LennardJones, tmp_path: Path) -> None:
    relax(rattled(), lj, out=tmp_path / "run", steps=3)
    (tmp_path / "run" / "log.csv").write_text("step\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"log\.csv is shorter than the run left it"):
        relax(rattled(), lj, out=tmp_path / "run", steps=6, resume=True)


@pytest.mark.parametrize("pressure", [0.0, 0.5, -0.1])
def test_a_free_cell_ends_at_the_pressure_asked_for(pressure: float, lj: LennardJones) -> None:
    found = relax(bct(), lj, cell="free", pressure=pressure, **TIGHT)
    assert found.converged
    assert found.pressure == pytest.approx(pressure, abs=TIGHT["smax"])
    assert found.max_stress is not None
    assert found.max_stress <= TIGHT["smax"]
    # fcc is the only minimum nearby: its cell is cubic again, in whatever orientation
    np.testing.assert_allclose(found.atoms.cell.lengths(), found.atoms.cell.lengths()[0], rtol=1e-4)
    np.testing.assert_allclose(found.atoms.cell.angles(), 90.0, atol=1e-2)


def test_work_under_pressure_is_the_change_of_energy(lj: LennardJones) -> None:
    """DE = -p dV along relaxed cells: a trapezoid between 0.48 and 0.52 GPa is off by (dp/p)²/12 = 5e-4."""
    low, high = (relax(rattled(0.0), lj, cell="free", pressure=p, **TIGHT) for p in (0.48, 0.52))
    assert low.volume is not None
    assert high.volume is not None
    work = -0.5 / GPA * (high.volume - low.volume)
    # smax leaves 1e-4 of 0.04 GPa: 0.3 % of the difference of volumes on either side
    assert high.energy - low.energy == pytest.approx(work, rel=1e-2)


@pytest.mark.parametrize("cell", ["none", "shape", "volume"])
def test_what_of_a_cell_may_not_change_does_not(cell: str, lj: LennardJones) -> None:
    start = bct()
    end = relax(start, lj, cell=cell, **TIGHT).atoms
    if cell == "none":
        np.testing.assert_array_equal(end.cell.array, start.cell.array)
    elif cell == "shape":  # rounding of some ten matrix exponentials
        assert end.get_volume() == pytest.approx(start.get_volume(), rel=1e-9)
        assert np.abs(end.cell.array - start.cell.array).max() > 0.05
    else:
        ratio = (
            end.cell.array[np.abs(start.cell.array) > 0.01]
            / start.cell.array[np.abs(start.cell.array) > 0.01]
        )
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
        assert abs(ratio[0] - 1) > 1e-3


def test_relaxing_a_supercell_relaxes_the_cell(lj: LennardJones) -> None:
    settings: dict[str, Any] = {"cell": "free", "fmax": 1e-4, "smax": 1e-3}
    one = relax(bct(), lj, **settings)
    two = relax(make_supercell(bct(), [[1, 1, 0], [0, 1, 0], [0, 0, 2]]), lj, **settings)
    # A bulk modulus of some 2 GPa: smax leaves 5e-4 of the volume, and of the energy the square of that.
    assert two.energy_per_atom == pytest.approx(one.energy_per_atom, abs=1e-7)
    assert two.volume == pytest.approx(2 * (one.volume or 0), rel=2e-3)


def test_fixed_atoms_stay_to_the_bit_and_feel_their_force(lj: LennardJones) -> None:
    start = rattled()
    found = relax(start, lj, fix="index < 2", fmax=1e-4)
    np.testing.assert_array_equal(found.atoms.positions[:2], start.positions[:2])
    assert found.converged
    assert np.abs(found.atoms.positions[2:] - start.positions[2:]).max() > 0.01
    free = found.atoms.copy()
    free.set_constraint()
    assert relax(free, lj, steps=0).max_force > 1e-2  # the constraint takes it out, not the model


@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")
def test_a_symmetry_that_is_kept_is_that_of_the_start(lj: LennardJones) -> None:
    """Wurtzite is no minimum of a pair potential: from 0.001 Å beside it, atoms and cell leave it."""
    import spglib

    def space_group(atoms: Atoms) -> str:
        return str(
            spglib.get_spacegroup((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), 0.02)
        )

    start = bulk("ArKr", "wurtzite", a=5.0, c=8.0)
    start.rattle(1e-3, seed=1)
    kept, free = (
        relax(start, lj, cell="free", fix_symmetry=fix_symmetry, steps=20).atoms
        for fix_symmetry in (True, False)
    )
    assert space_group(start) == space_group(kept) == "P6_3mc (186)"
    assert space_group(free) != "P6_3mc (186)"


def test_what_contradicts_itself_is_refused_before_a_folder_is_made(lj: LennardJones, tmp_path: Path) -> None:
    molecule = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.5]])
    refusals: list[tuple[Atoms, dict[str, Any], str]] = [
        (bct(), {"pressure": 1.0}, "needs a volume that may change"),
        (molecule, {"cell": "free"}, "not periodic in three directions, so its cell cannot relax"),
        (molecule, {"fix_symmetry": True}, "--fix-symmetry needs a crystal"),
        (molecule, {"fix": "z > 99"}, "No atom of structure is selected by --fix 'z > 99'"),
        (molecule, {"optimizer": "newton"}, "fire, fire2, lbfgs"),
    ]
    for atoms, options, sentence in refusals:
        with pytest.raises(OptionError, match=sentence):
            relax(atoms, lj, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_threshold_below_the_noise_of_float32_is_warned_of(lj: LennardJones) -> None:
    assert "near the noise of float32" in relax(rattled(), lj.float(), fmax=1e-4, steps=1).warnings[0]
    assert relax(rattled(), lj.double(), fmax=1e-4, steps=200).warnings == []


def test_many_are_relaxed_as_each_alone(crystals: list[Atoms], lj: LennardJones, tmp_path: Path) -> None:
    crystals = [crystals[1], crystals[5]]
    many = relax_many(crystals, lj, out=tmp_path / "run", fmax=1e-3)
    assert (many.n_structures, many.n_converged, many.n_failed) == (2, 2, 0)
    for atoms, row, mine in zip(crystals, many.rows, many.relaxed, strict=True):
        alone = relax(atoms, lj, fmax=1e-3)
        assert mine is not None
        np.testing.assert_array_equal(mine.atoms.positions, alone.atoms.positions)
        assert row["energy_eV"] == alone.energy
        assert (tmp_path / "run" / row["folder"] / "summary.json").exists()


def test_one_that_fails_is_named_and_the_others_go_on(
    crystals: list[Atoms], sick: LennardJones, tmp_path: Path
) -> None:
    neon = bulk("Ne", "fcc", a=4.4)
    with pytest.raises(RunFailedError, match="not finite"):
        relax(neon, sick)
    many = relax_many([crystals[0], neon, crystals[1]], sick, out=tmp_path / "run")
    assert (many.n_converged, many.n_failed, many.converged) == (2, 1, False)
    assert [row["error"] is None for row in many.rows] == [True, False, True]
    assert "not finite" in many.rows[1]["error"]
    assert many.relaxed[1] is None
    assert any("failed: " in warning for warning in many.warnings)


def test_many_go_on_where_they_were_stopped(crystals: list[Atoms], lj: LennardJones, tmp_path: Path) -> None:
    """With more steps each goes on in its own folder, to the bits of one that never stopped."""
    crystals = [crystals[1], crystals[5]]
    stopped = relax_many(crystals, lj, out=tmp_path / "parts", steps=2, fmax=1e-4)
    assert stopped.n_converged < 2
    resumed = relax_many(crystals, lj, out=tmp_path / "parts", steps=300, fmax=1e-4, resume=True)
    whole = relax_many(crystals, lj, out=tmp_path / "whole", steps=300, fmax=1e-4)
    assert (tmp_path / "parts" / "results.csv").read_bytes() == (
        tmp_path / "whole" / "results.csv"
    ).read_bytes()
    assert resumed.n_converged == whole.n_converged == 2


def test_all_are_checked_before_the_first_starts(
    crystals: list[Atoms], lj: LennardJones, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="atom 0 is Na"):
        relax_many([*crystals, bulk("NaCl", "rocksalt", a=5.6)], lj, out=tmp_path / "run")
    with pytest.raises(OptionError, match="not periodic in three directions"):
        relax_many([*crystals, Atoms("Ar")], lj, out=tmp_path / "run", cell="free")
    with pytest.raises(InputError, match="There is no structure to relax"):
        relax_many([], lj, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
