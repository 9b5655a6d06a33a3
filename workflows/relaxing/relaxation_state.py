"""Files of a relaxation and the whole state of an ASE optimiser: a resumed run gives the same bits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atomml.errors import CheckpointError
from atomml.files import write_atomic, write_atomic_with
from atomml.run import RunFolder

if TYPE_CHECKING:
    from ase import Atoms
    from ase.optimize.optimize import Optimizer
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

__all__ = [
    "LOG_HEAD",
    "RelaxationFiles",
    "log_line",
    "optimizer_state",
    "restore_optimizer",
    "write_relaxed",
]

LOG_HEAD = "step,energy_eV,max_force_eV_per_A,max_stress_GPa,pressure_GPa,volume_A3\n"
"""The first line of ``log.csv``."""

_RESTART = "restart.safetensors"
_FILES = ("log.csv", "trajectory.extxyz")
# What an optimiser holds beside its memory of the path: the atoms, files, callbacks.
_NOT_STATE = frozenset(
    {"atoms", "optimizable", "logfile", "trajectory", "observers", "comm", "restart", "fmax"}
)


class RelaxationFiles:
    """``log.csv`` and ``trajectory.extxyz``, appended step by step, and the restart file.

    Attributes:
        step: Step of the restart file; None where the run starts at the beginning.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.step: int | None = None
        self._arrays: Arrays = {}
        self._header: dict[str, Any] = {}
        if run.file(_RESTART).exists():
            self._read()
        sizes = self._header.get("sizes", {})
        self._descriptors: dict[str, int] = {}
        for name in _FILES:
            descriptor = os.open(run.file(name), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._descriptors[name] = descriptor
            if os.fstat(descriptor).st_size < sizes.get(name, 0):
                raise CheckpointError(f"{run.file(name)} is shorter than the run left it: use --overwrite.")
            os.ftruncate(descriptor, sizes.get(name, 0))

    def append(self, name: str, text: str) -> None:
        """Add whole lines to one of the files."""
        view = memoryview(text.encode())
        while view:
            view = view[os.write(self._descriptors[name], view) :]

    def save(
        self,
        step: int,
        atoms: Atoms,
        optimizer: Optimizer,
        facts: Mapping[str, Any],
        more: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Write the restart file: geometry, optimiser, how far the other files go, and ``more`` arrays."""
        from atomml.checkpoint import save_state

        for descriptor in self._descriptors.values():
            os.fsync(descriptor)
        arrays, plain = optimizer_state(optimizer)
        arrays |= {"atoms.positions": atoms.positions.copy(), "atoms.cell": atoms.cell.array.copy()}
        arrays |= more or {}
        sizes = {name: os.fstat(descriptor).st_size for name, descriptor in self._descriptors.items()}
        header = {"step": step, "sizes": sizes, "optimizer": plain, "facts": dict(facts)}
        save_state(self.run.file(_RESTART), arrays, header)

    def restore(self, atoms: Atoms, optimizer: Optimizer) -> dict[str, Any]:
        """Put geometry and optimiser back as they were saved; returns the facts saved with them."""
        atoms.set_cell(self._arrays["atoms.cell"], apply_constraint=False)
        atoms.set_positions(self._arrays["atoms.positions"], apply_constraint=False)
        restore_optimizer(optimizer, self._arrays, self._header["optimizer"])
        return dict(self._header["facts"])

    def saved(self, name: str) -> NDArray[Any]:
        """An array that was saved beside the geometry.

        Raises:
            CheckpointError: The restart file is of a run that saved none.
        """
        if name not in self._arrays:
            raise CheckpointError(f"{self.run.file(_RESTART)} holds no {name}: start anew with --overwrite.")
        return self._arrays[name]

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors = {}

    def _read(self) -> None:
        from atomml.checkpoint import load_state

        state = load_state(self.run.file(_RESTART))
        self._arrays, self._header = state.arrays, state.header
        self.step = int(self._header["step"])


def log_line(*values: float | None) -> str:
    """A line of ``log.csv``; what is None is left empty."""
    return ",".join("" if value is None else repr(value) for value in values) + "\n"


def write_relaxed(run: RunFolder, relaxed: Atoms, frame: str) -> None:
    """``relaxed.extxyz`` with this frame, and ``relaxed.cif`` of a crystal."""
    write_atomic(run.file("relaxed.extxyz"), frame)
    if relaxed.pbc.all():
        from ase.io import write

        write_atomic_with(run.file("relaxed.cif"), lambda stream: write(stream, relaxed, format="cif"))


def optimizer_state(optimizer: Any) -> tuple[Arrays, dict[str, Any]]:
    """Everything that an optimiser remembers of its path: arrays by name, and the rest fit for JSON.

    Read off its attributes, so that it holds for any ASE optimiser whose memory is numbers,
    arrays, lists of them, or one object of such (``BFGSMethod``, ``LBFGSMethod``).
    """
    arrays: Arrays = {}
    plain = {
        name: _pack(value, f"optimizer.{name}", arrays)
        for name, value in vars(optimizer).items()
        if name not in _NOT_STATE and _is_state(value)
    }
    return arrays, plain


def restore_optimizer(optimizer: Any, arrays: Mapping[str, NDArray[Any]], plain: Mapping[str, Any]) -> None:
    """Undo :func:`optimizer_state` on a fresh optimiser of the same kind."""
    for name, packed in plain.items():
        if isinstance(packed, dict) and "object" in packed:
            if getattr(optimizer, name, None) is None:
                setattr(optimizer, name, _fresh(packed["object"], optimizer))
            restore_optimizer(getattr(optimizer, name), arrays, packed["state"])
        else:
            setattr(optimizer, name, _unpack(packed, arrays))


def _is_state(value: Any) -> bool:
    import numpy as np

    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fiub"
    if isinstance(value, list):
        return all(_is_state(item) for item in value)
    return type(value).__module__.startswith("ase.") and type(value).__name__.endswith("Method")


def _pack(value: Any, name: str, arrays: Arrays) -> Any:
    import numpy as np

    if isinstance(value, np.ndarray):
        arrays[name] = value.copy()
        return {"array": name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return [_pack(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    state = {
        key: _pack(item, f"{name}.{key}", arrays) for key, item in vars(value).items() if _is_state(item)
    }
    return {"object": type(value).__name__, "state": state}


def _unpack(packed: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(packed, dict):
        return arrays[packed["array"]].copy()
    if isinstance(packed, list):
        return [_unpack(item, arrays) for item in packed]
    return packed


def _fresh(kind: str, optimizer: Any) -> Any:
    """The object that BFGS makes at its first step; the only one that is not there from the start."""
    if kind != "BFGSMethod":
        raise CheckpointError(f"The restart file holds a {kind}, which this version cannot restore.")
    from ase.optimize.bfgs import BFGSMethod

    return BFGSMethod(optimizer.H0)
