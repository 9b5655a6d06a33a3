"""A peer that answers in a process, and an environment, of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Peer", "interpreter"]


class Peer:
    """A process that reads a line of JSON and answers with one.

    Args:
        python: Interpreter of its environment.
        script: Its script, in this folder.
        arguments: Of the script.
        environment: Variables beside those of this process.
    """

    def __init__(
        self,
        python: Path,
        script: str,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self.process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name(script)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**inherited, **(environment or {})},
        )

    def send(self, given: dict[str, Any]) -> dict[str, Any]:
        """A line there, a line back."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(given) + "\n")
        self.process.stdin.flush()
        reply: dict[str, Any] = json.loads(self.process.stdout.readline())
        return reply

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def interpreter(folder: Path, packages: Sequence[str]) -> Path:
    """That of an environment with these packages; made by pip where there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python
