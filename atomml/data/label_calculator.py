"""A method of the labelling engine as an ASE calculator: ``gfn2`` and ``mmff94s`` in a model's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ase.calculators.calculator import Calculator, all_changes

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.label import Engine

__all__ = ["AttentiveCalculator", "LabelCalculator"]

_BESIDE = ("charge", "spin", "bonds")


class AttentiveCalculator(Calculator):  # type: ignore[misc]
    """An ASE calculator that answers anew when charge, spin or bonds in ``atoms.info`` have changed."""

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation; ASE does not look at charge, spin and bonds."""
        changes: list[str] = super().check_state(atoms, tol)
        if not changes and self.atoms is not None and _beside(atoms) != _beside(self.atoms):
            return ["info"]
        return changes


def _beside(atoms: Atoms) -> tuple[Any, ...]:
    """What of ``info`` an answer may depend on."""
    return tuple(atoms.info.get(name) for name in _BESIDE)


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
