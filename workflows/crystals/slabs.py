"""Slabs of a crystal: every termination of every plane, by pymatgen, and what is to be known of each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import OptionError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Termination", "conventional", "planes_of", "terminations"]

_LAYER = 0.6  # Å, within which atoms belong to the outermost layer


@dataclass
class Termination:
    """One way to cut a crystal, at all its thicknesses.

    Attributes:
        miller: Of the conventional cell.
        name: ``(111) 2`` for the second termination of that plane.
        outermost: Elements of the layers at both ends, such as ``Mg | O``.
        symmetric: Whether both sides are alike.
        polar: Whether the slab has a dipole along its normal, from guessed oxidation states.
        stoichiometric: Whether it holds whole formula units.
        bulk: The oriented bulk cell.
        slabs: From the thinnest to the thickest.
    """

    miller: tuple[int, int, int]
    name: str
    outermost: str
    symmetric: bool
    polar: bool
    stoichiometric: bool
    bulk: Atoms
    slabs: list[Atoms] = field(default_factory=list)


def conventional(atoms: Atoms, symprec: float) -> Any:
    """The conventional standard cell for pymatgen, with oxidation states where they can be told."""
    from pymatgen.io.ase import AseAtomsAdaptor
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    plain = atoms.copy()
    plain.set_constraint()
    for name in [name for name in plain.arrays if name not in ("numbers", "positions")]:
        del plain.arrays[name]
    plain.info.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure: Any = AseAtomsAdaptor.get_structure(plain)
        cell = SpacegroupAnalyzer(structure, symprec=symprec).get_conventional_standard_structure()
        guesses = cell.composition.oxi_state_guesses(max_sites=-1)
        if guesses and any(guesses[0].values()):
            cell.add_oxidation_state_by_element(dict(guesses[0]))
    return cell


def planes_of(structure: Any, max_index: int, miller: Sequence[int] | None) -> list[tuple[int, int, int]]:
    """The planes to cut: one, or all that symmetry does not make the same.

    Raises:
        OptionError: ``(000)``.
    """
    from pymatgen.core.surface import get_symmetrically_distinct_miller_indices

    if miller is not None:
        if not any(miller):
            raise OptionError("--miller 0,0,0 is no plane: give indices such as 1,1,1.")
        first, second, third = (int(index) for index in miller)
        return [(first, second, third)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_symmetrically_distinct_miller_indices(structure, max_index)
    return sorted((int(h), int(k), int(i)) for h, k, i in found)


def terminations(
    structure: Any,
    miller: tuple[int, int, int],
    thicknesses: Sequence[float],
    vacuum: float,
    symmetrize: bool,
) -> Iterator[Termination]:
    """Every termination of a plane.

    Args:
        structure: From :func:`conventional`.
        miller: The plane.
        thicknesses: Least thicknesses, growing, Å.
        vacuum: Between images, Å.
        symmetrize: Whether atoms are taken off until both sides are alike.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        makers = [_maker(structure, miller, thickness, vacuum) for thickness in thicknesses]
        number = 0
        for first in makers[0].get_slabs():
            grown = [maker.get_slab(shift=first.shift) for maker in makers]
            variants = [grown]
            if symmetrize and not first.is_symmetric():
                alike = [_symmetrized(maker, one) for maker, one in zip(makers, grown, strict=True)]
                variants = [list(slabs) for slabs in zip(*alike, strict=False)]
            for slabs in variants:
                number += 1
                name = f"({''.join(map(str, miller))}) {number}"
                yield _termination(structure, miller, name, makers[0].oriented_unit_cell, slabs)


def _maker(structure: Any, miller: tuple[int, int, int], thickness: float, vacuum: float) -> Any:
    from pymatgen.core.surface import SlabGenerator

    return SlabGenerator(
        structure,
        miller,
        thickness,
        vacuum,
        center_slab=True,
        primitive=False,
        max_normal_search=max(map(abs, miller)),
    )


def _symmetrized(maker: Any, slab: Any) -> list[Any]:
    """Slabs with both sides alike, at the expense of their composition; as it is where that cannot be."""
    return list(maker.nonstoichiometric_symmetrized_slab(slab)) or [slab]


def _termination(
    structure: Any, miller: tuple[int, int, int], name: str, oriented: Any, grown: Sequence[Any]
) -> Termination:
    slab = grown[0]
    formula = structure.composition.remove_charges().reduced_formula
    grown = [one for n, one in enumerate(grown) if n == 0 or len(one) > len(grown[n - 1])]
    whole = all(one.composition.remove_charges().reduced_formula == formula for one in grown)
    return Termination(
        miller,
        name,
        _outermost(slab),
        bool(slab.is_symmetric()),
        bool(slab.is_polar()),
        whole,
        _atoms(oriented),
        [_centred(one) for one in grown],
    )


def _outermost(slab: Any) -> str:
    heights = slab.cart_coords @ np.asarray(slab.normal)
    symbols = np.array([site.specie.symbol for site in slab])
    ends = [symbols[heights < heights.min() + _LAYER], symbols[heights > heights.max() - _LAYER]]
    texts = [" ".join(sorted(set(end))) for end in ends]
    return texts[0] if texts[0] == texts[1] else " | ".join(texts)


def _atoms(structure: Any) -> Atoms:
    from ase import Atoms

    numbers = [site.specie.Z for site in structure]
    return Atoms(numbers, np.array(structure.cart_coords), cell=np.array(structure.lattice.matrix), pbc=True)


def _centred(slab: Any) -> Atoms:
    """The slab whole and in the middle of its cell, its normal along z."""
    atoms = _atoms(slab)
    atoms.wrap(center=(0.5, 0.5, 0.5))
    a, b, _ = atoms.cell.array
    normal = np.cross(a, b) / np.linalg.norm(np.cross(a, b))
    x = a / np.linalg.norm(a)
    turn = np.array([x, np.cross(normal, x), normal])
    atoms.set_cell(atoms.cell.array @ turn.T)
    atoms.set_positions(atoms.positions @ turn.T)
    return atoms
