"""The fast path as a model sees it: from a graph to a prediction."""

from __future__ import annotations

import torch

from atomml.graph.atom_graph import AtomGraph
from atomml.kernels.arena import Arena
from atomml.kernels.prediction import assemble
from atomml.model import Prediction
from atomml.potentials.chgnet.fast.ahead import start_helper
from atomml.potentials.chgnet.fast.engine import Run
from atomml.potentials.chgnet.fast.topology import Geometry
from atomml.potentials.chgnet.fast.weights import fold
from atomml.potentials.chgnet.model import CHGNet

__all__ = ["FastCHGNet"]


class FastCHGNet:
    """Energy, forces and stress of a CHGNet with layer norms on the CPU, without autograd.

    Args:
        model: Its weights are folded as they are now.
    """

    def __init__(self, model: CHGNet) -> None:
        start_helper(model.dtype)
        self.config = model.config
        self.weights = fold(model)
        self._arenas: list[Arena] = []

    @staticmethod
    def supports(model: CHGNet) -> bool:
        """Whether the kernels cover this model: on the CPU, with norms, without output biases."""
        config = model.config
        return (
            model.device.type == "cpu"
            and model.dtype in (torch.float32, torch.float64)
            and config.norm
            and not config.output_bias
            and config.n_channels % 32 == 0
            and config.n_layers > 2
            and set(config.readout_widths) == {config.n_channels}
        )

    def refold(self, model: CHGNet) -> None:
        """Take the model's weights as they are now."""
        self.weights = fold(model)

    def __call__(self, graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
        """The prediction; both derivatives come together, or none where neither is wanted."""
        return self.with_geometry(graph, forces, stress)[0]

    def with_geometry(self, graph: AtomGraph, forces: bool, stress: bool) -> tuple[Prediction, Geometry]:
        """The prediction, and what was found of the graph on the way."""
        arena = self._arenas.pop() if self._arenas else Arena()  # one for each thread that calls at once
        try:
            run = Run(self.weights, arena, graph, self.config)
            prediction = self._evaluate(run, graph, forces, stress)
            return prediction, Geometry(run.vectors, run.distances, run.top)
        finally:
            self._arenas.append(arena)

    def _evaluate(self, run: Run, graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
        run.forwards()
        site = torch.from_numpy(run.energies + self.weights.reference[run.numbers - 1])
        derivatives = run.backwards() if forces or stress else None
        magmoms = torch.from_numpy(run.magmoms)
        wanted = (forces, stress)
        return assemble(graph, site, run.levels[-2], run.features, derivatives, wanted, magmoms=magmoms)
