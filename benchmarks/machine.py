"""What a figure was measured on: printed at the head of every benchmark, and kept in RESULTS.md."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["children_seconds", "describe", "limit_threads", "product_rate"]


def limit_threads(count: int) -> None:
    """CPU threads of whatever is imported after this call."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(count)


def describe(*packages: str) -> None:
    """Print processor, cores, Python, the packages' versions and the command."""
    found = [f"{name} {_version(name)}" for name in ("atomml", "torch", "numpy", *packages)]
    print(f"# {_processor()}, {os.cpu_count()} cores, Linux {platform.release()}"[:110])
    print(f"# Python {platform.python_version()}, {', '.join(found)}")
    print(f"# python {' '.join([str(Path(sys.argv[0]).name), *sys.argv[1:]])}")


def children_seconds() -> float:
    """CPU seconds of all child processes that have ended."""
    import resource

    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def product_rate(rounds: int = 10) -> float:
    """GFLOP/s of a float32 matrix product 28,000 x 64 by 64 x 128 with torch's threads; the best of some."""
    import time

    import torch

    left, right = torch.randn(28_000, 64), torch.randn(64, 128)
    best = 1e9
    for _ in range(rounds):
        start = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - start)
    return 2 * 28_000 * 64 * 128 / best / 1e9


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
