"""Geometries to label: GFN2-xTB dynamics or normal modes of a molecule (``atomml hamiltonian sample``)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import build_options
from atomml.errors import MissingExtraError, OptionError, StructureError
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

__all__ = ["HamiltonianSampleOptions", "HamiltonianSampleResult", "sample_geometries"]

_WARM_UP_FS, _STEP_FS = 500.0, 0.5
_MOVE = 0.005  # Å, of the differences of forces
_TIGHT_BINDING = {"gfn2": "GFN2-xTB", "gfn1": "GFN1-xTB"}
_LINEAR = 0.02  # Å from one axis, root mean square: relaxed geometries are loose to about 0.005


@dataclass(frozen=True)
class HamiltonianSampleOptions:
    """Options of ``hamiltonian sample``."""

    frames: int = option(500, "geometries of each molecule", minimum=1)
    sampler: str = option("md", "Langevin dynamics, or harmonic normal modes", choices=("md", "modes"))
    temperature: float = option(300.0, "temperature", unit="K", above=0.0)
    every: float = option(20.0, "time between two frames of a dynamics", unit="fs", above=0.0)
    method: str = option(
        "gfn2",
        "what moves the atoms: gfn2, gfn1, or FUNCTIONAL/BASIS such as pbe/def2-svp",
    )
    seed: int = option(0, "seed of velocities, noise and modes", minimum=0)


@dataclass(kw_only=True)
class HamiltonianSampleResult(Result):
    """What was written.

    Attributes:
        n_frames: Geometries.
        spread: Root mean square displacement of the atoms from the mean geometry, turned onto it.
        output: The file.
    """

    n_frames: int = 0
    spread: float = quantity("Å", default=0.0)
    output: str = ""


def sample_geometries(
    structures: Any,
    to: str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> HamiltonianSampleResult:
    """Geometries of molecules at a temperature, for labelling.

    Args:
        structures: Files, ``ase.Atoms``, SMILES, or several of these.
        to: ``frames.extxyz``.
        out: The run folder; None leaves nothing behind.
        overwrite: Replace a folder, and a file, of an earlier run.
        **options: Fields of :class:`HamiltonianSampleOptions`.

    Raises:
        InputError: A molecule or option that is wrong, or a file that exists.
    """
    import numpy as np
    from ase.io import write

    from atomml.electronic.charge_spin import charge_and_spin, check_closed_shell
    from atomml.electronic.rotation import align
    from atomml.workflows.inputs import all_structures

    started = time.perf_counter()
    settings = build_options(HamiltonianSampleOptions, options)
    target = Path(to)
    if target.suffix not in (".extxyz", ".xyz"):
        raise OptionError(f"{to}: geometries go to an .extxyz file.")
    if target.exists() and not overwrite:
        raise OptionError(f"{target} exists: give another --to, or --overwrite to replace it.")
    given = all_structures(structures)
    _calculator(settings.method)
    for one in given:
        if one.atoms.pbc.any():
            raise StructureError(f"{one.label} is periodic, and matrices are of molecules: drop its cell.")
        check_closed_shell(*charge_and_spin(one.atoms, one.label), one.label)
    result = HamiltonianSampleResult(output=str(target))
    with open_with_options(
        out,
        "hamiltonian sample",
        settings,
        overwrite=overwrite,
        structures=[one.label for one in given],
        to=str(to),
    ) as run:
        frames: list[Atoms] = []
        squares = []
        for number, one in enumerate(given):
            random = np.random.default_rng([settings.seed, number])
            sampler = _dynamics if settings.sampler == "md" else _modes
            own = sampler(one.atoms, settings, random)
            for frame in own:
                frame.info["molecule"] = one.label
            squares += [align(frame.positions, own[0].positions)[1] ** 2 for frame in own]
            frames += own
            run.event("sample", step=number + 1, of=len(given), id=one.label)
        write(target, frames, format="extxyz")
        result.n_frames, result.spread = len(frames), float(np.sqrt(np.mean(squares)))
        seconds = time.perf_counter() - started
        finish_run(run, result, model=None, inputs=[one.record() for one in given], seconds=seconds)
    return result


def _calculator(method: str) -> Any:
    """The ASE calculator of a method; an SCF starts from the last steps' densities.

    Raises:
        OptionError: No such method.
        MissingExtraError: What it needs is not installed.
    """
    if method not in _TIGHT_BINDING:
        from atomml.electronic.dft_calculator import AtomMLDFT

        if "/" not in method:
            raise OptionError(
                f"There is no method {method!r:.80}: write {', '.join(_TIGHT_BINDING)} or FUNCTIONAL/BASIS."
            )
        return AtomMLDFT(method)
    try:
        from tblite.ase import TBLite
    except ImportError as error:
        raise MissingExtraError.for_extra("tblite", "gfn2") from error
    return TBLite(method=_TIGHT_BINDING[method], verbosity=0)


def _bare(atoms: Atoms, positions: Any) -> Atoms:
    from ase import Atoms

    return Atoms(atoms.numbers, positions - positions.mean(axis=0))


def _dynamics(atoms: Atoms, options: HamiltonianSampleOptions, random: np.random.Generator) -> list[Atoms]:
    """Frames of one Langevin dynamics after a warm-up."""
    from ase import units
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import thermalize_momenta

    moving = _bare(atoms, atoms.positions)
    moving.calc = _calculator(options.method)
    thermalize_momenta(moving, temperature_K=options.temperature, rng=random)
    friction = 0.02 / units.fs
    run = Langevin(
        moving,
        _STEP_FS * units.fs,
        temperature_K=options.temperature,
        friction=friction,
        fixcm=False,
        rng=random,
    )
    run.run(int(_WARM_UP_FS / _STEP_FS))
    frames = []
    for _ in range(options.frames):
        run.run(max(round(options.every / _STEP_FS), 1))
        frames.append(_bare(atoms, moving.positions))
    return frames


def _modes(atoms: Atoms, options: HamiltonianSampleOptions, random: np.random.Generator) -> list[Atoms]:
    """Classical harmonic displacements from the relaxed geometry.

    Raises:
        StructureError: It does not relax, or to no minimum.
    """
    import numpy as np
    from ase import units
    from ase.optimize import BFGS

    still = _bare(atoms, atoms.positions)
    still.calc = _calculator(options.method)
    if not BFGS(still, logfile=None).run(fmax=0.005, steps=500):
        raise StructureError("The geometry did not relax in 500 steps: begin from another one.")
    n = 3 * len(still)
    places, hessian = still.positions.copy(), np.zeros((n, n))
    for i in range(n):
        for sign in (1, -1):
            moved = places.copy()
            moved.flat[i] += sign * _MOVE
            still.positions = moved
            hessian[i] -= sign * still.get_forces().ravel() / (2 * _MOVE)
    masses = np.repeat(still.get_masses(), 3)
    scaled = 0.5 * (hessian + hessian.T) / np.sqrt(np.outer(masses, masses))
    squares, modes = np.linalg.eigh(scaled)
    order = np.argsort(np.abs(squares))
    kept = np.sort(order[_n_rigid(places) :])
    if len(kept) and squares[kept].min() <= 0:
        raise StructureError("The relaxed geometry is a saddle point: begin from another one.")
    sizes = np.sqrt(options.temperature * units.kB / squares[kept])
    frames = []
    for _ in range(options.frames):
        along = modes[:, kept] @ (sizes * random.standard_normal(len(kept)))
        frames.append(_bare(atoms, places + (along / np.sqrt(masses)).reshape(-1, 3)))
    return frames


def _n_rigid(positions: Any) -> int:
    """Translations and rotations of a molecule: 3 of an atom, 5 of a linear one, else 6."""
    import numpy as np

    if len(positions) < 2:
        return 3
    spread = np.linalg.svd(positions - positions.mean(axis=0), compute_uv=False) / np.sqrt(len(positions))
    return 5 if spread[1] < _LINEAR else 6
