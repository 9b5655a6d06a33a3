"""A method of the labelling engine as an ASE calculator: ``gfn2`` and ``mmff94s`` in a model's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ase.calculators.calculator import all_changes

from atomml.attentive_calculator import AttentiveCalculator

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.label import Engine

__all__ = ["LabelCalculator"]


class LabelCalculator(AttentiveCalculator):
    """Energy and forces of an engine; the stress too where it gives one.

    Args:
        engine: The engine.
        stress: Whether it gives a stress of crystals.

    Raises:
        LabelError: On calculation, where the engine gives no label.
    """

    default_parameters: ClassVar[dict[str, Any]] = {}

    def __init__(self, engine: Engine, stress: bool = False) -> None:
        super().__init__()
        self.engine = engine
        self.parameters["method"] = engine.method
        self.results: dict[str, Any] = {}
        self.implemented_properties = ["energy", "forces", *(["stress"] if stress else [])]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Ask the engine."""
        super().calculate(atoms, properties, system_changes)
        from ase.stress import full_3x3_to_voigt_6_stress

        labels = self.engine.label(self.atoms).labels
        self.results = {"energy": labels.energy, "forces": labels.forces}
        if labels.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(labels.stress)
