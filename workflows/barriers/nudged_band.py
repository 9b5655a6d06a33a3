"""Barriers: ``atomml neb START END`` and :func:`neb`; the work is in the modules ``band_...``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import as_config, build_options
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["NebOptions", "NebResult", "evaluations", "neb"]


@dataclass(frozen=True)
class NebOptions:
    """Options of ``neb``."""

    images: int = option(7, "images between the ends", minimum=1, maximum=99)
    guess: str = option(
        "idpp",
        "first path: of the pair distances (IDPP) or of the positions, both interpolated",
        choices=("idpp", "linear"),
    )
    ends: str = option(
        "relaxed", "relax both ends first, or take them as they are given", choices=("relaxed", "given")
    )
    ends_fmax: float = option(0.01, "largest force at which an end is converged", unit="eV/Å", above=0)
    order: str = option(
        "refuse",
        "where the end's atoms seem to have swapped numbers: refuse, reorder them, or allow it",
        choices=("refuse", "reorder", "allow"),
    )
    climb: bool = option(True, "let the highest image climb to the saddle point")
    climb_below: float = option(
        0.3, "largest force of the path at which the climb begins", unit="eV/Å", above=0
    )
    fmax: float = option(0.03, "largest force across the path at which it is converged", unit="eV/Å", above=0)
    spring: float = option(0.1, "spring constant between images", unit="eV/Å^2", above=0)
    steps: int = option(500, "most steps, those before a resume included", minimum=0)
    optimizer: str = option("fire", "ASE's optimiser of the path", choices=("fire", "lbfgs"))
    save_every: int = option(10, "steps between restart files", minimum=1)
    dtype: str = option("float64", "precision of the model", choices=("float32", "float64"))
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class NebResult(Result):
    """What ``neb`` returns.

    Attributes:
        formula: Of the structures.
        barrier: From the start to the highest image, eV.
        reverse_barrier: From the end to it, eV.
        reaction_energy: Energy of the end less that of the start, eV.
        saddle_image: Number of the highest image; 0 is the start.
        saddle_force: Largest force left on an atom of it, along the path too, eV/Å.
        path_length: Å, of all atoms together.
        path_mismatch: Largest difference between an image's energy and the integral of the force along
            the path up to it, eV.
        max_force: Largest force across the path (along it for the climbing image), eV/Å.
        moving_atom: Number of the atom that goes farthest.
        moving_element: Its element.
        moving_distance: How far it ends from where it began, Å.
        n_images: Images with both ends.
        n_steps: Steps taken, before a resume too.
        energies: ``(n_images,)`` eV.
        distances: ``(n_images,)`` Å along the path.
        path: The images, with energies and forces.
    """

    formula: str = ""
    barrier: float = quantity("eV", default=0.0)
    reverse_barrier: float = quantity("eV", default=0.0)
    reaction_energy: float = quantity("eV", default=0.0)
    saddle_image: int = 0
    saddle_force: float = quantity("eV/Å", default=0.0)
    path_length: float = quantity("Å", default=0.0)
    path_mismatch: float = quantity("eV", default=0.0)
    max_force: float = quantity("eV/Å", default=0.0)
    moving_atom: int = 0
    moving_element: str = ""
    moving_distance: float = quantity("Å", default=0.0)
    n_images: int = 0
    n_steps: int = 0
    energies: list[float] = field(default_factory=list, metadata={"summary": False}, repr=False)
    distances: list[float] = field(default_factory=list, metadata={"summary": False}, repr=False)
    path: list[Atoms] = field(default_factory=list, metadata={"summary": False}, repr=False)


def neb(
    structures: Sequence[Any] | str | Path,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: NebOptions | None = None,
    **overrides: Any,
) -> NebResult:
    """The path of least energy between two minima, and its barrier, by climbing-image nudged elastic band.

    G. Henkelman and H. Jónsson, J. Chem. Phys. 113, 9978 (2000) for the tangents; G. Henkelman,
    B. P. Uberuaga and H. Jónsson, J. Chem. Phys. 113, 9901 (2000) for the climb; S. Smidstrup et al.,
    J. Chem. Phys. 140, 214106 (2014) for the first path. Atoms keep their numbers from end to end, and go
    the shortest way across periodic boundaries. The cell stays.

    Args:
        structures: Start and end, each ``ase.Atoms``, a pymatgen structure, or a file with one frame; or
            one file with both. Frames between them are the first path, instead of ``images`` and ``guess``.
        model: Registered name, file, ``Potential`` or ASE calculator.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted, to the same bits.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        options: All options at once.
        **overrides: Fields of :class:`NebOptions`, over those of ``options``.

    Raises:
        StructureError: Ends that are no ends of one path: other atoms, another order, another cell, or
            the same minimum.
        InputError: Another thing about a structure, model or option that is wrong.
        RunFailedError: The model gave a number that is not finite.
    """
    from atomml.workflows.barriers.band_ends import check_path, read_path
    from atomml.workflows.barriers.band_relaxation import find_path
    from atomml.workflows.inputs import check_covered, given_model
    from atomml.workflows.run_record import RunRequest, finish_run

    started = time.perf_counter()
    chosen = build_options(NebOptions, (as_config(options) if options else {}) | overrides)
    used = given_model(model, dtype=chosen.dtype, device=device)
    frames = read_path(structures)
    warnings: list[str] = []
    for frame in frames:
        check_covered(frame, used, warnings.append, chosen.allow_charge_mismatch)
    images = check_path(frames, chosen.order)
    request = RunRequest(out, resume, overwrite, device, seed)
    facts = {"structures": [frame.label for frame in (frames[0], frames[-1])], **used.config()}
    with request.open("neb", chosen, may_change=("steps",), warnings=warnings, **facts) as folder:
        result = find_path(folder, images, used, chosen)
        inputs = [frame.record() for frame in frames]
        seconds = time.perf_counter() - started
        finish_run(folder, result, model=used.record(), inputs=inputs, seconds=seconds)
        return result


def evaluations(options: NebOptions, atoms: Atoms) -> int:
    """About how many times the model is asked, for ``--dry-run``: both ends relaxed, 60 steps of the path."""
    return options.images * min(60, options.steps) + (60 if options.ends == "relaxed" else 2)
