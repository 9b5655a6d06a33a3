"""Compiling at first use: kept in the user's cache folder, announced once, no global setting touched."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import logging
import os
import platform
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core import config as numba_config
from numba.extending import intrinsic

__all__ = ["INNER", "Kernel", "cache_folder", "kernel", "source_digest"]

INNER = {"error_model": "numpy", "no_cfunc_wrapper": True, "forceinline": True}
"""Options of functions that kernels call.

They are inlined by force. A function that is not leaves a weak symbol in each kernel, and the one that was
loaded first serves them all: a process that compiles would then run other code, with other last bits, than
one that loads from the cache, and a resumed run would not be the unbroken one.
"""

logger = logging.getLogger(__name__)
_lock = threading.RLock()
_BOUNDS = np.zeros(1, np.int64)
_BOARD = np.zeros((1, 8), np.int64)
"""Arrays of the types that each loop over ranges is called with."""

_X86 = platform.machine().lower() in {"x86_64", "amd64", "i686", "i386"}
_FLUSH = 0x8040
"""Bits of the SSE control word: denormal results become zero, denormal arguments count as zero."""

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
        self._options = options
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
        return self._compiled(self._dispatcher, arguments)

    def over_ranges(self, arguments: tuple[Any, ...]) -> Any:
        """The compiled loop of :func:`_over_ranges` around a kernel whose first arguments are start and stop.

        ``arguments`` are those that follow these two. Several threads may call the result.
        """
        return self._compiled(self._loop, (_BOUNDS, _BOUNDS, _BOARD, 0, *arguments))

    @functools.cached_property
    def _loop(self) -> Any:
        """Made at first use: the body may name what stands below it in its module."""
        return _make_dispatcher(_over_ranges(self.py_func), self._options)

    def _compiled(self, dispatcher: Any, arguments: tuple[Any, ...]) -> Any:
        key = tuple([getattr(a, "dtype", None) for a in arguments])  # a kernel's arrays differ in no more
        if (dispatcher, key) not in self._ready:
            with _lock:  # two threads never compile the same
                if (dispatcher, key) not in self._ready:
                    self._compile_announced(dispatcher, arguments)
                    self._ready.add((dispatcher, key))
        return dispatcher

    def _compile_announced(self, dispatcher: Any, arguments: tuple[Any, ...]) -> None:
        """Compile or load from the cache; log only what was compiled."""
        hits = sum(dispatcher.stats.cache_hits.values())
        start = time.perf_counter()
        dispatcher.compile(tuple(numba.typeof(a) for a in arguments))
        if sum(dispatcher.stats.cache_hits.values()) == hits:
            seconds = time.perf_counter() - start
            logger.info("compiled %s in %.1f s; kept in %s", self.__name__, seconds, cache_folder())


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorator: compile at first use without the GIL, cached on the user's disk.

    ``options`` go to :func:`numba.njit`, for instance ``fastmath``.
    """
    if function is None:
        return lambda f: Kernel(f, **options)
    return Kernel(function, **options)


_LOOP = """
def {name}(bounds_, counter_, board_, row_):
    control_ = _flush_denormals()
    while True:
        position_ = _claim(counter_)
        if position_ >= len(bounds_) - 1:
            break
        board_[row_, 2] += 1
        start, stop = bounds_[position_], bounds_[position_ + 1]
        _publish(board_[row_], board_[row_, 1] + 1)
    _set_control(control_)
"""


def _over_ranges(function: Callable[..., Any]) -> Callable[..., None]:
    """A kernel whose body is done for range after range, taken from a shared counter without the GIL.

    Its arguments are ``bounds, counter, board, row``, then those of the kernel behind start and stop; each
    range adds one to ``board[row, 2]`` when it is taken and to ``board[row, 1]`` when it is done. Numbers
    below the smallest normal one are zero in it (:func:`_flush_denormals`). The loop is written around the
    body, not around a call of it: what numba inlines, it optimises less.
    """
    body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    loop = ast.parse(_LOOP.format(name=f"{function.__name__}_over_ranges")).body[0]
    if not isinstance(body, ast.FunctionDef) or not isinstance(loop, ast.FunctionDef):
        raise TypeError(f"{function} is no function")
    turn = loop.body[1]
    if not isinstance(turn, ast.While) or any(isinstance(node, ast.Return) for node in ast.walk(body)):
        raise TypeError(f"{function} returns: it cannot be done range by range")
    turn.body[-1:-1] = body.body
    loop.args.args += body.args.args[2:]
    ast.increment_lineno(loop, function.__code__.co_firstlineno)
    ours = (_claim, _publish, _flush_denormals, _set_control)
    names = {**function.__globals__, **{one.__name__: one for one in ours}}
    code = compile(ast.Module([loop], []), function.__code__.co_filename, "exec")
    exec(code, names)
    return cast("Callable[..., None]", names[loop.name])


@intrinsic
def _flush_denormals(typingctx: Any) -> Any:
    """Let this thread's vector unit take denormal numbers for zero; its control word before.

    Gradients fade to such numbers, and processors that leave them to microcode (Intel's) then multiply a
    hundred times slower. They lie 1e-30 below all that counts. Off x86 the word is 0 and nothing changes.
    """

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        """Read the control word, write it back with both bits (results, arguments) set."""
        if not _X86:
            return ir.IntType(32)(0)
        place = cgutils.alloca_once(builder, ir.IntType(32))
        _call_with_place(builder, "llvm.x86.sse.stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, ir.IntType(32)(_FLUSH)), place)
        _call_with_place(builder, "llvm.x86.sse.ldmxcsr", place)
        return before

    return types.uint32(), emit


@intrinsic
def _set_control(typingctx: Any, word: Any) -> Any:
    """Give this thread's vector unit a control word of :func:`_flush_denormals`."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        """One load of the word."""
        if _X86:
            place = cgutils.alloca_once_value(builder, values[0])
            _call_with_place(builder, "llvm.x86.sse.ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.uint32), emit


def _call_with_place(builder: Any, name: str, place: Any) -> None:
    """Call an LLVM function of one pointer."""
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(function, [builder.bitcast(place, ir.IntType(8).as_pointer())])


@intrinsic
def _claim(typingctx: Any, counter: Any) -> Any:
    """Add one to the only entry of an int64 array, in one step for all threads; its value before."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        """One atomic addition."""
        view = context.make_array(signature.args[0])(context, builder, values[0])
        return builder.atomic_rmw("add", view.data, ir.IntType(64)(1), "acq_rel")

    return types.int64(counter), emit


@intrinsic
def _publish(typingctx: Any, row: Any, value: Any) -> Any:
    """Write the second entry of an int64 array; whoever reads it sees all that was written before."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        """One atomic store."""
        view = context.make_array(signature.args[0])(context, builder, values[0])
        builder.store_atomic(values[1], builder.gep(view.data, [ir.IntType(64)(1)]), "release", 8)
        return context.get_dummy_value()

    return types.void(row, types.int64), emit


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
            return numba.njit(**{**_OPTIONS, **options}, cache=cached)(function)
        except OSError:
            return numba.njit(**{**_OPTIONS, **options})(function)
        finally:
            numba_config.CACHE_DIR = before
