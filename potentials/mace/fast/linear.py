"""Linear maps of flat features ``(rows, channels)``, folded and packed once, both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomml.kernels.gemm import BLOCK, pack_panels
from atomml.kernels.linear import project_rows
from atomml.kernels.threads import run_ranges, split_tapered
from atomml.potentials.mace.fast.links import starts
from atomml.potentials.mace.irreps import Block, ElementLinear, IrrepLinear

__all__ = ["ByElement", "ByIrrep", "Groups", "Matrix"]

Array = NDArray[np.float32]
Groups = list[tuple[int, NDArray[np.int64]]]
"""Row and atoms of each element that is there."""


class Matrix:
    """A matrix that rows are multiplied with, and its transpose for the way back."""

    def __init__(self, matrix: Tensor) -> None:
        values = np.ascontiguousarray(matrix.detach().to(torch.float32).numpy())
        self.shape = values.shape
        self._panels, self._back = pack_panels(values), pack_panels(np.ascontiguousarray(values.T))

    def __call__(self, rows: Array, result: Array | None = None) -> Array:
        """``rows @ matrix``, into ``result`` if given."""
        return _multiply(rows, self._panels, self.shape[1], result)

    def back(self, rows: Array, result: Array | None = None) -> Array:
        """``rows @ matrix.T``."""
        return _multiply(rows, self._back, self.shape[0], result)


def _multiply(rows: Array, panels: Array, n: int, result: Array | None) -> Array:
    width = panels.shape[0] * panels.shape[2]
    fits = width == n and result is not None
    target = result if fits and result is not None else np.empty((len(rows), width), np.float32)
    bounds = split_tapered(len(rows), torch.get_num_threads(), BLOCK, BLOCK)
    run_ranges(project_rows, bounds, rows, panels, np.zeros(width, np.float32), target)
    if fits:
        return target
    if result is None:
        return target if width == n else np.ascontiguousarray(target[:, :n])
    result[:] = target[:, :n]
    return result


class ByIrrep:
    """An :class:`~..irreps.IrrepLinear` whose outputs have one source each."""

    def __init__(self, linear: IrrepLinear, inputs: list[Block]) -> None:
        self.inputs, self.outputs, self.sources = inputs, linear.outputs, linear.sources
        self.matrices = [
            Matrix(weights.detach().double() * scale)
            for weights, scale in zip(linear.weights, linear.scales, strict=True)
        ]

    def __call__(self, flat: Array, n_atoms: int) -> Array:
        """Flat features to flat features."""
        first, place = _starts(self.inputs, n_atoms), _starts(self.outputs, n_atoms)
        result = np.empty((place[-1], self.outputs[0].channels), np.float32)
        for k, (sources, matrix) in enumerate(zip(self.sources, self.matrices, strict=True)):
            if sources:
                matrix(flat[first[sources[0]] : first[sources[0] + 1]], result[place[k] : place[k + 1]])
            else:
                result[place[k] : place[k + 1]] = 0
        return result

    def back(self, above: Array, n_atoms: int) -> Array:
        """Derivatives with respect to the features that came in."""
        first, place = _starts(self.inputs, n_atoms), _starts(self.outputs, n_atoms)
        result = np.zeros((first[-1], self.inputs[0].channels), np.float32)
        for k, (sources, matrix) in enumerate(zip(self.sources, self.matrices, strict=True)):
            if sources:
                matrix.back(above[place[k] : place[k + 1]], result[first[sources[0]] : first[sources[0] + 1]])
        return result


class ByElement:
    """An :class:`~..irreps.ElementLinear` whose outputs have one source each; folded as elements are met."""

    def __init__(self, linear: ElementLinear, inputs: list[Block]) -> None:
        self.linear, self.inputs, self.outputs = linear, inputs, linear.outputs
        self.folded: dict[tuple[int, int], Matrix] = {}

    def __call__(self, flat: Array, n_atoms: int, groups: Groups) -> Array:
        """Flat features to flat features."""
        return self._mapped(flat, n_atoms, groups, forwards=True)

    def back(self, above: Array, n_atoms: int, groups: Groups) -> Array:
        """Derivatives with respect to the features that came in."""
        return self._mapped(above, n_atoms, groups, forwards=False)

    def _mapped(self, flat: Array, n_atoms: int, groups: Groups, *, forwards: bool) -> Array:
        one, other = (self.inputs, self.outputs) if forwards else (self.outputs, self.inputs)
        first, place = _starts(one, n_atoms), _starts(other, n_atoms)
        result = np.zeros((place[-1], other[0].channels), np.float32)
        for k, sources in enumerate(self.linear.sources):
            if not sources:
                continue
            a, b = (sources[0], k) if forwards else (k, sources[0])
            source = flat[first[a] : first[a + 1]].reshape(n_atoms, -1)
            target = result[place[b] : place[b + 1]].reshape(n_atoms, -1)
            for row, atoms in groups:
                matrix = self._matrix(k, row)
                picked = source if len(groups) == 1 else source[atoms]
                rows = picked.reshape(-1, flat.shape[1])
                done = (matrix(rows) if forwards else matrix.back(rows)).reshape(len(picked), -1)
                target[slice(None) if len(groups) == 1 else atoms] = done
        return result

    def _matrix(self, k: int, row: int) -> Matrix:
        if (k, row) not in self.folded:
            weights: Any = self.linear.weights[k][row].detach().double()
            self.folded[k, row] = Matrix(weights * self.linear.scales[k])
        return self.folded[k, row]


def _starts(blocks: list[Block], n_atoms: int) -> list[int]:
    return starts([n_atoms * block.dim for block in blocks])
