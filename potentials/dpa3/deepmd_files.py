"""The files of DeePMD-kit: serialised models (.dp, .yaml, .json) and checkpoints of PyTorch (.pt)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atomml.errors import CheckpointError, MissingExtraError, ModelError
from atomml.inert_pickle import read_torch_file
from atomml.potentials.dpa3.deepmd import Branch, from_deepmd
from atomml.potentials.dpa3.model import DPA3
from atomml.untrusted_json import parse_json

__all__ = ["convert_deepmd", "read_deepmd"]

_SUFFIXES = (".dp", ".yaml", ".yml", ".json", ".pt")


def convert_deepmd(path: str | Path, head: str | None = None, name: str | None = None) -> DPA3:
    """The model in a file of DeePMD-kit, answering by one of its branches.

    Args:
        path: A ``.dp``, ``.yaml``, ``.json`` or ``.pt`` file.
        head: Which branch answers; needed if there are several. Those that share the fitting net are kept.
        name: What the model will be called; else the file's stem.

    Raises:
        CheckpointError: No such file, damaged, or no model of DeePMD-kit.
        ModelError: Something that is not offered, named; several branches and none chosen, all listed.
    """
    where = str(path)
    branches = read_deepmd(path)
    if head is None and len(branches) > 1:
        raise ModelError(
            f"{where} has the branches {', '.join(branches)}: say with --head which of them answers."
        )
    if head is not None and head not in branches:
        raise ModelError(f"{where} has no branch {head!r}: it has {', '.join(branches)}.")
    chosen = branches[head] if head is not None else next(iter(branches.values()))
    kept = [branch for branch in branches.values() if branch is chosen or _shares(branch, chosen)]
    model = from_deepmd(kept, name or Path(path).stem.lower(), where)
    return model.with_head(chosen.name)


def read_deepmd(path: str | Path) -> dict[str, Branch]:
    """The branches of a file by name; one called ``default`` where there are none.

    Raises:
        CheckpointError: No such file, damaged, or no model of DeePMD-kit.
        ModelError: A kind of model or file that cannot be represented.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ModelError(f"{path} is none of {', '.join(_SUFFIXES)}: save the model as one of them with dp.")
    if not file.is_file():
        raise CheckpointError(f"There is no file {path}.")
    if suffix == ".pt":
        return _checkpoint(read_torch_file(file), str(path))
    tree = _hdf5(file) if suffix == ".dp" else _plain(file)
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
        raise CheckpointError(f"{path} holds no serialised model of DeePMD-kit.")
    try:
        return {"default": _serialised(tree["model"], str(path))}
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__} at {error}.") from error


def _hdf5(file: Path) -> Any:
    """The tree in the attribute ``json`` of an HDF5 file, whose variables are its data sets."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError.for_extra("h5py", "deepmd") from error
    try:
        with h5py.File(file, "r") as opened:
            tree = parse_json(opened.attrs["json"])

            def array(name: Any) -> Any:
                """A data set of the file itself.

                Raises:
                    ValueError: A link, or one that is kept in another file.
                """
                stored = opened[name] if isinstance(opened.get(name, getlink=True), h5py.HardLink) else None
                if not isinstance(stored, h5py.Dataset) or stored.external or stored.is_virtual:
                    raise ValueError(f"{name} is kept elsewhere")
                return np.array(stored)

            return _with_variables(tree, array)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{file} is damaged or no model of DeePMD-kit: {error}.") from error


def _plain(file: Path) -> Any:
    """A tree in YAML or JSON, whose variables are lists."""
    try:
        if file.suffix.lower() == ".json":
            tree = parse_json(file.read_bytes())
        else:
            import yaml

            with file.open("rb") as stream:  # the loader in C, where there is one: models are large
                tree = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(stream).get_single_data()
        return _with_variables(tree, _array)
    except (ValueError, TypeError, KeyError, RecursionError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} is damaged: {str(error).splitlines()[0]}.") from error
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise CheckpointError(f"{file} is no YAML: {str(error).splitlines()[0]}.") from error
        raise


def _array(value: Any) -> Any:
    if isinstance(value, dict) and value.get("@class") == "np.ndarray":
        return np.asarray(value["value"], dtype=np.dtype(str(value["dtype"])))
    return value


def _with_variables(tree: Any, array: Any, inside: bool = False) -> Any:
    """The tree with ``array`` of each variable: what stands under ``@variables``, or says that it is one."""
    if isinstance(tree, dict):
        if tree.get("@is_variable"):
            return array(tree)
        return {k: _with_variables(v, array, inside or k == "@variables") for k, v in tree.items()}
    if isinstance(tree, list):
        return [_with_variables(value, array, inside) for value in tree]
    return array(tree) if inside and tree is not None else tree


def _serialised(model: Mapping[str, Any], where: str) -> Branch:
    """A serialised model as a branch."""
    if model.get("type", "standard") != "standard":
        raise ModelError(
            f"{where} is a model of type {model['type']}: only standard ones can be represented."
        )
    for key in ("atom_exclude_types", "pair_exclude_types"):
        if model.get(key):
            raise ModelError(f"{where} has {key}, which cannot be represented here.")
    descriptor, fitting = model["descriptor"], model["fitting"]
    weights = {"out_bias": _tensor(model["@variables"]["out_bias"])}
    if descriptor.get("type") == "dpa3":
        weights |= dict(_descriptor_weights(descriptor))
        networks = fitting["nets"]["networks"]
        for number, layer in enumerate(networks[0]["layers"]):
            weights |= dict(_layer(f"fitting_net.filter_layers.networks.0.layers.{number}", layer))
        for key in ("bias_atom_e", "case_embd"):
            if fitting["@variables"].get(key) is not None:
                weights[f"fitting_net.{key}"] = _tensor(fitting["@variables"][key])
    return Branch("default", descriptor, fitting, model["type_map"], weights)


def _descriptor_weights(descriptor: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Weights of a serialised descriptor, by the names of the PyTorch backend."""
    for part in ("type_embedding", "chg_embedding", "spin_embedding"):
        if descriptor.get(part) is not None:
            network = descriptor[part]["embedding"]
            yield from _layer(f"descriptor.{part}.embedding.embedding_net.layers.0", network["layers"][0])
    if descriptor.get("mix_cs_mlp") is not None:
        yield from _layer("descriptor.mix_cs_mlp", descriptor["mix_cs_mlp"])
    inner = descriptor["repflow_variable"]
    for part in ("edge_embd", "angle_embd"):
        yield from _layer(f"descriptor.repflows.{part}", inner[part])
    for key, ours in (("davg", "mean"), ("dstd", "stddev")):
        yield f"descriptor.repflows.{ours}", _tensor(inner["@variables"][key])
    for number, layer in enumerate(inner["repflow_layers"]):
        base = f"descriptor.repflows.layers.{number}"
        for part, value in layer.items():
            if isinstance(value, dict) and value.get("@class") == "Layer":
                yield from _layer(f"{base}.{part}", value)
        for part, values in layer.get("@variables", {}).items():
            for index, value in enumerate(values):
                yield f"{base}.{part}.{index}", _tensor(value)


def _layer(name: str, layer: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for key, ours in (("w", "matrix"), ("b", "bias"), ("idt", "idt")):
        value = layer["@variables"].get(key)
        if value is not None:
            yield f"{name}.{ours}", _tensor(value)


def _tensor(value: Any) -> Tensor:
    return torch.from_numpy(np.array(value))


def _checkpoint(root: Any, where: str) -> dict[str, Branch]:
    """The branches of a training checkpoint: a state, and the settings beside it."""
    state = root.get("model", root) if isinstance(root, dict) else None
    extra = state.get("_extra_state") if isinstance(state, dict) else None
    settings = extra.get("model_params") if isinstance(extra, dict) else None
    if not isinstance(state, dict) or not isinstance(settings, dict):
        raise CheckpointError(f"{where} holds no checkpoint of DeePMD-kit's PyTorch backend.")
    branches = settings.get("model_dict")
    if not isinstance(branches, dict):
        return {"default": _branch("default", settings, "model.Default.", state, where)}
    shared = settings.get("shared_dict") or {}
    return {
        name: _branch(name, _with_shared(given, shared), f"model.{name}.", state, where)
        for name, given in branches.items()
    }


def _with_shared(settings: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a branch with what it names of the shared ones in its place."""
    return {
        key: shared.get(value.partition(":")[0], value) if isinstance(value, str) else value
        for key, value in settings.items()
    }


def _branch(
    name: str, settings: Mapping[str, Any], prefix: str, state: Mapping[str, Any], where: str
) -> Branch:
    kind = settings.get("type", "standard")
    if kind != "standard" or settings.get("spin") or settings.get("use_srtab"):
        kind = "spin" if settings.get("spin") else "ZBL" if settings.get("use_srtab") else kind
        raise ModelError(f"{where} is a model of type {kind}: only standard ones can be represented.")
    for key in ("atom_exclude_types", "pair_exclude_types"):
        if settings.get(key):
            raise ModelError(f"{where} has {key}, which cannot be represented here.")
    prefix += "atomic_model."
    weights = {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix) and isinstance(value, Tensor)
    }
    try:
        return Branch(name, settings["descriptor"], settings["fitting_net"], settings["type_map"], weights)
    except KeyError as error:
        raise CheckpointError(f"{where} says nothing of the {error} of its model.") from error


def _shares(one: Branch, other: Branch) -> bool:
    """Whether branches have the same weights but for what tells their data sets apart."""
    own = ("out_bias", "out_std", "fitting_net.bias_atom_e", "fitting_net.case_embd")
    names = {key for key in (*one.weights, *other.weights) if key not in own}
    return list(one.type_map) == list(other.type_map) and all(
        key in one.weights and key in other.weights and torch.equal(one.weights[key], other.weights[key])
        for key in names
    )
