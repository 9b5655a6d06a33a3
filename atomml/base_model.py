"""What every model has, whatever it predicts: a description, a shape that can be saved, blocks of weights."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from ase.data import chemical_symbols
from torch import nn

from atomml.errors import ModelError
from atomml.graph.atom_graph import AtomGraph

__all__ = ["Model", "ModelInfo"]


@dataclass(frozen=True)
class ModelInfo:
    """What a user should know of a model before using it.

    Attributes:
        name: Registered name or file stem.
        family: Name of the folder in ``potentials/``.
        cutoff: Edge cutoff, Å.
        elements: Atomic numbers that the model was trained on.
        bond_cutoff: Cutoff of the bond graph, Å; None where the model uses none.
        interaction_range: Distance beyond which moving an atom cannot change another's force, Å;
            None if unknown.
        kind: ``potential``, later ``hamiltonian``, ``functional``, ``property``.
        properties: What a prediction holds beside energy, forces and stress, such as ``magmoms``.
        charge_aware: Whether charge and spin change the answer.
        training_data: One line.
        licence: SPDX identifier of the weights.
        citation: One line.
        sha256: Digest of the weights.
    """

    name: str
    family: str
    cutoff: float
    elements: tuple[int, ...]
    bond_cutoff: float | None = None
    interaction_range: float | None = None
    kind: str = "potential"
    properties: tuple[str, ...] = ()
    charge_aware: bool = False
    training_data: str = ""
    licence: str = ""
    citation: str = ""
    sha256: str = ""


class Model(nn.Module, abc.ABC):
    """A network with a description, whose shape is plain values; what it answers is its subclass's matter."""

    info: ModelInfo
    kept_double: ClassVar[tuple[str, ...]] = ()
    """Buffers, such as energies of elements, that stay float64 whatever the weights become."""
    training_record: Mapping[str, Any] | None = None
    """How it was trained, and from what, as its file says it; None where no file says so."""

    def __init__(self, info: ModelInfo) -> None:
        super().__init__()
        self.info = info

    @abc.abstractmethod
    def hyperparameters(self) -> dict[str, Any]:
        """Everything but the weights that :meth:`from_hyperparameters` needs; fit for JSON."""

    @classmethod
    @abc.abstractmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """A model of this shape with fresh weights; a checkpoint's tensors are loaded into it."""

    @classmethod
    def fresh(cls, name: str, elements: Sequence[int], settings: Mapping[str, Any]) -> Self:
        """A model to be trained from nothing; weights come from torch's generator as it stands.

        Args:
            name: What it will be called.
            elements: Atomic numbers that it will be trained on.
            settings: Hyperparameters that differ from the family's defaults.

        Raises:
            ModelError: A setting that the family does not have, or a family that cannot be trained
                from nothing (the default).
        """
        raise ModelError(f"{cls.__name__} cannot be trained from nothing: fine-tune published weights of it.")

    def blocks(self) -> dict[str, tuple[str, ...]]:
        """Names of the parameters by block, from the input to the output; each parameter in one block.

        Fine-tuning freezes blocks by name, and scales learning rates by their depth. By default
        each child module is a block.
        """
        found: dict[str, list[str]] = {}
        for name, _ in self.named_parameters():
            found.setdefault(name.partition(".")[0], []).append(name)
        return {block: tuple(names) for block, names in found.items()}

    def tuned_blocks(self) -> tuple[str, ...]:
        """The blocks that fine-tuning leaves free when it freezes the rest; by default the last two."""
        return tuple(self.blocks())[-2:]

    def linear_maps(self) -> tuple[str, ...]:
        """Names of the parameters whose last two axes are the matrix of a linear map.

        Those of torch's linear layers, and of modules whose class names its matrices in ``linear_weights``
        (parameters, or lists of them: one for each irrep, say).
        """
        found = []
        for prefix, module in self.named_modules():
            own = (
                ("weight",) if isinstance(module, nn.Linear) else getattr(type(module), "linear_weights", ())
            )
            for attribute in own:
                place = f"{prefix}.{attribute}" if prefix else attribute
                value = getattr(module, attribute)
                inner = value.named_parameters() if isinstance(value, nn.ParameterList) else [("", value)]
                found += [f"{place}.{name}" if name else place for name, _ in inner]
        return tuple(found)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return next(p.dtype for p in self.parameters() if p.dtype.is_floating_point)

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(self.parameters()).device

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Convert weights, but not the type of what :attr:`kept_double` names."""
        kept = {name: getattr(self, name) for name in self.kept_double}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in kept.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        return self

    def check_elements(self, graph: AtomGraph) -> None:
        """Refuse atoms of elements that the model never saw.

        Raises:
            ModelError: Names the element and the first such atom.
        """
        known = torch.zeros(256, dtype=torch.bool, device=graph.device)
        known[list(self.info.elements)] = True
        bad = torch.nonzero(~known[graph.numbers.clamp(0, 255)])
        if len(bad):
            atom = int(bad[0])
            number = int(graph.numbers[atom])
            symbol = chemical_symbols[number] if 0 <= number < len(chemical_symbols) else "?"
            raise ModelError(
                f"Atom {atom} is {symbol} (Z={number}), an element that {self.info.name} was not trained on."
            )

    def begin_step(self, step: int, n_steps: int, seed: int) -> None:
        """Told before each step of a training, and by nobody else: for what changes as it goes on.

        Args:
            step: Of the optimiser, from 0.
            n_steps: Where the training will end.
            seed: Of the training; what is drawn must follow from it and the step alone.
        """
