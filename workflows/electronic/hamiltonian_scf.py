"""Self-consistent fields started from predicted matrices: ``atomml hamiltonian scf``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.config import build_options
from atomml.electronic.scf_settings import ScfTolerance
from atomml.errors import LabelError
from atomml.files import write_table
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.electronic.molecule_runs import molecule_run

__all__ = ["HamiltonianScfOptions", "HamiltonianScfResult", "scf_hamiltonian"]

_SAME_STATE = 1e-6
"""Hartree: two SCFs of one molecule that end further apart have found different states."""


@dataclass(frozen=True)
class HamiltonianScfOptions(ScfTolerance):
    """Options of ``hamiltonian scf``."""

    max_cycle: int = option(100, "most cycles of an SCF", minimum=1)
    compare: bool = option(
        True, "run PySCF from its own guess too, and compare: without, another state goes unnoticed"
    )
    check: bool = option(True, "drop a guess that one Fock build shows to be poor")
    device: str = option("auto", "device of the model")


@dataclass(kw_only=True)
class HamiltonianScfResult(Result):
    """What the SCFs found and what they took.

    Attributes:
        n_molecules: Molecules.
        level: Functional and basis.
        energy: Of the only molecule, Eh.
        mean_cycles, mean_default_cycles: PySCF's counts from the prediction and from its own guess.
        mean_builds, mean_default_builds: Fock matrices, those of prior and check included.
        cycle_ratio, build_ratio, time_ratio: Of the sums over molecules that converged from both guesses;
            below 1 is a gain.
        largest_difference: Between the energies of both, Eh.
        n_dropped: Guesses that were dropped for the default.
        n_other_states: Molecules for which the two SCFs ended in different states; None if nobody looked.
        rows: A row for each molecule.
    """

    n_molecules: int = 0
    level: str = ""
    energy: float | None = quantity("Eh", default=None)
    mean_cycles: float = quantity(default=0.0)
    mean_builds: float = quantity(default=0.0)
    mean_default_cycles: float | None = quantity(default=None)
    mean_default_builds: float | None = quantity(default=None)
    cycle_ratio: float | None = quantity(default=None)
    build_ratio: float | None = quantity(default=None)
    time_ratio: float | None = quantity(default=None)
    largest_difference: float | None = quantity("Eh", default=None)
    n_dropped: int = 0
    n_other_states: int | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)


def scf_hamiltonian(
    structures: Any,
    model: Any,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> HamiltonianScfResult:
    """Converge molecules from predicted matrices, and count what that takes.

    Args:
        structures: Files, ``FILE@INDEX``, ``ase.Atoms``, SMILES, or several of these.
        model: A checkpoint, or a model.
        out: The run folder; None leaves nothing behind.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`HamiltonianScfOptions`.

    Raises:
        InputError: A molecule, model or option that is wrong.
        RunFailedError: An SCF that did not converge.
    """
    settings = build_options(HamiltonianScfOptions, options)
    with molecule_run("hamiltonian scf", structures, model, settings, out, overwrite) as job:
        run, predictor = job.run, job.predictor
        result = HamiltonianScfResult(n_molecules=len(job.given), level=predictor.level.name)
        for _, one in job.molecules():
            result.rows.append(_row(one, predictor, settings))
        _sum_up(result, settings.compare)
        lost = sum(settings.compare and row["difference_Eh"] is None for row in result.rows)
        if lost:
            run.warn(
                f"From PySCF's own guess {lost} molecules did not converge in {settings.max_cycle} cycles: "
                "ratios and comparisons leave them out (difference_Eh is empty in results.csv)."
            )
        if result.n_other_states:
            run.warn(
                f"{result.n_other_states} molecules ended in another state from the prediction than from "
                "PySCF's guess (other_state in results.csv): the lower energy is the better one."
            )
        write_table(run.file("results.csv"), result.rows, list(result.rows[0]))
        job.finish(result)
    return result


def _row(one: Any, predictor: Any, settings: HamiltonianScfOptions) -> dict[str, Any]:
    """One molecule from both guesses."""
    from atomml.electronic.mean_field import quiet
    from atomml.electronic.orbital_levels import dm_from
    from atomml.electronic.scf_start import run_scf

    with quiet():
        begun = time.perf_counter()
        field_ = predictor.level.mean_field(one.atoms)
        predicted = predictor(one.atoms, field_)
        density = dm_from(predicted.matrix, field_.mol)
        spent = time.perf_counter() - begun
        ours = run_scf(
            field_, density, "prediction", check=settings.check, spent=spent, builds=predicted.fock_builds
        )
        if not ours.converged:
            raise LabelError(
                f"{one.label}: the SCF did not converge in {settings.max_cycle} cycles, nor from PySCF's own "
                "guess: raise --max-cycle."
            )
        row: dict[str, Any] = {
            "molecule": one.label,
            "formula": str(one.atoms.get_chemical_formula()),
            "energy_Eh": ours.energy,
            "guess": ours.guess,
            "cycles": ours.cycles,
            "fock_builds": ours.fock_builds,
            "seconds": ours.seconds,
        }
        if settings.compare:
            theirs = run_scf(predictor.level.mean_field(one.atoms), None, "default")
            row |= {
                "default_cycles": theirs.cycles,
                "default_builds": theirs.fock_builds,
                "default_seconds": theirs.seconds,
                "difference_Eh": ours.energy - theirs.energy if theirs.converged else None,
                "other_state": abs(ours.energy - theirs.energy) > _SAME_STATE if theirs.converged else None,
            }
    return row


def _sum_up(result: HamiltonianScfResult, compared: bool) -> None:
    rows, n = result.rows, len(result.rows)
    total = {key: sum(row[key] for row in rows) for key in ("cycles", "fock_builds", "seconds")}
    result.mean_cycles, result.mean_builds = total["cycles"] / n, total["fock_builds"] / n
    result.n_dropped = sum(row["guess"] != "prediction" for row in rows)
    result.energy = rows[0]["energy_Eh"] if n == 1 else None
    rows = [row for row in rows if compared and row["difference_Eh"] is not None]
    if not rows:
        return
    n, total = len(rows), {key: sum(row[key] for row in rows) for key in ("cycles", "fock_builds", "seconds")}
    other = {key: sum(row[f"default_{key}"] for row in rows) for key in ("cycles", "builds", "seconds")}
    result.mean_default_cycles, result.mean_default_builds = other["cycles"] / n, other["builds"] / n
    result.cycle_ratio = total["cycles"] / max(other["cycles"], 1)
    result.build_ratio = total["fock_builds"] / max(other["builds"], 1)
    result.time_ratio = total["seconds"] / other["seconds"]
    result.largest_difference = max(abs(row["difference_Eh"]) for row in rows)
    result.n_other_states = sum(row["other_state"] for row in rows)
