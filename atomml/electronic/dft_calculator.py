"""Density functional theory as an ASE calculator whose SCFs start from a prediction or the last steps."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.units import Debye, Hartree
from numpy.typing import NDArray

from atomml.attentive_calculator import AttentiveCalculator
from atomml.electronic.charge_spin import charge_and_spin
from atomml.electronic.hamiltonian_model import HamiltonianModel
from atomml.electronic.mean_field import MeanFieldLevel, dipole_of, forces_of, parse_level, quiet
from atomml.electronic.orbital_levels import dm_from
from atomml.electronic.predictor import Predictor, load_predictor
from atomml.electronic.scf_settings import ScfSettings
from atomml.electronic.scf_start import ScfRun, run_scf
from atomml.errors import OptionError

__all__ = ["GUESSES", "AtomMLDFT", "extrapolated"]

GUESSES = ("model", "last", "extrapolated", "default")
"""What an SCF starts from: a predicted matrix, the density of the last step or four, PySCF's own guess."""

Array = NDArray[np.float64]
_HISTORY = 4


class AtomMLDFT(AttentiveCalculator):
    """Energies (eV), forces (eV/Å) and dipoles (e Å) of molecules by PySCF.

    Open shells are spin-unrestricted. Dispersion comes with the level of theory. Charge and unpaired
    electrons are those of ``atoms.info``: where they change, the answer is a new one.

    Args:
        level: A trained predictor (its file or the model), a level of theory, or its ``FUNCTIONAL/BASIS``.
        guess: One of :data:`GUESSES`; by default ``model`` where there is one, else ``extrapolated``.
        settings: Grid and convergence; those of the predictor's labels if None.
        **kwargs: Passed to ASE's ``Calculator``.

    Attributes:
        runs: What each SCF took, :class:`~atomml.electronic.scf_start.ScfRun`.
        field: PySCF's mean field of the last geometry, converged.

    Raises:
        InputError: A level, model or molecule that is wrong.
        LabelError: On calculation, an SCF that did not converge; says what was tried.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "dipole"]
    default_parameters: ClassVar[dict[str, Any]] = {}
    results: dict[str, Any]

    def __init__(
        self,
        level: str | Path | HamiltonianModel | MeanFieldLevel,
        guess: str | None = None,
        settings: ScfSettings | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.predictor: Predictor | None = None
        if isinstance(level, MeanFieldLevel):
            self.level = level
        elif isinstance(level, HamiltonianModel) or Path(level).is_file():
            self.predictor = load_predictor(level, settings)
            self.level = self.predictor.level
        else:
            self.level = MeanFieldLevel(*parse_level(str(level)), settings or ScfSettings())
        self.guess = guess or ("model" if self.predictor is not None else "extrapolated")
        if self.guess not in GUESSES:
            raise OptionError(f"There is no guess {self.guess!r}: choose from {', '.join(GUESSES)}.")
        if self.guess == "model" and self.predictor is None:
            raise OptionError(f"The guess model needs a predictor, and {level} is a level of theory.")
        self.runs: list[ScfRun] = []
        self.field: Any = None
        self._history: list[tuple[Array, Array]] = []
        self._checked: tuple[tuple[int, ...], int, int] | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Converge the SCF, unless the last answer's was it, and differentiate if forces are asked for."""
        converged = not system_changes and "energy" in self.results
        super().calculate(atoms, properties, system_changes)
        molecule = (tuple(self.atoms.numbers), *charge_and_spin(self.atoms, "the molecule"))
        if molecule != self._checked:
            self.level.check(self.atoms, "the molecule")
            if self.predictor is not None:
                self.predictor.check(self.atoms, "the molecule")
            self._checked, self._history = molecule, []
        with quiet():
            if not converged:
                run = self._converged(self.level.mean_field(self.atoms))
                self.results = {"energy": run.energy * Hartree, "free_energy": run.energy * Hartree}
            if "forces" in (properties or []):
                self.results["forces"] = forces_of(self.field)
            if "dipole" in (properties or []):
                self.results["dipole"] = dipole_of(self.field) * Debye

    def _converged(self, field: Any) -> ScfRun:
        """The SCF from the guess; what it took is kept."""
        import time

        started, builds, density, name = time.perf_counter(), 0, None, "default"
        overlap = np.asarray(field.get_ovlp())
        if self.guess == "model" and self.predictor is not None:
            predicted = self.predictor(self.atoms, field)
            density, builds, name = dm_from(predicted.matrix, field.mol), predicted.fock_builds, "prediction"
        elif self.guess in ("last", "extrapolated") and self._history:
            n = 1 if self.guess == "last" else _HISTORY
            density = _continued(self._history[-n:], overlap, field.mol.nelec)
            name = self.guess
        spent = time.perf_counter() - started
        run = run_scf(field, density, name, spent=spent, builds=builds)
        self.field = field
        if not run.converged:  # DIIS from two starts is not all that can be tried
            self.field, _ = self.level.converge(field)
            density = np.asarray(self.field.make_rdm1())
            run = replace(run, energy=float(self.field.e_tot), converged=True, density=density)
        self.runs.append(run)
        self._history = [*self._history[-_HISTORY + 1 :], (run.density, overlap)]
        return run


def _continued(history: list[tuple[Array, Array]], overlap: Array, n_electrons: tuple[int, int]) -> Array:
    """:func:`extrapolated`, of each spin on its own where there are two densities."""
    if history[0][0].ndim == 2:
        return extrapolated(history, overlap, n_electrons[0])
    spins = []
    for s, n in enumerate(n_electrons):
        own = [(2 * density[s], known) for density, known in history]
        spins.append(extrapolated(own, overlap, n) / 2 if n else np.zeros_like(overlap))
    return np.stack(spins)


def extrapolated(history: list[tuple[Array, Array]], overlap: Array, n_occupied: int) -> Array:
    """A density for the next step of a dynamics from those of the last ones, idempotent again.

    Kolafa's always-stable predictor (J. Comput. Chem. 25, 335 (2004), eq. 20) on the contra-covariant ``P S``
    (VandeVondele et al., Comput. Phys. Commun. 167, 103 (2005)), then its natural orbitals of highest
    occupation. One step gives the last density for the new overlap.

    Args:
        history: Density and overlap of the last steps, the newest last.
        overlap: Of the new geometry.
        n_occupied: Doubly occupied orbitals.
    """
    from scipy.linalg import eigh, sqrtm

    k = len(history)
    weights = [(-1) ** (j + 1) * j * comb(2 * k, k - j) / comb(2 * k - 2, k - 1) for j in range(1, k + 1)]
    product = sum(w * (p @ s) for w, (p, s) in zip(weights, reversed(history), strict=True))
    density = np.linalg.solve(overlap, np.asarray(product).T).T
    root = np.real(sqrtm(overlap))
    back = np.linalg.inv(root)
    orthogonal = root @ (0.5 * (density + density.T)) @ root
    orbitals = back @ eigh(orthogonal)[1][:, -n_occupied:]
    return np.asarray(2.0 * orbitals @ orbitals.T)
