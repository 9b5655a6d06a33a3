"""What is measured as the run goes: one row of the log, averages, and pair distributions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import units

from atomml.md.averages import BlockAverage, Mean
from atomml.md.forces import Spread
from atomml.md.rdf import RadialDistribution
from atomml.md.state import Array, System

__all__ = ["AVERAGED", "MeanSquaredDisplacement", "Observables", "pressure_in_gpa"]

AVERAGED = ("temperature_K", "kinetic_eV", "potential_eV", "total_eV", "conserved_eV", "pressure_GPa")
_CELL = ("volume_A3", "a_A", "b_A", "c_A")
_SPREAD = ("energy_std_eV_per_atom", "largest_forces_std_eV_per_A")


def pressure_in_gpa(system: System) -> float:
    """Pressure with its kinetic part ``2K / 3V``, GPa; NaN where there is no stress."""
    return float(np.trace(system.pressure_tensor())) / 3.0 / units.GPa


class MeanSquaredDisplacement:
    """Displacement from a reference frame, the centre of mass at rest.

    In a periodic cell displacements are taken in cell coordinates and measured in the
    present cell, so that a cell that breathes moves no atom.
    """

    def __init__(self, system: System) -> None:
        self.restart(system)

    def restart(self, system: System) -> None:
        """Take the present frame as the reference."""
        self._reference: Array = self._coordinates(system)

    def displacements(self, system: System) -> Array:
        """``(n, 3)`` Å."""
        moved = self._coordinates(system) - self._reference
        if system.mobile.all():  # with fixed atoms the frame of reference is theirs
            moved = moved - (system.masses * moved).sum(axis=0) / system.masses.sum()
        return moved @ system.cell if self._in_cell(system) else moved

    def mean(self, system: System) -> float:
        """Mean over all atoms, Å²."""
        return float((self.displacements(system) ** 2).sum()) / system.n_atoms

    def arrays(self) -> dict[str, Array]:
        """The reference."""
        return {"msd_reference": np.array(self._reference)}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """The inverse of :meth:`arrays`."""
        self._reference = np.array(arrays["msd_reference"])

    @staticmethod
    def _in_cell(system: System) -> bool:
        return bool(system.pbc.all()) and system.volume > 0

    def _coordinates(self, system: System) -> Array:
        if not self._in_cell(system):
            return system.positions.copy()
        fractional = np.linalg.solve(system.cell.T, system.positions.T).T
        # in rows, as a restart file gives them back: sums depend on the layout in their last bit
        return np.array(fractional, dtype=np.float64, order="C")


class Observables:
    """Everything that is accumulated, with its state.

    Args:
        system: The first frame.
        cell_changes: Whether cell lengths belong in the log.
        rdf_cutoff: Largest distance of the pair distributions, Å; 0 for none.

    Attributes:
        magnetic: Whether the model gives magnetic moments; known after its first answer.
        uncertain: Whether the model is a committee, whose spread is logged; known likewise.
    """

    def __init__(self, system: System, *, cell_changes: bool, rdf_cutoff: float) -> None:
        self._cell_changes = cell_changes
        self.magnetic = self.uncertain = False
        self.msd = MeanSquaredDisplacement(system)
        self.averages = BlockAverage(len(self.averaged))
        self.rdf: RadialDistribution | None = None
        if rdf_cutoff > 0 and system.pbc.all():
            n_bins = max(round(rdf_cutoff / 0.05), 1)
            self.rdf = RadialDistribution(system.numbers, rdf_cutoff, n_bins)

    @property
    def averaged(self) -> tuple[str, ...]:
        """Names of the series whose means are kept."""
        return AVERAGED + (_CELL if self._cell_changes else ())

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the log."""
        head = ("step", "time_fs", *AVERAGED, "volume_A3", "msd_A2", "target_temperature_K")
        cell = ("target_pressure_GPa", *_CELL[1:]) if self._cell_changes else ()
        spread = _SPREAD if self.uncertain else ()
        return head + cell + (("magnetization_muB",) if self.magnetic else ()) + spread

    def measure(
        self, system: System, conserved: float, magmoms: Array | None, spread: Spread | None = None
    ) -> dict[str, float]:
        """The row of the present frame, by column; step, time and targets are the caller's."""
        kinetic = system.kinetic_energy()
        row = {
            "temperature_K": system.temperature(),
            "kinetic_eV": kinetic,
            "potential_eV": system.energy,
            "total_eV": kinetic + system.energy,
            "conserved_eV": conserved,
            "pressure_GPa": pressure_in_gpa(system),
            "volume_A3": system.volume if system.pbc.all() else np.nan,
            "msd_A2": self.msd.mean(system),
        }
        if self._cell_changes:
            row.update(zip(_CELL[1:], np.linalg.norm(system.cell, axis=1).tolist(), strict=True))
        if self.magnetic:
            row["magnetization_muB"] = np.nan if magmoms is None else float(magmoms.sum())
        if self.uncertain:
            known = spread or Spread(np.nan, np.full(1, np.nan))
            row.update(zip(_SPREAD, (known.energy / system.n_atoms, float(known.forces.max())), strict=True))
        return row

    def accumulate(self, system: System, row: Mapping[str, float]) -> None:
        """Take the present frame into averages and pair distributions."""
        self.averages.add(np.array([row[name] for name in self.averaged]))
        if self.rdf is not None:
            self.rdf.add(system)

    def means(self) -> dict[str, Mean]:
        """The mean of every averaged series."""
        return {name: self.averages.mean(index) for index, name in enumerate(self.averaged)}

    def arrays(self) -> dict[str, Array]:
        """The whole state."""
        rdf = self.rdf.arrays() if self.rdf is not None else {}
        return {**self.msd.arrays(), **self.averages.arrays(), **rdf}

    def load_arrays(self, arrays: dict[str, Array]) -> None:
        """The inverse of :meth:`arrays`."""
        self.msd.load_arrays(arrays)
        self.averages.load_arrays(arrays)
        if self.rdf is not None:
            self.rdf.load_arrays(arrays)
