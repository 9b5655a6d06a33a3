"""The two ends of a path: read, checked against each other, mapped by the minimum image, relaxed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import StructureError
from atomml.run import RunFolder
from atomml.workflows.inputs import GivenModel, GivenStructure, given_structure, structures_of

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.workflows.barriers.nudged_band import NebOptions

    Array = NDArray[np.float64]

__all__ = ["best_order", "check_path", "first_path", "minimum_image", "read_path", "relaxed_ends"]

_MOVED = 0.5  # Å: farther than atoms relax around a hop, less than any hop
_SAME_CELL = 1e-4  # Å
_SAME_MINIMUM = 0.1  # Å
_SWAPPED = 0.5  # Å²: what another order must save before it is taken for the right one


def read_path(structures: Sequence[Any] | str | Path) -> list[GivenStructure]:
    """Start, frames between, and end, from two or more structures or one file.

    Raises:
        StructureError: Fewer than two structures.
    """
    if isinstance(structures, str | Path):
        structures = [structures]
    if len(structures) == 1 and isinstance(structures[0], str | Path):
        frames = list(structures_of(structures[0]))
    else:
        frames = [given_structure(one) for one in structures]
    if len(frames) < 2:
        raise StructureError("A path needs two structures, its start and its end: name both.")
    if isinstance(structures[0], str | Path):
        return frames
    names = ["start", *(f"frame {n}" for n in range(1, len(frames) - 1)), "end"]
    return [
        frame if frame.path is not None else GivenStructure(frame.atoms, name)
        for frame, name in zip(frames, names, strict=True)
    ]


def check_path(frames: Sequence[GivenStructure], order: str) -> list[Atoms]:
    """The frames as images of one path: one cell, one order of atoms, no jumps across the boundaries.

    Args:
        frames: Start to end.
        order: What to do where atoms seem to have swapped numbers: ``refuse``, ``reorder``, ``allow``.

    Raises:
        StructureError: They are no images of one path; names the atom.
    """
    start = frames[0]
    images = [start.atoms.copy()]
    for frame in frames[1:]:
        _check_alike(start, frame)
        image = frame.atoms.copy()
        image.set_constraint()
        if order == "reorder":
            image = image[best_order(images[-1], image)]
        _check_elements(start, frame, image)
        image.positions = images[-1].positions + minimum_image(images[-1], image)
        if order == "refuse":
            _check_order(start, frame, images[-1], image)
        images.append(image)
    if not start.atoms.pbc.any() and not start.atoms.constraints:
        _align(images)
    _check_fixed(start, frames[-1], images)
    for image in images[1:]:
        image.set_constraint(images[0].constraints)
    return images


def minimum_image(first: Atoms, second: Atoms) -> Array:
    """``(n, 3)`` Å: the shortest way of each atom from the first structure to the second."""
    from ase.geometry import find_mic

    moves: Array = find_mic(second.positions - first.positions, first.cell, first.pbc)[0]
    return moves


def best_order(first: Atoms, second: Atoms) -> NDArray[np.int64]:
    """``(n,)``: the order of the second structure's atoms that takes the first to it with the least moves.

    The sum of squared distances of atoms of the same element is least; squares, so that atoms that push
    one another along stay themselves.
    """
    from ase.geometry import find_mic
    from scipy.optimize import linear_sum_assignment

    order = np.arange(len(first))
    alike = first.numbers == second.numbers
    moved = ~alike
    moved[alike] = np.linalg.norm(minimum_image(first[alike], second[alike]), axis=1) > _MOVED
    among = np.flatnonzero(moved)
    if not len(among):
        return order
    between = (second.positions[among][None] - first.positions[among][:, None]).reshape(-1, 3)
    squares = (find_mic(between, first.cell, first.pbc)[1] ** 2).reshape(len(among), len(among))
    kept = np.trace(squares) if alike.all() else np.inf
    other = first.numbers[among][:, None] != second.numbers[among][None]
    rows, columns = linear_sum_assignment(np.where(other, 1e6, squares))
    if kept - squares[rows, columns].sum() > _SWAPPED:
        order[among[rows]] = among[columns]
    return order


def _check_alike(start: GivenStructure, frame: GivenStructure) -> None:
    first, second = start.atoms, frame.atoms
    if len(first) != len(second):
        raise StructureError(
            f"{start.label} has {len(first)} atoms and {frame.label} {len(second)}: a path keeps its atoms, "
            "so give two structures of the same ones."
        )
    if (first.pbc != second.pbc).any() or np.abs(first.cell.array - second.cell.array).max() > _SAME_CELL:
        raise StructureError(
            f"{start.label} and {frame.label} have different cells: a path keeps its cell, so give both the "
            "same one."
        )


def _check_elements(start: GivenStructure, frame: GivenStructure, image: Atoms) -> None:
    wrong = np.flatnonzero(start.atoms.numbers != image.numbers)
    if len(wrong):
        atom = int(wrong[0])
        same = sorted(start.atoms.numbers) == sorted(image.numbers)
        hint = "add --order reorder" if same else "give two structures of the same atoms"
        raise StructureError(
            f"Atom {atom} is {start.atoms.symbols[atom]} in {start.label} and {image.symbols[atom]} in "
            f"{frame.label}: {hint}."
        )


def _check_order(start: GivenStructure, frame: GivenStructure, before: Atoms, image: Atoms) -> None:
    order = best_order(before, image)
    swapped = np.flatnonzero(order != np.arange(len(order)))
    if len(swapped):
        atom = int(swapped[0])
        other = int(order[atom])
        raise StructureError(
            f"Atom {atom} ({image.symbols[atom]}) of {start.label} seems to be atom {other} of "
            f"{frame.label}: atoms keep their numbers along a path, so mend the order with --order reorder, "
            "or say that they do change places with --order allow."
        )


def _check_fixed(start: GivenStructure, end: GivenStructure, images: Sequence[Atoms]) -> None:
    """Atoms that are held must not move from start to end."""
    held = images[0].copy()
    held.set_positions(images[-1].positions)
    off = np.linalg.norm(held.positions - images[-1].positions, axis=1)
    if off.max() > 0.01:
        atom = int(off.argmax())
        raise StructureError(
            f"Atom {atom} ({held.symbols[atom]}) is held and yet lies {off[atom]:.3f} Å elsewhere in "
            f"{end.label} than in {start.label}: free it, or put it back."
        )


def _align(images: Sequence[Atoms]) -> None:
    """Turn and move each image of a molecule onto the one before."""
    from ase.build import minimize_rotation_and_translation

    for before, image in pairwise(images):
        minimize_rotation_and_translation(before, image)


def relaxed_ends(
    folder: RunFolder, images: Sequence[Atoms], model: GivenModel, options: NebOptions
) -> tuple[list[Atoms], bool]:
    """The images with both ends relaxed, in ``start/`` and ``end/``, and whether those converged.

    Raises:
        StructureError: Both are the same minimum.
    """
    from atomml.run import listening
    from atomml.workflows.relaxing.relaxation import relax

    found, converged = list(images), True
    for name, number in (("start", 0), ("end", -1)) if options.ends == "relaxed" else ():
        out = folder.file(name) if folder.kept else None
        with listening(None):
            end = relax(
                images[number],
                model,
                out=out,
                resume=out is not None and out.exists(),
                fmax=options.ends_fmax,
                allow_charge_mismatch=options.allow_charge_mismatch,
            )
        found[number], converged = end.atoms, converged and end.converged
        if not end.converged:
            folder.warn(
                f"The {name} did not relax in {end.n_steps} steps: its largest force is "
                f"{end.max_force:.3g} eV/Å, and the barrier is not that from a minimum."
            )
    farthest = float(np.linalg.norm(found[-1].positions - found[0].positions, axis=1).max())
    if farthest < _SAME_MINIMUM:
        raise StructureError(
            f"Start and end {'relax to' if options.ends == 'relaxed' else 'are'} the same minimum (no atom "
            f"moves by more than {farthest:.2g} Å): give two that differ."
        )
    return found, converged


def first_path(images: Sequence[Atoms], options: NebOptions) -> list[Atoms]:
    """All images of the first path: those given, or as many as wanted between the ends."""
    from ase.mep import NEB
    from ase.mep.neb import idpp_interpolate, interpolate

    if len(images) > 2:
        return [image.copy() for image in images]
    start, end = images
    path = [start.copy() for _ in range(options.images + 1)] + [end.copy()]
    for image in path:
        image.set_constraint()
    interpolate(path)
    for image in path:
        image.set_constraint(start.constraints)
    if options.guess == "idpp":
        straight = [image.positions.copy() for image in path]
        band = NEB(path, method="improvedtangent")
        idpp_interpolate(band, traj=None, log=None, mic=bool(start.pbc.any()))
        if not all(np.isfinite(image.positions).all() for image in path):  # distances through 0
            for image, positions in zip(path, straight, strict=True):
                image.positions = positions
    return path
