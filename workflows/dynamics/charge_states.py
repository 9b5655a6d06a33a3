"""What a run says of oxidation states: a table of atoms, ions over time, and doubts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from atomml.files import write_table
from atomml.run import RunFolder
from atomml.workflows.inputs import net_charge

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.oxidation import OxidationStates

    Array = NDArray[np.float64]

__all__ = ["ions_over_time", "read_states", "write_states"]

_DOUBTFUL = 0.3  # μB outside its range: as far as neighbouring ranges' middles are from their ends
_FRAMES = 200


def read_states(
    atoms: Atoms, magmoms: Array | None, warn: Callable[[str], None] | None = None
) -> OxidationStates | None:
    """The states of an ionic structure whose moments tell them; None for any other.

    Args:
        atoms: The structure; ``info["charge"]`` is what the states add up to.
        magmoms: ``(n,)`` μB, or None.
        warn: Told where the states are in doubt.
    """
    from atomml.oxidation import has_readable_moments, oxidation_states

    if magmoms is None or not has_readable_moments(atoms):
        return None
    charge = net_charge(atoms)[0]
    found = oxidation_states(atoms, magmoms, round(charge))
    if found.method != "magnetic moments" or warn is None:
        return found if found.method == "magnetic moments" else None
    if not found.balanced:
        warn(
            f"The oxidation states read from the moments add up to {found.charge:+d} e, not {charge:+g}: no "
            "states of these elements balance it (oxygen may be oxidised, or the structure is no salt)."
        )
    elif found.farthest > _DOUBTFUL:
        warn(
            f"{len(found.moved)} atoms were given other oxidation states than their moments say, to balance "
            f"the charge; one lies {found.farthest:.2f} μB outside its range: take these states with care."
        )
    return found


def write_states(folder: RunFolder, atoms: Atoms) -> dict[str, int] | None:
    """``oxidation_states.csv``, a line for each atom, and how many there are of each ion.

    None, and no file, where the last answer of the atoms' calculator holds no moments that tell.
    """
    magmoms = atoms.calc.results.get("magmoms")
    found = read_states(atoms, magmoms, folder.warn)
    if found is None:
        return None
    moved = set(found.moved)
    rows = [
        {
            "atom": number,
            "element": symbol,
            "moment_muB": float(magmoms[number]),
            "oxidation_state": int(found.states[number]),
            "balanced_by": "charge" if number in moved else "moment",
        }
        for number, symbol in enumerate(atoms.symbols)
    ]
    write_table(folder.file("oxidation_states.csv"), rows)
    return found.counts


def ions_over_time(folder: RunFolder, trajectory: str) -> dict[str, int] | None:
    """``ions.csv``: how many of each ion there are over time; returns those of the last frame.

    At most 200 frames, evenly spaced, are read. None, and no file, where the moments tell nothing.
    """
    from atomml.report.trajectory import sample_extxyz

    rows: list[dict[str, Any]] = []
    for atoms in sample_extxyz(folder.file(trajectory), _FRAMES).frames:
        magmoms = atoms.calc.results.get("magmoms") if atoms.calc is not None else None
        found = read_states(atoms, magmoms)
        if found is None:
            return None
        rows.append({"time_fs": float(atoms.info.get("time_fs", len(rows)))} | found.counts)
    if not rows:
        return None
    ions = sorted({ion for row in rows for ion in row if ion != "time_fs"})
    table = [{"time_fs": row["time_fs"]} | {ion: row.get(ion, 0) for ion in ions} for row in rows]
    write_table(folder.file("ions.csv"), table)
    return {ion: int(table[-1][ion]) for ion in ions if table[-1][ion]}
