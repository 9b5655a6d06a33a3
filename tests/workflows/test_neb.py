"""Barriers against closed answers: a known double well, a saddle that symmetry fixes, paths that are none."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read, write
from ase.optimize import BFGS

from atomml.cli.main import main
from atomml.errors import StructureError
from atomml.workflows import neb
from atomml.workflows.barriers.band_profile import Profile

EMT_MODEL = ["--model", "ase:ase.calculators.emt:EMT"]
HEIGHT, HALF, BEND, STIFF = 0.4, 1.3, 0.5, 3.0


class DoubleWell(Calculator):  # type: ignore[misc]
    """``h (u - 1)² + k/2 (y - c (1 - u))² + k/2 z²`` with ``u = (x/a)²``: minima at ±a, the saddle at (0, c).

    ``lie`` scales the forces, which then are not the slope of the energy.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]
    lie = 1.0

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        x, y, z = self.atoms.positions[0] - 10
        u = (x / HALF) ** 2
        off = y - BEND * (1 - u)
        energy = HEIGHT * (u - 1) ** 2 + STIFF / 2 * (off**2 + z**2)
        along = 4 * HEIGHT * (u - 1) * x / HALF**2 + STIFF * off * 2 * BEND * x / HALF**2
        forces = -self.lie * np.array([[along, STIFF * off, STIFF * z]])
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}


def well(x: float, y: float = 0.0) -> Atoms:
    """One atom beside the middle of a large cell."""
    return Atoms("Li", [[10 + x, 10 + y, 10]], cell=[20, 20, 20], pbc=True)


@pytest.mark.parametrize("optimizer", ["fire", "lbfgs"])
def test_the_barrier_of_a_double_well_is_its_height(optimizer: str) -> None:
    """A force of 1e-3 eV/Å left at the saddle, whose softest curvature is 4h/a² = 0.95 eV/Å²: 1e-6 eV."""
    ends = [well(-HALF + 0.1, 0.1), well(HALF - 0.1)]
    found = neb(ends, DoubleWell(), fmax=1e-3, ends_fmax=1e-4, optimizer=optimizer)
    assert found.converged
    assert found.barrier == pytest.approx(HEIGHT, abs=1e-5)
    assert found.reverse_barrier == pytest.approx(HEIGHT, abs=1e-5)
    assert found.reaction_energy == pytest.approx(0, abs=1e-6)
    assert found.saddle_image == 4
    assert found.path[4].positions[0] == pytest.approx([10, 10 + BEND, 10], abs=2e-3)
    assert found.moving_distance == pytest.approx(2 * HALF, abs=1e-3)
    assert found.path_mismatch < 0.02 * HEIGHT


def test_without_the_climb_an_even_number_of_images_stays_below_and_says_so() -> None:
    found = neb([well(-HALF), well(HALF)], DoubleWell(), images=4, climb=False, fmax=1e-3)
    assert found.barrier < HEIGHT - 0.01
    assert any("below the saddle" in warning for warning in found.warnings)
    climbing = neb([well(-HALF), well(HALF)], DoubleWell(), images=4, fmax=1e-3)
    assert climbing.barrier == pytest.approx(HEIGHT, abs=1e-5)


def test_forces_that_are_not_the_slope_of_the_energy_are_seen() -> None:
    class Liar(DoubleWell):
        lie = 0.8

    found = neb([well(-HALF), well(HALF)], Liar(), fmax=1e-3)
    assert found.path_mismatch == pytest.approx(0.2 * HEIGHT, rel=0.1)
    assert not found.converged
    assert any("integral of the forces" in warning for warning in found.warnings)


def test_the_work_of_a_known_force_is_the_energy() -> None:
    """A cosine barrier along the diagonal of a plane, 9 images: cubic splines miss it by under 1 %."""
    s = np.linspace(0, 3.0, 9)
    positions = np.outer(s, [1, 1, 0]) / np.sqrt(2)
    energies = 0.25 * (1 - np.cos(2 * np.pi * s / 3))
    slopes = 0.25 * 2 * np.pi / 3 * np.sin(2 * np.pi * s / 3)
    profile = Profile.from_arrays(positions, energies, np.outer(-slopes, [1, 1, 0]) / np.sqrt(2))
    assert profile.distances == pytest.approx(s)
    assert profile.slopes == pytest.approx(slopes, abs=1e-12)
    assert profile.mismatch < 0.005
    assert profile.is_consistent
    assert profile.minima_between() == []
    assert Profile.from_arrays(positions, np.abs(energies - 0.25), positions).minima_between() == [2, 6]


def vacancy_hop(crystal: Atoms) -> tuple[Atoms, Atoms]:
    """A vacancy at the origin before and after a neighbour has hopped into it, across the boundary."""
    start = crystal.copy()
    hole = start.positions[0].copy()
    del start[0]
    distances = crystal.get_distances(0, range(1, len(crystal)), mic=True)
    atom = int(np.flatnonzero(distances < distances.min() + 1e-6)[-1])
    end = start.copy()
    end.positions[atom] = hole
    return start, end


@pytest.fixture(scope="module")
def hop() -> tuple[Atoms, Atoms]:
    return vacancy_hop(bulk("Cu", "fcc", a=3.61, cubic=True) * (2, 2, 2))


def test_a_vacancy_hop_climbs_to_the_saddle_that_symmetry_fixes(hop: tuple[Atoms, Atoms]) -> None:
    """Half way the crystal has a mirror: forces keep it, so a plain minimisation finds the saddle too.

    Ends relaxed to 2e-3 eV/Å and springs of 5 eV/Å² leave energies within 1e-6 eV; 1 meV is asked for.
    """
    start, end = hop
    found = neb([start, end], EMT(), images=5, fmax=5e-3, ends_fmax=2e-3)
    assert found.converged
    assert found.saddle_image == 3
    assert found.barrier == pytest.approx(found.reverse_barrier, abs=1e-4)
    half = start.copy()
    from atomml.workflows.barriers.band_ends import minimum_image

    half.positions = start.positions + minimum_image(start, end) / 2
    half.calc = EMT()
    BFGS(half, logfile=None).run(fmax=1e-3, steps=200)
    start.calc = EMT()
    BFGS(start, logfile=None).run(fmax=1e-3, steps=200)
    barrier = half.get_potential_energy() - start.get_potential_energy()
    assert 0.4 < barrier < 1.0
    assert found.barrier == pytest.approx(barrier, abs=1e-3)
    assert found.moving_element == "Cu"
    # the hop crosses the boundary: the shortest way is one neighbour distance, not the cell less that
    assert found.moving_distance == pytest.approx(3.61 / np.sqrt(2), abs=0.3)
    assert found.path_length < 4


def test_images_go_the_shortest_way_across_the_boundary() -> None:
    cell = [6.0, 6.0, 6.0]
    start = Atoms("ArNe", [[0.5, 1, 1], [3, 3, 3]], cell=cell, pbc=True)
    end = Atoms("ArNe", [[5.5, 1, 1], [3, 3, 3]], cell=cell, pbc=True)
    from atomml.workflows.barriers.band_ends import check_path, read_path

    images = check_path(read_path([start, end]), "refuse")
    assert images[1].positions[0] == pytest.approx([-0.5, 1, 1])


def swapped(atoms: Atoms, one: int, other: int) -> Atoms:
    order = list(range(len(atoms)))
    order[one], order[other] = other, one
    return atoms[order]


def test_atoms_that_swapped_numbers_are_named_and_can_be_put_back(hop: tuple[Atoms, Atoms]) -> None:
    start, end = hop
    wrong = swapped(end, 3, 17)
    with pytest.raises(StructureError, match=r"Atom 3 \(Cu\) of start seems to be atom 17 of end"):
        neb([start, wrong], EMT())
    settings: dict[str, Any] = {"ends": "given", "steps": 0, "images": 3}
    right = neb([start, end], EMT(), **settings)
    mended = neb([start, wrong], EMT(), order="reorder", **settings)
    assert mended.energies == right.energies
    allowed = neb([start, wrong], EMT(), order="allow", **settings)
    assert allowed.path_length > 2 * right.path_length


def test_a_chain_of_atoms_that_push_one_another_along_is_no_swap() -> None:
    """A chain moves on by one site into a vacancy; the fewest squared moves leave each atom its number."""
    line = Atoms("Ar4", [[3.0 * n, 0, 0] for n in range(4)], cell=[30, 9, 9], pbc=True)
    moved = line.copy()
    moved.positions[:, 0] += 3.0
    from atomml.workflows.barriers.band_ends import best_order

    assert best_order(line, moved).tolist() == [0, 1, 2, 3]


WRONG = {
    "numbers of atoms": (lambda end: end[:-1], "31 atoms and end 30"),
    "cell": (lambda end: _scaled(end), "different cells"),
    "order of elements": (lambda end: _named(end, [0, 5]), r"Atom 5 is Cu in start and Al in end"),
    "the same": (lambda end: end, "the same minimum"),
}


def _scaled(atoms: Atoms) -> Atoms:
    changed = atoms.copy()
    changed.set_cell(atoms.cell * 1.01, scale_atoms=True)
    return changed


def _named(atoms: Atoms, numbers: list[int]) -> Atoms:
    changed = atoms.copy()
    changed.symbols[numbers[1]] = "Al"
    return changed


@pytest.mark.parametrize("case", WRONG)
def test_ends_of_no_path_are_refused(case: str, hop: tuple[Atoms, Atoms]) -> None:
    change, sentence = WRONG[case]
    start = hop[0]
    with pytest.raises(StructureError, match=sentence):
        neb([start, change(start)], EMT(), ends="given")


def test_a_held_atom_that_moves_and_a_single_structure_are_refused(hop: tuple[Atoms, Atoms]) -> None:
    start, end = (atoms.copy() for atoms in hop)
    moving = int(np.linalg.norm(end.positions - start.positions, axis=1).argmax())
    start.set_constraint(FixAtoms([moving]))
    with pytest.raises(StructureError, match=f"Atom {moving} .* is held"):
        neb([start, end], EMT())
    with pytest.raises(StructureError, match="two structures"):
        neb([start], EMT())


def test_our_own_model_is_asked_for_all_images_at_once() -> None:
    from atomml import AtomMLCalculator, load_model

    model = load_model("lj-argon", dtype="float64", device="cpu")
    asked: list[int] = []
    plain = model.energies

    def counting(graph: Any) -> Any:
        asked.append(graph.n_graphs)
        return plain(graph)

    model.energies = counting  # type: ignore[method-assign]
    start, end = vacancy_hop(bulk("Ar", "fcc", a=5.26, cubic=True) * (2, 2, 1))
    settings: dict[str, Any] = {"images": 3, "ends": "given", "fmax": 0.01}
    ours = neb([start, end], model, **settings)
    assert asked[0] == 2  # the ends
    assert set(asked[1:]) == {3}
    assert len(asked) <= ours.n_steps + 3  # once a step
    theirs = neb([start, end], AtomMLCalculator(load_model("lj-argon", dtype="float64")), **settings)
    assert ours.energies == pytest.approx(theirs.energies, abs=1e-9)
    assert ours.n_steps == theirs.n_steps


def test_the_folder_holds_what_the_contract_says(
    hop: tuple[Atoms, Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("start.extxyz", hop[0])
    write("end.extxyz", hop[1])
    words = ["neb", "start.extxyz", "end.extxyz", *EMT_MODEL, "--images", "3", "--quiet"]
    assert main([*words, "--dry-run"]) == 0
    assert main([*words, "--fmax", "0.05"]) == 0
    folder = Path("neb-start")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["units"]["barrier_eV"] == "eV"
    assert [Path(entry["path"]).name for entry in summary["inputs"]] == ["start.extxyz", "end.extxyz"]
    rows = list(csv.DictReader((folder / "path.csv").read_text().splitlines()))
    assert len(rows) == summary["results"]["n_images"] == 5
    frames = read(folder / "path.extxyz", index=":")
    assert [frame.get_potential_energy() for frame in frames] == [float(row["energy_eV"]) for row in rows]
    page = (folder / "report.html").read_text()
    assert all(word in page for word in ("Energy along the path", "integral of the force", "Images"))
    # one file with all images is a path too, and its frames are the first one
    again = ["neb", str(folder / "path.extxyz"), *EMT_MODEL, "--ends", "given", "--out", "again", "--quiet"]
    assert main(again) == 0
    second = json.loads(Path("again/summary.json").read_text())["results"]
    assert second["n_images"] == 5
    assert second["barrier_eV"] == pytest.approx(summary["results"]["barrier_eV"], abs=2e-3)


def test_out_of_steps_is_3_and_goes_on_to_the_same_bits(
    hop: tuple[Atoms, Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("hop.extxyz", list(hop))
    words = ["neb", "hop.extxyz", *EMT_MODEL, "--images", "3", "--quiet", "--ends", "given"]
    words += ["--fmax", "1e-7"]  # farther than 30 steps reach
    assert main([*words, "--out", "whole", "--steps", "30"]) == 3
    assert main([*words, "--out", "part", "--steps", "7"]) == 3
    assert main([*words, "--out", "part", "--steps", "30", "--resume"]) == 3
    for name in ("log.csv", "path.extxyz", "path.csv", "restart.safetensors"):
        assert Path("whole", name).read_bytes() == Path("part", name).read_bytes()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(
    hop: tuple[Atoms, Atoms], killable: Callable[..., Callable[..., int]]
) -> None:
    """Killed once while an end relaxes, once in the path."""
    write("hop.extxyz", list(hop))
    run = killable("neb", "hop.extxyz", "--images", "3")
    assert run("whole", 1 << 30) == 0
    assert run("killed", 5) == -signal.SIGKILL
    assert run("killed", 70, "--resume") == -signal.SIGKILL
    assert Path("killed/restart.safetensors").exists()
    assert run("killed", 1 << 30, "--resume") == 0
    whole, killed = (json.loads(Path(name, "summary.json").read_text()) for name in ("whole", "killed"))
    assert whole["results"] == killed["results"]
    for name in ("log.csv", "path.csv", "path.extxyz"):
        assert Path("whole", name).read_bytes() == Path("killed", name).read_bytes()


@pytest.mark.slow
def test_chgnet_gives_a_barrier_of_a_vacancy_in_lithium_fluoride(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lithium vacancy of LiF: CHGNet and DFT put the hop between 0.3 and 1 eV; here the law is symmetry."""
    monkeypatch.chdir(tmp_path)
    crystal = bulk("LiF", "rocksalt", a=4.03, cubic=True)
    lithium = crystal[[atom.index for atom in crystal if atom.symbol == "Li"]]
    fluorine = crystal[[atom.index for atom in crystal if atom.symbol == "F"]]
    start, end = vacancy_hop(lithium)
    write("path.extxyz", [start + fluorine, end + fluorine])
    assert main(["neb", "path.extxyz", "--images", "3", "--fmax", "0.1", "--quiet", "--threads", "1"]) in (
        0,
        3,
    )
    results = json.loads(Path("neb-path/summary.json").read_text())["results"]
    assert results["moving_element"] == "Li"
    assert results["barrier_eV"] > 0
    assert results["barrier_eV"] == pytest.approx(results["reverse_barrier_eV"], abs=0.02)
