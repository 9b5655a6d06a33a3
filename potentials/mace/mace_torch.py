"""From mace-torch's names and layouts of weights to ours.

Its modules keep weights as e3nn does: one flat vector for all paths of a linear map, in the order of inputs,
then outputs; products with a one-hot vector of the element as three-dimensional arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from atomml.errors import ModelError
from atomml.potentials.mace.config import InteractionKind, MACEConfig
from atomml.potentials.mace.couplings import coupling
from atomml.potentials.mace.interaction import Interaction, NonlinearInteraction
from atomml.potentials.mace.irreps import ElementLinear, IrrepLinear
from atomml.potentials.mace.model import MACE
from atomml.potentials.mace.product import Contraction, Product
from atomml.potentials.mace.radial import RadialNetwork, RadialNormNetwork
from atomml.potentials.mace.readout import LinearReadout, NonlinearReadout

__all__ = ["INTERACTIONS", "config_of", "from_mace_torch"]

INTERACTIONS: dict[str, InteractionKind] = {
    "RealAgnosticInteractionBlock": "plain",
    "RealAgnosticResidualInteractionBlock": "residual",
    "RealAgnosticDensityInteractionBlock": "density",
    "RealAgnosticDensityResidualInteractionBlock": "density-residual",
    "RealAgnosticResidualNonLinearInteractionBlock": "nonlinear-residual",
}
"""Names of mace-torch's interaction classes."""


def config_of(settings: Mapping[str, Any]) -> MACEConfig:
    """The shape that mace-torch's constructor arguments describe.

    Args:
        settings: Arguments of ``mace.modules.ScaleShiftMACE`` or ``MACE`` as plain values: classes by name
            (``interaction_cls`` and ``interaction_cls_first``), irreps and the gate as text, ``scaled`` for
            the class with scale and shift, ``heads`` with their names. What is left out has mace-torch's
            default.

    Raises:
        ModelError: An interaction or a setting that is not offered here; named.
    """
    given = dict(settings)
    n_layers = int(given["num_interactions"])
    kinds = [given.get("interaction_cls_first", given["interaction_cls"])]
    kinds += [given["interaction_cls"]] * (n_layers - 1)
    unknown = [kind for kind in kinds if kind not in INTERACTIONS]
    if unknown:
        raise ModelError(f"MACE's {unknown[0]} is not offered here: {', '.join(INTERACTIONS)} are.")
    for name, why in (
        ("embedding_specs", "embeddings of charge and spin"),
        ("use_so3", "irreps without parity"),
    ):
        if given.get(name):
            raise ModelError(f"This MACE has {why} ({name}), which are not offered here.")
    correlation = given["correlation"]
    heads = tuple(given.get("heads") or ("default",))
    return MACEConfig(
        elements=tuple(int(z) for z in given["atomic_numbers"]),
        cutoff=float(given["r_max"]),
        hidden=str(given["hidden_irreps"]),
        edge_irreps=given.get("edge_irreps"),
        edge_irreps_first=bool(given.get("use_edge_irreps_first", False)),
        max_degree=int(given["max_ell"]),
        interactions=tuple(INTERACTIONS[kind] for kind in kinds),
        correlations=tuple(correlation)
        if isinstance(correlation, list | tuple)
        else (correlation,) * n_layers,
        radial=given.get("radial_type", "bessel"),
        n_radial=int(given["num_bessel"]),
        cutoff_power=int(given["num_polynomial_cutoff"]),
        distance_transform=str(given.get("distance_transform", "None")).lower(),  # type: ignore[arg-type]
        radial_widths=tuple(given.get("radial_MLP") or (64, 64, 64)),
        readout=str(given["MLP_irreps"]),
        gate=str(given.get("gate", "silu")).lower(),  # type: ignore[arg-type]
        neighbours=float(given["avg_num_neighbors"]),
        pair_repulsion=bool(given.get("pair_repulsion", False)),
        early_cutoff=bool(given.get("apply_cutoff", True)),
        shared_product=bool(given.get("use_agnostic_product", False)),
        last_readout_only=bool(given.get("use_last_readout_only", False)),
        keep_last_irreps=bool(given.get("keep_last_layer_irreps", False)),
        scaled=bool(given.get("scaled", True)),
        heads=heads,
        head=heads[0] if len(heads) == 1 else None,
    )


def from_mace_torch(state: Mapping[str, Tensor], settings: Mapping[str, Any], name: str = "mace") -> MACE:
    """A MACE with the weights of one of mace-torch; float64, whatever they were.

    Args:
        state: mace-torch's ``state_dict``; coupling tables (``U_matrix_...``) may be left out.
        settings: See :func:`config_of`.
        name: What it will be called.

    Raises:
        ModelError: Settings that are not offered, weights that are missing or of another shape, or coupling
            tables that span something else than those here.
    """
    config = config_of(settings)
    model = MACE.of(config, name).double()
    reader = _Reader(state)
    with torch.no_grad():
        _read_globals(model, reader)
        for i, (interaction, product) in enumerate(zip(model.interactions, model.products, strict=True)):
            if isinstance(interaction, NonlinearInteraction):
                _read_nonlinear(interaction, reader, f"interactions.{i}.")
            else:
                assert isinstance(interaction, Interaction)
                _read_interaction(interaction, reader, f"interactions.{i}.")
            assert isinstance(product, Product)
            _read_product(product, reader, f"products.{i}.")
        present = [readout for readout in model.readouts if not isinstance(readout, nn.Identity)]
        for i, readout in enumerate(present):
            _read_readout(readout, reader, f"readouts.{i}.")
    return model.eval()


class _Reader:
    """A state dictionary that says clearly what it lacks."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state

    def __contains__(self, name: str) -> bool:
        return name in self.state

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of a name in float64, with this shape."""
        if name not in self.state:
            raise ModelError(f"The file has no weights {name}: it holds another model than its settings say.")
        tensor = self.state[name].detach().to(torch.float64)
        expected = 1
        for n in shape:
            expected *= n
        if tensor.numel() != expected:
            raise ModelError(
                f"The weights {name} have {tensor.numel()} entries where this shape of MACE has {expected}."
            )
        return tensor.reshape(shape)


def _read_globals(model: MACE, reader: _Reader) -> None:
    config = model.config
    n_elements, n_heads = len(config.elements), len(config.heads)
    model.embedding.copy_(reader.take("node_embedding.linear.weight", *model.embedding.shape))
    if config.radial == "bessel":
        waves = reader.take("radial_embedding.bessel_fn.bessel_weights", config.n_radial)
        model.basis.frequencies.copy_(waves)
    transform = "radial_embedding.distance_transform."
    for i, letter in enumerate({"agnesi": "qpa", "none": ""}.get(config.distance_transform, "")):
        model.basis.transform[i] = reader.take(f"{transform}{letter}")
    if config.distance_transform == "soft":
        model.basis.transform[0] = reader.take(f"{transform}alpha")
    if model.repulsion is not None:
        model.repulsion.amplitudes.copy_(reader.take("pair_repulsion_fn.c", 4))
        for i, letter in enumerate(("a_prefactor", "a_exp")):
            model.repulsion.screening[i] = reader.take(f"pair_repulsion_fn.{letter}")
    energies = reader.take("atomic_energies_fn.atomic_energies", n_heads, n_elements)
    model.reference.copy_(energies)
    if config.scaled:
        for ours, theirs in ((model.scale, "scale"), (model.shift, "shift")):
            values = reader.state[f"scale_shift.{theirs}"].detach().double().reshape(-1)
            ours.copy_(values.expand(n_heads) if len(values) == 1 else values)


def _read_interaction(block: Interaction, reader: _Reader, at: str) -> None:
    _read_linear(block.up, reader, f"{at}linear_up.")
    _read_network(block.radial, reader, f"{at}conv_tp_weights.")
    _read_linear(block.down, reader, f"{at}linear.")
    _read_by_element(block.skip, reader, f"{at}skip_tp.weight")
    if block.density is not None:
        _read_network(block.density, reader, f"{at}density_fn.")


def _read_nonlinear(block: NonlinearInteraction, reader: _Reader, at: str) -> None:
    for ours, theirs in ((block.source, "source"), (block.target, "target")):
        ours.copy_(reader.take(f"{at}{theirs}_embedding.weight", *ours.shape))
    for linear, theirs in (
        (block.up, "linear_up"),
        (block.skip, "skip_tp"),
        (block.residual, "linear_res"),
        (block.down, "linear_1"),
        (block.mix, "linear_2"),
    ):
        _read_linear(linear, reader, f"{at}{theirs}.")
    _read_norm_network(block.radial, reader, f"{at}conv_tp_weights.net.")
    _read_norm_network(block.density, reader, f"{at}density_fn.net.")
    block.alpha.copy_(reader.take(f"{at}alpha"))
    block.beta.copy_(reader.take(f"{at}beta"))


def _read_product(product: Product, reader: _Reader, at: str) -> None:
    for j, contraction in enumerate(product.contractions):
        assert isinstance(contraction, Contraction)
        _read_contraction(contraction, reader, f"{at}symmetric_contractions.contractions.{j}.")
    _read_linear(product.linear, reader, f"{at}linear.")


def _read_contraction(contraction: Contraction, reader: _Reader, at: str) -> None:
    """Weights of each order; the highest has a name of its own."""
    for order, weights in zip(contraction.orders, contraction.weights, strict=True):
        behind = contraction.correlation - order - 1
        name = f"{at}weights_max" if behind < 0 else f"{at}weights.{behind}"
        table = f"{at}U_matrix_{order}"
        if table not in reader:
            weights.copy_(reader.take(name, *weights.shape))
            continue
        change = _change_of_paths(contraction, order, reader.state[table].detach().double(), table)
        theirs = reader.state[name].detach().double()
        weights.copy_(torch.einsum("pq,eqc->epc", change, theirs))


def _change_of_paths(contraction: Contraction, order: int, table: Tensor, name: str) -> Tensor:
    """Our paths in terms of the file's ``(n_ours, n_theirs)``: its coupling table may have another basis."""
    ours = coupling(contraction.irreps, contraction.target.irrep, order)
    size, dim = sum(2 * degree + 1 for degree, _ in contraction.irreps), contraction.target.dim
    theirs = table.reshape(dim, size**order, -1)
    weights = size ** torch.arange(order - 1, -1, -1)
    every = torch.cartesian_prod(*[torch.arange(size)] * order).reshape(-1, order)
    codes = (every.sort(dim=1).values * weights).sum(dim=1)
    summed = theirs.new_zeros(dim, size**order, theirs.shape[2]).index_add(1, codes, theirs)
    kept = (ours.factors * weights).sum(dim=1)
    symmetric = summed[:, kept].permute(1, 2, 0)  # (n_monomials, n_theirs, dim)
    lost = (summed.abs().sum() - symmetric.abs().sum()).abs()
    if symmetric.shape == ours.coefficients.shape and (symmetric - ours.coefficients).abs().max() < 1e-5:
        return torch.eye(ours.n_paths, dtype=torch.float64)
    left = ours.coefficients.permute(0, 2, 1).reshape(-1, ours.n_paths)
    right = symmetric.permute(0, 2, 1).reshape(-1, symmetric.shape[1])
    change = torch.linalg.lstsq(left, right, driver="gelsd").solution
    if lost > 1e-4 or (left @ change - right).abs().max() > 1e-5:
        raise ModelError(f"The coupling table {name} of the file is none that this MACE can express.")
    return change


def _read_linear(linear: IrrepLinear, reader: _Reader, at: str) -> None:
    """A flat vector of all paths, inputs outermost."""
    shapes = [tuple(weights.shape) for weights in linear.weights]
    total = sum(n_in * n_out for n_in, n_out in shapes)
    flat = reader.take(f"{at}weight", total)
    start = 0
    filled = [0] * len(shapes)
    for source in range(len(linear.inputs)):
        for k, sources in enumerate(linear.sources):
            if source not in sources:
                continue
            n_in, n_out = linear.inputs[source].channels, linear.outputs[k].channels
            part = flat[start : start + n_in * n_out].reshape(n_in, n_out)
            linear.weights[k][filled[k] : filled[k] + n_in] = part
            start, filled[k] = start + n_in * n_out, filled[k] + n_in


def _read_by_element(linear: ElementLinear, reader: _Reader, name: str) -> None:
    """As :func:`_read_linear`, each path ``(n_in, n_elements, n_out)``."""
    total = sum(weights.numel() for weights in linear.weights)
    flat = reader.take(name, total)
    start = 0
    filled = [0] * len(linear.outputs)
    for source in range(len(linear.inputs)):
        for k, sources in enumerate(linear.sources):
            if source not in sources:
                continue
            n_elements, _, n_out = linear.weights[k].shape
            n_in = linear.inputs[source].channels
            size = n_in * n_elements * n_out
            part = flat[start : start + size].reshape(n_in, n_elements, n_out)
            linear.weights[k][:, filled[k] : filled[k] + n_in] = part.permute(1, 0, 2)
            start, filled[k] = start + size, filled[k] + n_in


def _read_network(network: RadialNetwork, reader: _Reader, at: str) -> None:
    for i, weights in enumerate(network.weights):
        weights.copy_(reader.take(f"{at}layer{i}.weight", *weights.shape))


def _read_norm_network(network: RadialNormNetwork, reader: _Reader, at: str) -> None:
    """Linear layers at 0, 3, 6 ... of the sequence, layer norms behind each but the last."""
    for i, layer in enumerate(network.layers):
        for kind in ("weight", "bias"):
            tensor = getattr(layer, kind)
            tensor.copy_(reader.take(f"{at}{3 * i}.{kind}", *tensor.shape))
    for i, norm in enumerate(network.norms):
        for kind in ("weight", "bias"):
            tensor = getattr(norm, kind)
            tensor.copy_(reader.take(f"{at}{3 * i + 1}.{kind}", *tensor.shape))


def _read_readout(readout: nn.Module, reader: _Reader, at: str) -> None:
    if isinstance(readout, LinearReadout):
        readout.weights.copy_(reader.take(f"{at}linear.weight", *readout.weights.shape))
    else:
        assert isinstance(readout, NonlinearReadout)
        readout.first.copy_(reader.take(f"{at}linear_1.weight", *readout.first.shape))
        readout.second.copy_(reader.take(f"{at}linear_2.weight", *readout.second.shape))
