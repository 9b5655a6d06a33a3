"""Ligand strain: what a bound pose costs over the unbound minimum of the same ligand, one or a library.

The protocol is that of StrainRelief (Cole et al., J. Chem. Inf. Model. (2025), doi:10.1021/acs.jcim.5c00586):
the pose is relaxed to a loose criterion, conformers to a tight one, and the strain is the difference. Here
the unbound side is searched once per ligand, and the search says how far it has converged.
"""

from __future__ import annotations

import time
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.config import as_config, build_options
from atomml.errors import OptionError
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import GivenModel, given_model
from atomml.workflows.run_record import open_with_options

__all__ = ["LigandStrainOptions", "LigandStrainResult", "check_choices", "ligand_strain", "threshold_for"]

DEFAULT_MODEL = "mmff94s"
_MAY_CHANGE = ("poses", "workers", "batch", "retry_failed", "merge", "executor", "device", "threshold")


@dataclass(frozen=True)
class LigandStrainOptions:
    """Options of ``ligand-strain``."""

    conformers: int | None = option(
        None, "conformers of a ligand; else 10 a bond that turns, between 20 and 150", minimum=1
    )
    searches: int = option(3, "conformer searches that share them; their spread is an uncertainty", minimum=1)
    bound_fmax: float = option(0.1, "loose criterion of the pose", unit="eV/Å", above=0)
    fmax: float = option(0.01, "tight criterion of the conformers", unit="eV/Å", above=0)
    steps: int = option(500, "most steps of a minimisation", minimum=0)
    basin: float = option(
        60.0, "a pose of which a torsion turns farther has left its basin", unit="°", above=0, maximum=180
    )
    tolerance: float = option(
        0.5, "the search is converged if its second half changes the strain by less", unit="kcal/mol", above=0
    )
    temperature: float = option(298.15, "of the Boltzmann-averaged reference", unit="K", above=0)
    threshold: str | None = option(
        None,
        "largest strain that passes, kcal/mol: 12, or MODEL:12 to hold for that model alone",
        metavar="X",
    )
    refine: str | None = option(
        None,
        "energies of pose and minimum by another method: b3lyp-d3bj/def2-svp, gfn2 ...",
        metavar="METHOD",
    )
    refine_relax: bool = option(False, "relax both by that method first, not only their energies")
    template: str | None = option(None, "ligand of PDB files, with its bond orders", metavar="SMILES")
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")
    workers: int | None = option(
        None, "processes; else one per CPU, or one on a GPU; 0 works in this process", minimum=0
    )
    batch: int = option(8, "ligands that a worker takes at once; their conformers share batches", minimum=1)
    shard: str | None = option(
        None, "do part i of N of the ligands alone, in a folder of its own", metavar="i/N"
    )
    merge: bool = option(False, "gather what the shards have done; compute nothing")
    retry_failed: bool = option(False, "with --resume, try again what failed")
    executor: str = option(
        "pool", "who runs the workers: our own pool, or Parsl (extra 'hpc')", choices=("pool", "parsl")
    )


@dataclass(kw_only=True)
class LigandStrainResult(Result):
    """What ``ligand_strain`` returns.

    Attributes:
        n_poses: Records given; of this shard, if there is one.
        n_ligands: Different ligands among them.
        n_failed: Poses without a strain; their rows say why.
        n_waiting: Poses that no shard has done yet; None where nothing was gathered.
        n_flagged: Of the others, those that left their basin or whose search has not converged.
        n_passed: Poses at or below the threshold; None without one.
        strain: Of the pose, if there is one; against the lowest minimum.
        strain_median: Of all poses.
        threshold: The filter.
        rows: A row for each pose, in the order of the input.
        poses: For each pose, the relaxed pose as an RDKit molecule with its results; None if it failed.
        minima: For each pose, the unbound minimum laid on it, in the pose's order of atoms.
        torsions: Rows of ``torsions.csv``: every torsion in the pose given, relaxed, and the minimum.
        convergence: Rows of ``convergence.csv``: the strain that fewer conformers would give on average.
    """

    n_poses: int = 0
    n_ligands: int = 0
    n_failed: int = 0
    n_waiting: int | None = None
    n_flagged: int = 0
    n_passed: int | None = None
    strain: float | None = quantity("kcal/mol", default=None)
    strain_median: float | None = quantity("kcal/mol", default=None)
    threshold: float | None = quantity("kcal/mol", default=None)
    rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False}, repr=False)
    poses: list[Any] = field(default_factory=list, metadata={"summary": False}, repr=False)
    minima: list[Any] = field(default_factory=list, metadata={"summary": False}, repr=False)
    torsions: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False}, repr=False)
    convergence: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False}, repr=False)


def ligand_strain(
    poses: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    seed: int = 0,
    threads: int | None = None,
    pool: Executor | None = None,
    **options: Any,
) -> LigandStrainResult:
    """Strain of each pose; a row for each, whatever becomes of the others.

    Args:
        poses: SD, MOL2, PDB (with ``template``) or Parquet files, patterns, RDKit molecules, or a mixture.
        model: ``mmff94s``, ``gfn2``, a registered name or file, several with commas (a committee), a
            ``Potential`` or an ASE calculator. What has no name works in this process.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted; what is done is not done again.
        overwrite: Replace a folder of an earlier run.
        dtype: Precision of the model.
        device: Device of the model.
        seed: Of the conformer search.
        threads: CPU threads of each worker; 1 if None.
        pool: Any ``concurrent.futures.Executor`` instead of one made here; it is not shut down.
        **options: Fields of :class:`LigandStrainOptions`.

    Raises:
        InputError: A wrong option, no such model or method, a file that cannot be read at all.
    """
    from atomml.workflows.ligands.ligand_run import LigandRun, check_sources, sources_of_poses
    from atomml.workflows.shards import shard_folder, shard_named
    from atomml.workflows.work_sharing import has_name

    chosen = build_options(LigandStrainOptions, options)
    used = given_model(model, dtype=dtype, device=device)
    check_choices(chosen, used)
    sources = sources_of_poses(poses)
    check_sources(sources, chosen.template)
    shard = shard_named(chosen.shard, chosen.merge)
    named = has_name(model, used, chosen.workers)
    names = [source if isinstance(source, str) else "molecule" for source in sources]
    started = time.perf_counter()
    facts = {"poses": names, **used.config(), "dtype": dtype, "device": device, "seed": seed}
    where = shard_folder(out, "ligand-strain", shard, facts | as_config(chosen), {*_MAY_CHANGE, "out"})
    with open_with_options(
        where, "ligand-strain", chosen, resume=resume, overwrite=overwrite, may_change=_MAY_CHANGE, **facts
    ) as run:
        work = LigandRun(run, sources, used, named, chosen, dtype, device, seed, threads, pool)
        return work.go(started)


def check_choices(options: LigandStrainOptions, model: GivenModel) -> None:
    """Refuse, before anything is read, options that do not go together or that nothing can be done with.

    Raises:
        InputError: A threshold of another model, a template that is no SMILES, no such method.
    """
    from atomml.data.ligands import checked_template

    threshold_for(options.threshold, model)
    if options.template is not None:
        checked_template(options.template)
    if options.refine is not None:
        _check_method(options.refine)
    elif options.refine_relax:
        raise OptionError("--refine-relax says how --refine METHOD works: give that too.")


def threshold_for(text: str | None, model: GivenModel) -> float | None:
    """The threshold in kcal/mol, which belongs to the model of the run.

    Raises:
        OptionError: No number, or the threshold of another model.
    """
    if text is None:
        return None
    name, colon, number = str(text).rpartition(":")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not value >= 0:
        raise OptionError(f"--threshold {text}: give kcal/mol, as 12 or MODEL:12.")
    known = model.record().get("name")
    if colon and name not in (model.source, known):
        raise OptionError(
            f"The threshold {text} was calibrated for {name}, and the model is {model.source}: "
            "energies of two models differ, so each needs a threshold of its own."
        )
    return value


def _check_method(method: str) -> None:
    """Refuse a method that does not exist before anything runs.

    Raises:
        InputError: There is none, or its program is not installed.
    """
    from atomml.data.label import LabelSettings, engine_of

    engine_of(method, LabelSettings(density_fit="/" in method))
