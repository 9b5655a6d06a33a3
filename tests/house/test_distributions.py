"""What is built holds every module and data file exactly once, and works without the tree."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from atomml import __version__

pytestmark = pytest.mark.slow

DATA = {"atomml/py.typed"}
LEFT_OUT = shutil.ignore_patterns(
    ".*_cache", ".git", ".venv*", "__pycache__", "*.egg-info", "build", "dist", ".envs"
)


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(root, folder / "tree", symlinks=True, ignore=LEFT_OUT)
    command = [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(folder / "tree")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / "dist"


def _installed_name(path: Path) -> str:
    return str(path if path.parts[0] == "atomml" else Path("atomml", path))


def _data_files(root: Path, sources: Mapping[Path, ast.Module]) -> set[str]:
    """Files beside modules, or in folders there, that are no modules: they must be installed too."""
    found = set()
    for folder in {path.parent for path in sources}:
        beside = [path for path in (root / folder).iterdir() if not path.is_symlink()]
        inner = [p for path in beside if path.is_dir() and path.name != "__pycache__" for p in path.iterdir()]
        found |= {
            _installed_name(path.relative_to(root))
            for path in [*beside, *inner]
            if path.is_file() and path.suffix not in (".py", ".pyc")
        }
    return found


def test_the_wheel_holds_every_module_and_data_file_once(
    root: Path, sources: Mapping[Path, ast.Module], built: Path
) -> None:
    with zipfile.ZipFile(built / f"atomml-{__version__}-py3-none-any.whl") as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
        licence = [name for name in wheel.namelist() if name.endswith("LICENSE")]
    assert len(names) == len(set(names))
    data = _data_files(root, sources)
    assert data >= DATA
    assert set(names) == {_installed_name(path) for path in sources} | data
    assert len(licence) == 1


def test_the_sdist_holds_the_rooms_and_no_links_out(sources: Mapping[Path, ast.Module], built: Path) -> None:
    with tarfile.open(built / f"atomml-{__version__}.tar.gz") as archive:
        members = archive.getmembers()
    top = f"atomml-{__version__}/"
    names = [member.name.removeprefix(top) for member in members]
    assert len(names) == len(set(names))
    assert set(names) >= {str(path) for path in sources} | {"pyproject.toml", "README.md", "LICENSE"}
    assert not [name for name in names if name.startswith(("benchmarks/.envs", ".git"))]
    for member in members:
        assert not member.issym() or not member.linkname.startswith("/")


def test_the_wheel_works_without_the_tree(built: Path, tmp_path: Path) -> None:
    wheel = built / f"atomml-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys, atomml, atomml.cli.main, atomml.potentials.lennard_jones as lj, atomml.workflows\n"
        "assert atomml.__file__.startswith(sys.argv[1]), atomml.__file__\n"
        "assert lj.__file__.startswith(sys.argv[1]), lj.__file__\n"
        "raise SystemExit(atomml.cli.main.main(['--help']))"
    )
    site = str((tmp_path / "site").resolve())
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, sys.argv[1])\n{code}", site],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout
