"""Where a model is put and what it is made with: precision, device, random numbers of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from atomml.errors import OptionError

if TYPE_CHECKING:
    import torch

    from atomml.base_model import Model

    AnyModel = TypeVar("AnyModel", bound=Model)

__all__ = ["prepare", "seeded_generator", "undisturbed_generator"]


def undisturbed_generator() -> AbstractContextManager[None]:
    """Fresh layers draw random weights before theirs are loaded; the caller's generator stays as it was."""
    import torch

    return torch.random.fork_rng(devices=[])


@contextmanager
def seeded_generator(seed: int) -> Iterator[None]:
    """Random numbers drawn inside follow from the seed; the caller's generator stays as it was."""
    import torch

    with undisturbed_generator():
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        yield


def prepare(model: AnyModel, dtype: str, device: str) -> AnyModel:
    """The model in the wanted precision, on the wanted device, in eval mode, weights frozen.

    Raises:
        OptionError: A dtype or device that there is not.
    """
    return model.to(dtype=_dtype(dtype), device=_device(device)).eval().requires_grad_(False)


def _dtype(dtype: str) -> torch.dtype:
    import torch

    known = {"float32": torch.float32, "float64": torch.float64}
    if dtype not in known:
        raise OptionError(f"dtype {dtype!r} is not offered: choose float32 or float64.")
    return known[dtype]


def _device(device: str) -> torch.device:
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        raise OptionError(f"device {device!r} is not available here: choose auto or cpu.") from error
    return wanted
