"""The one file format for weights and restart files: safetensors, a JSON header, one digest.

The layout is in :mod:`atomml.tensor_file`: equal content gives equal bytes, any reader of
safetensors can open the files, and one of which a single bit has changed is refused here.
Nothing here is ever unpickled, and no clock time, host or path is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml import tensor_file
from atomml.errors import CheckpointError, ModelError
from atomml.tensor_file import FORMAT

if TYPE_CHECKING:
    import numpy as np
    import torch

    from atomml.base_model import Model
    from atomml.model import Potential

__all__ = [
    "FORMAT",
    "Checkpoint",
    "State",
    "load_any_model",
    "load_checkpoint",
    "load_model_file",
    "load_state",
    "model_digest",
    "read_header",
    "save_checkpoint",
    "save_model",
    "save_state",
]


@dataclass(frozen=True)
class Checkpoint:
    """What :func:`load_checkpoint` returns.

    Attributes:
        tensors: Name to torch tensor, on the CPU, in the type that was saved.
        header: The JSON header that was saved.
        sha256: Digest of tensors and header.
    """

    tensors: dict[str, torch.Tensor]
    header: dict[str, Any]
    sha256: str

    def __iter__(self) -> Iterator[Any]:
        """``tensors, header = load_checkpoint(path)``."""
        yield self.tensors
        yield self.header


@dataclass(frozen=True)
class State:
    """What :func:`load_state` returns.

    Attributes:
        arrays: Name to numpy array, writable, with the bits that were saved.
        header: The JSON header that was saved; tuples have become lists.
        sha256: Digest of arrays and header.
    """

    arrays: dict[str, np.ndarray[Any, Any]]
    header: dict[str, Any]
    sha256: str


def save_checkpoint(path: str | Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> str:
    """Write tensors and a JSON header atomically; returns the digest.

    Raises:
        TypeError: A tensor of a type that the format lacks, or a header that is not JSON.
    """
    return tensor_file.write(
        Path(path), {name: tensor_file.from_torch(name, t) for name, t in tensors.items()}, header, "tensors"
    )


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read and verify a file written by :func:`save_checkpoint`.

    Raises:
        CheckpointError: Missing, damaged, of a newer format, or not one of ours.
    """
    entries, header, digest = tensor_file.read(Path(path), "tensors")
    return Checkpoint({name: tensor_file.to_torch(entry) for name, entry in entries.items()}, header, digest)


def save_state(
    path: str | Path, arrays: Mapping[str, np.ndarray[Any, Any]], header: Mapping[str, Any]
) -> str:
    """Write numpy arrays and a nested JSON header atomically; returns the digest.

    Booleans, integers and floats of 8 to 64 bits keep every bit; Python floats and integers of
    any size in the header do too.

    Raises:
        TypeError: An array of another type (complex, text, objects), or a header that is not JSON.
    """
    return tensor_file.write(
        Path(path), {name: tensor_file.from_numpy(name, a) for name, a in arrays.items()}, header, "state"
    )


def load_state(path: str | Path) -> State:
    """Read and verify a file written by :func:`save_state`.

    Raises:
        CheckpointError: Missing, damaged, of a newer format, or not one of ours.
    """
    entries, header, digest = tensor_file.read(Path(path), "state")
    native = {
        name: entry.array.astype(entry.array.dtype.newbyteorder("=")) for name, entry in entries.items()
    }
    return State(native, header, digest)


def read_header(path: str | Path) -> dict[str, Any]:
    """The header of a checkpoint of either kind, verified like the rest of it.

    Raises:
        CheckpointError: As :func:`load_checkpoint`.
    """
    return tensor_file.read(Path(path), None)[1]


def save_model(model: Model, path: str | Path, header_extra: Mapping[str, Any] | None = None) -> str:
    """Write a model's weights, shape and description; returns the digest.

    Args:
        model: Any model whose family the registry knows.
        path: Where to; the name ends in ``.safetensors`` by custom.
        header_extra: Further JSON for the header's ``extra`` (training settings, metrics).
    """
    return save_checkpoint(path, model.state_dict(), _describe(model, header_extra))


def model_digest(model: Model) -> str:
    """The digest that :func:`save_model` would return, without writing anything."""
    entries = {name: tensor_file.from_torch(name, tensor) for name, tensor in model.state_dict().items()}
    return tensor_file.content_digest(entries, _describe(model, None), "tensors")


def _describe(model: Model, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "family": model.info.family,
        "hyperparameters": model.hyperparameters(),
        # the digest cannot be part of what it is a digest of
        "info": asdict(replace(model.info, sha256="")),
        "extra": dict(extra or {}),
    }


def load_model_file(path: str | Path, dtype: str = "float32", device: str = "auto") -> Potential:
    """The potential in a checkpoint, ready for inference; see :func:`atomml.registry.load_model`.

    Raises:
        ModelError: A model that is no potential.
        CheckpointError: As :func:`load_any_model`.
    """
    from atomml.model import Potential

    model = load_any_model(path, dtype, device)
    if not isinstance(model, Potential):
        raise ModelError(
            f"{path} holds a {model.info.kind} predictor, which gives no energies and forces: use it with "
            f"atomml {model.info.kind}."
        )
    return model


def load_any_model(path: str | Path, dtype: str = "float32", device: str = "auto") -> Model:
    """The model in a checkpoint, whatever it predicts, ready for inference.

    Raises:
        CheckpointError: A damaged or foreign file, or weights that do not fit the model they name.
    """
    from atomml.registry import family_class, prepare, undisturbed_generator

    checkpoint = load_checkpoint(path)
    family, info = _model_header(Path(path), checkpoint)
    model_class = family_class(family, where=str(path))
    try:
        with undisturbed_generator():
            model = model_class.from_hyperparameters(checkpoint.header["hyperparameters"], info)
        model.load_state_dict(checkpoint.tensors, assign=True)  # a copy would round float64 weights
        record = checkpoint.header.get("extra", {}).get("training")
    except (TypeError, KeyError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not hold a complete {family} model ({_first_line(error)}): make it again."
        ) from error
    model.training_record = record if isinstance(record, dict) else None
    return prepare(model, dtype, device)


def _model_header(path: Path, checkpoint: Checkpoint) -> tuple[str, Any]:
    from atomml.model import ModelInfo

    header = checkpoint.header
    if not {"family", "hyperparameters", "info"} <= header.keys():
        raise CheckpointError(f"{path} is an atomml checkpoint but holds no model: give a model's file.")
    known = {entry.name for entry in fields(ModelInfo)}
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in header["info"].items()
        if key in known
    }
    try:
        return header["family"], ModelInfo(**{**given, "sha256": checkpoint.sha256})
    except TypeError as error:
        raise CheckpointError(f"{path} describes its model incompletely ({_first_line(error)}).") from error


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
