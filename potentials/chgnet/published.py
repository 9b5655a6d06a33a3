"""The published weights, read out of the installed ``chgnet`` package; nothing is downloaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atomml.errors import CheckpointError, ModelError
from atomml.files import sha256_file
from atomml.model import ModelInfo
from atomml.potentials.chgnet.model import CHGNet, CHGNetConfig

__all__ = ["PUBLISHED", "from_chgnet_state", "load_published", "published_file"]

_MPTRJ_ELEMENTS = tuple(z for z in range(1, 95) if z not in (84, 85, 86, 87, 88))
"""MPtrj covers 89 elements: hydrogen to plutonium without Po, At, Rn, Fr and Ra."""

_CITATION = "Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3"


@dataclass(frozen=True)
class PublishedWeights:
    """One set of weights inside the ``chgnet`` package.

    Attributes:
        file: Path below the package.
        sha256: Digest of that file.
        training_data: What they were trained on.
        output_bias: Version 0.2.0 has a bias after each sum, which its own file does not say.
    """

    file: str
    sha256: str
    training_data: str
    output_bias: bool = False


PUBLISHED = {
    "0.3.0": PublishedWeights(
        "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
        "d14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1",
        "MPtrj (PBE and PBE+U relaxation trajectories of the Materials Project)",
    ),
    "0.2.0": PublishedWeights(
        "pretrained/0.2.0/chgnet_0.2.0_e30f77s348m32.pth.tar",
        "ef624f78b6db9d315b4ef256f1bb3207449924191b91720dc17d3f60c5df980e",
        "MPtrj (PBE and PBE+U relaxation trajectories of the Materials Project)",
        output_bias=True,
    ),
    "r2scan": PublishedWeights(
        "pretrained/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
        "8eba3db0f35a2788bb3ae22885ad340591e27996f213c6643af522a633b50dad",
        "MPtrj, then transferred to the r2SCAN calculations of the Materials Project",
    ),
}


def published_file(version: str) -> Path:
    """Where the installed ``chgnet`` package keeps the weights of a version.

    Raises:
        ModelError: No such version.
        CheckpointError: The package is not installed or lacks the file.
    """
    if version not in PUBLISHED:
        raise ModelError(f"CHGNet {version!r} is not published: choose one of {', '.join(PUBLISHED)}.")
    spec = importlib.util.find_spec("chgnet")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / PUBLISHED[version].file
        if path.is_file():
            return path
    raise CheckpointError(f"The chgnet package holds no weights {version}: run pip install 'chgnet>=0.4.2'.")


def load_published(version: str = "0.3.0") -> CHGNet:
    """CHGNet with the published weights, in float32 on the CPU.

    The file's SHA-256 is checked before it is read, and it is read with ``weights_only=True``.

    Raises:
        ModelError: No such version.
        CheckpointError: The file is missing or is not the published one.
    """
    path = published_file(version)
    weights = PUBLISHED[version]
    digest = sha256_file(path)
    if digest != weights.sha256:
        raise CheckpointError(f"{path.name} is not the published file: its SHA-256 is {digest[:16]}...")
    content = torch.load(path, map_location="cpu", weights_only=True)["model"]
    info = ModelInfo(
        name=f"chgnet-{version}",
        family="chgnet",
        cutoff=float(content["model_args"]["atom_graph_cutoff"]),
        bond_cutoff=float(content["model_args"]["bond_graph_cutoff"]),
        elements=_MPTRJ_ELEMENTS,
        properties=("magmoms", "atom_features", "crystal_features"),
        training_data=weights.training_data,
        licence="BSD-3-Clause",
        citation=_CITATION,
        sha256=digest,
    )
    return from_chgnet_state(content, info, output_bias=weights.output_bias)


def from_chgnet_state(content: Mapping[str, Any], info: ModelInfo, *, output_bias: bool = False) -> CHGNet:
    """A model from what the ``chgnet`` package saves: ``state_dict`` and ``model_args``.

    Args:
        content: The two entries, as loaded with ``weights_only=True``.
        info: What to call it.
        output_bias: Whether the layers after each sum have a bias.

    Raises:
        CheckpointError: A setting that this implementation does not represent, or missing tensors.
    """
    arguments, state = content["model_args"], content["state_dict"]
    _refuse_unsupported(arguments)
    config = CHGNetConfig(
        n_channels=arguments["atom_fea_dim"],
        n_radial=arguments["num_radial"],
        n_angular=arguments["num_angular"],
        n_layers=arguments["n_conv"],
        cutoff=float(arguments["atom_graph_cutoff"]),
        bond_cutoff=float(arguments["bond_graph_cutoff"]),
        cutoff_power=int(arguments["cutoff_coeff"]),
        norm=arguments["gMLP_norm"] == "layer",
        output_bias=output_bias or bool(arguments.get("mlp_out_bias", False)),
        readout_widths=tuple(arguments["mlp_hidden_dims"]),
    )
    model = CHGNet(config, info)
    try:
        model.load_state_dict(_translate(state, config))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"The CHGNet weights do not fit their own settings: {error}".split("\n")[0]
        ) from None
    return model.eval().requires_grad_(False)


def _refuse_unsupported(arguments: Mapping[str, Any]) -> None:
    """Name the first setting that would change the network into one that is not built here."""
    width = arguments["atom_fea_dim"]
    wanted: dict[str, tuple[Any, ...]] = {
        "bond_fea_dim": (width,),
        "angle_fea_dim": (width,),
        "atom_conv_hidden_dim": (width,),
        "bond_conv_hidden_dim": (width,),
        "angle_layer_hidden_dim": (0, None),
        "update_bond": (True,),
        "update_angle": (True,),
        "mlp_first": (True,),
        "is_intensive": (True,),
        "conv_norm": (None,),
        "non_linearity": ("silu",),
        "gMLP_norm": ("layer", None),
        "readout_norm": (arguments["gMLP_norm"],),
    }
    for name, allowed in wanted.items():
        if arguments.get(name, allowed[0]) not in allowed:
            raise CheckpointError(f"CHGNet with {name}={arguments[name]!r} cannot be represented here.")


def _translate(state: Mapping[str, Tensor], config: CHGNetConfig) -> dict[str, Tensor]:
    """Our names for chgnet's tensors; the last angle update feeds nothing and is left out."""
    new = {
        "embedding.weight": state["atom_embedding.embedding.weight"],
        "radial.frequencies": state["bond_basis_expansion.rbf_expansion_ag.frequencies"],
        "radial_short.frequencies": state["bond_basis_expansion.rbf_expansion_bg.frequencies"],
        "angular.frequencies": state["angle_basis_expansion.fourier_expansion.frequencies"],
        "bond_embedding.weight": state["bond_embedding.weight"],
        "atom_weights.weight": state["bond_weights_ag.weight"],
        "bond_weights.weight": state["bond_weights_bg.weight"],
        "angle_embedding.weight": state["angle_embedding.weight"],
        "magmom.weight": state["site_wise.weight"],
        "magmom.bias": state["site_wise.bias"],
        "reference": state["composition_model.fc.weight"].view(-1).double(),
    }
    for i in range(config.n_layers):
        new |= _layer(state, f"atom_conv_layers.{i}", "twoBody_atom", f"atom_layers.{i}", config)
    for i in range(config.n_layers - 1):
        new |= _layer(state, f"bond_conv_layers.{i}", "twoBody_bond", f"bond_layers.{i}", config)
    for i in range(config.n_layers - 2):
        new |= _layer(state, f"angle_layers.{i}", "twoBody_bond", f"angle_layers.{i}", config)
    if config.norm:
        new |= {f"readout_norm.{kind}": state[f"readout_norm.{kind}"] for kind in ("weight", "bias")}
    linear = [
        key.removesuffix(".weight") for key in state if key.startswith("mlp.") and key.endswith(".weight")
    ]
    for i, old in enumerate(sorted(linear, key=lambda key: int(key.rsplit(".", 1)[1]))):
        new |= {f"readout.{2 * i}.{kind}": state[f"{old}.{kind}"] for kind in ("weight", "bias")}
    return new


def _layer(
    state: Mapping[str, Tensor], old: str, mlp: str, new: str, config: CHGNetConfig
) -> dict[str, Tensor]:
    """One gated MLP with its output layer; core and gate share a merged first layer here."""
    hidden = f"{old}.{mlp}.mlp_core.layers.3.weight" in state
    first = 0 if hidden else 1
    tensors = {
        f"{new}.message.first.{kind}": torch.cat(
            [state[f"{old}.{mlp}.mlp_{branch}.layers.{first}.{kind}"] for branch in ("core", "gate")]
        )
        for kind in ("weight", "bias")
    }
    for branch, norm in (("core", "bn1"), ("gate", "bn2")):
        for kind in ("weight", "bias"):
            if hidden:
                tensors[f"{new}.message.{branch}.{kind}"] = state[f"{old}.{mlp}.mlp_{branch}.layers.3.{kind}"]
            if config.norm:
                tensors[f"{new}.message.{branch}_norm.{kind}"] = state[f"{old}.{mlp}.{norm}.{kind}"]
    if hidden:
        tensors[f"{new}.output.weight"] = state[f"{old}.mlp_out.layers.1.weight"]
        if config.output_bias:
            tensors[f"{new}.output.bias"] = state[f"{old}.mlp_out.layers.1.bias"]
    return tensors
