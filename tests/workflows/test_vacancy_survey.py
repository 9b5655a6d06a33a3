"""Surveys of vacancies: each row is what the crystal gives alone, nothing is lost, nothing done twice."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from atomml.cli.main import main
from atomml.data.elements import element_structure
from atomml.errors import InputError, OptionError
from atomml.manifest import DONE, read_manifest
from atomml.potentials.lennard_jones import LennardJones
from atomml.workflows import relax, survey_vacancies, vacancy
from atomml.workflows.defects.vacancy_survey_run import LABEL

HERE: dict[str, Any] = {"workers": 0}
MU = {"Ar": -0.08, "Kr": -0.11}
GIVEN = tuple(f"{element}={value}" for element, value in MU.items())


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``mixed.extxyz``: five crystals, two of a compound, one with three kinds of site."""
    monkeypatch.chdir(tmp_path)
    alloy = bulk("Ar", "fcc", a=5.4, cubic=True)
    alloy.symbols[0] = "Kr"  # Ar3Kr
    layered = bulk("ArKr", "rocksalt", a=7.4, cubic=True)
    layered.positions[0] += 0.1  # less symmetry
    found = [bulk("Ar", "fcc", a=5.3), alloy, layered, bulk("Kr", "hcp", a=4.0, c=6.5)]
    found.append(bulk("ArKr", "rocksalt", a=7.2))
    for number, atoms in enumerate(found):
        atoms.info["id"] = f"mp-{number}"
    write("mixed.extxyz", found)
    return "mixed.extxyz"


def table(name: str = "run/results.csv") -> list[dict[str, str]]:
    with Path(name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_row_is_what_the_crystal_gives_alone(mixed: str, lj: LennardJones) -> None:
    """``vacancy`` makes every cell and searches its neighbours anew; it relaxes one after the other."""
    settings: dict[str, Any] = {"min_length": 9.0, "fmax": 1e-3, "mu": GIVEN}
    frames = [f"{mixed}@{number}" for number in (0, 1, 3)]
    found = survey_vacancies(frames, lj, relaxed=True, out="run", **settings)
    rows = iter(found.rows)
    for number, atoms in [(n, read(mixed, n)) for n in (0, 1, 3)]:
        own = [entry for entry in GIVEN if entry.split("=")[0] in atoms.symbols]
        alone = vacancy(atoms, lj, start="given", **settings | {"mu": tuple(own)})
        for expected in alone.rows:
            row = next(rows)
            assert (row["id"], row["site"]) == (f"mp-{number}", expected["site"])
            assert row["supercell_atoms"] == expected["n_atoms"]
            for key, name in (
                ("unrelaxed_vacancy_formation_energy_eV", "unrelaxed_formation_energy_eV"),
                ("vacancy_formation_energy_eV", "formation_energy_eV"),
            ):
                assert row[key] == pytest.approx(expected[name], abs=1e-7)
            assert row["mu_eV"] == MU[row["element"]]
            assert row["relaxation_steps"] == expected["relaxation_steps"]
    assert next(rows, None) is None
    assert (found.n_crystals, found.n_done, found.converged) == (3, len(found.rows), True)
    ended = read("run/structures.extxyz", ":")
    assert [len(atoms) + 1 for atoms in ended] == [row["supercell_atoms"] for row in found.rows]


def test_a_pair_potential_pays_its_cohesive_energy(lj: LennardJones) -> None:
    """Taking an atom out breaks its bonds, twice its share of the energy; in its bulk it gets one back."""
    atoms = bulk("Ar", "fcc", a=5.3)
    (row,) = survey_vacancies(atoms, lj).rows
    energy = relax(atoms, lj, steps=0).energy_per_atom
    assert row["mu_of"] == "own bulk"
    assert row["vacancy_formation_energy_eV"] == pytest.approx(-energy, rel=1e-9)


def test_an_atom_of_a_compound_goes_to_the_ground_state_of_its_element(mixed: str, lj: LennardJones) -> None:
    found = survey_vacancies(mixed, lj, out="run")
    for row in found.rows:
        atoms = read(mixed, int(row["frame"]))
        removed = row["unrelaxed_vacancy_formation_energy_eV"] - row["mu_eV"]
        if len(set(atoms.symbols)) == 1:
            assert row["mu_of"] == "own bulk"
            continue
        crystal = element_structure(row["element"]).atoms()
        reference = relax(crystal, lj, cell="free", fmax=0.01, smax=0.05)
        assert row["mu_eV"] == pytest.approx(reference.energy_per_atom, abs=1e-9)
        (same,) = [
            other
            for other in survey_vacancies(atoms, lj, mu=(f"{row['element']}=1",), element=row["element"]).rows
            if other["site"] == row["site"]
        ]
        assert same["vacancy_formation_energy_eV"] == pytest.approx(removed + 1, abs=1e-9)
    assert {one["element"] for one in found.chemical_potentials} == {"Ar", "Kr"}
    page = Path("run/report.html").read_text()
    assert "By element" in page
    assert "Chemical potentials" in page
    labelled = read("run/sites.extxyz", ":")
    for number, atoms in enumerate(labelled):
        rows = [row for row in found.rows if row["frame"] == number]
        counts = Counter(np.round(atoms.arrays[LABEL], 9).tolist())
        expected: Counter[float] = Counter()
        for row in rows:
            share = row["multiplicity"] * len(atoms) / sum(one["multiplicity"] for one in rows)
            expected[round(row["vacancy_formation_energy_eV"], 9)] += round(share)
        assert counts == expected


def test_the_crystals_are_relaxed_first_if_wanted(mixed: str, lj: LennardJones) -> None:
    atoms = read(mixed, 0)
    settings: dict[str, Any] = {"fmax": 1e-4, "smax": 1e-3}
    (row,) = survey_vacancies(atoms, lj, start="relaxed", **settings).rows
    relaxed = relax(atoms, lj, cell="free", **settings)
    assert row["vacancy_formation_energy_eV"] == pytest.approx(-relaxed.energy_per_atom, abs=1e-7)


def test_what_is_wrong_with_one_is_a_row_and_spoils_no_other(mixed: str, sick: LennardJones) -> None:
    """Sodium is no noble gas, a molecule has no cell, neon has no energy, and one supercell is too large."""
    many = bulk("Ar", "fcc", a=5.3, cubic=True)
    wrong = [bulk("Na"), Atoms("Ar2", [[0, 0, 0], [0, 0, 3.7]]), bulk("Ne", "fcc", a=4.4)]
    wrong += [bulk("Xe", "fcc", a=1e-3), many]
    write("wrong.extxyz", wrong)
    Path("broken.cif").write_text("data_x\nnothing")
    settings: dict[str, Any] = {"mu": GIVEN, "max_atoms": 70, "min_length": 10.0, **HERE}
    found = survey_vacancies([mixed, "wrong.extxyz", "broken.cif"], sick, batch=20, **settings)
    errors = [row["error"] for row in found.rows if row["error"] is not None]
    for sentence in ("atom 0 is Na", "not periodic", "not finite", "malformed"):
        assert any(sentence in error for error in errors), sentence
    assert len(errors) == found.n_failed == 5
    good = [row for row in found.rows if row["error"] is None]
    for row, alone in zip(good, survey_vacancies([mixed, many], sick, batch=1, **settings).rows, strict=True):
        key = "vacancy_formation_energy_eV"
        assert row[key] == pytest.approx(alone[key], abs=1e-10)
    small = survey_vacancies(many, sick, **settings | {"max_atoms": 20})
    assert "more than --max-atoms 20" in str(small.rows[0]["error"])


def test_other_potentials_ask_nothing_anew(mixed: str, lj: LennardJones) -> None:
    first = survey_vacancies(mixed, lj, out="run", mu=GIVEN, **HERE)
    before = read_manifest("run/manifest.sqlite")
    again = survey_vacancies(mixed, lj, out="run", mu=("Ar=0", "Kr=0"), resume=True, **HERE)
    assert before == read_manifest("run/manifest.sqlite")
    for one, other in zip(first.rows, again.rows, strict=True):
        change = one["vacancy_formation_energy_eV"] - other["vacancy_formation_energy_eV"]
        assert change == pytest.approx(MU[one["element"]], abs=1e-12)
    with pytest.raises(OptionError, match="min_length"):
        survey_vacancies(mixed, lj, out="run", min_length=5.0, resume=True, **HERE)


def test_shards_together_are_the_whole(mixed: str, lj: LennardJones) -> None:
    whole = survey_vacancies(mixed, lj, mu=GIVEN, **HERE)
    for part in ("1/2", "2/2"):
        survey_vacancies(mixed, lj, out="run", shard=part, mu=GIVEN, **HERE)
    gathered = survey_vacancies(mixed, lj, out="run", merge=True, resume=True, mu=GIVEN, **HERE)
    assert len(gathered.rows) == len(whole.rows)
    for one, other in zip(gathered.rows, whole.rows, strict=True):
        assert one.pop("vacancy_formation_energy_eV") == pytest.approx(
            other.pop("vacancy_formation_energy_eV"), abs=1e-9
        )
        assert (one["input"], one["site"]) == (other["input"], other["site"])


def test_wrong_options_are_refused_before_anything_is_made(mixed: str, lj: LennardJones) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"element": ("Xx",)}, "no such element"),
        ({"mu": ("Ar=rich",)}, "number in eV"),
        ({"mu": ("Ar",)}, "ELEMENT="),
        ({"folders": True}, "--folders"),
        ({"min_lenght": 8.0}, "min_length"),
        ({"shard": "1/2", "merge": True}, "one of the two"),
        ({"workers": 2}, "no worker can load it"),
        ({"regressor": "none.safetensors"}, "none.safetensors"),
    ]
    for options, sentence in wrong:
        with pytest.raises(InputError, match=sentence):
            survey_vacancies(mixed, lj, out="run", **options)
    assert not Path("run/manifest.sqlite").exists()


def test_the_command_takes_elements_and_any_calculator(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("cuau.extxyz", bulk("CuAu", "cesiumchloride", a=3.1))
    words = ["property", "vacancies", "cuau.extxyz", "cu.extxyz", "--model", "ase:ase.calculators.emt:EMT"]
    assert main([*words, "--element", "Au", "--workers", "0", "--out", "run", "--mu", "Au=0"]) == 0
    rows = table()
    assert [(row["element"], row["supercell_atoms"]) for row in rows] == [("Au", "54")]
    assert json.loads(Path("run/summary.json").read_text())["results"]["n_crystals"] == 2
    assert main([*words, "--out", "run"]) == 2
    assert main(["property", "vacancies"]) == 2
    assert main(["property", "vacancies-train", "si.cif", "--dry-run"]) == 2
    assert main(["property", "vacancies", "--help"]) == 0
    capsys.readouterr()


COUNTING = """
import os, time
from ase.calculators.emt import EMT

class Counting(EMT):
    def calculate(self, atoms=None, properties=None, system_changes=()):
        time.sleep(0.02)
        edge = atoms.cell[0, 0] / round(atoms.cell[0, 0] / 3.6)
        with open(os.environ["MARKS"], "a") as stream:
            stream.write(f"{edge:.4f} {len(atoms)}\\n")
        super().calculate(atoms, properties, system_changes)
"""


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_and_nothing_done_is_done_twice(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("counting.py").write_text(COUNTING)
    edges = [round(3.5 + 0.005 * n, 4) for n in range(30)]
    write("copper.extxyz", [bulk("Cu", "fcc", a=a, cubic=True) for a in edges])
    marks = tmp_path / "marks"
    marks.touch()
    paths = os.pathsep.join((str(tmp_path), str(root)))
    environment = {**os.environ, "PYTHONPATH": paths, "MARKS": str(marks)}
    words = ["property", "vacancies", "copper.extxyz", "--model", "ase:counting:Counting", "--quiet"]
    call = [sys.executable, "-m", "atomml.cli.main", *words, "--workers", "2", "--batch", "3", "--out", "run"]

    def counts() -> Counter[str]:
        return Counter(line.split()[0] for line in marks.read_text().splitlines())

    for more, wanted in (((), 12), (("--resume",), 30)):
        process = subprocess.Popen([*call, *more], env=environment)
        deadline = time.monotonic() + 300
        while counts().total() < wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.wait()
        time.sleep(0.5)  # its workers see that it has gone
    manifest = read_manifest("run/manifest.sqlite")
    kept = {f"{edges[int(row.id.split('@')[1])]:.4f}" for row in manifest if row.status == DONE}
    before = counts()
    assert 0 < len(kept) < 30
    assert subprocess.run([*call, "--resume"], env=environment, check=False).returncode == 0
    assert {edge: counts()[edge] for edge in kept} == {edge: before[edge] for edge in kept}
    rows = table()
    assert [int(row["frame"]) for row in rows] == list(range(30))
    from ase.calculators.emt import EMT

    whole = survey_vacancies("copper.extxyz", EMT())
    assert [float(row["vacancy_formation_energy_eV"]) for row in rows] == [
        row["vacancy_formation_energy_eV"] for row in whole.rows
    ]


def test_a_plan_counts_what_the_run_does_and_writes_nothing(
    mixed: str, lj: LennardJones, capsys: pytest.CaptureFixture[str]
) -> None:
    from atomml.workflows.defects.vacancy_survey_plan import plan_survey

    write("bad.extxyz", Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]]))
    sources = [mixed, "bad.extxyz", "none.cif"]
    settings: dict[str, Any] = {"min_length": 9.0, **HERE}
    plan = plan_survey(sources, lj, out="run", **settings)
    assert not Path("run").exists()
    found = survey_vacancies(sources, lj, out="run", mu=GIVEN, **settings)
    assert plan["crystals"] == found.n_crystals == 7
    assert plan["crystals_that_fail"] == found.n_failed == 2
    assert plan["vacancies"] == found.n_done
    rows = [row for row in found.rows if row["error"] is None]
    assert plan["vacancies_by_element"] == dict(sorted(Counter(row["element"] for row in rows).items()))
    assert plan["atoms_in_all"] == sum(row["supercell_atoms"] for row in rows)
    assert plan["supercell_atoms"]["most"] == max(row["supercell_atoms"] for row in rows)
    assert plan["estimated_s"] > 0
    assert plan["relaxation_step_s"] is None
    assert plan_survey(mixed, lj, relaxed=True, element="Kr", **settings)["relaxation_step_s"] > 0
    words = ["property", "vacancies", *sources, "--model", "lj-argon", "--element", "Ar", "--workers", "1"]
    assert main([*words, "--dry-run", "--out", "new"]) == 0
    shown = capsys.readouterr().out
    assert "nothing is written" in shown
    assert "none.cif" in shown
    assert not Path("new").exists()


def test_a_plan_is_of_the_shard_and_the_workers_of_its_run(mixed: str, lj: LennardJones) -> None:
    from atomml.worker_pool import available_cpus
    from atomml.workflows.defects.vacancy_survey_plan import plan_survey

    settings: dict[str, Any] = {"min_length": 9.0}
    whole = plan_survey(mixed, lj, **settings)
    assert whole["workers"] == 0  # no worker can load a model without a name
    assert plan_survey(mixed, "lj-argon", element="Ar", **settings)["workers"] == available_cpus()
    for key in ("crystals", "vacancies", "atoms_in_all"):
        parts = [plan_survey(mixed, lj, shard=f"{k}/3", **settings)[key] for k in (1, 2, 3)]
        assert sum(parts) == whole[key]
        assert sum(part < whole[key] for part in parts) == 3
    run = survey_vacancies(mixed, lj, out="run", shard="2/3", mu=GIVEN, **settings)
    assert plan_survey(mixed, lj, shard="2/3", **settings)["vacancies"] == run.n_done
    for wrong in ({"shard": "1/2", "merge": True}, {"workers": 2}):
        with pytest.raises(OptionError):
            plan_survey(mixed, lj, **settings, **wrong)


def test_a_plan_is_not_shortened_by_workers_that_find_no_crystal(mixed: str) -> None:
    from atomml.workflows.defects.vacancy_survey_plan import plan_survey

    settings: dict[str, Any] = {"min_length": 9.0, "element": "Ar"}
    few, many = (plan_survey(mixed, "lj-argon", workers=n, **settings)["estimated_s"] for n in (5, 5000))
    assert many > few / 100


def test_a_plan_is_timed_with_the_threads_of_a_worker(mixed: str) -> None:
    """Else its time on all processors would be divided by their number once more."""
    import torch
    from ase.calculators.lj import LennardJones as OfASE

    from atomml.workflows.defects.vacancy_survey_plan import plan_survey
    from atomml.workflows.inputs import given_model

    seen: list[int] = []

    class Noting(OfASE):
        """Notes the threads that it could use."""

        def calculate(self, *args: Any, **more: Any) -> None:
            """As ASE's."""
            seen.append(torch.get_num_threads())
            super().calculate(*args, **more)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for more, expected in (({"workers": 2}, 1), ({"workers": 1, "threads": 3}, 3), ({"workers": 0}, 2)):
            seen.clear()
            plan_survey(f"{mixed}@0", given_model(Noting(epsilon=0.01, sigma=3.4)), min_length=5.0, **more)
            assert set(seen) == {expected}
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
