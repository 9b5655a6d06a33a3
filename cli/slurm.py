"""``atomml slurm WORKFLOW STRUCTURES ...``: the job array of a screen, one shard a task, as a script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomml.cli.screen import Screening, parse_screen
from atomml.config import option_specs
from atomml.errors import OptionError
from atomml.options import option

__all__ = ["SlurmOptions", "run", "slurm_script"]

_PLAIN = re.compile(r"[A-Za-z0-9_.:,%@/+-]+")


@dataclass(frozen=True)
class SlurmOptions:
    """Options of ``slurm`` beside those of the screen."""

    tasks: int = option(8, "tasks of the array: parts of the screen", minimum=1, maximum=1_000_000)
    at_once: int | None = option(None, "most tasks that run at the same time", minimum=1)
    cpus: int = option(4, "CPUs of a task", minimum=1)
    gpus: int = option(0, "GPUs of a task", minimum=0)
    memory: str = option("8G", "memory of a task, as Slurm writes it", metavar="SIZE")
    time: str = option("24:00:00", "time limit of a task, as Slurm writes it", metavar="D-HH:MM:SS")
    partition: str | None = option(None, "partition", metavar="NAME")
    account: str | None = option(None, "account", metavar="NAME")
    setup: str | None = option(None, "shell lines before atomml: 'module load python'", metavar="LINES")
    script: str | None = option(None, "file to write; standard output if not given", metavar="FILE")


def run(name: str, argv: Sequence[str]) -> int:
    """Parse the screen as ``atomml screen`` would, and write the script; returns the exit code."""
    from atomml.cli.display import say

    about = (
        "The script of a Slurm job array for 'atomml screen' with the same words: submit it with sbatch, "
        "as often as needed; each task goes on where it was stopped. Gather with 'atomml screen --merge'."
    )
    screening, values = parse_screen(name, argv, option_specs(SlurmOptions), about)
    if screening.values["shard"] is not None or screening.values["merge"]:
        raise OptionError("atomml slurm gives each task its shard: leave out --shard and --merge.")
    options = SlurmOptions(**values)
    text = slurm_script(screening, options, _screen_words(argv))
    if options.script is None:
        say(text.rstrip("\n"))
        return 0
    from atomml.files import write_atomic

    write_atomic(Path(options.script), text)
    say(f"written to {options.script}: sbatch {shlex.quote(options.script)}")
    return 0


def slurm_script(screening: Screening, options: SlurmOptions, words: Sequence[str]) -> str:
    """The script: directives, setup, the command of one task, and how to gather the shards.

    Args:
        screening: The screen.
        options: What a task gets.
        words: Words of ``atomml screen`` without ``--out``, ``--shard`` and ``--resume``.

    Raises:
        OptionError: A value that a directive cannot hold, or a word with the end of a line.
    """
    folder = str(screening.folder)
    for word in (*words, folder):
        if any(mark in word for mark in "\n\r\0"):  # the comment at the end would end there
            raise OptionError(f"{word[:60]!r} holds the end of a line: no Slurm script is written with it.")
    workers = str(1 if options.gpus else options.cpus)
    command = ["atomml", "screen", *words]
    if screening.values["workers"] is None:
        command += ["--workers", workers]
    if options.gpus and "device" not in vars(screening.found):
        command += ["--device", "cuda"]
    shard = f'"${{SLURM_ARRAY_TASK_ID}}/{options.tasks}"'
    gather = shlex.join(["atomml", "screen", *words, "--out", folder, "--resume", "--merge"])
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH --{key}={_directive(key, value)}" for key, value in _directives(screening, options)),
            "",
            "set -euo pipefail",
            'cd "${SLURM_SUBMIT_DIR}"',
            *([options.setup] if options.setup else []),
            "",
            f"mkdir -p {shlex.quote(folder)}",
            f"{shlex.join([*command, '--out', folder])} \\",
            f"    --resume --shard {shard} || test $? -eq 3  # 3: done, and some rows failed",
            "",
            "# When all tasks are done, gather their results:",
            f"#   {gather}",
            "",
        ]
    )


def _directives(screening: Screening, options: SlurmOptions) -> list[tuple[str, Any]]:
    limit = f"%{options.at_once}" if options.at_once else ""
    found: list[tuple[str, Any]] = [
        ("job-name", f"atomml-{screening.workflow}"),
        ("array", f"1-{options.tasks}{limit}"),
        ("ntasks", 1),
        ("cpus-per-task", options.cpus),
        ("mem", options.memory),
        ("time", options.time),
        ("output", "slurm-%A_%a.out"),
    ]
    if options.gpus:
        found.append(("gpus-per-task", options.gpus))
    more = {"partition": options.partition, "account": options.account}
    return [*found, *((key, value) for key, value in more.items() if value is not None)]


def _directive(key: str, value: Any) -> str:
    """A value of a directive, which ends at a blank and knows no quotes."""
    text = str(value)
    if not text or any(not (mark.isalnum() or mark in "-_.:,%@/+") for mark in text):
        raise OptionError(
            f"--{key} {text!r} cannot stand in a Slurm script: letters, digits and -_.:,%@/+ can."
        )
    return text


def _screen_words(argv: Sequence[str]) -> list[str]:
    """The words of the screen: without the flags of ``slurm``, the folder, and what the script adds."""
    specs = option_specs(SlurmOptions)
    with_value = {spec.flag for spec in specs.values()} | {"--out"}
    alone = {"--resume", "--overwrite", "--dry-run", "--json", "--debug"}
    words: list[str] = []
    skip = False
    for word in argv:
        flag = word.split("=", 1)[0]
        if skip:
            skip = False
        elif flag in with_value:
            skip = "=" not in word
        elif word not in alone:
            words.append(word)
    return words
