"""Lightning under the training: it starts the processes, picks the device, casts and reduces.

Started by ``torchrun``, each process takes its share of every batch, and their gradients are summed.
The sum is formed here and not by wrapping the model: shares may be of unequal size or empty, and may be
cut into parts, and the result is still the gradient of the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from atomml.errors import MissingExtraError, OptionError

__all__ = ["PRECISIONS", "Processes"]

PRECISIONS = ("float32", "float64", "tf32", "bf16")


class Processes:
    """The process or processes that train one model together.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: One of :data:`PRECISIONS`; the last two need a GPU.

    Attributes:
        rank: Which of the processes this is.
        n: How many there are.
        device: Where this one computes.

    Raises:
        MissingExtraError: Lightning is not installed.
        OptionError: A precision that the device does not have.
    """

    def __init__(self, device: str = "auto", precision: str = "float32") -> None:
        try:
            from lightning.fabric import Fabric
        except ImportError as error:
            raise MissingExtraError.for_extra("lightning", "train") from error
        accelerator, devices = _where(device)
        n_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        n = int(os.environ.get("WORLD_SIZE", "1"))
        if accelerator == "cpu" and precision in ("tf32", "bf16"):
            raise OptionError(f"precision {precision} is for GPUs: take float32 or float64 on the CPU.")
        self.precision = precision
        self._fabric: Any = Fabric(
            accelerator=accelerator,
            devices=n_local if n > 1 else devices,
            num_nodes=max(n // n_local, 1),
            strategy="ddp" if n > 1 else "auto",
            precision="bf16-mixed" if precision == "bf16" else "32-true",
        )
        self._fabric.launch()
        self.device: torch.device = self._fabric.device
        self.rank, self.n = int(self._fabric.global_rank), int(self._fabric.world_size)

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, items: Sequence[Any]) -> list[Any]:
        """This process's part of a batch; some may get one item fewer than others, or none."""
        return list(items[self.rank :: self.n])

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in each of them."""
        return values if self.n == 1 else self._fabric.all_reduce(values, reduce_op="sum")

    def gather(self, value: Any) -> list[Any]:
        """Every process's value in the order of their ranks, in all of them."""
        if self.n == 1:
            return [value]
        found: list[Any] = [None] * self.n
        torch.distributed.all_gather_object(found, value)
        return found

    def agree(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        return value if self.n == 1 else self._fabric.broadcast(value)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.n > 1:
            self._fabric.barrier()

    @contextmanager
    def casting(self) -> Iterator[None]:
        """How products of matrices are computed inside; the process's own settings stand afterwards."""
        before = torch.get_float32_matmul_precision()
        try:
            if self.precision == "tf32":
                torch.set_float32_matmul_precision("high")
            with self._fabric.autocast():
                yield
        finally:
            torch.set_float32_matmul_precision(before)


def _where(device: str) -> tuple[str, Any]:
    """Lightning's accelerator and devices."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise OptionError(f"device {device!r} cannot train: choose auto, cpu, cuda or cuda:N.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"device {device!r} is not available here: choose auto or cpu.")
    return kind, [int(number)] if number else 1
