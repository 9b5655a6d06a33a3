"""From DeePMD-kit's settings and names of weights to ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor

from atomml.errors import ModelError
from atomml.potentials.dpa3.config import DPA3Config
from atomml.potentials.dpa3.model import DPA3

__all__ = ["Branch", "config_of", "from_deepmd"]

_REPFLOW_DEFAULTS: dict[str, Any] = {
    "n_dim": 128,
    "e_dim": 64,
    "a_dim": 64,
    "nlayers": 6,
    "e_rcut": 6.0,
    "e_rcut_smth": 5.0,
    "e_sel": 120,
    "a_rcut": 4.0,
    "a_rcut_smth": 3.5,
    "a_sel": 20,
    "a_compress_rate": 0,
    "a_compress_e_rate": 1,
    "a_compress_use_split": False,
    "n_multi_edge_message": 1,
    "axis_neuron": 4,
    "update_angle": True,
    "update_style": "res_residual",
    "update_residual": 0.1,
    "update_residual_init": "const",
    "fix_stat_std": 0.3,
    "smooth_edge_update": False,
    "edge_init_use_dist": False,
    "use_exp_switch": False,
    "use_dynamic_sel": False,
    "sel_reduce_factor": 10.0,
    "sequential_update": False,
}
"""What DeePMD-kit 3.2 takes where its input says nothing; its names are ours."""

_HARMLESS = {
    "@class",
    "@version",
    "type",
    "ntypes",
    "type_map",
    "seed",
    "trainable",
    "precision",
    "_comment",
    "comment",
    "optim_update",
    "skip_stat",
    "use_loc_mapping",
    "use_tebd_bias",
    "rcond",
    "var_name",
    "dim_out",
    "dim_descrpt",
    "mixed_types",
    "layer_name",
    "default_fparam",
    "@variables",
    "model_branch_alias",
    "data_stat_nbatch",
    "data_stat_protect",
    "info",
    "finetune_head",
    "preset_out_bias",
}
"""Settings that change no answer of a model whose weights are given."""

_MUST_BE_EMPTY = (
    "exclude_types",
    "pair_exclude_types",
    "atom_exclude_types",
    "use_econf_tebd",
    "numb_fparam",
    "numb_aparam",
    "tot_ener_zero",
    "use_aparam_as_mask",
    "spin",
    "use_srtab",
    "atom_ener",
    "remove_vaccum_contribution",
)
"""Settings that cannot be represented here, where they are more than nothing."""

_LAYER_PARTS = {
    "node_self_mlp": "node_self",
    "node_sym_linear": "node_sym",
    "node_edge_linear": "node_edge",
    "edge_self_linear": "edge_self",
    "edge_angle_linear1": "edge_angle",
    "edge_angle_linear2": "edge_angle_out",
    "angle_self_linear": "angle_self",
    "a_compress_n_linear": "compress_node",
    "a_compress_e_linear": "compress_edge",
}
_RESIDUALS = {"n_residual": "node_residual", "e_residual": "edge_residual", "a_residual": "angle_residual"}


@dataclass(frozen=True)
class Branch:
    """One model of DeePMD-kit, taken apart.

    Attributes:
        name: Of the branch; ``default`` where there is one.
        descriptor, fitting: Their settings, as in its input files.
        type_map: Symbols in the order of the types.
        weights: By the names of its PyTorch backend, from ``descriptor.``, ``fitting_net.``, ``out_bias`` on.
    """

    name: str
    descriptor: Mapping[str, Any]
    fitting: Mapping[str, Any]
    type_map: Sequence[str]
    weights: Mapping[str, Tensor]


def from_deepmd(branches: Sequence[Branch], name: str, where: str) -> DPA3:
    """The model of one branch, or of several that share all but what tells their data sets apart.

    Raises:
        ModelError: What cannot be represented exactly; named.
    """
    first = branches[0]
    config = config_of(first.descriptor, first.fitting, first.type_map, where)
    names = tuple(branch.name for branch in branches)
    config = DPA3Config(**{**vars(config), "heads": names, "head": names[0]})
    double = any(tensor.dtype == torch.float64 for key, tensor in first.weights.items() if ".layers." in key)
    model = DPA3.of(config, name).to(torch.float64 if double else torch.float32)
    state = dict(model.state_dict())
    found = dict(_weights(first.weights, config, where))
    found |= _statistics(first.weights, where)
    found["reference"] = torch.stack([_reference(branch.weights) for branch in branches])
    vectors = [branch.weights.get("fitting_net.case_embd", torch.zeros(0)) for branch in branches]
    found["case"] = torch.stack(vectors)
    _load(state, found, where)
    model.load_state_dict(state)
    return model


def config_of(
    descriptor: Mapping[str, Any], fitting: Mapping[str, Any], type_map: Sequence[str], where: str
) -> DPA3Config:
    """The shape that settings of DeePMD-kit describe.

    Raises:
        ModelError: Another descriptor or fitting, or a setting that is not offered here; named.
    """
    if descriptor.get("type") != "dpa3":
        raise ModelError(
            f"{where} has the descriptor {descriptor.get('type')}: only dpa3 can be represented."
        )
    if fitting.get("type", "ener") != "ener":
        raise ModelError(f"{where} has the fitting {fitting['type']}: only ener can be represented.")
    repflow = descriptor.get("repflow", descriptor.get("repflow_args", {}))
    known = {"activation_function", "concat_output_tebd", "env_protection", "add_chg_spin_ebd"}
    _refuse_unknown(descriptor, known | {"repflow", "repflow_args", "default_chg_spin"}, where)
    _refuse_unknown(repflow, set(_REPFLOW_DEFAULTS), where)
    _refuse_unknown(fitting, {"neuron", "resnet_dt", "activation_function", "dim_case_embd"}, where)
    unknown = [symbol for symbol in type_map if symbol not in atomic_numbers]
    if unknown:
        raise ModelError(f"{where} has the type {unknown[0]}, which is no element.")
    settings = {key: repflow.get(key, default) for key, default in _REPFLOW_DEFAULTS.items()}
    for key in ("e_sel", "a_sel"):
        settings[key] = settings[key][0] if isinstance(settings[key], list) else settings[key]
    usual = descriptor.get("default_chg_spin")
    return DPA3Config(
        elements=tuple(atomic_numbers[symbol] for symbol in type_map),
        **settings,
        activation=str(descriptor.get("activation_function", "silu")),
        concat_output_tebd=bool(descriptor.get("concat_output_tebd", False)),
        env_protection=float(descriptor.get("env_protection", 0.0)),
        charge_spin=bool(descriptor.get("add_chg_spin_ebd", False)),
        default_charge_spin=None if usual is None else tuple(map(float, usual)),
        neuron=tuple(fitting.get("neuron", (120, 120, 120))),
        resnet_dt=bool(fitting.get("resnet_dt", True)),
        fitting_activation=str(fitting.get("activation_function", "tanh")),
        dim_case_embd=int(fitting.get("dim_case_embd", 0)),
    )


def _refuse_unknown(settings: Mapping[str, Any], known: set[str], where: str) -> None:
    for key, value in settings.items():
        if key in _MUST_BE_EMPTY:
            if value not in (None, 0, False, []):
                raise ModelError(f"{where} has {key} = {value!r}, which cannot be represented here.")
        elif key not in known and key not in _HARMLESS and not _holds_weights(value):
            raise ModelError(f"{where} has the setting {key}, which cannot be represented here.")


def _holds_weights(value: Any) -> bool:
    """Whether a part of a serialised model is a network or table, and no setting."""
    return isinstance(value, dict) and ("@class" in value or "@variables" in value)


def _weights(theirs: Mapping[str, Tensor], config: DPA3Config, where: str) -> Iterator[tuple[str, Tensor]]:
    """All but buffers, by our names."""
    table = "descriptor.{}.embedding.embedding_net.layers.0"
    yield "embedding", _table(theirs, table.format("type_embedding"), where)
    if config.charge_spin:
        yield "charge_spin.charge", _table(theirs, table.format("chg_embedding"), where)
        yield "charge_spin.spin", _table(theirs, table.format("spin_embedding"), where)
        yield from _affine(theirs, "descriptor.mix_cs_mlp", "charge_spin.mix")
    yield from _affine(theirs, "descriptor.repflows.edge_embd", "edge_embedding")
    yield from _affine(theirs, "descriptor.repflows.angle_embd", "angle_embedding")
    for layer in range(config.nlayers):
        source, target = f"descriptor.repflows.layers.{layer}.", f"layers.{layer}."
        for part, ours in _LAYER_PARTS.items():
            yield from _affine(theirs, source + part, target + ours)
        for part, ours in _RESIDUALS.items():
            number = 0
            while f"{source}{part}.{number}" in theirs:
                yield f"{target}{ours}.weights.{number}", theirs[f"{source}{part}.{number}"]
                number += 1
    network = "fitting_net.filter_layers.networks.0.layers."
    for layer in range(len(config.neuron)):
        yield from _affine(theirs, f"{network}{layer}", f"fitting.layers.{layer}")
    yield from _affine(theirs, f"{network}{len(config.neuron)}", "fitting.last")


def _affine(theirs: Mapping[str, Tensor], source: str, target: str) -> Iterator[tuple[str, Tensor]]:
    for part, ours in (("matrix", "weight"), ("bias", "bias"), ("idt", "step")):
        tensor = theirs.get(f"{source}.{part}")
        if tensor is not None:
            yield f"{target}.{ours}", tensor if part == "matrix" else tensor.reshape(-1)


def _table(theirs: Mapping[str, Tensor], source: str, where: str) -> Tensor:
    """What a linear network makes of each type: its matrix, bias, and itself where the widths fit."""
    matrix = theirs.get(f"{source}.matrix")
    if matrix is None:
        raise ModelError(f"{where} lacks the weights {source}.")
    n_types, width = matrix.shape
    rows = torch.eye(n_types, dtype=matrix.dtype)
    table = matrix + theirs.get(f"{source}.bias", torch.zeros((), dtype=matrix.dtype))
    if width in (n_types, 2 * n_types):
        table = table + torch.cat([rows] * (width // n_types), dim=1)
    return table


def _statistics(theirs: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Mean and deviation of environments, which are the same for each neighbour.

    Raises:
        ModelError: They are not, or would break rotational symmetry.
    """
    mean, deviation = (theirs[f"descriptor.repflows.{key}"].double() for key in ("mean", "stddev"))
    same = bool((mean == mean[:, :1]).all() and (deviation == deviation[:, :1]).all())
    mean, deviation = mean[:, 0], deviation[:, 0]
    if not same or bool(mean[:, 1:].any()) or not bool((deviation[:, 1:] == deviation[:, 1:2]).all()):
        raise ModelError(f"{where} normalises neighbours one by one, which cannot be represented here.")
    return {"mean": mean[:, 0].clone(), "deviation": deviation[:, :2].clone()}


def _reference(theirs: Mapping[str, Tensor]) -> Tensor:
    """Constant energy of each type, eV, ``(n_types,)`` float64."""
    total = theirs["out_bias"].double().reshape(-1)
    bias = theirs.get("fitting_net.bias_atom_e")
    return total if bias is None else total + bias.double().reshape(-1)


def _load(state: dict[str, Tensor], found: Mapping[str, Tensor], where: str) -> None:
    """Put weights into a state; every one is needed, and none left over."""
    for key, tensor in state.items():
        if key not in found:
            raise ModelError(f"{where} lacks weights: nothing stands for {key}.")
        if found[key].shape != tensor.shape:
            shapes = f"{tuple(found[key].shape)}, where {tuple(tensor.shape)} fits its settings"
            raise ModelError(f"{where} has {key} of shape {shapes}.")
        state[key] = found[key].to(tensor.dtype)
    extra = sorted(set(found) - set(state))
    if extra:
        raise ModelError(f"{where} has weights for {extra[0]}, for which its settings have no place.")
