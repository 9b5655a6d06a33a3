"""``atomml slurm WORKFLOW STRUCTURES ...``: a job array, one shard a task, as a script.

The array is that of a screen, or of ``ligand-strain`` where that is named first.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomml.cli.ligand_strain import parse_poses
from atomml.cli.screen import parse_screen
from atomml.config import option_specs
from atomml.errors import OptionError
from atomml.options import option

__all__ = ["Sharded", "SlurmOptions", "run", "slurm_script"]

_LIGANDS = "ligand-strain"
_ALSO = "With ligand-strain in place of WORKFLOW, the array is that of 'atomml ligand-strain'."


@dataclass(frozen=True)
class SlurmOptions:
    """Options of ``slurm`` beside those of the command."""

    tasks: int = option(8, "tasks of the array: parts of the whole", minimum=1, maximum=1_000_000)
    at_once: int | None = option(None, "most tasks that run at the same time", minimum=1)
    cpus: int = option(4, "CPUs of a task", minimum=1)
    gpus: int = option(0, "GPUs of a task", minimum=0)
    memory: str = option("8G", "memory of a task, as Slurm writes it", metavar="SIZE")
    time: str = option("24:00:00", "time limit of a task, as Slurm writes it", metavar="D-HH:MM:SS")
    partition: str | None = option(None, "partition", metavar="NAME")
    account: str | None = option(None, "account", metavar="NAME")
    setup: str | None = option(None, "shell lines before atomml: 'module load python'", metavar="LINES")
    script: str | None = option(None, "file to write; standard output if not given", metavar="FILE")


@dataclass(frozen=True)
class Sharded:
    """A command that can be done in shards.

    Attributes:
        name: Of the job.
        words: Of ``atomml``, without ``--out``, ``--shard`` and ``--resume``.
        folder: Its run folder.
        values: Every option's value.
        given: Names of the options that the command line itself gives.
    """

    name: str
    words: tuple[str, ...]
    folder: str
    values: Mapping[str, Any]
    given: frozenset[str]


def run(name: str, argv: Sequence[str]) -> int:
    """Parse the command as ``atomml`` itself would, and write the script; returns the exit code."""
    from atomml.cli.display import say

    command, values = _parse(name, argv)
    if command.values["shard"] is not None or command.values["merge"]:
        raise OptionError("atomml slurm gives each task its shard: leave out --shard and --merge.")
    options = SlurmOptions(**values)
    text = slurm_script(command, options)
    if options.script is None:
        say(text.rstrip("\n"))
        return 0
    from atomml.files import write_atomic

    write_atomic(Path(options.script), text)
    say(f"written to {options.script}: sbatch {shlex.quote(options.script)}")
    return 0


def _parse(name: str, argv: Sequence[str]) -> tuple[Sharded, dict[str, Any]]:
    """The command whose words these are, and the values of the options of ``slurm``."""
    specs = option_specs(SlurmOptions)
    words = _words(argv)
    if argv and argv[0] == _LIGANDS:
        poses, own = parse_poses(f"atomml {name} {_LIGANDS}", argv[1:], specs, _about(_LIGANDS))
        given = frozenset(vars(poses.found))
        return Sharded(f"atomml-{_LIGANDS}", tuple(words), str(poses.folder), poses.values, given), own
    found, own = parse_screen(name, argv, specs, f"{_about('screen')} {_ALSO}", (_LIGANDS,))
    given = frozenset(vars(found.found))
    job = f"atomml-{found.workflow}"
    return Sharded(job, ("screen", *words), str(found.folder), found.values, given), own


def _about(command: str) -> str:
    return (
        f"The script of a Slurm job array for 'atomml {command}' with the same words: submit it with sbatch, "
        f"as often as needed; each task goes on where it was stopped. Gather with 'atomml {command} --merge'."
    )


def slurm_script(command: Sharded, options: SlurmOptions) -> str:
    """The script: directives, setup, the command of one task, and how to gather the shards.

    Args:
        command: What is done in shards.
        options: What a task gets.

    Raises:
        OptionError: A value that a directive cannot hold, or a word with the end of a line.
    """
    folder = command.folder
    for word in (*command.words, folder):
        if any(mark in word for mark in "\n\r\0"):  # the comment at the end would end there
            raise OptionError(f"{word[:60]!r} holds the end of a line: no Slurm script is written with it.")
    words = ["atomml", *command.words]
    if command.values["workers"] is None:
        words += ["--workers", str(1 if options.gpus else options.cpus)]
    if options.gpus and "device" not in command.given:
        words += ["--device", "cuda"]
    shard = f'"${{SLURM_ARRAY_TASK_ID}}/{options.tasks}"'
    gather = shlex.join(["atomml", *command.words, "--out", folder, "--resume", "--merge"])
    directives = [f"#SBATCH --{key}={_directive(key, value)}" for key, value in _directives(command, options)]
    return "\n".join(
        [
            "#!/bin/bash",
            *directives,
            "",
            "set -euo pipefail",
            'cd "${SLURM_SUBMIT_DIR}"',
            *([options.setup] if options.setup else []),
            "",
            f"mkdir -p {shlex.quote(folder)}",
            f"{shlex.join([*words, '--out', folder])} \\",
            f"    --resume --shard {shard} || test $? -eq 3  # 3: done, and some rows failed",
            "",
            "# When all tasks are done, gather their results:",
            f"#   {gather}",
            "",
        ]
    )


def _directives(command: Sharded, options: SlurmOptions) -> list[tuple[str, Any]]:
    limit = f"%{options.at_once}" if options.at_once else ""
    found: list[tuple[str, Any]] = [
        ("job-name", command.name),
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


def _words(argv: Sequence[str]) -> list[str]:
    """The words of the command: without the flags of ``slurm``, the folder, and what the script adds."""
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
