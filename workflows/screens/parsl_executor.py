"""Workers that Parsl runs, on this machine or as jobs of Slurm; all that is known of Parsl is in this file.

Parsl starts two programs of its own that it looks for on PATH, where an environment that was never activated
does not have them: here this interpreter runs them as the modules that they are.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from atomml.errors import MissingExtraError
from atomml.worker_pool import THREAD_VARIABLES

__all__ = ["parsl_executor"]

_PROGRAMS = "parsl.executors.high_throughput"


@contextmanager
def parsl_executor(workers: int, threads: int = 1, provider: Any = None) -> Iterator[Executor]:
    """An executor of Parsl's, started, and stopped when the block is left.

    Args:
        workers: Processes of each node.
        threads: CPU threads of each of them.
        provider: One of Parsl's providers, such as ``parsl.providers.SlurmProvider``; this machine if None.

    Raises:
        MissingExtraError: Parsl is not installed.
    """
    try:
        import parsl
        from parsl.concurrent import ParslPoolExecutor
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider
    except ImportError as error:
        raise MissingExtraError(
            f"Parsl cannot be imported ({error}): pip install 'atomml[hpc]', or use --executor pool."
        ) from error
    del parsl
    exports = [f"export {name}={threads}" for name in THREAD_VARIABLES]
    exports.append(f"export PYTHONPATH='{_quoted(os.pathsep.join(filter(None, sys.path)))}'")
    with tempfile.TemporaryDirectory(prefix="atomml-parsl-") as folder:
        executor = HighThroughputExecutor(
            label="atomml",
            address="127.0.0.1" if provider is None else None,
            max_workers_per_node=workers,
            cores_per_worker=1e-3,  # as many workers as were asked for, whatever the node says of cores
            encrypted=False,
            interchange_launch_cmd=[sys.executable, "-m", f"{_PROGRAMS}.interchange"],
            provider=provider or LocalProvider(init_blocks=1, max_blocks=1, worker_init="\n".join(exports)),
        )
        pool_program = f"{shlex.quote(sys.executable)} -m {_PROGRAMS}.process_worker_pool"
        executor.launch_cmd = executor.launch_cmd.replace("process_worker_pool.py", pool_program, 1)
        config = Config(executors=[executor], run_dir=folder, usage_tracking=0, initialize_logging=False)
        with ParslPoolExecutor(config) as pool:
            yield pool


def _quoted(text: str) -> str:
    """Text as it may stand between single quotes of a shell."""
    return text.replace("'", "'\"'\"'")
