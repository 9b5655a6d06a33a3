"""What a training knows of what it trains: samples, and an objective that judges answers by labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from atomml.graph.atom_graph import AtomGraph
    from atomml.train.losses import Errors
    from atomml.train.validation import Parity

__all__ = ["Objective", "SampleSet", "TrainingSample"]


class TrainingSample(Protocol):
    """One structure with what is to be learned of it."""

    @property
    def graph(self) -> AtomGraph:
        """The structure, on the CPU."""

    @property
    def where(self) -> str:
        """What to call it in an error."""

    @property
    def head(self) -> str:
        """The model's head that it belongs to; "" for the one that answers."""

    @property
    def kind(self) -> tuple[Any, ...]:
        """Only samples of one kind are computed together."""


class SampleSet(Protocol):
    """The samples of a data set."""

    n_atoms: NDArray[Any]
    """``(n_samples,)``."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int) -> Any:
        """A :class:`TrainingSample`."""

    @property
    def counts(self) -> dict[str, int]:
        """Labelled components of each quantity in the whole set."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads that the samples belong to, "" among them if some name none."""


class Objective(Protocol):
    """What is minimised, and which errors are counted on the way."""

    @property
    def names(self) -> tuple[str, ...]:
        """Quantities whose errors are counted."""

    @property
    def units(self) -> Mapping[str, tuple[str, float]]:
        """Of each the suffix, and the factor, under which errors are written."""

    @property
    def shown(self) -> tuple[tuple[str, str, float], ...]:
        """Which errors a progress bar shows: quantity, label with unit, factor."""

    def counts(self, samples: Sequence[Any]) -> dict[str, int]:
        """Labelled components of each quantity in a whole batch."""

    def judge(
        self,
        model: Any,
        samples: Sequence[Any],
        counts: Mapping[str, int],
        progress: float,
        device: torch.device,
        *,
        learning: bool,
        parity: Parity | None = None,
    ) -> tuple[Tensor, Errors]:
        """A part's share of the loss of its batch, a float64 scalar, and its absolute errors.

        Args:
            model: The model.
            samples: The part; all of one kind.
            counts: Components of each quantity in the whole batch: what the loss is divided by.
            progress: Share of the run that is done, for weights that change.
            device: Where to compute.
            learning: Whether the loss must be differentiable in the weights.
            parity: Where labels go with their predictions, if anywhere.
        """
