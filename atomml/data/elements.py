"""The structure in which each element is most stable, from the published facts in ``elements.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from atomml.errors import StructureError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["ElementStructure", "WyckoffSite", "element_structure", "element_structures"]


@dataclass(frozen=True)
class WyckoffSite:
    """A set of equivalent sites.

    Attributes:
        multiplicity: How many there are in the conventional cell.
        letter: Wyckoff's letter.
        position: ``(3,)`` fractional coordinates of one of them.
    """

    multiplicity: int
    letter: str
    position: tuple[float, float, float]


@dataclass(frozen=True)
class ElementStructure:
    """The published structure of an element.

    Attributes:
        symbol: The element.
        name: The phase, with temperature and pressure where they are not those of a room.
        group: Number of the space group.
        cell: Lengths a, b, c in Å and angles alpha, beta, gamma in degrees of the conventional cell.
        sites: Its sites.
        origin: Choice of origin of the International Tables.
        molecule: Formula of the molecules in it, where the element is a gas or liquid of diatomic ones.
        source: Where it was published.
    """

    symbol: str
    name: str
    group: int
    cell: tuple[float, ...]
    sites: tuple[WyckoffSite, ...]
    origin: int
    molecule: str | None
    source: str

    def atoms(self, primitive: bool = True) -> Atoms:
        """The crystal: its primitive cell, or the conventional one."""
        import warnings

        from ase.spacegroup import crystal

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of sites on special positions, all rounded
            built = crystal(
                [self.symbol] * len(self.sites),
                [site.position for site in self.sites],
                spacegroup=self.group,
                setting=self.origin,
                cellpar=list(self.cell),
                primitive_cell=primitive,
                onduplicates="keep",
                symprec=1e-3,
            )
        from ase import Atoms

        return Atoms(built.numbers, built.positions, cell=built.cell, pbc=True)


def element_structures() -> dict[str, ElementStructure]:
    """All of the table, by element."""
    table = tomllib.loads(files("atomml.data").joinpath("elements.toml").read_text(encoding="utf-8"))
    return {
        symbol: _structure(symbol, entry, table["sources"]) for symbol, entry in table["elements"].items()
    }


def element_structure(symbol: str) -> ElementStructure:
    """The structure of one element.

    Raises:
        StructureError: The table has none.
    """
    table = element_structures()
    if symbol not in table:
        raise StructureError(
            f"There is no published structure of {symbol} in the table of elements, so it has no reference: "
            f"give a crystal of {symbol} with --phases."
        )
    return table[symbol]


def _structure(symbol: str, entry: dict[str, Any], sources: dict[str, str]) -> ElementStructure:
    return ElementStructure(
        symbol=symbol,
        name=entry["name"],
        group=entry["group"],
        cell=_full_cell(entry["group"], entry["cell"]),
        sites=tuple(_site(text) for text in entry["sites"]),
        origin=entry.get("origin", 1),
        molecule=entry.get("molecule"),
        source=sources[entry["source"]],
    )


def _full_cell(group: int, constants: list[float]) -> tuple[float, ...]:
    """Six lattice constants from those that the crystal system leaves free."""
    if group >= 195:  # cubic
        (a,) = constants
        return (a, a, a, 90.0, 90.0, 90.0)
    if group >= 143:  # trigonal in hexagonal axes, hexagonal
        a, c = constants
        return (a, a, c, 90.0, 90.0, 120.0)
    if group >= 75:  # tetragonal
        a, c = constants
        return (a, a, c, 90.0, 90.0, 90.0)
    a, b, c, *angle = constants  # orthorhombic, or monoclinic with b as its axis
    return (a, b, c, 90.0, angle[0] if angle else 90.0, 90.0)


def _site(text: str) -> WyckoffSite:
    label, *position = text.split()
    x, y, z = (float(Fraction(word)) for word in position)
    return WyckoffSite(int(label[:-1]), label[-1], (x, y, z))
