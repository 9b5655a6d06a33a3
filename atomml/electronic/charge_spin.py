"""Total charge and unpaired electrons of a structure, for methods that need to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atomml.errors import StructureError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["charge_and_spin", "check_closed_shell"]


def charge_and_spin(atoms: Atoms, where: str = "structure") -> tuple[int, int]:
    """Total charge and unpaired electrons of a structure for a quantum-chemical method.

    A structure that says nothing is neutral and closed-shell, unless that cannot be: then nothing is
    guessed. An isolated atom is asked for its spin, because most have one.

    Raises:
        StructureError: Not whole numbers, no electrons, a spin that their number rules out, or an
            isolated atom without a spin.
    """
    charge = _whole(atoms, "charge", where)
    spin = _whole(atoms, "spin", where)
    electrons = int(atoms.numbers.sum()) - charge
    if electrons < 1:
        raise StructureError(f"{where}: charge {charge:+d} leaves {electrons} electrons: mend the charge.")
    if len(atoms) == 1 and atoms.info.get("spin") is None and electrons > 1 and not atoms.pbc.any():
        raise StructureError(
            f"{where}: an isolated atom needs its spin: give the number of unpaired electrons as 'spin' "
            f"{_ground_state(atoms, charge)}."
        )
    if spin < 0 or spin > electrons or (electrons - spin) % 2:
        raise StructureError(
            f"{where}: {electrons} electrons cannot leave {spin} unpaired: give charge and spin in the file "
            "or with --charge and --spin."
        )
    return charge, spin


def check_closed_shell(charge: float, spin: float, where: str, who: str = "predictors know") -> None:
    """Refuse what a predictor of matrices cannot tell from a neutral molecule with paired electrons.

    Args:
        charge: Total charge, e.
        spin: Unpaired electrons.
        where: What to call the molecule.
        who: Subject and verb of the sentence that refuses.

    Raises:
        StructureError: Names the molecule.
    """
    if charge or spin:
        raise StructureError(
            f"{where} has charge {charge:+g} and {spin:g} unpaired electrons: {who} neutral molecules with "
            "paired electrons; leave it out."
        )


def _whole(atoms: Atoms, name: str, where: str) -> int:
    value = atoms.info.get(name)
    try:
        number = 0.0 if value is None else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not number.is_integer():
        raise StructureError(f"{where}: {name} is {value!r}: give a whole number.")
    return int(number)


def _ground_state(atoms: Atoms, charge: int) -> str:
    from ase.data import ground_state_magnetic_moments

    number = int(atoms.numbers[0])
    if charge or number >= len(ground_state_magnetic_moments):
        return "in the file or with --spin"
    moment = ground_state_magnetic_moments[number]
    return f"in the file or with --spin ({moment:g} for the ground state of {atoms.symbols[0]})"
