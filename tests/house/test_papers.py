"""What is written beside the code agrees with it: versions, README, examples, the one check."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from ase.io import read

import atomml


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


def _code_lines(markdown: str) -> list[str]:
    """Lines of the fenced code blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", markdown, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_one_version_everywhere(root: Path) -> None:
    version = atomml.__version__
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    newest = re.search(r"^## (\S+)", (root / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)
    assert newest is not None
    assert {project["version"], citation["version"], newest[1]} == {version}


def test_citation_names_its_sources(root: Path) -> None:
    citation = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == "MIT"
    assert "10.1038/s42256-023-00716-3" in {reference.get("doi") for reference in citation["references"]}


def test_readmes_test_line_is_what_the_check_runs(root: Path, readme: str) -> None:
    """The line is pasted by users, so the check must run it letter by letter."""
    lines = [line for line in _code_lines(readme) if "pytest" in line]
    assert len(lines) == 1
    check = (root / ".ci" / "run").read_text("utf-8")
    assert "README.md" in check
    assert "pytest" in check


def test_readmes_first_line_installs_and_runs_dynamics(readme: str) -> None:
    line = next(line for line in _code_lines(readme) if line.strip())
    assert "pip install" in line
    assert "atomml md examples/" in line


def test_commands_in_the_documents_exist(root: Path, readme: str) -> None:
    from atomml.cli.main import main

    named = set()
    for text in (readme, *(path.read_text("utf-8") for path in (root / "docs").glob("*.md"))):
        for line in _code_lines(text):
            named.update(re.findall(r"(?:^|&& |\$ |bin/)atomml ([a-z][a-z-]*)", line))
    assert {"md", "relax", "predict", "check", "models"} <= named
    for command in sorted(named):
        with pytest.raises(SystemExit) as stop:
            raise SystemExit(main([command, "--help"]))
        assert stop.value.code in (0, None), command


def test_links_and_pictures_in_the_documents_lead_somewhere(root: Path) -> None:
    for path in (root / "README.md", root / "CHANGELOG.md", *(root / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            if not target.startswith(("http", "mailto")):
                assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_example_is_named_in_the_documents_and_can_be_read(root: Path, readme: str) -> None:
    documents = readme + "".join(path.read_text("utf-8") for path in (root / "docs").glob("*.md"))
    examples = [path for path in (root / "examples").iterdir() if path.suffix in (".cif", ".xyz")]
    assert len(examples) >= 5
    for path in examples:
        assert f"examples/{path.name}" in documents
        assert len(read(path)) >= 1


# Chemical formula, volume per atom (Å³) and the shortest distance (Å), from the sources
# that each file cites; computed by hand from lattice constants and positions.
CRYSTALS = {
    "LiCoO2.cif": ("Co3Li3O6", 8.043, 1.925),
    "Si.cif": ("Si8", 20.02, 2.352),
    "NaCl.cif": ("Cl4Na4", 22.43, 2.820),
    "Cu.cif": ("Cu4", 11.81, 2.556),
    "ethanol.xyz": ("C2H6O", 0.0, 0.971),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_examples_are_the_crystals_that_they_say(root: Path, name: str) -> None:
    formula, volume, shortest = CRYSTALS[name]
    atoms = read(root / "examples" / name)
    assert atoms.get_chemical_formula() == formula
    if volume:
        assert atoms.get_volume() / len(atoms) == pytest.approx(volume, rel=1e-3)
    distances = atoms.get_all_distances(mic=bool(volume))
    smallest = distances[distances > 0.1].min()
    assert smallest == pytest.approx(shortest, abs=0.015)
