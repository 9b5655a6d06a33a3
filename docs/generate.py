"""Write the API reference from the docstrings: ``python docs/generate.py [FILE]``.

Without a file it is written to ``docs/api.md``.

It reads the sources and imports nothing, so it needs no more than Python.
"""

from __future__ import annotations

import ast
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("atomml", "potentials", "workflows", "cli")
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def module_paths(root: Path = ROOT) -> Iterator[Path]:
    """Every module of the rooms, relative to the root, in alphabetical order; links are not followed."""
    for room in ROOMS:
        found = []
        for folder, _, names in os.walk(root / room):
            found += [Path(folder, name).relative_to(root) for name in names if name.endswith(".py")]
        yield from sorted(found)


def module_name(path: Path) -> str:
    """``potentials/chgnet/model.py`` is imported as ``atomml.potentials.chgnet.model``."""
    parts = path.with_suffix("").parts
    parts = parts if parts[0] == "atomml" else ("atomml", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def public_names(tree: ast.Module) -> list[str]:
    """What the module lists in ``__all__``."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def signature(node: Documented, name: str) -> str:
    """The signature as it stands in the source, without the body."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {name}({bases})" if bases else f"class {name}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{name}({ast.unparse(node.args)}){returns}"


def describe(node: Documented, name: str, level: int) -> Iterator[str]:
    """Markdown of a function, or of a class with its public methods."""
    yield f"{'#' * level} `{signature(node, name)}`\n"
    yield f"```text\n{inspect.cleandoc(ast.get_docstring(node) or '')}\n```\n"
    if isinstance(node, ast.ClassDef):
        for part in node.body:
            if (
                isinstance(part, ast.FunctionDef)
                and not part.name.startswith("_")
                and ast.get_docstring(part)
            ):
                yield from describe(part, f"{name}.{part.name}", level + 1)


def reference(root: Path = ROOT) -> str:
    """The whole reference as Markdown."""
    lines = ["# API reference\n", "Made from the docstrings by `docs/generate.py`.\n"]
    for path in module_paths(root):
        tree = ast.parse((root / path).read_text(encoding="utf-8"))
        wanted = set(public_names(tree))
        nodes = [node for node in tree.body if isinstance(node, Documented) and node.name in wanted]
        if nodes:
            lines.append(f"## `{module_name(path)}`\n")
            lines.append(f"{ast.get_docstring(tree) or ''}\n")
        for node in nodes:
            lines += describe(node, node.name, 3)
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Write the reference to the file named, or beside this script."""
    target = Path(arguments[0]) if arguments else ROOT / "docs" / "api.md"
    target.write_text(reference(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
