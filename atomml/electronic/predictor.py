"""A predictor of matrices ready for use: the prior and what the model adds, with their cost."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atomml.electronic.charge_spin import check_closed_shell
from atomml.electronic.hamiltonian_model import HamiltonianModel
from atomml.electronic.matrices import all_pairs
from atomml.electronic.mean_field import MeanFieldLevel, quiet
from atomml.electronic.priors import prior_matrix
from atomml.electronic.scf_settings import ScfSettings
from atomml.errors import ModelError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["PredictedMatrix", "Predictor", "load_predictor"]

_SHOWN = 8


@dataclass(frozen=True)
class PredictedMatrix:
    """A Kohn-Sham matrix without an SCF.

    Attributes:
        matrix: ``(n, n)`` Hartree, in PySCF's order.
        prior: What the model added to; zeros for the prior ``none``.
        seconds: Wall time of prior and model.
        fock_builds: Fock matrices that were built: that of the prior.
    """

    matrix: NDArray[np.float64]
    prior: NDArray[np.float64]
    seconds: float
    fock_builds: int


class Predictor:
    """A model with the level of theory that it predicts.

    Args:
        model: The model.
        settings: Grid and convergence of the prior and of SCFs; the labels' grid if None.
        molecules: Formulas of the molecules that the model was trained on; empty if unknown.
    """

    def __init__(
        self, model: HamiltonianModel, settings: ScfSettings | None = None, molecules: Collection[str] = ()
    ) -> None:
        self.model, self.molecules = model, tuple(molecules)
        level = model.level
        self.settings = settings or _settings_of(level.method)
        self.level = MeanFieldLevel(level.functional, level.basis, self.settings)

    def check(self, atoms: Atoms, where: str) -> None:
        """Refuse what the model or its level of theory cannot take.

        Raises:
            InputError: Names the molecule and what is wrong.
        """
        check_closed_shell(*self.level.check(atoms, where), where, f"{self.model.info.name} knows")
        for atom, number in enumerate(atoms.numbers):
            if int(number) not in self.model.info.elements:
                raise ModelError(
                    f"{where}: atom {atom} is {atoms.symbols[atom]}, an element that {self.model.info.name} "
                    "was not trained on."
                )

    def doubt(self, atoms: Atoms, where: str) -> str:
        """A sentence on a molecule whose formula no training molecule had; "" for one of theirs."""
        formula = str(atoms.get_chemical_formula())
        if not self.molecules or formula in self.molecules:
            return ""
        known = ", ".join(self.molecules[:_SHOWN]) + (" ..." if len(self.molecules) > _SHOWN else "")
        return f"{where} is {formula}, and {self.model.info.name} was trained on {known}."

    def __call__(self, atoms: Atoms, field: Any = None) -> PredictedMatrix:
        """The matrix of a molecule.

        Args:
            atoms: The molecule, checked.
            field: Its mean field, if there is one already.
        """
        started = time.perf_counter()
        prior_name = self.model.level.prior
        with quiet():
            own = self.level.mean_field(atoms) if field is None else field
            prior = prior_matrix(own, prior_name)
        left = self.model.predict(all_pairs(atoms))[0].cpu().numpy()
        builds = 0 if prior_name == "none" else 1
        return PredictedMatrix(prior + left, prior, time.perf_counter() - started, builds)


def load_predictor(
    model: str | Path | HamiltonianModel, settings: ScfSettings | None = None, device: str = "auto"
) -> Predictor:
    """The predictor in a checkpoint.

    Raises:
        ModelError: A file without such a model.
        CheckpointError: A damaged or foreign file.
    """
    from atomml.checkpoint import load_any_model

    if isinstance(model, HamiltonianModel):
        return Predictor(model, settings)
    if not Path(model).is_file():
        raise ModelError(f"There is no model file {model}: train one with atomml hamiltonian train.")
    found = load_any_model(model, "float32", device)
    if not isinstance(found, HamiltonianModel):
        raise ModelError(f"{model} holds a {found.info.kind}, which predicts no Hamiltonian.")
    return Predictor(found, settings, (found.training_record or {}).get("molecules", ()))


def _settings_of(method: str) -> ScfSettings:
    """Grid and convergence of a method string; defaults for what it does not say."""
    said = dict(part.split("=", 1) for part in method.split() if "=" in part)
    return ScfSettings(
        grid=int(said.get("grid", 3)),
        conv_tol=float(said.get("conv_tol", 1e-9)),
        density_fit="density_fit" in method.split(),
    )
