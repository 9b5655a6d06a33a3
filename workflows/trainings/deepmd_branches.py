"""Inputs of DeePMD-kit that train several branches at once: ``model_dict``, ``data_dict``, ``loss_dict``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atomml.errors import FileFormatError, OptionError

__all__ = ["Branches", "branches_of"]

_PARTS = ("type_map", "descriptor", "fitting_net")


@dataclass(frozen=True)
class Branches:
    """Branches that share descriptor and fitting net, told apart by the encoding of their data set.

    Attributes:
        as_one: The input as that of one model with these parts.
        training: ``training_data`` and ``validation_data`` of each branch.
        probability: How often DeePMD-kit draws each; None for as often as it has systems.
    """

    as_one: dict[str, Any]
    training: dict[str, dict[str, Any]]
    probability: dict[str, float] | None

    def shares(self, n_systems: Mapping[str, int]) -> tuple[str, ...]:
        """What each branch counts in the loss, as the option ``head_shares`` takes it."""
        chosen = self.probability or n_systems
        return tuple(f"{name}={chosen[name]:.17g}" for name in self.training)


def branches_of(given: Mapping[str, Any], where: str) -> Branches:
    """The branches of an input, which must differ in nothing but their data.

    Raises:
        FileFormatError: A branch without data, or a part that is named and not there.
        OptionError: Branches with parts or losses of their own, or without an encoding.
    """
    model, training = given["model"], given["training"]
    shared, branches = model.get("shared_dict", {}), model["model_dict"]
    if not branches:
        raise FileFormatError(f"{where} has a model.model_dict without a branch: name one.")
    parts = {
        part: _common({n: _resolved(b.get(part), shared, where) for n, b in branches.items()}, part, where)
        for part in _PARTS
    }
    if int(parts["fitting_net"].get("dim_case_embd", 0)) < len(branches):
        raise OptionError(
            f"{where} shares a fitting net among {len(branches)} branches, which its dim_case_embd does not "
            f"tell apart: set it to {len(branches)}."
        )
    losses = given.get("loss_dict", {})
    loss = _common({name: losses.get(name, {}) for name in branches}, "loss", where)
    data = training.get("data_dict", {})
    for name in branches:
        if name not in data:
            raise FileFormatError(f"{where} has no data for the branch {name}: add it to training.data_dict.")
    probability = training.get("model_prob")
    if probability is not None and set(probability) != set(branches):
        raise OptionError(f"{where} has a model_prob that does not name each branch once: name all of them.")
    as_one = {**given, "model": {**model, **parts}, "loss": loss}
    return Branches(as_one, {name: data[name] for name in branches}, probability)


def _resolved(part: Any, shared: Mapping[str, Any], where: str) -> Any:
    """A part of a branch; a name stands for an entry of ``shared_dict``."""
    if not isinstance(part, str):
        return part
    name, _, level = part.partition(":")
    if level not in ("", "0"):
        raise OptionError(f"{where} shares only a level of {name} ({part}), which is not offered here.")
    if name not in shared:
        raise FileFormatError(f"{where} names {name}, which is not in model.shared_dict: add it.")
    return shared[name]


def _common(values: Mapping[str, Any], what: str, where: str) -> Any:
    """What all branches have alike."""
    names = list(values)
    for name in names[1:]:
        if values[name] != values[names[0]]:
            raise OptionError(
                f"{where} gives the branches {names[0]} and {name} another {what} each: here they share it, "
                "and the data set's encoding tells them apart."
            )
    if values[names[0]] is None:
        raise FileFormatError(f"{where} has no {what} for the branch {names[0]}: add it.")
    return values[names[0]]
