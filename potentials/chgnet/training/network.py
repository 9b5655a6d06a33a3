"""CHGNet on values and tangents: its energies, and their derivative along one direction.

Every tensor of features is ``(2, n, ...)``: values, then tangents. Gradients of forces and
stress with respect to the weights are gradients of these tangents, so one ordinary way
back serves all labels; there is no second derivative of any layer to take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from atomml.nn.bases import CONSTANT_TERM
from atomml.potentials.chgnet.model import CHGNetConfig
from atomml.potentials.chgnet.training.functions import Gates, Messages, Rows

__all__ = ["Directed", "Outputs", "evaluate"]


@dataclass(frozen=True)
class Directed:
    """A batch, and how its distances and angles change along the direction.

    Attributes:
        numbers: ``(n_atoms,)`` atomic numbers.
        lengths: ``(2, n_bonds)`` of undirected bonds, Å.
        short: ``(n_pairs,)`` which bonds are in the bond graph.
        pair: ``(n_pairs, 2)`` the two directed short edges of each.
        bends: ``(2, n_angles)`` angles, rad.
        edges: Rows of the atom graph; they read centre, neighbour, bond.
        angles: Rows of the bond graph; they read first short bond, second short bond, atom.
    """

    numbers: Tensor
    lengths: Tensor
    short: Tensor
    pair: Tensor
    bends: Tensor
    edges: Rows
    angles: Rows


class Outputs(NamedTuple):
    """What :func:`evaluate` returns.

    Attributes:
        site: ``(2, n_atoms)`` eV.
        magmoms: ``(n_atoms,)`` μB.
        atom_features: ``(n_atoms, c)``.
        readout_features: ``(n_atoms, c)``, those that crystal features are sums of.
    """

    site: Tensor
    magmoms: Tensor
    atom_features: Tensor
    readout_features: Tensor


class _Weights:
    """A model's weights by name."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def __call__(self, *names: str | int) -> Tensor:
        return self.tensors[".".join(map(str, names))]

    def both(self, kind: str, layer: int, what: str) -> Tensor:
        """Core's and gate's, side by side."""
        return torch.cat([self(kind, layer, "message", half + what) for half in ("core", "gate")])


def evaluate(tensors: dict[str, Tensor], config: CHGNetConfig, batch: Directed) -> Outputs:
    """Site energies and magnetic moments; only weights carry a gradient.

    Args:
        tensors: The model's weights by name.
        config: Its shape, of those that the kernels cover.
        batch: Geometry and topology.
    """
    return _Network(_Weights(tensors), config, batch).outputs()


class _Network:
    """The layers in order; features of atoms, short bonds and angles as they are so far."""

    def __init__(self, weights: _Weights, config: CHGNetConfig, batch: Directed) -> None:
        self.weights, self.config, self.batch, self.c = weights, config, batch, config.n_channels
        w = weights
        lengths, short_lengths = batch.lengths, batch.lengths[:, batch.short]
        self.basis = _radial(lengths, w("radial.frequencies"), config.cutoff, config.cutoff_power)
        short_basis = _radial(
            short_lengths, w("radial_short.frequencies"), config.bond_cutoff, config.cutoff_power
        )
        self.atom_weights = F.linear(self.basis, w("atom_weights.weight"))
        self.bond_weights = F.linear(short_basis, w("bond_weights.weight"))
        self.bonds = F.linear(self.basis[:, batch.short], w("bond_embedding.weight"))
        self.change = torch.zeros_like(self.bonds)
        self.angles = F.linear(_fourier(batch.bends, w("angular.frequencies")), w("angle_embedding.weight"))
        atoms = F.embedding(batch.numbers - 1, w("embedding.weight"))
        self.atoms = torch.stack([atoms, torch.zeros_like(atoms)])

    def outputs(self) -> Outputs:
        """Run all layers and the readout."""
        features = self.atoms
        n_layers = self.config.n_layers
        for layer in range(n_layers):
            self._atom_layer(layer)
            if layer < n_layers - 1:
                features = self.atoms
                self._bond_layer(layer)
            if layer < n_layers - 2:
                self._angle_layer(layer)
        w = self.weights
        magmoms = F.linear(features[0], w("magmom.weight"), w("magmom.bias")).abs().squeeze(1)
        x = _norm(self.atoms, w("readout_norm.weight"), w("readout_norm.bias"))
        readout_features = x[0]
        n_hidden = len(self.config.readout_widths)
        for layer in range(n_hidden):
            x = _silu(_linear(x, w("readout", 2 * layer, "weight"), w("readout", 2 * layer, "bias")))
        x = _linear(x, w("readout", 2 * n_hidden, "weight"), w("readout", 2 * n_hidden, "bias"))
        return Outputs(x.squeeze(2), magmoms, features[0], readout_features)

    def _atom_layer(self, layer: int) -> None:
        w, kind = self.weights, "atom_layers"
        first, bias = w(kind, layer, "message.first.weight"), w(kind, layer, "message.first.bias")
        centre, bond, neighbour = first.split(self.c, dim=1)  # type: ignore[no-untyped-call]
        terms = F.linear(self.basis, bond @ w("bond_embedding.weight"))
        if layer > 0:  # bonds that are in no angle keep their embedding
            terms = terms.index_add(1, self.batch.short, F.linear(self.change, bond))
        sums = Messages.apply(  # type: ignore[no-untyped-call]
            self.batch.edges, _linear(self.atoms, centre, bias), F.linear(self.atoms, neighbour), terms,
            terms.new_empty((2, 0, 2 * self.c)), *self._second_layer(kind, layer), self.atom_weights,
        )  # fmt: skip
        self.atoms = self.atoms + F.linear(sums, w(kind, layer, "output.weight"))

    def _bond_layer(self, layer: int) -> None:
        w, kind, pair = self.weights, "bond_layers", self.batch.pair
        tables = self._angle_inputs(
            w(kind, layer, "message.first.weight"), w(kind, layer, "message.first.bias")
        )
        sums = Messages.apply(self.batch.angles, *tables, *self._second_layer(kind, layer), self.bond_weights)  # type: ignore[no-untyped-call]
        both = sums[:, pair[:, 0]] + sums[:, pair[:, 1]]
        update = F.linear(_product(both, self.bond_weights), w(kind, layer, "output.weight"))
        self.bonds, self.change = self.bonds + update, self.change + update

    def _angle_layer(self, layer: int) -> None:
        w, kind = self.weights, "angle_layers"
        weight, bias = (
            torch.cat([_centred(half) for half in w(kind, layer, f"message.first.{name}").chunk(2)])
            for name in ("weight", "bias")
        )
        tables = self._angle_inputs(weight, bias)
        scale, shift = w.both(kind, layer, "_norm.weight"), w.both(kind, layer, "_norm.bias")
        self.angles = self.angles + Gates.apply(self.batch.angles, *tables, scale, shift)  # type: ignore[no-untyped-call]

    def _angle_inputs(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        """First-layer products of both bonds, the atom, and the angle itself."""
        first, second, angle, atom = weight.split(self.c, dim=1)  # type: ignore[no-untyped-call]
        return (
            _linear(self.bonds, first, bias),
            F.linear(self.bonds, second),
            F.linear(self.atoms, atom),
            F.linear(self.angles, angle),
        )

    def _second_layer(self, kind: str, layer: int) -> tuple[Tensor, ...]:
        """Core, gate, bias, scale and shift, as :class:`Messages` takes them."""
        w = self.weights
        halves = ("core", "gate")
        bias = torch.cat([_centred(w(kind, layer, "message", half, "bias")) for half in halves])
        core, gate = (_centred(w(kind, layer, "message", half, "weight")) for half in halves)
        return core, gate, bias, w.both(kind, layer, "_norm.weight"), w.both(kind, layer, "_norm.bias")


def _centred(weight: Tensor) -> Tensor:
    """Without the mean over the outputs, which a layer norm would take off anyway."""
    return weight - weight.mean(dim=0)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer on values and tangents; tangents have no bias."""
    return F.linear(x, weight) + torch.stack([bias, torch.zeros_like(bias)])[:, None]


def _product(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x[0] * y[0], x[1] * y[0] + x[0] * y[1]])


def _silu(x: Tensor) -> Tensor:
    p = torch.sigmoid(x[0])
    value = x[0] * p
    return torch.stack([value, x[1] * (p + value * (1 - p))])


def _norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm of rows."""
    x = x - x.mean(dim=2, keepdim=True)
    inverse = torch.rsqrt((x[0] ** 2).mean(dim=1, keepdim=True) + 1e-5)
    normed = x[0] * inverse
    along = inverse * (x[1] - normed * (normed * x[1]).mean(dim=1, keepdim=True))
    return torch.stack([normed * scale + shift, along * scale])


def _radial(lengths: Tensor, frequencies: Tensor, cutoff: float, power: int) -> Tensor:
    """:class:`atomml.nn.BesselBasis` of lengths and their tangents, ``(2, n, n_functions)``."""
    p = power
    a, b, c = -(p + 1) * (p + 2) / 2, p * (p + 2), -p * (p + 1) / 2
    length, along = lengths[..., None]
    x = length / cutoff
    norm = math.sqrt(2 / cutoff) * (x < 1).to(x.dtype)
    envelope = norm * (1 + x**p * (a + x * (b + c * x))) / length
    slope = norm * x ** (p - 1) * (p * a + x * ((p + 1) * b + (p + 2) * c * x)) / cutoff / length
    slope = slope - envelope / length
    scaled = frequencies / cutoff
    phases = length * scaled
    sine, cosine = torch.sin(phases), torch.cos(phases)
    return torch.stack([envelope * sine, (along * slope) * sine + (along * envelope) * scaled * cosine])


def _fourier(bends: Tensor, frequencies: Tensor) -> Tensor:
    """:class:`atomml.nn.FourierBasis` of angles and their tangents, ``(2, n, n_functions)``."""
    angle, along = bends[..., None]
    phases, turn = angle * frequencies, along * frequencies
    sine, cosine = torch.sin(phases), torch.cos(phases)
    values = torch.cat([torch.full_like(angle, CONSTANT_TERM), sine, cosine], dim=1)
    tangents = torch.cat([torch.zeros_like(angle), turn * cosine, -turn * sine], dim=1)
    return torch.stack([values, tangents]) / math.sqrt(math.pi)
