"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., ICLR 2025, arXiv:2409.11321).

The gradients of a potential's matrices are badly conditioned: a few directions take most of them. Adam
scales single weights; here it scales the coordinates of a basis in which the gradient's second moment is
nearly diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["SOAP"]

State = dict[str, Any]


class SOAP(torch.optim.Optimizer):
    """Adam, and for matrices Adam in a basis that follows the gradients (arXiv:2409.11321, algorithm 3).

    For a gradient G of shape (m, n), L and R are moving averages of G Gᵀ and Gᵀ G, and Q_L and Q_R their
    eigenvectors, renewed every few steps by one power iteration and a QR decomposition. Adam's second
    moment is that of Q_Lᵀ G Q_R; its step is turned back. A side longer than ``largest`` keeps the
    identity. Weights decay apart from the gradient, as in AdamW.

    Everything that it remembers is a contiguous tensor, so that a restart file restores its bits.

    Args:
        groups: Groups of parameters, as for every optimiser of torch.
        lr: Learning rate.
        betas: Decays of the first and of the second moment; the second also of L and R.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled weight decay.
        every: Steps from one renewal of the bases to the next.
        largest: Longest side of a matrix that gets a basis.
        plain: Parameters that get none, such as embeddings, whose rows are met one at a time.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        every: int = 10,
        largest: int = 512,
        plain: Collection[Tensor] = (),
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._every, self._largest = every, largest
        self._plain = {id(parameter) for parameter in plain}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step along the present gradients; parameters without one stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state: State = self.state[parameter]
        first_decay, second_decay = group["betas"]
        if not state:
            self._start(state, parameter, gradient, second_decay)
        state["step"] += 1
        step = int(state["step"])
        state["first"].lerp_(gradient, 1 - first_decay)
        turned = _turn(gradient, state)
        state["second"].mul_(second_decay).addcmul_(turned, turned, value=1 - second_decay)
        scale = (state["second"] / (1 - second_decay**step)).sqrt_().add_(group["eps"])
        change = _turn(state["first"], state) / (1 - first_decay**step) / scale
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(_turn_back(change, state), alpha=-group["lr"])
        if "left" in state:
            state["left"].lerp_(gradient @ gradient.T, 1 - second_decay)
        if "right" in state:
            state["right"].lerp_(gradient.T @ gradient, 1 - second_decay)
        if step % self._every == 0:
            _renew(state)

    def _start(self, state: State, parameter: Tensor, gradient: Tensor, decay: float) -> None:
        state["step"] = torch.zeros(())
        state["first"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        state["second"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        if parameter.ndim != 2 or id(parameter) in self._plain:
            return
        rows, columns = parameter.shape
        if 1 < rows <= self._largest:
            state["left"] = (1 - decay) * (gradient @ gradient.T)
            state["left_basis"] = _eigenvectors(state["left"])
        if 1 < columns <= self._largest:
            state["right"] = (1 - decay) * (gradient.T @ gradient)
            state["right_basis"] = _eigenvectors(state["right"])


def _eigenvectors(matrix: Tensor) -> Tensor:
    """Eigenvectors as columns, the largest eigenvalue first."""
    return torch.linalg.eigh(matrix.double())[1].flip(1).to(matrix.dtype).contiguous()


def _turn(matrix: Tensor, state: State) -> Tensor:
    """Q_Lᵀ M Q_R."""
    if "left_basis" in state:
        matrix = state["left_basis"].T @ matrix
    return matrix @ state["right_basis"] if "right_basis" in state else matrix


def _turn_back(matrix: Tensor, state: State) -> Tensor:
    """Q_L M Q_Rᵀ."""
    if "left_basis" in state:
        matrix = state["left_basis"] @ matrix
    return matrix @ state["right_basis"].T if "right_basis" in state else matrix


def _renew(state: State) -> None:
    """One power iteration of each basis, columns sorted by eigenvalue; the second moment goes along."""
    for axis, side in enumerate(("left", "right")):
        if side not in state:
            continue
        average, basis = state[side], state[f"{side}_basis"]
        grown = average @ basis
        order = (basis * grown).sum(dim=0).argsort(descending=True, stable=True)
        state["second"] = state["second"].index_select(axis, order)
        state[f"{side}_basis"] = torch.linalg.qr(grown.index_select(1, order))[0].contiguous()
