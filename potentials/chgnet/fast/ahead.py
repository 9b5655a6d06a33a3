"""The first time ever, a second process compiles the kernels of the way back while the first goes forwards.

numba compiles one function at a time in a process. The helper finds the argument types by
walking through the engine's programme without running a kernel, compiles into the cache that both
share, and ends; whichever process comes to a kernel second loads it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from atomml.files import write_atomic
from atomml.graph.atom_graph import AtomGraph
from atomml.kernels.compile import cache_folder, source_digest

__all__ = ["compile_way_back", "start_helper"]


def start_helper(dtype: torch.dtype) -> None:
    """Start the helper, unless it has done its work before or there is one thread only.

    Anything that keeps it from working is no error: the caller then compiles all by itself.
    """
    marker = _marker(dtype)
    if marker.exists() or torch.get_num_threads() == 1:
        return
    command = [sys.executable, "-m", __name__, str(dtype).removeprefix("torch.")]
    threading.Thread(target=_run_quietly, args=(command,), daemon=True).start()


def compile_way_back(dtype: torch.dtype) -> list[str]:
    """Compile every kernel that the engine calls after the energies; returns their names."""
    from atomml.kernels import edges
    from atomml.kernels.arena import Arena
    from atomml.potentials.chgnet.fast import engine, geometry
    from atomml.potentials.chgnet.fast.weights import fold
    from atomml.potentials.chgnet.model import CHGNet

    done: list[str] = []
    wanted = False

    def compile_only(*calls: tuple[Any, ...]) -> None:
        """Stand in for :func:`run_together`: compile on the way back, run nothing."""
        for function, _, *arguments in calls if wanted else ():
            function.over_ranges(tuple(arguments))
            done.append(function.__name__)

    # This process does nothing else, so its modules may be bent: no kernel runs, topology runs as Python.
    vars(engine).update(run_together=compile_only, run_ranges=lambda *call: compile_only(call))
    for module, name in ((geometry, "topology"), (edges, "edge_vectors")):
        vars(module)[name] = vars(module)[name].py_func
    model = CHGNet.fresh("none", (14,), {}).to(dtype)
    run = engine.Run(fold(model), Arena(), _pair(), model.config)
    run.forwards()
    wanted = True
    run.backwards()
    if cache_folder().is_dir():
        write_atomic(_marker(dtype), "")
    return sorted(set(done))


def _pair() -> AtomGraph:
    """Two atoms that see each other, made by hand: a builder would compile kernels of its own."""
    return AtomGraph(
        numbers=torch.tensor([14, 14]),
        positions=torch.tensor([[0.0, 0.0, 0.0], [2.3, 0.0, 0.0]], dtype=torch.float64),
        cell=torch.zeros((1, 3, 3), dtype=torch.float64),
        pbc=torch.zeros((1, 3), dtype=torch.bool),
        batch=torch.zeros(2, dtype=torch.int64),
        edge_index=torch.tensor([[0, 1], [1, 0]]),
        edge_shift=torch.zeros((2, 3), dtype=torch.int32),
        edge_reverse=torch.tensor([1, 0]),
        cutoff=6.0,
        charge=torch.zeros(1, dtype=torch.float64),
        spin=torch.zeros(1, dtype=torch.float64),
    )


def _marker(dtype: torch.dtype) -> Path:
    """Stands in the cache folder once the helper has compiled this version of the kernels."""
    name = str(dtype).removeprefix("torch.")
    return cache_folder() / f"chgnet-{source_digest(Path(__file__).parent)}-{name}.compiled"


def _run_quietly(command: list[str]) -> None:
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return


if __name__ == "__main__":
    torch.set_num_threads(1)
    compile_way_back(getattr(torch, sys.argv[1]))
