"""A phase of work split over threads: compiled kernels release the GIL, so plain threads do.

One pool a process, made at first use and again after a fork. The split never changes a
result: a kernel sums inside one row of work only, always in the same order.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["run_ranges", "split_evenly", "split_weighted"]

_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def run_ranges(function: Callable[..., Any], bounds: list[int], *arguments: Any) -> None:
    """Call ``function(start, stop, *arguments)`` for each pair of neighbouring bounds, side by side.

    The first range runs in the calling thread. An exception of any range is raised here
    after all have ended.
    """
    pairs = list(itertools.pairwise(bounds))
    if len(pairs) == 1:
        function(*pairs[0], *arguments)
        return
    pool = _get_pool(len(pairs) - 1)
    futures = [pool.submit(function, start, stop, *arguments) for start, stop in pairs[1:]]
    try:
        function(*pairs[0], *arguments)
    finally:
        for future in futures:
            future.exception()
    for future in futures:
        future.result()


def split_evenly(n: int, n_parts: int, multiple: int = 1) -> list[int]:
    """Bounds of at most ``n_parts`` ranges over ``n`` items; inner bounds are multiples of ``multiple``."""
    inner = {min(n, round(n * i / n_parts / multiple) * multiple) for i in range(1, n_parts)}
    return [0, *sorted(inner - {0, n}), n]


def split_weighted(cumulative: NDArray[Any], n_parts: int) -> list[int]:
    """Bounds that give each range about the same weight.

    Args:
        cumulative: ``(n_items + 1,)`` weight before each item; the last entry is the total.
        n_parts: Number of ranges at most.
    """
    n = len(cumulative) - 1
    targets = cumulative[-1] * np.arange(1, n_parts) / n_parts
    inner = {int(i) for i in np.searchsorted(cumulative, targets)}
    return [0, *sorted(inner - {0, n}), n]


def _get_pool(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    if _pool is None or _pool_size < size:
        _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="atomml-kernel"), size
    return _pool


def _forget_pool() -> None:
    """A forked child has the pool's object but not its threads."""
    global _pool, _pool_size
    _pool, _pool_size = None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
