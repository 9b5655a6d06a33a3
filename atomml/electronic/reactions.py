"""Energies to learn a functional from: species, and differences of their energies with their references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from atomml.errors import FileFormatError
from atomml.units import KCAL_PER_HARTREE

__all__ = ["UNITS", "Reaction", "ReactionSet", "Species", "read_reactions"]

UNITS = {
    "Eh": 1.0,
    "eV": 1 / 27.211386245988,
    "kcal/mol": 1 / KCAL_PER_HARTREE,
    "kJ/mol": 1 / 2625.4996394799,
}
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

    @property
    def n_electrons(self) -> int:
        """Electrons, those of cores among them."""
        return int(self.atoms.numbers.sum()) - int(self.atoms.info["charge"])


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


@dataclass(frozen=True)
class ReactionSet:
    """What a functional learns from, or is judged by.

    Attributes:
        species: By name.
        reactions: Differences of their energies.
        dipoles: ``(3,)`` Debye by name of species.
        densities: ``(n, n)`` density matrices of both spins by name of species, in the basis of a training.
        density_basis: Their basis set; "" if the file says none.
    """

    species: Mapping[str, Species]
    reactions: Sequence[Reaction]
    dipoles: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    densities: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    density_basis: str = ""


def read_reactions(path: str | Path) -> ReactionSet:
    """Species, reactions and what else is known of a YAML or JSON file.

    ``species`` maps names to ``atoms`` (a list of ``[symbol, x, y, z]``, Å) or ``file``, ``charge`` and
    ``spin``; ``reactions`` is a list of ``name``, ``species`` (coefficients), ``energy`` and, if need be,
    ``weight`` and ``zero_point``, which is taken off. ``unit`` says what energies are in, without default.
    ``bound: D0`` says that they are of molecules that vibrate: each then needs its ``zero_point``.
    ``dipoles`` maps species to three numbers in Debye, and ``density_file`` names a file of
    :func:`atomml.checkpoint.save_state` with density matrices by name of species, ``density_basis`` their
    basis set.

    Raises:
        FileFormatError: Names the entry and what is wrong with it.
    """
    file = Path(path)
    tree = _tree(file)
    unit = tree.get("unit")
    if unit not in UNITS:
        raise FileFormatError(f"{path} says no unit of its energies: write unit: one of {', '.join(UNITS)}.")
    species = {str(n): _species(str(n), given, file) for n, given in dict(tree.get("species", {})).items()}
    bound = str(tree.get("bound", "De"))
    if bound not in ("D0", "De"):
        raise FileFormatError(f"{path} says bound: {bound}: write De (without vibrations) or D0 (with them).")
    for number, given in enumerate(tree["reactions"]):
        if bound == "D0" and (not isinstance(given, dict) or "zero_point" not in given):
            raise FileFormatError(
                f"{path}, reaction {number}: energies are D0, and it has no zero_point: add it."
            )
    reactions = [
        _reaction(given, n, UNITS[str(unit)], species, file) for n, given in enumerate(tree["reactions"])
    ]
    if not reactions:
        raise FileFormatError(f"{path} holds no reaction: add one.")
    for reaction in reactions:
        _refuse_wrong_unit(reaction, species, file)
    return ReactionSet(
        species,
        reactions,
        _dipoles(tree, species, file),
        _densities(tree, species, file),
        str(tree.get("density_basis") or "").lower(),
    )


def _refuse_wrong_unit(reaction: Reaction, species: Mapping[str, Species], file: Path) -> None:
    """Refuse an energy that no bonds can have: 0.5 Hartree an atom, where elements and charges balance."""
    balance: dict[int, float] = {}
    charge, n_atoms = 0.0, 0.0
    for name, coefficient in reaction.species.items():
        atoms = species[name].atoms
        charge += coefficient * atoms.info["charge"]
        n_atoms += max(coefficient, 0.0) * len(atoms)
        for number in atoms.numbers:
            balance[int(number)] = balance.get(int(number), 0.0) + coefficient
    if any(abs(left) > 1e-9 for left in (*balance.values(), charge)):
        return
    if abs(reaction.energy) > 0.5 * max(n_atoms, 1):
        raise FileFormatError(
            f"{file}, {reaction.name}: {reaction.energy:.4g} Hartree are more than bonds hold: is unit right?"
        )


def _dipoles(
    tree: Mapping[str, Any], species: Mapping[str, Species], file: Path
) -> dict[str, NDArray[np.float64]]:
    found = {}
    if str(tree.get("dipole_unit", "Debye")) != "Debye":
        raise FileFormatError(f"{file} says dipole_unit: {tree['dipole_unit']}: give dipoles in Debye.")
    for name, moment in dict(tree.get("dipoles") or {}).items():
        try:
            found[str(name)] = np.array([float(x) for x in moment]).reshape(3)
        except (TypeError, ValueError):
            raise FileFormatError(f"{file}: the dipole of {name} is not three numbers in Debye.") from None
        if str(name) not in species:
            raise FileFormatError(f"{file}: there is a dipole of {name}, and no such species: add it.")
    return found


def _densities(
    tree: Mapping[str, Any], species: Mapping[str, Species], file: Path
) -> dict[str, NDArray[np.float64]]:
    if not tree.get("density_file"):
        return {}
    from atomml.checkpoint import load_state

    arrays = load_state(file.parent / str(tree["density_file"])).arrays
    return {name: np.asarray(dm) for name, dm in arrays.items() if name in species}


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
