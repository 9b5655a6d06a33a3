"""Rows of descriptors of structures: composition, structure, and the learned features of potentials.

A describer carries all that it needs, tables and weights of potentials, so that a model's file answers
alone; its numbers keep their precision whatever the model around it is converted to, for a tree that
compares them with a threshold must see in prediction the bits that it saw in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor, nn

from atomml.errors import ModelError, OptionError
from atomml.property.composition_rows import composition_row, magpie_names, magpie_table
from atomml.property.structure_rows import structure_names, structure_row

__all__ = ["OWN", "Describer"]

OWN = ("magpie", "structure")
"""Parts that are no model's features."""

Floats = NDArray[np.float64]


class Describer(nn.Module):
    """Makes rows of descriptors.

    Args:
        parts: ``magpie``, ``structure``, and ``features:K`` for the K-th potential.
        bases: Potentials whose features are taken; kept in float32.
    """

    table: Tensor
    radii: Tensor

    def __init__(self, parts: Sequence[str], bases: Sequence[Any] = ()) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.bases = nn.ModuleList(bases)
        self.register_buffer("table", torch.full((119, 22), torch.nan, dtype=torch.float64))
        self.register_buffer("radii", torch.full((119,), torch.nan, dtype=torch.float64))
        self.requires_grad_(False)

    @classmethod
    def fresh(cls, names: Sequence[str]) -> Self:
        """From names of parts: ``magpie``, ``structure``, or a potential by name or file.

        Raises:
            ModelError: A potential that is not there, or has no features.
            MissingExtraError: matminer is not installed.
            OptionError: No part, or one twice.
        """
        from atomml.registry import load_model

        if not names or len(set(names)) < len(names):
            raise OptionError("Descriptors are one or several of magpie, structure and models, each once.")
        parts: list[str] = []
        bases: list[Any] = []
        for name in names:
            if name in OWN:
                parts.append(name)
                continue
            base = load_model(name, dtype="float32", device="cpu")
            if "atom_features" not in base.info.properties:
                raise ModelError(f"{name} has no features to learn from: take another model.")
            parts.append(f"features:{len(bases)}")
            bases.append(base)
        made = cls(parts, bases)
        if set(parts) & set(OWN):
            made.table.copy_(torch.from_numpy(magpie_table()))
            made.radii.copy_(torch.from_numpy(_atomic_radii()))
        return made

    def hyperparameters(self) -> dict[str, Any]:
        """Parts, and the shapes of the potentials; fit for JSON."""
        bases = [
            {
                "family": base.info.family,
                "hyperparameters": base.hyperparameters(),
                "info": asdict(base.info),
            }
            for base in self._each()
        ]
        return {"parts": list(self.parts), "bases": bases}

    @classmethod
    def from_hyperparameters(cls, values: dict[str, Any]) -> Self:
        """A describer of this shape, to be filled from a checkpoint."""
        from atomml.base_model import ModelInfo
        from atomml.registry import family_class

        bases = []
        for base in values["bases"]:
            info: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in base["info"].items()
            }
            kind = family_class(base["family"], "The file")
            bases.append(kind.from_hyperparameters(base["hyperparameters"], ModelInfo(**info)))
        return cls(values["parts"], bases)

    @property
    def elements(self) -> set[int] | None:
        """Atomic numbers that every potential of it knows; None without any."""
        known = [set(base.info.elements) for base in self._each()]
        return set.intersection(*known) if known else None

    def names(self) -> list[str]:
        """Names of the descriptors, in order."""
        found: list[str] = []
        for part in self.parts:
            if part == "magpie":
                found += magpie_names()
            elif part == "structure":
                found += structure_names()
            else:
                base = self._base(part)
                width = _probe_width(base)
                found += [f"{base.info.name} {what} {k}" for what in ("mean", "max") for k in range(width)]
        return found

    def row(self, atoms: Atoms, where: str = "structure") -> Floats:
        """``(n_descriptors,)`` of a structure; NaN for what it has not.

        Raises:
            StructureError: A structure that no model can take.
            ModelError: An element that a potential never saw.
        """
        parts = []
        for part in self.parts:
            if part == "magpie":
                parts.append(composition_row(np.asarray(atoms.numbers), self.table.numpy()))
            elif part == "structure":
                parts.append(structure_row(atoms, self.table.numpy(), self.radii.numpy(), where))
            else:
                parts.append(_learned_row(self._base(part), atoms, where))
        return np.concatenate(parts)

    def _each(self) -> list[Any]:
        return list(self.bases)

    def _base(self, part: str) -> Any:
        return self.bases[int(part.partition(":")[2])]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Nothing moves and nothing is rounded: rows are made on the CPU, with the bits of training."""
        return self


def _learned_row(base: Any, atoms: Atoms, where: str) -> Floats:
    """Mean and maximum over the atoms of a potential's features."""
    from atomml.graph import GraphBuilder

    unknown = sorted(set(atoms.numbers.tolist()) - set(base.info.elements))
    if unknown:
        raise ModelError(f"{where} holds element Z={unknown[0]}, which {base.info.name} was not trained on.")
    builder = GraphBuilder(base.info.cutoff, base.info.bond_cutoff, angles=base.fast_path() is None)
    found = base.predict(builder(atoms, where), forces=False, stress=False)
    features = found.atom_features.double().cpu().numpy()
    return np.concatenate([features.mean(axis=0), features.max(axis=0)])


def _probe_width(base: Any) -> int:
    """Channels of a potential's features."""
    number = base.info.elements[0]
    pair = Atoms([number, number], positions=[[0, 0, 0], [0, 0, 2.0]])
    return len(_learned_row(base, pair, "probe")) // 2


def _atomic_radii() -> Floats:
    """Atomic radii of pymatgen by atomic number, Å, which matminer's packing fraction is made of."""
    from pymatgen.core import Element

    radii = np.full(119, np.nan)
    for element in Element:
        if element.Z <= 118 and element.atomic_radius is not None:
            radii[element.Z] = float(element.atomic_radius)
    return radii
