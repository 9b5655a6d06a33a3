"""What must be the same for a resumed run to give the bits that it would have had."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

__all__ = ["run_identity"]


def run_identity(model: Mapping[str, Any]) -> dict[str, str]:
    """Model, device, number of threads, kind of machine and versions; no host, path or clock.

    Args:
        model: What the summary says of the model: ``name``, ``sha256``, ``dtype``, ``device``.
    """
    import numpy
    import torch

    from atomml import __version__

    return {
        "model": str(model.get("name")),
        "model_sha256": str(model.get("sha256")),
        "dtype": str(model.get("dtype")),
        "device": str(model.get("device")),
        "threads": os.environ.get("OMP_NUM_THREADS") or str(torch.get_num_threads()),
        "machine": platform.machine(),
        "atomml": __version__,
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
    }
