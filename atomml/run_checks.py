"""Whether a folder may be written: what a run folder is, whose it is, and who else writes it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from atomml.errors import OptionError

__all__ = [
    "CONFIG",
    "check_nothing_needed",
    "check_ours",
    "check_same",
    "empty_folder",
    "is_written",
    "lock",
    "plain",
    "read_config",
]

CONFIG = "config.yaml"


def plain(value: Any) -> Any:
    """The value in what JSON and YAML know: arrays as lists, paths as text, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(value) if value - value == 0 else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):  # numpy arrays and scalars, tensors
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def read_config(path: str | Path) -> dict[str, Any]:
    """The ``config.yaml`` of a run folder.

    Raises:
        OptionError: There is none, or it is not one that atomml wrote.
    """
    import yaml

    file = Path(path) / CONFIG
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        config = None
    if not isinstance(config, dict) or not isinstance(config.get("command"), str) or "version" not in config:
        raise OptionError(
            f"{path} is not a run folder of atomml: it has no config.yaml that names a command."
        )
    return config


def is_written(path: Path) -> bool:
    """Whether anything but leftovers of killed writes lies in the folder."""
    return path.is_dir() and any(
        not (e.name.startswith(".") and e.name.endswith(".tmp")) for e in path.iterdir()
    )


def check_ours(path: Path, command: str) -> dict[str, Any]:
    """The configuration of a folder that a run of ``command`` wrote.

    Raises:
        OptionError: It is another command's, or no run folder.
    """
    config = read_config(path)
    if config["command"] != command:
        raise OptionError(
            f"The folder {path} was written by 'atomml {config['command']}', not by 'atomml {command}': "
            "give another --out."
        )
    return config


def check_same(path: Path, command: str, config: Mapping[str, Any], may_change: Collection[str]) -> None:
    """Refuse to resume with another configuration; ``may_change`` names the keys that may differ.

    Raises:
        OptionError: Names the first key that differs.
    """
    before = check_ours(path, command)
    for key in config:
        if key not in may_change and before.get(key) != config[key]:
            raise OptionError(
                f"The run in {path} was started with {key} = {before.get(key)!r}, not {config[key]!r}: "
                "resume it with the same value, or give another --out."
            )


def check_nothing_needed(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse to empty a folder that holds the current folder or one of the run's own inputs."""
    folder, here = path.resolve(), Path.cwd().resolve()
    if here.is_relative_to(folder):
        raise OptionError(
            f"--overwrite would empty {path}, which holds the current folder: give another --out."
        )
    for text in _strings({key: value for key, value in config.items() if key != "out"}):
        if "\0" not in text and len(text) < 4096 and _lies_in(here / text, folder):
            raise OptionError(f"--overwrite would delete {text}, which this run reads: give another --out.")


def _lies_in(file: Path, folder: Path) -> bool:
    try:
        return file.exists() and file.resolve().is_relative_to(folder)
    except OSError:  # not a file name at all
        return False


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(item)


def empty_folder(path: Path) -> None:
    """Empty the folder, ``config.yaml`` last: what a kill leaves is still known as ours."""
    for entry in sorted(path.iterdir(), key=lambda entry: entry.name == CONFIG):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def lock(path: Path) -> int | None:
    """A lock on the folder that the kernel drops with the process; None where folders cannot be locked."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(descriptor)
            raise OptionError(
                f"Another atomml process is writing into {path}: wait for it or stop it."
            ) from error
    return descriptor
