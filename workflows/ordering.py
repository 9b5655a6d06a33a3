"""Partly occupied sites put in order: which arrangements there are, and the lowest of them by pymatgen."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from atomml.errors import StructureError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LARGEST_CELL", "MOST_ARRANGEMENTS", "Ordered", "order_sites", "ordered_file", "partial_sites"]

MOST_ARRANGEMENTS = 20_000
"""Of more than these the lowest is looked for by pymatgen's best-first search, which may miss it."""

LARGEST_CELL = 400
"""Atoms; a supercell that would need more is refused."""

_MOST_CELLS = 12
_OCCUPANCY = 0.01  # by which an occupancy may be rounded, of a site
_SAME = 1e-4  # of an element's share of the atoms
_WHOLE = 0.25  # of an atom, pymatgen's own limit for the sum over a group of sites
_ASKED_FOR_EACH = 100  # arrangements looked at for each one wanted: symmetry makes many of them the same


class Ordered(NamedTuple):
    """An ordered structure, and what was done to get it, in one sentence."""

    atoms: Atoms
    note: str


def ordered_file(path: str | Path, count: int = 1) -> list[Ordered] | None:
    """The ordered structures of a CIF with partly occupied sites, the lowest first; None for any other file.

    Args:
        path: The file.
        count: How many distinct arrangements are wanted at most.

    Raises:
        StructureError: No supercell of at most 400 atoms holds whole atoms.
        FileFormatError: pymatgen cannot read the file.
    """
    file = Path(path)
    if not str(path).lower().endswith((".cif", ".mcif")) or not file.is_file():
        return None
    stamp = file.stat()
    found = _arranged(file, count, stamp.st_mtime_ns, stamp.st_size)
    return None if found is None else [one._replace(atoms=one.atoms.copy()) for one in found]


@functools.lru_cache(maxsize=4)
def _arranged(file: Path, count: int, changed: int, size: int) -> tuple[Ordered, ...] | None:
    """The arrangements of a file; a command asks for them to count the structures, then to use them."""
    from atomml.data.foreign_formats import cif_structures

    structures = cif_structures(file)
    if all(structure.is_ordered for structure in structures):
        return None
    return tuple(one for structure in structures for one in order_sites(structure, count, str(file)))


def order_sites(structure: Any, count: int = 1, label: str = "The structure") -> list[Ordered]:
    """Arrangements of whole atoms on partly occupied sites, those of lowest electrostatic energy first.

    The energy is the Ewald sum of point charges (oxidation states guessed from the composition), the
    search exhaustive up to 20,000 arrangements, and pymatgen's best-first one beyond. Where no charges can
    be told, as in an alloy, the arrangements have no order and the first ones are taken.

    Args:
        structure: A pymatgen structure.
        count: How many distinct arrangements are wanted at most.
        label: What to call the structure.

    Raises:
        StructureError: No supercell of at most 400 atoms holds whole atoms.
    """
    groups = _groups(structure)
    repeats = _repeats(structure, groups, label)
    cells = math.prod(repeats)
    n_arrangements = math.prod(_arrangements(amounts, n * cells) for n, amounts in groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of species whose electronegativity pymatgen does not know
        charged, has_charges = _charged(structure, groups, cells)
        charged.make_supercell(repeats)
        ranked = _ranked(charged, has_charges, n_arrangements, count)
        chosen = _distinct(ranked, count)
    sites = ", ".join(partial_sites(structure)[:6])
    how = (
        f"of {n_arrangements} arrangements in {'x'.join(map(str, repeats))} cells"
        if n_arrangements <= MOST_ARRANGEMENTS
        else f"found by a best-first search among {n_arrangements:.2g}, so that a lower one may exist"
    )
    by = "by electrostatic energy" if has_charges else "in no order, because no charges can be told"
    before, after = structure.composition, chosen[0].composition
    rounded = any(
        abs(before.get_atomic_fraction(e) - after.get_atomic_fraction(e)) > _SAME for e in before.elements
    )
    changed = f"; the composition is now {after.formula} instead of {before.formula}" if rounded else ""
    return [
        Ordered(
            _as_atoms(one),
            f"{label}: partly occupied sites ({sites}) were ordered: number {n} {by}, {how}{changed}.",
        )
        for n, one in enumerate(chosen, 1)
    ]


def partial_sites(structure: Any) -> list[str]:
    """``M1 (Fe 0.5, Mn 0.5)`` for each label of a pymatgen structure whose sites are not whole atoms."""
    found = []
    for site in structure:
        if site.is_ordered:
            continue
        species = ", ".join(f"{s.symbol} {amount:g}" for s, amount in sorted(site.species.items()))
        plain = site.label == site.species_string  # what pymatgen calls a site that nobody named
        text = species if plain else f"{site.label} ({species})"
        if text not in found:
            found.append(text)
    return found


Group = tuple[int, Mapping[Any, float]]


def _groups(structure: Any) -> list[Group]:
    """Sites of one occupancy, as pymatgen's ordering groups them: how many, and what is on each."""
    return [(len(sites), species) for sites, species in _site_groups(structure)]


def _repeats(structure: Any, groups: Sequence[Group], label: str) -> tuple[int, int, int]:
    """The smallest supercell, the most cubic of its size, in which every species has whole atoms.

    Raises:
        StructureError: There is none below the limit.
    """
    lengths = structure.lattice.abc
    for cells in range(1, _MOST_CELLS + 1):
        if cells * len(structure) > LARGEST_CELL:
            break
        if all(_is_whole(n * cells, amount) for n, amounts in groups for amount in amounts.values()):
            shapes = list(_shapes(cells))
            return min(
                shapes,
                key=lambda s: (max(r * x for r, x in zip(s, lengths, strict=True)), tuple(-r for r in s)),
            )
    raise StructureError(
        f"{label}: no supercell of at most {_MOST_CELLS} cells and {LARGEST_CELL} atoms holds whole atoms of "
        f"{', '.join(partial_sites(structure)[:6])}: give an ordered structure."
    )


def _is_whole(n_sites: int, amount: float) -> bool:
    rest = abs(n_sites * amount - round(n_sites * amount))
    return rest < min(_WHOLE, _OCCUPANCY * n_sites) and round(n_sites * amount) > 0


def _shapes(cells: int) -> Iterator[tuple[int, int, int]]:
    for first in range(1, cells + 1):
        for second in range(1, cells // first + 1):
            if cells % (first * second) == 0:
                yield first, second, cells // (first * second)


def _arrangements(amounts: Mapping[Any, float], n_sites: int) -> int:
    """Ways to put the species, and the empty sites, on ``n_sites``: a multinomial coefficient."""
    found, left = 1, n_sites
    for amount in amounts.values():
        n = round(n_sites * amount)
        found *= math.comb(left, n)
        left -= n
    return found


def _charged(structure: Any, groups: Sequence[Group], cells: int) -> tuple[Any, bool]:
    """A copy with oxidation states, its own if it has them, and whether they are any use."""
    copy = structure.copy()
    species = [s for site in copy for s in site.species]
    if all(getattr(s, "oxi_state", None) for s in species):
        return copy, True
    copy.remove_oxidation_states()
    amounts: dict[str, int] = {}
    for site in copy:
        if site.is_ordered:
            symbol = site.specie.symbol
            amounts[symbol] = amounts.get(symbol, 0) + cells
    for n, occupancy in groups:
        for one, amount in occupancy.items():
            amounts[one.symbol] = amounts.get(one.symbol, 0) + round(n * cells * amount)
    from pymatgen.core import Composition

    guesses = Composition(amounts).reduced_composition.oxi_state_guesses(max_sites=-1)
    states = dict(guesses[0]) if guesses else {}
    useful = any(states.values())
    copy.add_oxidation_state_by_element({s: states.get(s, 0) if useful else 0 for s in amounts})
    return copy, useful


def _ranked(charged: Any, has_charges: bool, n_arrangements: int, count: int) -> list[Any]:
    """Ordered structures of the charged supercell, the lowest first; many, for symmetry makes some alike."""
    wanted = min(n_arrangements, 1 if count == 1 else _ASKED_FOR_EACH * count)
    if n_arrangements <= MOST_ARRANGEMENTS:
        return _exhaustive(charged, wanted)
    from pymatgen.transformations.standard_transformations import OrderDisorderedStructureTransformation

    search = OrderDisorderedStructureTransformation.ALGO_BEST_FIRST  # its ALGO_FAST takes hours for 32 sites
    order = OrderDisorderedStructureTransformation(search, no_oxi_states=not has_charges)
    found: Any = order.apply_transformation(charged, return_ranked_list=wanted)
    return [entry["structure"] for entry in found]


def _exhaustive(charged: Any, wanted: int) -> list[Any]:
    """Every arrangement, ranked by ``x M x``: ``M`` is pymatgen's Ewald matrix, ``x`` scales its charges."""
    import numpy as np
    from pymatgen.analysis.ewald import EwaldSummation

    full, groups = charged.copy(), _site_groups(charged)
    choices = []
    for sites, amounts in groups:
        largest = max(amounts, key=lambda one: abs(one.oxi_state))
        pool = [one for one, amount in amounts.items() for _ in range(round(len(sites) * amount))]
        pool += [None] * (len(sites) - len(pool))
        choices.append(list(_permutations(tuple(pool))))
        for site in sites:
            full[site] = largest
    charges = np.array([float(site.specie.oxi_state) for site in full])
    energy_matrix = EwaldSummation(full).total_energy_matrix if charges.any() else np.zeros((len(full),) * 2)
    found = []
    for number, arrangement in enumerate(product(*choices)):
        scale = np.ones(len(full))
        for (sites, _), species in zip(groups, arrangement, strict=True):
            for site, one in zip(sites, species, strict=True):
                q = float(one.oxi_state) if one is not None else 0.0
                scale[site] = q / charges[site] if charges[site] else 1.0
        found.append((round(float(scale @ energy_matrix @ scale), 6), number, arrangement))
    return [_filled(charged, groups, arrangement) for _, _, arrangement in sorted(found)[:wanted]]


def _site_groups(structure: Any) -> list[tuple[list[int], Mapping[Any, float]]]:
    """Indices of the sites of each occupancy, and the species on them."""
    groups: list[tuple[list[int], Any]] = []
    for number, site in enumerate(structure):
        if site.is_ordered:
            continue
        known = next((sites for sites, species in groups if species.almost_equals(site.species)), None)
        if known is None:
            groups.append(([number], site.species))
        else:
            known.append(number)
    return [(sites, dict(species.items())) for sites, species in groups]


def _permutations(pool: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Distinct orders of a pool in which species come more than once."""
    if not pool:
        yield ()
        return
    for one in dict.fromkeys(pool):
        rest = list(pool)
        rest.remove(one)
        for tail in _permutations(tuple(rest)):
            yield (one, *tail)


def _filled(charged: Any, groups: Sequence[Any], arrangement: Sequence[Any]) -> Any:
    one, empty = charged.copy(), []
    for (sites, _), species in zip(groups, arrangement, strict=True):
        for site, kind in zip(sites, species, strict=True):
            if kind is None:
                empty.append(site)
            else:
                one[site] = kind
    one.remove_sites(empty)
    return one


def _distinct(ranked: Sequence[Any], count: int) -> list[Any]:
    """The first ones that symmetry does not make the same."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(primitive_cell=False, attempt_supercell=False, scale=False)
    found: list[Any] = []
    for one in ranked:
        one.remove_oxidation_states()
        if not any(matcher.fit(one, known) for known in found):
            found.append(one)
        if len(found) == count:
            break
    return found


def _as_atoms(structure: Any) -> Atoms:
    import numpy as np
    from ase import Atoms

    numbers = [site.specie.Z for site in structure]
    return Atoms(
        numbers, positions=np.array(structure.cart_coords), cell=np.array(structure.lattice.matrix), pbc=True
    )
