"""Help is fast and light: nothing that computes is imported for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from atomml.cli.main import COMMANDS, main

HEAVY = ("torch", "numpy", "scipy", "ase", "pymatgen", "numba", "matplotlib", "rich", "yaml", "pydantic")

ALL_HELP = f"""
import contextlib, io, sys
from atomml.cli.main import COMMANDS, main
with contextlib.redirect_stdout(io.StringIO()):
    assert main(["--help"]) == 0 and main(["--version"]) == 0
    for name in COMMANDS:
        assert main([name, "--help"]) == 0, name
    for name in ("predict", "relax", "md"):
        assert main(["compare", name, "--help"]) == 0, name
    assert main([]) == 2
print([name for name in {HEAVY!r} if name in sys.modules])
"""


def test_help_of_every_command_imports_nothing_that_computes() -> None:
    done = subprocess.run([sys.executable, "-c", ALL_HELP], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", [[], ["md"]])
def test_help_needs_few_modules(command: list[str]) -> None:
    """What makes help slow is what it imports; ``benchmarks/start_up.py`` measures the seconds."""
    code = (
        f"import sys; b = len(sys.modules); from atomml.cli.main import main; main({[*command, '--help']!r})"
    )
    count = "; print(len(sys.modules) - b, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + count], capture_output=True, text=True, check=True)
    assert int(done.stderr) < 130


def test_every_command_is_in_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


def test_help_of_a_workflow_names_every_option_with_unit_and_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from atomml.config import option_specs
    from atomml.workflows.relaxing.relaxation import RelaxOptions

    assert main(["relax", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(spec.flag in out for spec in option_specs(RelaxOptions).values())
    assert "[eV/Å, default 0.01]" in out
