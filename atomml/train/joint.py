"""Networks that look at a whole batch, where several processes have a share of it each.

Batch statistics are those of all shares, and dropout leaves out what one process would have left out, so that
the loss and the gradient are those of the batch whoever computes them. A batch that exceeds the most atoms
or edges at once is cut, and statistics and dropout are then those of each part.
"""

from __future__ import annotations

from atomml.base_model import Model
from atomml.nn.batch_norm import BatchNorm
from atomml.nn.seeded_dropout import SeededDropout
from atomml.train.processes import Processes

__all__ = ["join"]


def join(model: Model, processes: Processes) -> bool:
    """Let the model's parts know of the other processes.

    Returns:
        Whether all processes must then compute each part of a batch together, those without structures too.
    """
    if processes.n == 1:
        return False
    together = False
    for module in model.modules():
        if isinstance(module, SeededDropout):
            module.share_rows(processes.rank, processes.n)
        if isinstance(module, BatchNorm):
            module.sum_over_processes = processes.sum
            together = True
    return together
