"""A model asked for batches of structures; what ``predict`` and ``evaluate`` have in common."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from atomml.errors import ModelError

if TYPE_CHECKING:
    from atomml.workflows.inputs import GivenModel
    from atomml.workflows.predicting.prediction_items import Item

__all__ = ["BatchEvaluator"]


class BatchEvaluator:
    """Answers of one model for items, batch by batch.

    Attributes:
        model: The model.
        features: Whether the answers hold embeddings.
        channels: Number of channels of an atom's and of a structure's embedding, once known.
    """

    def __init__(self, model: GivenModel, features: bool = False) -> None:
        self.model, self.features = model, features
        self.channels = (0, 0)
        self._build: Any = None
        self._calculator = model.calculator() if model.potential is None else None
        if model.potential is not None:
            from atomml.graph import GraphBuilder

            potential = model.potential
            self._build = GraphBuilder.for_model(potential, angles=potential.fast_path() is None)

    def prepare(self, item: Item) -> None:
        """Build the graph of an item without an error, for a model that takes graphs."""
        if self._build is not None and item.error is None and item.given is not None:
            item.graph = self._build(item.given.atoms)

    def evaluate(self, items: list[Item]) -> None:
        """Fill in ``results`` of items that :meth:`prepare` has seen; their graphs are let go.

        The results are ``energy`` (eV), ``forces`` ``(n_atoms, 3)`` (eV/Å) and, where there are such,
        ``stress`` ``(6,)`` (Voigt order, eV/Å³), ``magmoms`` (μB) and ``energies`` (eV) ``(n_atoms,)``,
        and the features.

        Raises:
            ModelError: Features were asked for and the model has none.
            RunFailedError: The model gave a number that is not finite.
        """
        if self.model.potential is None:
            for item in items:
                item.results = self._by_calculator(item)
        elif items:
            self._by_potential(items)

    def _by_potential(self, items: list[Item]) -> None:
        from ase.stress import full_3x3_to_voigt_6_stress

        from atomml.graph import collate

        potential = self.model.potential
        assert potential is not None
        graph = collate([item.graph for item in items if item.graph is not None])
        for item, part in zip(items, potential.predict(graph).split(graph), strict=True):
            found: dict[str, Any] = {
                "energy": float(part.energy),
                "energies": part.site_energies.cpu().numpy(),
            }
            assert part.forces is not None
            found["forces"] = part.forces.cpu().numpy()
            if part.stress is not None and bool(part.stress.isfinite().all()):
                found["stress"] = full_3x3_to_voigt_6_stress(part.stress[0].cpu().numpy())
            if part.magmoms is not None:
                found["magmoms"] = part.magmoms.double().cpu().numpy()
            if part.energy_std is not None and part.forces_std is not None:
                found["energy_std"] = float(part.energy_std[0])
                found["forces_std"] = part.forces_std.double().cpu().numpy()
            if self.features:
                if part.atom_features is None or part.crystal_features is None:
                    raise ModelError(f"{potential.info.name} has no features: run without --features.")
                found["atom_features"] = part.atom_features.cpu().numpy()
                found["structure_features"] = part.crystal_features[0].cpu().numpy()
                self.channels = (found["atom_features"].shape[1], len(found["structure_features"]))
            item.results, item.graph = found, None

    def _by_calculator(self, item: Item) -> dict[str, Any]:
        from ase.calculators.calculator import PropertyNotImplementedError

        if self.features:
            raise ModelError(f"{self.model.source} has no features: run without --features.")
        assert item.given is not None
        atoms = item.given.atoms.copy()
        atoms.calc = self._calculator
        found: dict[str, Any] = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if atoms.cell.rank == 3 and atoms.pbc.any():
            with suppress(PropertyNotImplementedError, NotImplementedError):
                found["stress"] = atoms.get_stress()
        return found
