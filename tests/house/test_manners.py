"""How the code reads and behaves: documented, short, without side effects or unsafe loads."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

Sources = Mapping[Path, ast.Module]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _public(body: list[ast.stmt], owner: str) -> Iterator[tuple[str, ast.AST]]:
    """Public functions and classes, and public methods of public classes."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{owner}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{owner}.{node.name}")


def _is_overload(node: ast.AST) -> bool:
    return isinstance(node, Function) and any("overload" in ast.unparse(mark) for mark in node.decorator_list)


def test_every_module_and_public_name_is_documented(sources: Sources) -> None:
    silent = [str(path) for path, tree in sources.items() if not ast.get_docstring(tree)]
    for path, tree in sources.items():
        silent += [
            name
            for name, node in _public(tree.body, str(path))
            if isinstance(node, Function | ast.ClassDef)
            and not ast.get_docstring(node)
            and not _is_overload(node)
        ]
    assert silent == []


def test_every_test_and_benchmark_file_says_what_it_is_for(root: Path) -> None:
    files = [
        *(root / "tests").rglob("*.py"),
        *(root / "benchmarks").glob("*.py"),
        *(root / "docs").glob("*.py"),
    ]
    assert files
    assert [path.name for path in files if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []


def test_files_and_functions_are_short(root: Path, sources: Sources) -> None:
    lines = {path: len((root / path).read_text("utf-8").splitlines()) for path in sources}
    assert [f"{path} {count}" for path, count in lines.items() if count > 500] == []
    assert sum(count <= 400 for count in lines.values()) / len(lines) >= 0.95
    lengths = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for tree in sources.values()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    ]
    assert sum(length <= 40 for length in lengths) / len(lengths) >= 0.95
    assert max(lengths) <= 80


def test_no_module_is_a_drawer_for_everything(sources: Sources) -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert [path for path in sources if drawers & set(path.with_suffix("").parts)] == []


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


SETTERS = (
    r"torch\.set_default_\w+|torch\.manual_seed|torch\.use_deterministic\w*|torch\.set_grad_enabled"
    r"|(np|numpy)\.random\.seed|(np|numpy)\.seterr|random\.seed|warnings\.(simplefilter|filterwarnings)"
)


def _global_settings(sources: Sources) -> list[str]:
    """Calls that set something for the whole process; within ``catch_warnings`` a filter is local."""
    found = []
    for path, tree in sources.items():
        local = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.With) and "catch_warnings" in ast.unparse(node.items[0])
            for inner in ast.walk(node)
        }
        for name, call in _calls(tree):
            if re.fullmatch(SETTERS, name) and id(call) not in local:
                found.append(f"{path}:{call.lineno} {name}")
    return found


def test_no_library_code_sets_anything_for_the_whole_process(sources: Sources) -> None:
    assert _global_settings({p: t for p, t in sources.items() if p.parts[0] != "cli"}) == []


def test_no_library_code_prints(sources: Sources) -> None:
    found = [
        f"{path}:{call.lineno}"
        for path, tree in sources.items()
        if path.parts[0] != "cli"
        for name, call in _calls(tree)
        if name == "print"
    ]
    assert found == []


UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
RUNNERS = {"eval", "exec", "compile", "__import__", "os.system", "yaml.load", "yaml.unsafe_load"}


def _unsafe(sources: Sources) -> list[str]:
    """Imports and calls through which a file could run code."""
    found = []
    for path, tree in sources.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            else:
                continue
            found += [f"{path}:{node.lineno} import {name}" for name in names & UNSAFE_MODULES]
        for name, call in _calls(tree):
            options = {word.arg: ast.unparse(word.value) for word in call.keywords}
            if (
                name in RUNNERS
                or (name == "torch.load" and options.get("weights_only") != "True")
                or (name.endswith(".load") and options.get("allow_pickle", "False") != "False")
                or options.get("shell") == "True"
            ):
                found.append(f"{path}:{call.lineno} {name}")
    return found


def test_no_input_can_run_code(sources: Sources) -> None:
    found = _unsafe(sources)
    # A loop is written around the source of our own kernels; no input comes near it.
    own = [place for place in found if place.startswith("atomml/kernels/compile.py:")]
    assert [place.split()[1] for place in own] == ["compile", "exec"]
    assert sorted(set(found) - set(own)) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import yaml\nyaml.load(text)",
    ],
)
def test_ways_to_run_code_are_seen(code: str) -> None:
    assert len(_unsafe({Path("atomml/x.py"): ast.parse(code)})) == 1


def test_settings_are_seen_and_local_filters_are_not() -> None:
    code = (
        "import torch, warnings\n"
        "torch.manual_seed(0)\n"
        "with warnings.catch_warnings():\n"
        "    warnings.simplefilter('ignore')"
    )
    assert _global_settings({Path("atomml/x.py"): ast.parse(code)}) == ["atomml/x.py:2 torch.manual_seed"]


def _tracked(root: Path) -> list[Path]:
    """Files under version control; all those in the rooms where there is no repository (an sdist)."""
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
        )
        paths = [root / name for name in listed.stdout.split("\0") if name]
    else:
        rooms = ("atomml", "potentials", "workflows", "cli", "tests", "docs", "examples")
        paths = [path for room in rooms for path in (root / room).rglob("*") if path.suffix != ".pyc"]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def test_no_file_holds_a_path_of_somebodys_machine(root: Path) -> None:
    # Put together here, so that this file does not hold them itself.
    tops = "|".join(["wo" + "rk", "ho" + "me", "Us" + "ers", "ro" + "ot"])
    machine = re.compile(rf"(?<![\w.])/({tops})/\w")
    found = []
    for path in _tracked(root):
        if path.suffix in (".png", ".safetensors", ".gz", ".traj"):
            continue
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            if machine.search(line):
                found.append(f"{path.relative_to(root)}:{number}")
    assert found == []


def test_no_large_file_is_kept(root: Path) -> None:
    assert [str(path) for path in _tracked(root) if path.stat().st_size > 1_500_000] == []
