"""CHGNet's weights, frozen and folded for the fast path.

Products of neighbouring linear maps are done once, means are taken off before layer norms,
and matrices are laid out in panels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomml.kernels.gemm import pack_panels, panel_width
from atomml.nn import GatedMLP
from atomml.potentials.chgnet.model import CHGNet

__all__ = ["FoldedAngleUpdate", "FoldedAtomLayer", "FoldedBondLayer", "FoldedWeights", "fold"]

Array = NDArray[Any]


@dataclass(frozen=True)
class FoldedGate:
    """The part of a gated MLP after its first layer.

    Attributes:
        core, gate: Panels of the second layers, means over the outputs taken off.
        core_back, gate_back: Panels of their transposes.
        bias, scale, shift: ``(2c,)``.
    """

    core: Array
    gate: Array
    core_back: Array
    gate_back: Array
    bias: Array
    scale: Array
    shift: Array


@dataclass(frozen=True)
class FoldedAtomLayer:
    """An atom convolution; ``long_back`` and ``short_back`` bring edge gradients to basis and features."""

    gate: FoldedGate
    output: Array
    output_back: Array
    long_back: Array
    short_back: Array
    from_change: Array


@dataclass(frozen=True)
class FoldedBondLayer:
    """A bond convolution: projections of both bonds, of the angle, and what follows."""

    gate: FoldedGate
    bonds: Array
    bonds_back: Array
    features: Array
    features_back: Array
    output: Array
    output_back: Array


@dataclass(frozen=True)
class FoldedAngleUpdate:
    """An angle update; its first layer is centred, as the layer norm follows at once."""

    scale: Array
    shift: Array
    bonds: Array
    bonds_back: Array
    features: Array
    features_back: Array


@dataclass(frozen=True)
class FoldedWeights:
    """All of a CHGNet, as NumPy arrays of one floating-point type.

    Attributes:
        embedding: ``(94, c)``.
        reference: ``(94,)`` float64, eV.
        radial, radial_short, angular: Frequencies, float64.
        n_basis: Columns of a radial basis with padding; ``n_angular`` likewise.
        bond_terms: From the basis to the atom graph's weights and each atom layer's bond part.
        bond_terms_bias: Zeros of that width.
        short_weights, short_weights_back: From the short basis to the bond graph's weights, and back.
        atom_weights_back: From the atom graph's weights back to the basis.
        bond_embedding, bond_embedding_back, angle_embedding, angle_embedding_back: Embeddings.
        atom_layers, bond_layers, angle_layers: The layers.
        projections: For each level of atom features its first-layer products: panels, bias, transpose.
        columns: For each level where the parts start: ``centre``, ``neighbour``, ``bond``, ``angle``.
        magmom, magmom_bias: The magnetic moment's readout.
        readout: Arguments of the readout kernel.
    """

    embedding: Array
    reference: Array
    radial: Array
    radial_short: Array
    angular: Array
    n_basis: int
    n_angular: int
    bond_terms: Array
    bond_terms_bias: Array
    short_weights: Array
    short_weights_back: Array
    atom_weights_back: Array
    bond_embedding: Array
    bond_embedding_back: Array
    angle_embedding: Array
    angle_embedding_back: Array
    atom_layers: list[FoldedAtomLayer]
    bond_layers: list[FoldedBondLayer]
    angle_layers: list[FoldedAngleUpdate]
    projections: list[tuple[Array, Array, Array]]
    columns: list[dict[str, int]]
    magmom: Array
    magmom_bias: float
    readout: tuple[Any, ...]


class _Folder:
    """Turns torch weights into folded arrays of one type; products are done in float64."""

    def __init__(self, model: CHGNet, dtype: np.dtype[Any]) -> None:
        self.model, self.dtype = model, dtype
        self.c = model.config.n_channels
        self.bond_embedding = _double(model.bond_embedding.weight)
        self.angle_embedding = _double(model.angle_embedding.weight)

    def panels(self, weight: Tensor, pad_in: int = 0) -> Array:
        """Panels of the map ``x -> x @ weight.T``; ``pad_in`` zero rows make the input that wide."""
        matrix = weight.T.numpy()
        if pad_in:
            matrix = np.vstack([matrix, np.zeros((pad_in - len(matrix), matrix.shape[1]))])
        return pack_panels(np.ascontiguousarray(matrix, self.dtype))

    def array(self, tensor: Tensor) -> Array:
        """A contiguous array in the path's type."""
        return np.ascontiguousarray(tensor.numpy(), self.dtype)

    def padded(self, n: int) -> int:
        """``n`` rounded up to whole panels."""
        width = panel_width(self.dtype)
        return -(-n // width) * width

    def parts(self, mlp: GatedMLP) -> list[Tensor]:
        """First-layer weights of each input of a gated MLP, float64; centred where a norm follows."""
        weight = _double(mlp.first.weight)
        if mlp.core is None:
            weight = torch.cat([_centred(half) for half in weight.chunk(2)])
        return list(torch.split(weight, list(mlp.input_widths), dim=1))

    def first_bias(self, mlp: GatedMLP) -> Tensor:
        """First-layer bias, centred where a norm follows."""
        bias = _double(mlp.first.bias)
        return torch.cat([_centred(half) for half in bias.chunk(2)]) if mlp.core is None else bias

    def norms(self, mlp: GatedMLP) -> tuple[Array, Array]:
        """Scale and shift of both layer norms."""
        assert mlp.core_norm is not None
        assert mlp.gate_norm is not None
        scale = torch.cat([_double(mlp.core_norm.weight), _double(mlp.gate_norm.weight)])
        shift = torch.cat([_double(mlp.core_norm.bias), _double(mlp.gate_norm.bias)])
        return self.array(scale), self.array(shift)

    def gate(self, mlp: GatedMLP) -> FoldedGate:
        """Everything after the first layer."""
        assert mlp.core is not None
        assert mlp.gate is not None
        core, gate = _centred(_double(mlp.core.weight)), _centred(_double(mlp.gate.weight))
        bias = torch.cat([_centred(_double(mlp.core.bias)), _centred(_double(mlp.gate.bias))])
        scale, shift = self.norms(mlp)
        return FoldedGate(
            core=self.panels(core),
            gate=self.panels(gate),
            core_back=self.panels(core.T),
            gate_back=self.panels(gate.T),
            bias=self.array(bias),
            scale=scale,
            shift=shift,
        )

    def atom_layer(self, layer: Any) -> FoldedAtomLayer:
        """One atom convolution."""
        _, bond, _ = self.parts(layer.message)
        output = _double(layer.output.weight)
        return FoldedAtomLayer(
            gate=self.gate(layer.message),
            output=self.panels(output),
            output_back=self.panels(output.T),
            long_back=self.panels((bond @ self.bond_embedding).T),
            short_back=self.panels(bond.T),
            from_change=self.panels(bond),
        )

    def bonds_and_features(self, mlp: GatedMLP, index: int) -> tuple[Array, Array, Array, Array]:
        """Projections of both bonds and of the angle, with transposes; layer 0 reads the angle's basis."""
        first, second, angle, _ = self.parts(mlp)
        both = torch.cat([first, second])
        pad = 0
        if index == 0:
            angle, pad = angle @ self.angle_embedding, self.padded(self.model.config.n_angular)
        return (
            self.panels(both),
            self.panels(torch.cat([first, second], dim=0).T),
            self.panels(angle, pad),
            self.panels(angle.T),
        )

    def bond_layer(self, layer: Any, index: int) -> FoldedBondLayer:
        """One bond convolution."""
        output = _double(layer.output.weight)
        return FoldedBondLayer(
            self.gate(layer.message),
            *self.bonds_and_features(layer.message, index),
            output=self.panels(output),
            output_back=self.panels(output.T),
        )

    def angle_layer(self, layer: Any, index: int) -> FoldedAngleUpdate:
        """One angle update."""
        return FoldedAngleUpdate(*self.norms(layer.message), *self.bonds_and_features(layer.message, index))

    def projections(self) -> tuple[list[tuple[Array, Array, Array]], list[dict[str, int]]]:
        """For each level of atom features, all first layers that read it, side by side."""
        model, projections, columns = self.model, [], []
        for level in range(model.config.n_layers):
            weights: list[Tensor] = []
            biases: list[Tensor] = []
            where: dict[str, int] = {}
            if level > 0:
                self._append(weights, biases, where, "bond", model.bond_layers[level - 1], 3, bias=True)
                if level - 1 < len(model.angle_layers):
                    self._append(weights, biases, where, "angle", model.angle_layers[level - 1], 3, bias=True)
            self._append(weights, biases, where, "centre", model.atom_layers[level], 0, bias=True)
            self._append(weights, biases, where, "neighbour", model.atom_layers[level], 2, bias=False)
            matrix = torch.cat(weights)
            projections.append((self.panels(matrix), self.array(torch.cat(biases)), self.panels(matrix.T)))
            columns.append(where)
        return projections, columns

    def _append(
        self, weights: list[Tensor], biases: list[Tensor], where: dict[str, int], name: str, layer: Any,
        part: int, *, bias: bool,
    ) -> None:  # fmt: skip
        where[name] = sum(len(w) for w in weights)
        weights.append(self.parts(layer.message)[part])
        own = self.first_bias(layer.message)
        biases.append(own if bias else torch.zeros_like(own))

    def readout(self) -> tuple[Any, ...]:
        """Arguments of the readout kernel that are weights."""
        model = self.model
        assert model.readout_norm is not None
        linear = [layer for layer in model.readout if isinstance(layer, torch.nn.Linear)]
        hidden = [_double(layer.weight) for layer in linear[:-1]]
        return (
            self.array(_double(model.readout_norm.weight)),
            self.array(_double(model.readout_norm.bias)),
            np.stack([self.panels(weight) for weight in hidden]),
            np.stack([self.array(_double(layer.bias)) for layer in linear[:-1]]),
            np.stack([self.panels(weight.T) for weight in hidden]),
            self.array(_double(linear[-1].weight[0])),
            float(linear[-1].bias.detach()[0]),
        )


def fold(model: CHGNet) -> FoldedWeights:
    """Fold a model's weights, in the model's own floating-point type."""
    dtype = np.dtype(np.float32 if model.dtype == torch.float32 else np.float64)
    folder = _Folder(model, dtype)
    bond_parts = [folder.parts(layer.message)[1] @ folder.bond_embedding for layer in model.atom_layers]  # type: ignore[arg-type]
    terms = torch.cat([_double(model.atom_weights.weight), *bond_parts])
    n_basis, n_angular = folder.padded(model.config.n_radial), folder.padded(model.config.n_angular)
    short, embedding = _double(model.bond_weights.weight), folder.bond_embedding
    projections, columns = folder.projections()
    return FoldedWeights(
        embedding=folder.array(model.embedding.weight.detach()),
        reference=model.reference.numpy().copy(),
        radial=_double(model.radial.frequencies).numpy(),
        radial_short=_double(model.radial_short.frequencies).numpy(),
        angular=_double(model.angular.frequencies).numpy(),
        n_basis=n_basis,
        n_angular=n_angular,
        bond_terms=folder.panels(terms, n_basis),
        bond_terms_bias=np.zeros(len(terms), dtype),
        short_weights=folder.panels(short, n_basis),
        short_weights_back=folder.panels(short.T),
        atom_weights_back=folder.panels(_double(model.atom_weights.weight).T),
        bond_embedding=folder.panels(embedding, n_basis),
        bond_embedding_back=folder.panels(embedding.T),
        angle_embedding=folder.panels(folder.angle_embedding, n_angular),
        angle_embedding_back=folder.panels(folder.angle_embedding.T),
        atom_layers=[folder.atom_layer(layer) for layer in model.atom_layers],
        bond_layers=[folder.bond_layer(layer, i) for i, layer in enumerate(model.bond_layers)],
        angle_layers=[folder.angle_layer(layer, i) for i, layer in enumerate(model.angle_layers)],
        projections=projections,
        columns=columns,
        magmom=_double(model.magmom.weight[0]).numpy(),
        magmom_bias=float(model.magmom.bias.detach()[0]),
        readout=folder.readout(),
    )


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()


def _centred(weight: Tensor) -> Tensor:
    """Without the mean over the outputs, which a layer norm would take off anyway."""
    return weight - weight.mean(dim=0)
