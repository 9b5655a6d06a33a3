"""``atomml``: finds the command, calls it, and turns what happens into an exit code.

Nothing heavier than argparse is imported before a command is known, and then only that command's module.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple

from atomml import __version__
from atomml.errors import AtomMLError, OptionError

__all__ = ["COMMANDS", "Terminated", "main"]

EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class Command(NamedTuple):
    """A command: the module whose ``run(name, argv)`` does it, and one line of help."""

    module: str
    help: str


COMMANDS = {
    "predict": Command("atomml.cli.workflow", "energy, forces and stress of one or thousands of structures"),
    "relax": Command("atomml.cli.workflow", "relax positions, and the cell if wanted"),
    "md": Command("atomml.cli.workflow", "molecular dynamics: NVE, NVT, NPT, ramps, exact resume"),
    "eos": Command("atomml.cli.workflow", "energy against volume: equilibrium volume and bulk modulus"),
    "elastic": Command("atomml.cli.workflow", "elastic tensor, moduli, sound speeds, Debye temperature"),
    "diffusion": Command("atomml.cli.workflow", "diffusion coefficients, activation energy, conductivity"),
    "neb": Command("atomml.cli.workflow", "barrier between two minima: climbing-image nudged elastic band"),
    "phonons": Command("atomml.cli.workflow", "phonon bands, density of states, heat capacity, free energy"),
    "qha": Command("atomml.cli.workflow", "thermal expansion, C_p, Grueneisen parameter (quasi-harmonic)"),
    "strain": Command("atomml.cli.workflow", "stress against strain to failure, ideal strength"),
    "surface": Command("atomml.cli.workflow", "surface energies of all terminations, Wulff shape"),
    "vacancy": Command(
        "atomml.cli.workflow", "vacancies: formation energy on every site, size, concentration"
    ),
    "defect": Command("atomml.cli.workflow", "substitutions and antisites: formation energies"),
    "formation": Command("atomml.cli.workflow", "formation energy, energy above the hull, decomposition"),
    "ligand-strain": Command(
        "atomml.cli.ligand_strain", "what docked or crystal poses cost over their unbound minima"
    ),
    "rdf": Command("atomml.cli.trajectory", "radial distribution functions and neighbours of a trajectory"),
    "vdos": Command("atomml.cli.trajectory", "vibrational density of states from a trajectory's velocities"),
    "serve": Command("atomml.cli.workflow", "a model behind i-PI's socket: path integrals and more"),
    "evaluate": Command("atomml.cli.workflow", "errors of a model against labelled data, with intervals"),
    "train": Command("atomml.cli.train", "train a potential from fresh weights on labelled structures"),
    "finetune": Command("atomml.cli.train", "teach a published model your own calculations"),
    "learn": Command("atomml.cli.workflow", "a committee that asks for labels as it runs, and learns them"),
    "screen": Command("atomml.cli.screen", "one workflow on thousands of structures: one table"),
    "slurm": Command("atomml.cli.slurm", "write the Slurm job array of a screen or of ligand-strain"),
    "compare": Command("atomml.cli.compare", "one workflow with several models: one table and the spread"),
    "data": Command("atomml.cli.data", "labelled data: import, report, label, split"),
    "dft": Command("atomml.cli.dft", "density functionals of the suite: energies, forces, geometries"),
    "hamiltonian": Command(
        "atomml.cli.hamiltonian", "Kohn-Sham matrices: label, train, predict, start the next SCF"
    ),
    "property": Command("atomml.cli.property", "properties from structure: train, predict, evaluate, study"),
    "models": Command("atomml.cli.models", "list, info, verify, add, remove"),
    "check": Command("atomml.cli.check", "the physics that every model must pass, as a table"),
    "convert": Command("atomml.cli.convert", "a peer's weights to a checkpoint of ours"),
    "report": Command("atomml.cli.report", "write report.html of a run folder anew"),
    "doctor": Command("atomml.cli.doctor", "versions, device, known-bad pairs, a two-second self-test"),
}


class Terminated(BaseException):
    """SIGTERM, as an exception, so that files are closed whole on the way out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``atomml ARGV`` and return its exit code: 0, 1, 2, 3, 130 or 143, as the documentation says."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _sigterm_raises():
            return _dispatch(arguments)
    except SystemExit as stop:  # argparse after --help
        return stop.code if isinstance(stop.code, int) else 0
    except AtomMLError as error:
        return _report(error, str(error), error.exit_code, arguments)
    except KeyboardInterrupt as error:
        return _report(error, "interrupted (Ctrl-C).", EXIT_INTERRUPTED, arguments)
    except Terminated as error:
        return _report(error, "terminated (SIGTERM).", EXIT_TERMINATED, arguments)
    except BrokenPipeError:  # the reader of our output has gone: no more to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return _report(error, f"{what} (unexpected; --debug shows where).", EXIT_FAILED, arguments)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        if len(arguments) > 1 and arguments[0] == "help":
            return _dispatch([arguments[1], "--help"])
        sys.stdout.write(_overview())
        return 0 if arguments else EXIT_WRONG_INPUT
    name, *rest = arguments
    if name in ("-V", "--version"):
        sys.stdout.write(f"atomml {__version__}\n")
        return 0
    if name not in COMMANDS:
        from atomml.config import close_match

        kind = "option" if name.startswith("-") else "command"
        hint = close_match(name, COMMANDS, "'atomml --help' lists the commands.")
        raise OptionError(f"There is no {kind} {name!r}; {hint}")
    module = import_module(COMMANDS[name].module)
    return int(module.run(name, rest))


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: atomml COMMAND ...",
            "",
            "Atomistic machine learning: potentials, molecular dynamics and property workflows.",
            "",
            "commands:",
            *lines,
            "",
            "'atomml COMMAND --help' says more; 'atomml --version' prints the version.",
            "Exit codes: 0 done, 3 finished but not converged, 2 wrong input, 1 failed, "
            "130 Ctrl-C, 143 SIGTERM.",
            "",
        ]
    )


def _report(error: BaseException, sentence: str, code: int, arguments: list[str]) -> int:
    if "--debug" in arguments:
        import traceback

        traceback.print_exception(error)
    sys.stderr.write(f"atomml: {sentence}\n")
    return code


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM as an exception while the command runs; only the main thread may set that."""
    try:
        before = signal.signal(signal.SIGTERM, _terminate)
    except ValueError:  # not the main thread: whoever runs us owns the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not break the closing of files
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())
