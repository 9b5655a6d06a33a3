"""Run the laws of a kind on a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from atomml.errors import OptionError
from atomml.testing.laws import CheckResult, Law, laws_of

__all__ = ["KINDS", "Kind", "laws_for", "run_conformance"]


@dataclass(frozen=True)
class Kind:
    """Where the laws for one kind of model live.

    Attributes:
        subject: ``module:class`` that wraps a model for its laws; called with (model, dtype, quick).
        laws: Modules that state the laws.
    """

    subject: str
    laws: tuple[str, ...]


KINDS: dict[str, Kind] = {
    "potential": Kind(
        subject="atomml.testing.potential_subject:PotentialSubject",
        laws=(
            "atomml.testing.potential_manners",
            "atomml.testing.potential_derivatives",
            "atomml.testing.potential_invariance",
            "atomml.testing.potential_continuity",
            "atomml.testing.potential_paths",
            "atomml.testing.potential_dynamics",
        ),
    ),
    "property": Kind(
        subject="atomml.testing.property_subject:PropertySubject",
        laws=("atomml.testing.property_laws",),
    ),
}


def laws_for(kind: str) -> list[Law]:
    """The laws that bind a kind of model.

    Raises:
        OptionError: A kind that has no laws.
    """
    if kind not in KINDS:
        raise OptionError(f"There are no laws for models of kind {kind!r}; there are for {', '.join(KINDS)}.")
    for module in KINDS[kind].laws:
        import_module(module)
    return laws_of(kind)


def run_conformance(
    model: Any,
    *,
    kind: str = "potential",
    dtype: str = "float64",
    quick: bool = False,
    only: Sequence[str] = (),
) -> list[CheckResult]:
    """Hold a model to the laws of its kind.

    Args:
        model: A model, or the name or file of one. It is copied, never changed.
        kind: ``potential`` or ``property``.
        dtype: ``float64``, where the laws are sharp, or ``float32``, with tolerances that
            follow from its rounding.
        quick: Fewer structures, and no law that takes long.
        only: Names of laws, if not all.

    Returns:
        One result for each quantity of each law; a model conforms if all have passed.

    Raises:
        OptionError: An unknown kind, dtype or law.
    """
    laws = laws_for(kind)
    if dtype not in ("float32", "float64"):
        raise OptionError(f"The laws are stated in float32 and float64, not in {dtype!r}.")
    if unknown := set(only) - {found.name for found in laws}:
        raise OptionError(f"There is no law named {sorted(unknown)[0]!r} for models of kind {kind!r}.")
    module, _, name = KINDS[kind].subject.partition(":")
    subject = getattr(import_module(module), name)(model, dtype, quick)
    chosen = [
        found
        for found in laws
        if dtype in found.dtypes and (found.name in only if only else not (quick and found.slow))
    ]
    return [result for found in chosen for result in found.judge(subject)]
