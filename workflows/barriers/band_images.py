"""The images of a path, asked of the model together: one calculator each, one question for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from atomml.workflows.batch_memory import MemoryLimit

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.graph import AtomGraph
    from atomml.workflows.inputs import GivenModel

__all__ = ["Band", "ImageCalculator"]


class Band:
    """Asks a model for all images that have moved, whenever one of them is asked for its forces.

    Ends and inner images are asked apart, so that a resumed run puts the same batches to the model as
    one that never stopped.

    Args:
        images: Start to end; each gets a calculator.
        model: The model.
    """

    def __init__(self, images: Sequence[Atoms], model: GivenModel) -> None:
        self.images = list(images)
        self._calculator = model.calculator() if model.potential is None else None
        self._potential = model.potential
        self._limit = MemoryLimit.of(model)
        if self._potential is not None:
            from atomml.graph import GraphBuilder

            angles = self._potential.fast_path() is None
            self._builders = [
                GraphBuilder.for_model(self._potential, 1.0, angles=angles) for _ in self.images
            ]
        for image in self.images:
            image.calc = ImageCalculator(self)
        self._refresh([0, len(self.images) - 1])

    def refresh(self) -> None:
        """Bring the answers of all inner images up to date; those of an end if it has moved."""
        last = len(self.images) - 1
        stale = [number for number in range(last + 1) if self._moved(number)]
        self._refresh([number for number in stale if number in (0, last)])
        self._refresh([number for number in stale if number not in (0, last)])

    def _moved(self, number: int) -> bool:
        image = self.images[number]
        return not image.calc.results or bool(image.calc.check_state(image))

    def _refresh(self, numbers: Sequence[int]) -> None:
        if self._calculator is not None:
            for number in numbers:
                self._take(number, self._one(self.images[number]))
            return
        asked = [
            (number, self._builders[number](self.images[number], f"image {number}")) for number in numbers
        ]
        for part in self._limit.parts(asked, lambda one: one[1].n_edges):
            self._ask([number for number, _ in part], [graph for _, graph in part])

    def _ask(self, numbers: Sequence[int], graphs: Sequence[AtomGraph]) -> None:
        from atomml.graph import collate

        assert self._potential is not None
        graph = collate(graphs)
        answers = self._potential.predict(graph, stress=False).split(graph)
        for number, part in zip(numbers, answers, strict=True):
            assert part.forces is not None
            found = {"energy": float(part.energy), "forces": part.forces.cpu().numpy()}
            if part.magmoms is not None:
                found["magmoms"] = part.magmoms.double().cpu().numpy()
            self._take(number, found)

    def _one(self, image: Atoms) -> dict[str, Any]:
        atoms = image.copy()
        atoms.set_constraint()
        atoms.calc = self._calculator
        return {"energy": float(atoms.get_potential_energy()), "forces": np.array(atoms.get_forces())}

    def _take(self, number: int, results: dict[str, Any]) -> None:
        image = self.images[number]
        image.calc.atoms = image.copy()
        image.calc.results = results | {"free_energy": results["energy"]}


class ImageCalculator(Calculator):  # type: ignore[misc]
    """The calculator of one image; asked for anything, it lets the band bring all images up to date."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "magmoms"]
    default_parameters: ClassVar[dict[str, Any]] = {}

    def __init__(self, band: Band) -> None:
        super().__init__()
        self._band = band
        self.results: dict[str, Any] = {}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Ask for all images that have moved."""
        self._band.refresh()
