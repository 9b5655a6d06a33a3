"""What the manifest costs: items that do nothing, through run_jobs and through a bare ProcessPoolExecutor.

    python benchmarks/manifest_overhead.py [ITEMS] [WORKERS]

Prints seconds without the start of the workers, and what an item costs, as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from operator import neg
from pathlib import Path

from atomml.jobs import Item, run_jobs
from atomml.manifest import Manifest, digest_of
from atomml.worker_pool import WorkerPool


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _bare(n_items: int, workers: int) -> float:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(neg, range(4 * workers)))
        return _seconds(lambda: list(pool.map(neg, range(n_items))))


def _recorded(n_items: int, workers: int, folder: Path) -> tuple[float, float]:
    """Seconds of the first run, and of one that finds everything done."""
    items = [Item(f"{n:06d}", n, digest_of(str(n))) for n in range(n_items)]
    with WorkerPool(workers) as pool, Manifest(folder / "manifest.sqlite", "overhead") as manifest:
        for future in [pool.submit(neg, n) for n in range(4 * workers)]:
            future.result()
        first = _seconds(lambda: list(run_jobs(items, neg, manifest, executor=pool)))
        return first, _seconds(lambda: list(run_jobs(items, neg, manifest, executor=pool)))


def main() -> None:
    """Measure three times each, alternating; report the best."""
    n_items, workers = (int(word) for word in [*sys.argv[1:], *("1000", "2")[len(sys.argv) - 1 :]])
    bare, first, again = [], [], []
    for _ in range(3):
        bare.append(_bare(n_items, workers))
        with tempfile.TemporaryDirectory() as folder:
            seconds = _recorded(n_items, workers, Path(folder))
        first.append(seconds[0])
        again.append(seconds[1])
    report = {
        "items": n_items,
        "workers": workers,
        "process_pool_s": min(bare),
        "run_jobs_s": min(first),
        "run_jobs_again_s": min(again),
        "overhead_us_per_item": 1e6 * (min(first) - min(bare)) / n_items,
        "kept_us_per_item": 1e6 * min(again) / n_items,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
