"""The one ASE calculator: any potential of the suite inside any ASE optimiser or dynamics."""

from __future__ import annotations

from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from atomml.attentive_calculator import AttentiveCalculator
from atomml.graph import GraphBuilder
from atomml.model import Potential, Prediction

__all__ = ["AtomMLCalculator"]


class AtomMLCalculator(AttentiveCalculator):
    """ASE calculator of a potential.

    Energies in eV, forces in eV/Å, stress in eV/Å³ (Voigt, positive under tension), magnetic
    moments in μB where the model has them; of a committee also ``energy_std`` (eV) and ``forces_std``
    (eV/Å, for each atom) in ``results``. Total charge and unpaired electrons are ``charge`` and ``spin`` in
    ``atoms.info``; where they change, the answer is computed anew.

    Args:
        model: The potential.
        skin: Å by which the neighbour list reaches farther than the cutoff, so that it
            serves several steps; it never changes a result.
        **kwargs: Passed to ASE's ``Calculator``.

    Raises:
        StructureError, ModelError: On calculation, for a structure that the model cannot take.
        PropertyNotImplementedError: For the stress of a structure without volume.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "magmoms",
    ]
    default_parameters: ClassVar[dict[str, Any]] = {}

    def __init__(self, model: Potential, skin: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self._builder = GraphBuilder.for_model(model, skin, angles=model.fast_path() is None)
        self.prediction: Prediction | None = None

    def _get_name(self) -> str:
        return self.model.info.name

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Predict everything at once; energy alone when nothing else is asked for."""
        super().calculate(atoms, properties, system_changes)
        wanted = set(properties or ["energy"])
        derivatives = bool(wanted - {"energy", "free_energy", "energies", "magmoms"})
        graph = self._builder(self.atoms)
        prediction = self.model.predict(graph, forces=derivatives, stress=derivatives)
        self.prediction = prediction
        energy = float(prediction.energy[0])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": prediction.site_energies.cpu().numpy(),
        }
        if prediction.forces is not None:
            self.results["forces"] = prediction.forces.cpu().numpy()
        if prediction.stress is not None and bool(prediction.stress.isfinite().all()):
            self.results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress[0].cpu().numpy())
        if prediction.magmoms is not None:
            self.results["magmoms"] = prediction.magmoms.double().cpu().numpy()
        if prediction.energy_std is not None:
            self.results["energy_std"] = float(prediction.energy_std[0])
        if prediction.forces_std is not None:
            self.results["forces_std"] = prediction.forces_std.double().cpu().numpy()
        for name in wanted - set(self.results):
            raise PropertyNotImplementedError(f"{self.name} has no {name} for this structure.")
