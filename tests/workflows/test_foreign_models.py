"""Models from elsewhere: an ASE calculator by name or as an object gives what it gives alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import read

from atomml.cli.main import main
from atomml.errors import InputError, ModelError, RunFailedError
from atomml.run import read_config
from atomml.workflows import compare, md, predict, relax
from atomml.workflows.inputs import given_model

PAIRS: dict[str, Any] = {"epsilon": 0.4, "sigma": 2.3, "rc": 6.0, "smooth": True}
AS_FLAGS = [word for key, value in PAIRS.items() for word in ("--set", f"calculator.{key}={value}")]
LJ = ["--model", "ase:ase.calculators.lj:LennardJones"]
EMT_MODEL = ["--model", "ase:ase.calculators.emt:EMT"]


def copper() -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def test_predict_gives_what_the_calculator_gives_alone(here: Path) -> None:
    found = predict(copper(), EMT())
    alone = copper()
    alone.calc = EMT()
    assert found.energy == alone.get_potential_energy()
    assert found.predictions[0] is not None
    assert np.array_equal(found.predictions[0]["forces"], alone.get_forces())
    assert np.array_equal(found.predictions[0]["stress"], alone.get_stress())


def test_keywords_of_the_command_line_reach_the_class_and_are_recorded(here: Path) -> None:
    assert main(["relax", "cu.extxyz", *LJ, *AS_FLAGS, "--cell", "free", "--out", "run", "--quiet"]) == 0
    assert read_config("run")["calculator"] == PAIRS
    record = json.loads(Path("run/summary.json").read_text())["model"]
    assert record["name"] == LJ[1]
    assert record["package"] == "ase"
    assert PAIRS.items() <= record["calculator"].items()
    python = relax(read("cu.extxyz"), LennardJones(**PAIRS), cell="free")
    assert json.loads(Path("run/summary.json").read_text())["results"]["energy_eV"] == python.energy
    # The folder's own configuration repeats the run, once code may be imported.
    again = ["relax", "cu.extxyz", "--config", "run/config.yaml", "--out", "again", "--quiet"]
    assert main(again) == 2
    assert main([*again, "--allow-code"]) == 0
    summaries = [json.loads(Path(name, "summary.json").read_text()) for name in ("run", "again")]
    assert summaries[0]["results"] == summaries[1]["results"]


def test_a_run_is_not_resumed_with_other_keywords(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["relax", "cu.extxyz", *LJ, "--out", "run", "--quiet"]
    assert main([*run, *AS_FLAGS, "--steps", "1"]) == 3
    assert main([*run, *AS_FLAGS, "--set", "calculator.rc=7", "--resume"]) == 2
    assert "calculator" in capsys.readouterr().err
    assert main([*run, *AS_FLAGS, "--resume", "--steps", "200"]) == 0


@pytest.mark.slow
def test_dynamics_of_a_calculator_from_elsewhere_conserves_energy(here: Path) -> None:
    """EMT is smooth, so velocity Verlet's error at 2 fs is bounded: below 0.1 meV an atom at 100 K."""
    run = md(
        copper() * (2, 2, 2), EMT(), out="run", ensemble="nve", temperature="100", timestep=2.0, steps=50
    )
    assert abs(run.conserved_drift) < 0.1
    pressed = ["md", "cu.extxyz", *EMT_MODEL, "--ensemble", "npt-mtk", "--supercell", "2,2,2", "--steps", "5"]
    assert main([*pressed, "--out", "pressed", "--quiet"]) == 0


def test_ours_and_theirs_are_compared_with_keywords_for_theirs(here: Path) -> None:
    argon = bulk("Ar", "fcc", a=5.3)
    both = compare(
        "predict", argon, ["lj-argon", LennardJones(epsilon=0.0104, sigma=3.4, rc=8.5, smooth=True)]
    )
    assert both.rows
    # The two cut their tails in different ways beyond 5.6 Å, where a pair has less than 0.1 ε.
    assert both.spread["energy_eV"] < 0.1 * abs(next(iter(both.by_model.values()))["energy_eV"])


WRONG = {
    "no such class": (["ase:ase.calculators.emt:EMTT"], "did you mean 'EMT'?"),
    "no such module": (["ase:ase.calculators.emmt:EMT"], "ase.calculators.emmt"),
    "no class named": (["ase:ase.calculators.emt"], "ase:MODULE:CLASS"),
    "no calculator": (["ase:ase:Atoms"], "is no ASE calculator"),
    "no such keyword": ([LJ[1], "--set", "calculator.sigm=2"], "did you mean 'sigma'?"),
    "keyword that EMT would swallow": ([EMT_MODEL[1], "--set", "calculator.foo=1"], "'foo'"),
    "keyword that cannot be": ([LJ[1], "--set", "calculator.rc=x"], "rc='x'"),
    "keyword of ours": (["lj-argon", "--set", "calculator.sigma=2"], "none is named"),
    "a value, no group": ([LJ[1], "--set", "calculator=2"], "group"),
    "element not covered": ([EMT_MODEL[1], "--fmax", "1"], "No EMT-potential for Si"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_model_is_one_sentence_and_code_2(
    case: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, hint = WRONG[case]
    assert main(["relax", "si.cif", "--model", *words, "--quiet"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert hint in err


def test_keywords_in_a_file_need_leave_to_run_code(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ASE's calculators of other programs take the command to start as a keyword."""
    Path("c.yaml").write_text("calculator:\n  command: touch harmed\n")
    assert main(["predict", "cu.extxyz", *EMT_MODEL, "--config", "c.yaml"]) == 2
    assert "--allow-code" in capsys.readouterr().err


class NoStress(EMT):  # type: ignore[misc]
    """EMT that hides its stress."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        self.results.pop("stress", None)


class Breaks(EMT):  # type: ignore[misc]
    """EMT whose answer depends on a wish."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        if self.how == "raises":
            raise ZeroDivisionError("by zero")
        self.results[self.how] = self.results[self.how] * np.nan


def test_without_a_stress_atoms_relax_and_a_cell_is_refused(here: Path) -> None:
    found = relax(copper(), NoStress())
    assert found.converged
    assert found.pressure is None
    with pytest.raises(ModelError, match="gives no stress, which --cell free needs"):
        relax(copper(), NoStress(), cell="free")


@pytest.mark.parametrize("how", ["raises", "energy", "forces"])
def test_a_calculator_that_fails_or_gives_nan_stops_the_run(here: Path, how: str) -> None:
    with pytest.raises(RunFailedError, match="by zero" if how == "raises" else f"{how} that is not finite"):
        relax(copper(), Breaks(how))


def test_what_is_no_calculator_is_refused() -> None:
    for thing in (copper(), 3.0, object()):
        with pytest.raises(ModelError, match="is not a model"):
            given_model(thing)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"calculator\.sigma"):
        given_model(EMT(), calculator={"sigma": 1.0})


def test_answers_are_kept_while_nothing_moves_and_not_longer() -> None:
    calls = []

    class Counted(EMT):  # type: ignore[misc]
        def calculate(self, *args: Any, **kwargs: Any) -> None:
            calls.append(1)
            super().calculate(*args, **kwargs)

    atoms = copper()
    atoms.calc = given_model(Counted()).calculator()
    before = atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    assert len(calls) == 1
    atoms.positions[0, 0] += 0.1
    assert atoms.get_potential_energy() != before
    assert len(calls) == 2
    assert isinstance(atoms.calc, Calculator)
