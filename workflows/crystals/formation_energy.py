"""Formation energies and energies above the hull: the options, the result, and the function."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import (
    DEFAULT_MODEL,
    GivenStructure,
    all_structures,
    check_covered,
    given_model,
    input_record,
)
from atomml.workflows.run_record import RunRequest, finish_run

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.workflows.crystals.phase_set import PhaseSet

__all__ = ["FormationOptions", "FormationResult", "evaluations", "formation"]

_RELAXATION = 30


@dataclass(frozen=True)
class FormationOptions:
    """Options of ``formation``."""

    phases: tuple[str, ...] = option(
        (), "competing phases beside the structures: files, folders or patterns", metavar="FILE,..."
    )
    start: str = option(
        "relaxed",
        "relax positions and cell of structures and phases, or take them as they are given",
        choices=("relaxed", "given"),
    )
    fmax: float = option(0.01, "largest force at which a relaxation is converged", unit="eV/Å", above=0)
    smax: float = option(0.05, "largest stress at which one is", unit="GPa", above=0)
    steps: int = option(500, "most steps of each relaxation", minimum=0)
    dtype: str = option("float64", "precision of the model", choices=("float32", "float64"))
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class FormationResult(Result):
    """What ``formation`` returns; the numbers of one structure are there if one was given.

    Attributes:
        formula: Reduced.
        energy_per_atom: eV/atom.
        formation_energy_per_atom: Energy less that of the elements' references, eV/atom.
        energy_above_hull_per_atom: 0 on the convex hull of the set, eV/atom.
        stable: Whether the structure lies on the hull.
        decomposition: What it would become: parts of the atoms and the phases of the hull.
        n_structures: Structures given.
        n_failed: Of them, those whose relaxation failed; their rows name the error.
        n_phases: Phases of the set, references and structures included.
        convention: What the energies are measured against.
        references: Element, phase, energy (eV/atom) and source of each reference.
        rows: Rows of ``results.csv``.
        phases: The set, with which hulls of other compositions can be made.
    """

    formula: str | None = None
    energy_per_atom: float | None = quantity("eV/atom", default=None)
    formation_energy_per_atom: float | None = quantity("eV/atom", default=None)
    energy_above_hull_per_atom: float | None = quantity("eV/atom", default=None)
    stable: bool | None = None
    decomposition: str | None = None
    n_structures: int = 0
    n_failed: int = 0
    n_phases: int = 0
    convention: str = ""
    references: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False})
    phases: PhaseSet | None = field(default=None, metadata={"summary": False}, repr=False)


def formation(
    structures: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: FormationOptions | None = None,
    **overrides: Any,
) -> FormationResult:
    """Formation energy of crystals from the elements, and energy above the hull of the set.

    The set is the structures themselves, the phases of ``--phases``, and the published structure of
    each element; all of them relaxed by the same model. What fails of several structures is a row.

    Args:
        structures: ``ase.Atoms``, a file, or several of either; files may hold many frames.
        model: Registered name, file, ``Potential`` or ASE calculator that gives a stress.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        options: All options at once.
        **overrides: Fields of :class:`FormationOptions`, over those of ``options``.

    Raises:
        InputError: A structure, model or option that is wrong, or an element without a reference.
        RunFailedError: The model gave a number that is not finite for a reference or a phase.
    """
    from atomml.workflows.crystals.formation_measurement import FormationRun, measure
    from atomml.workflows.crystals.phase_set import given_phases, needed_references

    started = time.perf_counter()
    fields = as_config(options) if options else {}
    chosen = build_options(FormationOptions, fields | overrides)
    used = given_model(model, dtype=chosen.dtype, device=device)
    given = all_structures(structures)
    warnings: list[str] = []
    for one in given:
        _check_crystal(one)
        check_covered(one, used, warnings.append, chosen.allow_charge_mismatch)
    competing = given_phases(chosen.phases, used, warnings.append, chosen.allow_charge_mismatch)
    known = [one.atoms for one in (*given, *competing)]
    elements = needed_references({symbol for atoms in known for symbol in atoms.symbols}, known)
    request = RunRequest(out, resume, overwrite, device, seed)
    facts = {"structures": [one.label for one in given], **used.config()}
    with request.open("formation", chosen, warnings=warnings, **facts) as folder:
        result = measure(FormationRun(folder, given, competing, elements, used, chosen))
        inputs = [input_record(path) for path in dict.fromkeys(one.path for one in (*given, *competing))]
        seconds = time.perf_counter() - started
        finish_run(folder, result, model=used.record(), inputs=inputs, seconds=seconds)
        return result


def evaluations(options: FormationOptions, atoms: Atoms) -> int:
    """About how many times the model is asked for a structure, for ``--dry-run``; its references included."""
    return _RELAXATION * (1 + len(set(atoms.numbers.tolist()))) if options.start == "relaxed" else 1


def _check_crystal(given: GivenStructure) -> None:
    from atomml.workflows.crystals.crystal import check_crystal

    check_crystal(given)
