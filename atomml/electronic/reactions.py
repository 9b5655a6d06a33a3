"""Energies to learn a functional from: species, and differences of their energies with their references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase import Atoms

from atomml.errors import FileFormatError

__all__ = ["UNITS", "Reaction", "Species", "read_reactions"]

UNITS = {"Eh": 1.0, "eV": 1 / 27.211386245988, "kcal/mol": 1 / 627.5094740631, "kJ/mol": 1 / 2625.4996394799}
"""Hartree in each unit that a file may give (CODATA 2018)."""


@dataclass(frozen=True)
class Species:
    """A molecule or atom.

    Attributes:
        name: Its name.
        atoms: Geometry, with charge and spin in its info.
    """

    name: str
    atoms: Atoms = field(repr=False)


@dataclass(frozen=True)
class Reaction:
    """A difference of energies.

    Attributes:
        name: Its name.
        species: Stoichiometric coefficients by name of species: products positive, reactants negative.
        energy: Reference, Hartree, without vibrations.
        weight: In a loss.
    """

    name: str
    species: Mapping[str, float]
    energy: float
    weight: float = 1.0


def read_reactions(path: str | Path) -> tuple[dict[str, Species], list[Reaction]]:
    """Species and reactions of a YAML or JSON file.

    ``species`` maps names to ``atoms`` (a list of ``[symbol, x, y, z]``, Å) or ``file``, ``charge`` and
    ``spin``; ``reactions`` is a list of ``name``, ``species`` (coefficients), ``energy`` and, if need be,
    ``weight`` and ``zero_point``, which is taken off. ``unit`` says what energies are in, without default.

    Raises:
        FileFormatError: Names the entry and what is wrong with it.
    """
    file = Path(path)
    tree = _tree(file)
    unit = tree.get("unit")
    if unit not in UNITS:
        raise FileFormatError(f"{path} says no unit of its energies: write unit: one of {', '.join(UNITS)}.")
    species = {str(n): _species(str(n), given, file) for n, given in dict(tree.get("species", {})).items()}
    reactions = [
        _reaction(given, n, UNITS[str(unit)], species, file) for n, given in enumerate(tree["reactions"])
    ]
    if not reactions:
        raise FileFormatError(f"{path} holds no reaction: add one.")
    return species, reactions


def _tree(file: Path) -> dict[str, Any]:
    import yaml

    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileFormatError(f"There is no file {file}: check the path.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FileFormatError(f"{file} is no YAML ({str(error).splitlines()[0]}): mend it.") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("reactions"), list):
        raise FileFormatError(f"{file} holds no list of reactions: add it under 'reactions'.")
    return tree


def _species(name: str, given: Any, file: Path) -> Species:
    """One species with the geometry that it gives or names."""
    where = f"{file}, species {name}"
    try:
        if "file" in given:
            from atomml.data.structures import read_structures

            atoms = next(iter(read_structures(file.parent / str(given["file"])))).atoms.copy()
        else:
            rows = list(given["atoms"])
            atoms = Atoms([str(row[0]) for row in rows], [[float(x) for x in row[1:4]] for row in rows])
        atoms.info = {"charge": int(given.get("charge", 0)), "spin": int(given.get("spin", 0))}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise FileFormatError(
            f"{where}: write atoms as [symbol, x, y, z], or file, and whole charge and spin ({error})."
        ) from None
    atoms.pbc = False
    return Species(name, atoms)


def _reaction(given: Any, number: int, unit: float, species: Mapping[str, Species], file: Path) -> Reaction:
    try:
        name = str(given.get("name", f"reaction {number}"))
        coefficients = {str(key): float(value) for key, value in dict(given["species"]).items()}
        energy = (float(given["energy"]) - float(given.get("zero_point", 0.0))) * unit
        weight = float(given.get("weight", 1.0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(
            f"{file}, reaction {number}: it needs species with coefficients, and an energy ({error})."
        ) from None
    for key in coefficients:
        if key not in species:
            raise FileFormatError(f"{file}, {name}: there is no species {key}: add it.")
    return Reaction(name, coefficients, energy, weight)
