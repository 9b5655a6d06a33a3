"""The fast path of a DPA3: from a graph to a prediction on the CPU, without autograd."""

from __future__ import annotations

import torch

from atomml.graph.atom_graph import AtomGraph
from atomml.kernels.arena import Arena
from atomml.kernels.prediction import assemble
from atomml.model import Prediction
from atomml.potentials.dpa3.fast.bounded import bounded_parameters
from atomml.potentials.dpa3.fast.engine import Run
from atomml.potentials.dpa3.fast.weights import fold
from atomml.potentials.dpa3.model import DPA3

__all__ = ["FastDPA3"]


class FastDPA3:
    """Energy, forces and stress of a DPA3 on the CPU.

    Args:
        model: Its weights are folded as they are now.
    """

    def __init__(self, model: DPA3) -> None:
        self.model = model
        self.weights = fold(model)
        self._arenas: list[Arena] = []

    @staticmethod
    def supports(model: DPA3) -> bool:
        """Whether the kernels cover this model: on the CPU, the published kind of layers."""
        config = model.config
        acts = (config.activation, config.fitting_activation)
        return (
            model.device.type == "cpu"
            and model.dtype in (torch.float32, torch.float64)
            and config.head is not None
            and config.update_angle
            and config.smooth_edge_update
            and not config.sequential_update
            and config.update_style != "res_avg"
            and config.n_multi_edge_message == 1
            and not config.concat_output_tebd
            and config.nlayers > 1
            and len(config.neuron) > 0
            and all(width % 32 == 0 for width in (config.n_dim, config.e_dim, config.a_dim))
            and config.axis_neuron * (config.e_dim + config.n_dim) % 32 == 0
            and all(bounded_parameters(act, _DTYPE) is not None for act in acts)
        )

    def refold(self) -> None:
        """Take the model's weights as they are now."""
        self.weights = fold(self.model)

    def __call__(self, graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
        """The prediction; both derivatives come together, or none where neither is wanted."""
        model = self.model
        rows = model._row[graph.numbers]
        arena = self._arenas.pop() if self._arenas else Arena()  # one for each thread that calls at once
        try:
            run = Run(self.weights, arena, graph, model.config, rows.numpy())
            run.forwards(model.embedded(graph, rows).numpy())
            site = torch.from_numpy(run.energies) + model.reference[model.config.head_index, rows]
            derivatives = run.backwards() if forces or stress else None
            features = run.levels[-1]
            return assemble(graph, site, features, features, derivatives, (forces, stress))
        finally:
            arena.restart()
            self._arenas.append(arena)


_DTYPE = torch.empty(0).numpy().dtype
