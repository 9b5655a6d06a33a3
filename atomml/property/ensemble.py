"""What a training of properties leaves: one or several models, their intervals, their domain, their card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor, nn

from atomml.base_model import Model, ModelInfo
from atomml.errors import ModelError
from atomml.property.conformal import Calibration
from atomml.property.domain import Domain, Known
from atomml.property.property_model import PropertyInput, PropertyModel, join_inputs, learned_values
from atomml.property.targets import Target

__all__ = ["Answers", "PropertyEnsemble", "input_key", "load_property_model"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What an ensemble says of n structures.

    Attributes:
        learned: Per target ``(n,)`` values on the learned scale, or ``(n, n_classes)`` probabilities.
        spread: Per target ``(n,)`` standard deviation among the members; of classes that of the answer's
            probability.
        members: Per target ``(n_members, n)`` or ``(n_members, n, n_classes)``.
        features: ``(n, n_features)`` of the first member.
    """

    learned: list[Floats]
    spread: list[Floats]
    members: list[Floats]
    features: Floats


class PropertyEnsemble(Model):
    """Members that answer together.

    Args:
        info: Its description.
        members: Models of the same targets, of one family or of several.
        weights: ``(n_members, n_targets)`` of their mean; equal ones if None.
        calibrations: Per target what makes intervals; None for none.
        domain: The training set in the space of the first member's features; None for none.
        known: Training structures, to know them again; None for none.
        card: Data, splits, errors and limits; fit for JSON.
    """

    kept_double = ("domain_features", "domain_scale", "known_fingerprints")
    domain_features: Tensor
    domain_scale: Tensor
    known_fingerprints: Tensor

    def __init__(
        self,
        info: ModelInfo,
        members: Sequence[PropertyModel],
        weights: Sequence[Sequence[float]] | None = None,
        calibrations: Sequence[Calibration] | None = None,
        domain: Domain | None = None,
        known: Known | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(info)
        self.members = nn.ModuleList(members)
        self.targets: tuple[Target, ...] = members[0].targets
        n = len(members)
        self.weights = [list(row) for row in weights or [[1.0 / n] * len(self.targets)] * n]
        self.calibrations = list(calibrations) if calibrations is not None else None
        self.card = dict(card or {})
        self._reach = domain.reach if domain else None
        self._formulas = known.formulas if known else ()
        self._ids = known.ids if known else ()
        empty = np.empty((0, 0))
        self.register_buffer("domain_features", torch.from_numpy(domain.features if domain else empty))
        self.register_buffer("domain_scale", torch.from_numpy(domain.scale if domain else np.empty(0)))
        self.register_buffer("known_fingerprints", torch.from_numpy(known.fingerprints if known else empty))

    @property
    def dtype(self) -> torch.dtype:
        """Of the first member."""
        return self._first().dtype

    @property
    def device(self) -> torch.device:
        """Of the first member."""
        return self._first().device

    def _first(self) -> PropertyModel:
        first = self.members[0]
        assert isinstance(first, PropertyModel)
        return first

    @property
    def domain(self) -> Domain | None:
        """The training set in feature space."""
        if self._reach is None:
            return None
        return Domain(self.domain_features.cpu().numpy(), self.domain_scale.cpu().numpy(), self._reach)

    @property
    def known(self) -> Known | None:
        """The training structures."""
        if not self._ids:
            return None
        return Known(self.known_fingerprints.cpu().numpy(), self._formulas, self._ids)

    def hyperparameters(self) -> dict[str, Any]:
        """Members and everything that is no tensor; fit for JSON."""
        return {
            "members": [
                {
                    "family": member.info.family,
                    "hyperparameters": member.hyperparameters(),
                    "info": asdict(replace(member.info, sha256="")),
                }
                for member in self.each()
            ],
            "weights": self.weights,
            "calibrations": None if self.calibrations is None else [_plain(one) for one in self.calibrations],
            "reach": self._reach,
            "domain": list(self.domain_features.shape),
            "formulas": list(self._formulas),
            "ids": list(self._ids),
            "fingerprints": list(self.known_fingerprints.shape),
            "card": self.card,
        }

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """An ensemble of this shape, to be filled from a checkpoint."""
        from atomml.registry import family_class

        given = hyperparameters
        members: list[Any] = []
        for one in given["members"]:
            described: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in one["info"].items()
            }
            kind = family_class(one["family"], "The file")
            members.append(kind.from_hyperparameters(one["hyperparameters"], ModelInfo(**described)))
        domain = known = None
        if given["reach"] is not None:
            shape = given["domain"]
            domain = Domain(np.empty(shape), np.empty(shape[1]), given["reach"])
        if given["ids"]:
            known = Known(np.empty(given["fingerprints"]), tuple(given["formulas"]), tuple(given["ids"]))
        calibrations = given["calibrations"]
        made = None if calibrations is None else [_calibration(one) for one in calibrations]
        return cls(info, members, given["weights"], made, domain, known, given["card"])

    def check_atoms(self, atoms: Atoms, where: str) -> None:
        """Refuse elements that training never saw.

        Raises:
            ModelError: Names structure, element and atom.
        """
        for atom, number in enumerate(atoms.numbers):
            if int(number) not in self.info.elements:
                raise ModelError(
                    f"{where}: atom {atom} is {atoms.symbols[atom]} (Z={number}), an element that "
                    f"{self.info.name} was not trained on."
                )

    def inputs_of(self, atoms: Atoms, where: str = "structure") -> dict[str, PropertyInput]:
        """What its members see of a structure, each way of seeing once.

        Raises:
            StructureError: A structure that no model can take.
        """
        found: dict[str, PropertyInput] = {}
        for member in self.each():
            key = input_key(member)
            if key not in found:
                found[key] = member.input_of(atoms, where)
        return found

    def answer(self, inputs: Sequence[Mapping[str, PropertyInput]]) -> Answers:
        """Answers of all members together for several structures."""
        joined = {key: join_inputs([one[key] for one in inputs]) for key in inputs[0]}
        every: list[list[Floats]] = []
        features: Floats | None = None
        for member in self.each():
            found = member.predict(joined[input_key(member)])
            every.append([value.numpy() for value in learned_values(found.raw, self.targets)])
            features = found.features.numpy() if features is None else features
        assert features is not None
        members = [np.stack([one[k] for one in every]) for k in range(len(self.targets))]
        learned, spread = [], []
        for k, values in enumerate(members):
            share = np.array([row[k] for row in self.weights])
            mean = np.tensordot(share, values, axes=1)
            off = np.sqrt(np.tensordot(share, (values - mean) ** 2, axes=1))
            learned.append(mean)
            spread.append(off if off.ndim == 1 else off[np.arange(len(mean)), mean.argmax(axis=1)])
        return Answers(learned, spread, members, features)

    def each(self) -> list[PropertyModel]:
        """Its members."""
        return [member for member in self.members if isinstance(member, PropertyModel)]


def input_key(model: PropertyModel) -> str:
    """Equal for models that see the same of a structure."""
    shape = model.hyperparameters()
    if "describer" in shape:
        return json.dumps(shape["describer"], sort_keys=True)
    kind = "alignn" if model.info.bond_cutoff else "nearest"
    return f"{kind} {shape.get('neighbours')} {shape.get('cutoff')}"


def load_property_model(path: str | Path | PropertyEnsemble, device: str = "auto") -> PropertyEnsemble:
    """The model of properties in a checkpoint.

    Raises:
        ModelError: A model of another kind.
        CheckpointError: A damaged or foreign file.
    """
    if isinstance(path, PropertyEnsemble):
        return path
    from atomml.checkpoint import load_any_model
    from atomml.registry import find_entry

    if not Path(path).is_file():
        what = "names a potential" if find_entry(str(path)) is not None else "is no file"
        raise ModelError(f"{path} {what}: give a checkpoint of atomml property train.")
    model = load_any_model(path, "float32", device)
    if isinstance(model, PropertyModel):
        return PropertyEnsemble(replace(model.info, family="property"), [model])
    if not isinstance(model, PropertyEnsemble):
        raise ModelError(
            f"{path} holds a {model.info.kind}, which predicts no properties of this kind: give a file of "
            "atomml property train."
        )
    return model


def _plain(one: Calibration) -> dict[str, Any]:
    return {**vars(one), "quantile": None if np.isinf(one.quantile) else one.quantile}


def _calibration(values: dict[str, Any]) -> Calibration:
    quantile = values["quantile"]
    return Calibration(**{**values, "quantile": np.inf if quantile is None else quantile})
