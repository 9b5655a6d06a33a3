"""TensorBoard's files beside ``log.csv``, for those who watch trainings there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomml.errors import MissingExtraError

__all__ = ["Board"]


class Board:
    """Writes the numbers of each epoch.

    Args:
        folder: Where TensorBoard will look.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError.for_extra("tensorboard", "tensorboard") from error
        self._writer: Any = SummaryWriter(str(folder))

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Add the numbers of an epoch at its step."""
        step = int(row["step"])
        for name, value in row.items():
            if isinstance(value, int | float) and name not in ("step", "epoch"):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        self._writer.close()
