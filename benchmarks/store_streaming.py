"""How fast a store is built, opened and read at random: ``python benchmarks/store_streaming.py``.

Frames are rattled crystals of a few atoms with energy, forces and stress. Reading is in the
random order of a training run, in one process and in several, from a file that is in the page
cache and, with ``--drop``, from one that is not. The last line is JSON.

``--frames 1000000`` is the size that matters; the default takes some seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from atomml.data.entry import Entry, Labels
from atomml.data.store import StoreDataset, write_store


def frames(n_frames: int, n_atoms: int, seed: int = 0) -> Iterator[Entry]:
    """``n_frames`` entries of about ``n_atoms`` atoms; a few structures, each with labels of its own."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(max(n_atoms // 2, 1), n_atoms + n_atoms // 2 + 1, 64)
    pool = []
    for size in sizes:
        numbers = generator.integers(1, 90, size)
        pool.append(Atoms(numbers, generator.random((size, 3)) * 10, cell=np.eye(3) * 10, pbc=True))
    for index in range(n_frames):
        atoms = pool[index % len(pool)]
        forces = generator.random((len(atoms), 3))
        labels = Labels(float(index), forces, np.eye(3) * 0.01)
        yield Entry(atoms, labels, source="benchmark", frame=index, group="made")


def read(path: Path, n_reads: int, seed: int) -> tuple[float, int]:
    """Seconds for that many random reads, and the resident memory afterwards (bytes)."""
    store = StoreDataset(path)
    order = np.random.default_rng(seed).integers(0, len(store), n_reads)
    started = time.perf_counter()
    for index in order:
        entry = store[int(index)]
        assert entry.frame == index
    seconds = time.perf_counter() - started
    return seconds, resident()


def resident() -> int:
    """Resident memory that is this process's own (bytes): pages of the mapped file belong to the kernel."""
    fields = {
        line.split(":")[0]: line.split()[1]
        for line in Path("/proc/self/status").read_text("utf-8").splitlines()
        if line.startswith("Rss")
    }
    return 1024 * int(fields["RssAnon"])


def measure(
    path: Path, n_frames: int, n_atoms: int, n_reads: int, workers: int, drop: bool
) -> dict[str, Any]:
    """Build, open and read; everything by name with its unit."""
    before = resident()
    started = time.perf_counter()
    header = write_store(path, frames(n_frames, n_atoms))
    build = time.perf_counter() - started
    found: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "n_frames": n_frames,
        "n_atoms": header["n_atoms"],
        "file_GB": path.stat().st_size / 1e9,
        "build_frames_per_s": n_frames / build,
        "build_memory_MB": (resident() - before) / 1e6,
        "build_peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    started = time.perf_counter()
    sizes = StoreDataset(path).n_atoms
    found["open_and_sizes_ms"] = 1e3 * (time.perf_counter() - started)
    assert int(sizes.sum()) == header["n_atoms"]
    if drop:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
        seconds, _ = read(path, n_reads // 10, 1)
        found["random_cold_records_per_s"] = (n_reads // 10) / seconds
    seconds, memory = read(path, n_reads, 2)
    found["random_records_per_s"] = n_reads / seconds
    found["read_memory_MB"] = memory / 1e6
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.starmap(read, [(path, 10, seed) for seed in range(workers)])  # imports are not counted
        started = time.perf_counter()
        results = pool.starmap(read, [(path, n_reads, seed) for seed in range(workers)])
        seconds = time.perf_counter() - started
    found[f"random_records_per_s_{workers}_processes"] = workers * n_reads / seconds
    found["worker_memory_MB"] = max(memory for _, memory in results) / 1e6
    return found


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--atoms", type=int, default=8, help="atoms of a frame, on average")
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--drop", action="store_true", help="read from the disk too, not from the page cache")
    parser.add_argument("--folder", type=Path, help="where the store goes; a temporary folder if not given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "set.lmdb"
        found = measure(path, given.frames, given.atoms, given.reads, given.workers, given.drop)
    for name, value in found.items():
        print(f"{name:36s} {value:.4g}" if isinstance(value, float) else f"{name:36s} {value}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
