"""The models that mace-torch saves: pickled modules, taken apart without running any of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atomml.errors import CheckpointError, ModelError
from atomml.inert_pickle import Name, Record, read_torch_file
from atomml.potentials.mace.mace_torch import INTERACTIONS, from_mace_torch
from atomml.potentials.mace.model import MACE
from atomml.potentials.mace.radial import ACTIVATIONS

__all__ = ["convert_mace", "read_mace_torch"]

_MODELS = {"ScaleShiftMACE": True, "MACE": False}
"""Classes of mace-torch that can be represented, and whether they scale and shift."""

_PARTS = {
    "node_embedding",
    "radial_embedding",
    "spherical_harmonics",
    "atomic_energies_fn",
    "interactions",
    "products",
    "readouts",
    "pair_repulsion_fn",
    "scale_shift",
}

_BASES = {"BesselBasis": "bessel", "GaussianBasis": "gaussian", "ChebychevBasis": "chebyshev"}
_TRANSFORMS = {"AgnesiTransform": "Agnesi", "SoftTransform": "Soft"}


def convert_mace(path: str | Path, head: str | None = None, name: str | None = None) -> MACE:
    """The model in a file of mace-torch, answering by one of its heads; float64.

    Args:
        path: A ``.model`` file.
        head: Which head answers; needed if there are several. The others are kept.
        name: What the model will be called; else the file's stem.

    Raises:
        CheckpointError: No such file, damaged, or no MACE.
        ModelError: Something that is not offered, named; several heads and none chosen, all listed.
    """
    state, settings = read_mace_torch(path)
    heads = settings["heads"]
    if head is None and len(heads) > 1:
        raise ModelError(f"{path} has the heads {', '.join(heads)}: say with --head which of them answers.")
    if head is not None and head not in heads:
        raise ModelError(f"{path} has no head {head!r}: it has {', '.join(heads)}.")
    model = from_mace_torch(state, settings, name or Path(path).stem.lower())
    return model.with_head(head) if head is not None else model


def read_mace_torch(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights by mace-torch's names, and the settings that :func:`from_mace_torch` takes.

    Raises:
        CheckpointError: No such file, damaged, or no MACE.
        ModelError: A class or part that cannot be represented exactly; named.
    """
    root = read_torch_file(path)
    if not isinstance(root, Record) or not root.made_by.module.startswith("mace."):
        raise CheckpointError(f"{path} holds no model of mace-torch, but {_described(root)}.")
    kind = root.made_by.name
    if kind not in _MODELS:
        raise ModelError(f"{path} is a {kind}, which cannot be represented here: {', '.join(_MODELS)} can.")
    parts = _children(root)
    unknown = sorted(set(parts) - _PARTS)
    if unknown:
        raise ModelError(f"{path} has the part {unknown[0]}, which cannot be represented here.")
    state = dict(_tensors(root, ""))
    return state, _settings(str(path), root, state) | {"scaled": _MODELS[kind]}


def _settings(where: str, root: Record, state: dict[str, Tensor]) -> dict[str, Any]:
    """Constructor arguments, from what the modules remember of them."""
    parts = _children(root)
    interactions, products, readouts = (
        _listed(parts[key]) for key in ("interactions", "products", "readouts")
    )
    radial = _children(parts["radial_embedding"])
    first, last = interactions[0], interactions[-1]
    heads = [str(head) for head in root.get("heads") or ["default"]]
    hidden = _irreps(last.get("node_feats_irreps") if len(interactions) > 1 else first.get("hidden_irreps"))
    basis = radial["bessel_fn"].made_by.name
    kinds = {interaction.made_by.name for interaction in interactions[1:]}
    _check_blocks(where, interactions, products, readouts)
    if basis not in _BASES or len(kinds) > 1:
        raise ModelError(
            f"{where} has {basis if basis not in _BASES else 'mixed interactions'}, not offered here."
        )
    settings: dict[str, Any] = {
        "atomic_numbers": state["atomic_numbers"].tolist(),
        "r_max": float(state["r_max"]),
        "num_bessel": int(parts["radial_embedding"].get("out_dim")),
        "num_polynomial_cutoff": int(state["radial_embedding.cutoff_fn.p"]),
        "max_ell": max(degree for _, degree, _ in _triples(first.get("edge_attrs_irreps"))),
        "num_interactions": len(interactions),
        "interaction_cls_first": first.made_by.name,
        "interaction_cls": (kinds or {first.made_by.name}).pop(),
        "hidden_irreps": hidden,
        "correlation": [_correlation(product) for product in products],
        "avg_num_neighbors": float(first.get("avg_num_neighbors")),
        "radial_MLP": list(first.get("radial_MLP") or [64, 64, 64]),
        "radial_type": _BASES[basis],
        "heads": heads,
        "pair_repulsion": "pair_repulsion_fn" in parts,
        "apply_cutoff": bool(parts["radial_embedding"].get("apply_cutoff", True)),
        "use_agnostic_product": bool(products[0].get("use_agnostic_product", False)),
        "use_last_readout_only": len(readouts) == 1 < len(interactions),
        "keep_last_layer_irreps": "+" in _irreps(last.get("hidden_irreps")),
    }
    transform = radial.get("distance_transform")
    if transform is not None:
        settings["distance_transform"] = _TRANSFORMS[transform.made_by.name]
    for interaction in interactions[1:]:
        if interaction.get("edge_irreps") is not None and _irreps(interaction.get("edge_irreps")) != hidden:
            settings["edge_irreps"] = _irreps(interaction.get("edge_irreps"))
    if first.get("edge_irreps") is not None:
        settings["use_edge_irreps_first"] = _irreps(first.get("edge_irreps")) != _irreps(
            first.get("node_feats_irreps")
        )
    return settings | _readout_settings(where, readouts[-1], len(heads), len(interactions))


def _readout_settings(where: str, readout: Record, n_heads: int, n_layers: int) -> dict[str, Any]:
    if readout.made_by.name == "LinearReadoutBlock":
        if n_layers > 1:
            raise ModelError(f"{where} has a linear last readout, which is not offered here.")
        return {"MLP_irreps": "16x0e", "gate": "silu"}
    width = sum(count for count, _, _ in _triples(readout.get("hidden_irreps"))) // n_heads
    acts = _listed(_children(_children(readout)["non_linearity"])["acts"])
    name = _function(acts[0].get("f"))
    if name not in ACTIVATIONS:
        raise ModelError(f"{where} has a last readout with {name}, which is not offered here.")
    factor = float(acts[0].get("cst", 1.0))
    if abs(factor - ACTIVATIONS[name][1]) > 1e-5:
        raise ModelError(
            f"{where} normalises {name} by {factor:.6f}, where {ACTIVATIONS[name][1]:.6f} is offered."
        )
    return {"MLP_irreps": f"{width}x0e", "gate": name}


def _function(value: Any) -> str:
    """The bare name of a pickled function; torch's built-in ones are looked up as attributes."""
    if isinstance(value, Record) and value.made_by.name == "getattr":
        return str(value.arguments[1])
    return value.name if isinstance(value, Name) else "none"


def _check_blocks(
    where: str, interactions: list[Record], products: list[Record], readouts: list[Record]
) -> None:
    """Refuse blocks of other classes, and weights in the order of cuEquivariance."""
    known = {*INTERACTIONS, "EquivariantProductBasisBlock", "LinearReadoutBlock", "NonLinearReadoutBlock"}
    for block in (*interactions, *products, *readouts):
        if block.made_by.name not in known:
            raise ModelError(f"{where} has a {block.made_by.name}, which cannot be represented here.")
        if block.get("cueq_config") is not None or block.get("oeq_config") is not None:
            raise ModelError(
                f"{where} keeps its weights as cuEquivariance or OpenEquivariance do: convert it back with "
                "mace_cueq_to_e3nn first."
            )


def _correlation(product: Record) -> int:
    contraction = _children(product)["symmetric_contractions"]
    return int(_listed(_children(contraction)["contractions"])[0].get("correlation"))


def _children(module: Record) -> dict[str, Record]:
    """Modules inside a module."""
    found = module.get("_modules") or {}
    return {str(name): child for name, child in found.items() if isinstance(child, Record)}


def _listed(module: Record) -> list[Record]:
    """The modules of a list of modules, in order."""
    return [child for _, child in sorted(_children(module).items(), key=lambda pair: int(pair[0]))]


def _tensors(module: Record, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors as ``state_dict`` gives them; compiled parts have none of their own."""
    for kind in ("_parameters", "_buffers"):
        for name, value in (module.get(kind) or {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
    for name, child in _children(module).items():
        yield from _tensors(child, f"{prefix}{name}.")


def _triples(irreps: Any) -> list[tuple[int, int, int]]:
    """Multiplicity, degree and parity of each part of pickled irreps, or of their text."""
    if isinstance(irreps, str):
        from atomml.potentials.mace.irreps import blocks_of

        return [(block.channels, block.degree, block.parity) for block in blocks_of(irreps)]
    found = []
    for part in _inside(irreps):
        count, irrep = _inside(part)
        degree, parity = _inside(irrep)
        found.append((int(count), int(degree), int(parity)))
    return found


def _inside(value: Any) -> tuple[Any, ...]:
    """The tuple that a pickled subclass of tuple was made from."""
    if isinstance(value, Record):
        inner = value.arguments
        return tuple(inner[0]) if len(inner) == 1 and isinstance(inner[0], tuple | list) else tuple(inner)
    return tuple(value)


def _irreps(value: Any) -> str:
    return "+".join(f"{count}x{degree}{'e' if p > 0 else 'o'}" for count, degree, p in _triples(value))


def _described(value: Any) -> str:
    if isinstance(value, Record):
        return f"a {value.made_by}"
    if isinstance(value, dict):
        some = ", ".join(str(key) for key in list(value)[:3])
        return f"a dictionary ({some} ...)" if value else "an empty dictionary"
    return "a tensor" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
