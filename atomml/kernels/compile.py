"""Compiling at first use: kept in the user's cache folder, announced once, no global setting touched."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config as numba_config

__all__ = ["INNER", "Kernel", "cache_folder", "kernel", "source_digest"]

INNER = {"error_model": "numpy", "no_cfunc_wrapper": True, "forceinline": True}
"""Options of functions that kernels call.

They are inlined by force. A function that is not leaves a weak symbol in each kernel, and the one that was
loaded first serves them all: a process that compiles would then run other code, with other last bits, than
one that loads from the cache, and a resumed run would not be the unbroken one.
"""

logger = logging.getLogger(__name__)
_lock = threading.RLock()
_OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def cache_folder() -> Path:
    """Where compiled kernels are kept: ``$ATOMML_CACHE``, else ``$XDG_CACHE_HOME/atomml`` or its default."""
    chosen = os.environ.get("ATOMML_CACHE")
    if chosen:
        return Path(chosen) / "kernels"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "atomml" / "kernels"


@functools.cache
def source_digest(folder: Path | None = None) -> str:
    """Digest of the code in this folder and in another: what is inlined must not outlive a change here."""
    digest = hashlib.sha256()
    for place in (Path(__file__).parent, *([folder] if folder else [])):
        for path in sorted(place.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Kernel:
    """A function compiled by numba at its first call with given argument types.

    The compiled code releases the GIL and lands in :func:`cache_folder`; a folder that
    cannot be written means compiling anew in each process, not an error.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.py_func = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self._dispatcher = _make_dispatcher(function, options)
        self._ready: set[tuple[Any, ...]] = set()

    @property
    def dispatcher(self) -> Any:
        """The numba function, for calls from other kernels."""
        return self._dispatcher

    def __call__(self, *arguments: Any) -> Any:
        """Call the compiled function; compiles (and says so) if these types are new."""
        return self.ready(arguments)(*arguments)

    def ready(self, arguments: tuple[Any, ...]) -> Any:
        """The compiled function for arguments like these; several threads may then call it."""
        key = tuple((type(a), getattr(a, "dtype", None), getattr(a, "ndim", None)) for a in arguments)
        if key not in self._ready:
            with _lock:  # two threads never compile the same
                if key not in self._ready:
                    self._compile_announced(arguments)
                    self._ready.add(key)
        return self._dispatcher

    def _compile_announced(self, arguments: tuple[Any, ...]) -> None:
        """Compile or load from the cache; log only what was compiled."""
        hits = sum(self._dispatcher.stats.cache_hits.values())
        start = time.perf_counter()
        self._dispatcher.compile(tuple(numba.typeof(a) for a in arguments))
        if sum(self._dispatcher.stats.cache_hits.values()) == hits:
            seconds = time.perf_counter() - start
            logger.info("compiled %s in %.1f s; kept in %s", self.__name__, seconds, cache_folder())


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorator: compile at first use without the GIL, cached on the user's disk.

    ``options`` go to :func:`numba.njit`, for instance ``fastmath``.
    """
    if function is None:
        return lambda f: Kernel(f, **options)
    return Kernel(function, **options)


def _make_dispatcher(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """``numba.njit`` with its cache in our folder; numba's own setting is put back at once."""
    folder = cache_folder() / source_digest()
    with _lock:
        before = numba_config.CACHE_DIR
        try:
            folder.mkdir(parents=True, exist_ok=True)
            cached = os.access(folder, os.W_OK)
            if cached:
                numba_config.CACHE_DIR = str(folder)
            return numba.njit(
                nogil=True, error_model="numpy", cache=cached, no_cfunc_wrapper=True, **options
            )(function)
        except OSError:
            return numba.njit(nogil=True, error_model="numpy", **options)(function)
        finally:
            numba_config.CACHE_DIR = before
