"""Fine-tuning by low-rank changes of linear maps, whatever the model.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv:2106.09685): a matrix ``W``
stays as it was and ``W + (alpha / r) A B`` takes its place, A ``(n_in, r)`` and B ``(r, n_out)`` being all
that learns. Here the model's own parameters always hold the merged matrices: whatever evaluates the model,
fast paths and checkpoints too, sees a model of its usual shape, and the gradients of A and B follow from
those of the matrices by ``dL/dA = (alpha / r) G B^T`` and ``dL/dB = (alpha / r) A^T G``. Maps of irreps and
of elements have one pair for each, so what is equivariant stays so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from atomml.base_model import Model
from atomml.errors import OptionError

__all__ = ["LowRank", "OwnWeights", "Weights", "adaptable"]


class Weights(nn.Module):
    """What learns in a training, and how the model follows it; here the model's own parameters.

    Args:
        model: Its parameters that require a gradient learn.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.__dict__["model"] = model  # not a child: its parameters are not this module's

    def learning(self) -> dict[str, nn.Parameter]:
        """What the optimiser changes, by name."""
        raise NotImplementedError

    def blocks(self) -> Mapping[str, Sequence[str]]:
        """Its names by block of the model, from input to output."""
        raise NotImplementedError

    def plain(self) -> list[str]:
        """Names of embeddings, which neither decay nor turn."""
        return []

    def gradients(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of what learns, from those of the model's parameters that require one, in order."""
        return list(tensors)

    def put(self) -> None:
        """Let the model follow what was learned."""

    def state(self) -> dict[str, Tensor]:
        """What a restart file keeps beside the model's own state."""
        return {}


class OwnWeights(Weights):
    """The model's own parameters."""

    model: Model

    def learning(self) -> dict[str, nn.Parameter]:
        """Those that require a gradient."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def blocks(self) -> Mapping[str, Sequence[str]]:
        """The model's."""
        return self.model.blocks()

    def plain(self) -> list[str]:
        """Embeddings of torch."""
        return [
            f"{name}.weight" if name else "weight"
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Embedding)
        ]


class LowRank(Weights):
    """Low-rank changes of all linear maps of a model; everything else is frozen.

    A is drawn with the root mean square of the matrix that it changes and B is zero, so the model starts as
    it was. A rank above that of a matrix is lowered to it.

    Args:
        model: A model whose weights are those to start from; its parameters are changed in place.
        rank: Rank r of the changes.
        alpha: Changes are multiplied by ``alpha / r``.
        seed: Of A.

    Raises:
        OptionError: A model without linear maps.
    """

    model: Model

    def __init__(self, model: Model, rank: int, alpha: float, seed: int) -> None:
        super().__init__(model)
        known = dict(model.named_parameters())
        names = adaptable(model)
        self._names = sorted(names, key=list(known).index)
        self._base = {name: known[name].detach().clone() for name in self._names}
        self._scales: dict[str, float] = {}
        for name, parameter in known.items():
            parameter.requires_grad_(name in self._base)
        generator = torch.Generator().manual_seed(seed)
        for number, name in enumerate(self._names):
            down, up = _factors(self._base[name], rank, generator)
            self.register_parameter(f"down_{number}", down)
            self.register_parameter(f"up_{number}", up)
            self._scales[name] = alpha / down.shape[-1]

    def learning(self) -> dict[str, nn.Parameter]:
        """A and B of each map."""
        return dict(self.named_parameters())

    def blocks(self) -> Mapping[str, Sequence[str]]:
        """A and B in the block of their map."""
        number = {name: k for k, name in enumerate(self._names)}
        return {
            block: [f"{kind}_{number[name]}" for name in names if name in number for kind in ("down", "up")]
            for block, names in self.model.blocks().items()
        }

    def gradients(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """By the chain rule, in the order of :meth:`learning`."""
        found = []
        for name, gradient in zip(self._names, tensors, strict=True):
            down, up = self._pair(name)
            scaled = self._scales[name] * gradient
            found += [scaled @ up.detach().mT, down.detach().mT @ scaled]
        return found

    @torch.no_grad()
    def put(self) -> None:
        """Merge: the same bits for the same A and B."""
        parameters = dict(self.model.named_parameters())
        for name in self._names:
            down, up = self._pair(name)
            parameters[name].copy_(self._base[name] + self._scales[name] * (down @ up))

    def state(self) -> dict[str, Tensor]:
        """A and B."""
        return dict(self.named_parameters())

    def _pair(self, name: str) -> tuple[nn.Parameter, nn.Parameter]:
        number = self._names.index(name)
        return self.get_parameter(f"down_{number}"), self.get_parameter(f"up_{number}")


def adaptable(model: Model) -> list[str]:
    """Names of the linear maps that low-rank changes can be made of.

    Raises:
        OptionError: There are none.
    """
    known = dict(model.named_parameters())
    names = [name for name in model.linear_maps() if known[name].numel()]
    if not names:
        raise OptionError(f"{model.info.name} has no linear maps: take another --method than lora.")
    return names


def _factors(matrix: Tensor, rank: int, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter]:
    """A ``(..., n_in, r)`` and B ``(..., r, n_out)`` of a matrix ``(..., n_in, n_out)``."""
    *rows, n_in, n_out = matrix.shape
    own = min(rank, n_in, n_out)
    size = float(matrix.double().square().mean().sqrt()) or 1 / math.sqrt(n_in)
    drawn = torch.randn(*rows, n_in, own, generator=generator, dtype=torch.float64)
    down = (size * drawn).to(matrix)
    return nn.Parameter(down), nn.Parameter(matrix.new_zeros(*rows, own, n_out))
