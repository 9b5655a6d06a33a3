"""Labels from a model of the suite: what replay against forgetting and distillation learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atomml import __version__
from atomml.data.entry import Labels
from atomml.data.label import Labelled
from atomml.errors import ModelError, StructureError
from atomml.graph.validate import validate_atoms

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.label import LabelSettings

__all__ = ["PotentialEngine"]


class PotentialEngine:
    """A model by name or file.

    Args:
        name: Registered name or checkpoint.
        settings: ``dtype`` and ``device`` are read.

    Raises:
        ModelError, CheckpointError: No such model, or a damaged file.
    """

    def __init__(self, name: str, settings: LabelSettings) -> None:
        from atomml.graph import GraphBuilder
        from atomml.registry import load_model

        self._model = load_model(name, dtype=settings.dtype, device=settings.device)
        self._build = GraphBuilder.for_model(self._model, angles=self._model.fast_path() is None)
        info = self._model.info
        dtype = str(self._model.dtype).removeprefix("torch.")
        self.method = f"{info.name} sha256={info.sha256[:16]} dtype={dtype} atomml={__version__}"

    def check(self, atoms: Atoms, where: str) -> None:
        """See :class:`atomml.data.label.Engine`.

        Raises:
            StructureError: No structure that any model can take, or a charge that is no number.
            ModelError: An element that the model never saw, or a charge that it cannot see.
        """
        validate_atoms(atoms, where)
        info = self._model.info
        for atom, number in enumerate(atoms.numbers):
            if int(number) not in info.elements:
                raise ModelError(
                    f"{where}: atom {atom} is {atoms.symbols[atom]} (Z={number}), an element that "
                    f"{info.name} was not trained on: choose another model ('atomml models list')."
                )
        try:
            state = [float(atoms.info.get(name, 0) or 0) for name in ("charge", "spin")]
        except (TypeError, ValueError):
            raise StructureError(f"{where}: charge and spin must be numbers.") from None
        if any(state) and not info.charge_aware:
            raise ModelError(
                f"{where} has charge {state[0]:g} and spin {state[1]:g}, which {info.name} cannot see: "
                "set them to 0, or label it by another method."
            )

    def label(self, atoms: Atoms) -> Labelled:
        """Energy, forces, stress of a periodic structure, magnetic moments if the model has them.

        Structures are evaluated one by one, so that a label does not depend on what is labelled with it.

        Raises:
            RunFailedError: The model gave a number that is not finite.
        """
        found = self._model.predict(self._build(atoms))
        assert found.forces is not None
        stress = None
        if found.stress is not None and bool(found.stress.isfinite().all()):
            stress = found.stress[0].double().cpu().numpy()
        magmoms = found.magmoms.double().cpu().numpy() if found.magmoms is not None else None
        forces = np.asarray(found.forces.double().cpu().numpy())
        labels = Labels(energy=float(found.energy[0]), forces=forces, stress=stress, magmoms=magmoms)
        return Labelled(labels, self.method)
