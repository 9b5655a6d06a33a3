"""What the documents tell people to type works: commands, Python, the five steps, the API reference."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

WITH_PYTHON = [
    "README.md",
    *(f"docs/{name}.md" for name in ("python", "relax", "crystals", "energies", "transport", "screen")),
]
DOCUMENTS = [*WITH_PYTHON, "docs/first-md.md", "docs/command-line.md"]
WORKFLOWS = "predict|relax|md|diffusion|eos|elastic|neb|phonons|qha|strain|surface|formation|vacancy|defect"


def _blocks(root: Path, document: str, language: str) -> list[str]:
    text = (root / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def _workflow_lines(root: Path) -> list[str]:
    """Each documented command that runs a workflow, once; also those in tables."""
    lines = []
    for document in DOCUMENTS:
        text = (root / document).read_text(encoding="utf-8")
        found = re.findall(rf"atomml (?:compare |screen )?(?:{WORKFLOWS}) examples/[^`\n]*", text)
        lines += [line for line in found if "--resume" not in line]
    return sorted(set(lines))


def _one_model_each(line: str) -> list[list[str]]:
    """A comparison as the runs that it consists of; any other line as it is."""
    words = shlex.split(line)[1:]
    if words[0] != "compare":
        return [words]
    start = words.index("--model")
    return [[*words[1:start], "--model", model] for model in words[start + 1 :: 2]]


def _in_scratch(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(root / "examples")
    monkeypatch.chdir(tmp_path)


def test_documented_commands_are_accepted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is parsed, checked and planned by ``--dry-run``, which writes nothing."""
    from atomml.cli.main import main

    _in_scratch(root, tmp_path, monkeypatch)
    lines = _workflow_lines(root)
    assert len(lines) >= 6
    for line in lines:
        for words in _one_model_each(line):
            assert main([*words, "--dry-run"]) == 0, f"{line}: {capsys.readouterr().err}"
    assert {path.name for path in tmp_path.iterdir()} == {"examples"}


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_PYTHON)
def test_documented_python_runs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: str
) -> None:
    _in_scratch(root, tmp_path, monkeypatch)
    blocks = _blocks(root, document, "python")
    assert blocks
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, document, "exec"), namespace)


FIVE_STEPS = """
import math, sys
import torch
from ase import Atoms
from atomml import load_model
from atomml.checkpoint import save_model
from atomml.cli.main import main
from atomml.graph import GraphBuilder
from atomml.testing import run_conformance

assert main(["models", "list"]) == 0
model = load_model("morse-copper", dtype="float64", device="cpu")
dimer = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.866]])
graph = GraphBuilder.for_model(model)(dimer)
assert math.isclose(float(model.predict(graph).energy), -0.3429, rel_tol=1e-12)
for dtype in ("float64", "float32"):
    results = run_conformance("morse-copper", dtype=dtype, quick=True)
    assert len(results) > 20
    assert all(result.passed for result in results), [r for r in results if not r.passed]
save_model(model, "mine.safetensors")
again = load_model("mine.safetensors", dtype="float64", device="cpu")
assert torch.equal(again.predict(graph).energy, model.predict(graph).energy)
"""


@pytest.fixture
def plug_in(root: Path, tmp_path: Path) -> Path:
    """A folder with the package of the five steps, as pip would have installed it."""
    document = "docs/add-a-model.md"
    pieces = [block for block in _blocks(root, document, "python") if block.startswith("# morse.py\n")]
    assert len(pieces) == 2
    (tmp_path / "morse.py").write_text("".join(piece.removeprefix("# morse.py\n") for piece in pieces))
    (toml,) = _blocks(root, document, "toml")
    entry_points = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", toml).replace('"', "")
    info = tmp_path / "morse-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: morse\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    return tmp_path


def test_the_five_steps_add_a_model(root: Path, plug_in: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(plug_in), str(root)])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(FIVE_STEPS)],
        capture_output=True,
        text=True,
        check=False,
        cwd=plug_in,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "morse-copper" in done.stdout


def test_the_worked_example_is_short(root: Path) -> None:
    source = (root / "potentials" / "lennard_jones" / "model.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 150


def test_the_reference_names_everything_public(
    root: Path, sources: Mapping[Path, ast.Module], tmp_path: Path
) -> None:
    target = tmp_path / "api.md"
    command = [sys.executable, "-S", str(root / "docs" / "generate.py"), str(target)]
    subprocess.run(command, check=True)  # -S: nothing is installed for it
    text = target.read_text(encoding="utf-8")
    missing = []
    for path, tree in sources.items():
        listed: list[str] = next(
            (
                ast.literal_eval(node.value)
                for node in tree.body
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            ),
            [],
        )
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        missing += [
            f"{path}: {name}"
            for name in set(listed) & defined
            if not re.search(rf"^### `(class )?{name}\b", text, flags=re.MULTILINE)
        ]
    assert missing == []
    assert "## `atomml.potentials.lennard_jones.model`" in text
