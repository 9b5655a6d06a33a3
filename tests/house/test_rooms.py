"""The plan of the house: packages, links, directions of import, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

Sources = Mapping[Path, ast.Module]

# An arrow points from a room to those that it may import.
MAY_IMPORT = {
    "cli": {"cli", "workflows", "potentials", "atomml"},
    "workflows": {"workflows", "potentials", "atomml"},
    "potentials": {"potentials", "atomml"},
    "atomml": {"atomml"},
}
HEAVY = {
    *("torch", "numpy", "scipy", "ase", "pymatgen", "numba", "vesin"),
    *("chgnet", "yaml", "rich", "matplotlib"),
}


def _room_of_module(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else parts[0]


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _imports(node: ast.AST) -> Iterator[str]:
    """Full names of what a tree imports, inside functions too, but not for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if _is_type_checking(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from _imports(child)


def _wrong_directions(sources: Sources) -> list[str]:
    wrong = []
    for path, tree in sources.items():
        room = path.parts[0]
        for name in _imports(tree):
            target = _room_of_module(name)
            if target in MAY_IMPORT and target not in MAY_IMPORT[room]:
                wrong.append(f"{path} imports {name}")
    return wrong


def test_imports_go_one_way(sources: Sources) -> None:
    assert len(sources) > 30
    assert _wrong_directions(sources) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("atomml/registry.py", "from atomml.potentials.chgnet import CHGNet"),
        ("potentials/chgnet/model.py", "def f():\n    import atomml.workflows"),
        ("workflows/inputs.py", "from atomml import cli"),
    ],
)
def test_a_wrong_direction_is_seen(path: str, line: str) -> None:
    assert len(_wrong_directions({Path(path): ast.parse(line)})) == 1


def test_relative_imports_are_not_used(sources: Sources) -> None:
    relative = [
        str(path)
        for path, tree in sources.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_list_of_packages_is_the_tree(project: dict[str, Any], sources: Sources) -> None:
    folders = {path.parent for path in sources if path.name == "__init__.py"}
    names = {
        ".".join(folder.parts if folder.parts[0] == "atomml" else ("atomml", *folder.parts))
        for folder in folders
    }
    listed = project["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == names


def test_every_module_lies_in_a_package(sources: Sources) -> None:
    folders = {path.parent for path in sources}
    assert {folder for folder in folders if folder / "__init__.py" not in sources} == set()


def test_packages_outside_atomml_are_mapped_to_their_folders(project: dict[str, Any], root: Path) -> None:
    mapping = project["tool"]["setuptools"]["package-dir"]
    for name in project["tool"]["setuptools"]["packages"]:
        parts = name.split(".")
        inside = parts if len(parts) == 1 or parts[1] not in MAY_IMPORT else parts[1:]
        if name in mapping or inside != parts:
            assert Path(mapping[name]) == Path(*inside), name
        assert (root.joinpath(*inside) / "__init__.py").is_file()


@pytest.mark.parametrize("room", ["cli", "potentials", "workflows"])
def test_links_in_the_package_are_relative_and_lead_to_the_rooms(root: Path, room: str) -> None:
    link = root / "atomml" / room
    assert link.is_symlink()
    assert link.readlink() == Path("..", room)
    assert link.resolve() == root / room


def _modules_after(statement: str, root: Path) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    ["import atomml", "import atomml.workflows; dir(atomml.workflows)", "import atomml.cli.main"],
)
def test_importing_what_help_needs_imports_nothing_heavy(statement: str, root: Path) -> None:
    assert _modules_after(statement, root).isdisjoint(HEAVY)


def test_the_check_for_heavy_imports_would_see_one(root: Path) -> None:
    assert not _modules_after("import atomml; atomml.Potential", root).isdisjoint(HEAVY)
