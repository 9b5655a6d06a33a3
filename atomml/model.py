"""What a model is. ``Potential``: energies in, forces and stress derived here, once for all models."""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch
from torch import Tensor, nn

from atomml.base_model import Model, ModelInfo
from atomml.errors import ModelError, RunFailedError
from atomml.graph.atom_graph import AtomGraph
from atomml.heads import Heads

logger = logging.getLogger(__name__)

__all__ = ["Energies", "FastPath", "ModelInfo", "Potential", "Prediction"]


@dataclass(frozen=True)
class Energies:
    """What a potential's one method returns.

    Attributes:
        site: ``(n_atoms,)`` eV, differentiable interaction energy of each atom, in the model's dtype.
        reference: ``(n_atoms,)`` float64 eV, constant energies of the elements, or None.
        extras: Other per-atom or per-graph tensors, named as in :class:`Prediction`
            (``magmoms``, ``atom_features``, ``crystal_features``).
    """

    site: Tensor
    reference: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """Answers for a graph or a batch; ASE's units and signs.

    Attributes:
        energy: ``(n_graphs,)`` float64, eV.
        site_energies: ``(n_atoms,)`` float64, eV; sums to the energy.
        forces: ``(n_atoms, 3)`` float64, eV/Å, or None.
        stress: ``(n_graphs, 3, 3)`` float64, eV/Å³, positive under tension; NaN where a graph has no
            volume or no periodic direction; None if not asked for.
        magmoms: ``(n_atoms,)`` μB, or None.
        atom_features: ``(n_atoms, n_channels)``, or None.
        crystal_features: ``(n_graphs, n_channels)``, or None.
        energy_std: ``(n_graphs,)`` eV, standard deviation among the models of a committee, or None.
        forces_std: ``(n_atoms,)`` eV/Å, the same of the force on each atom, or None.
    """

    energy: Tensor
    site_energies: Tensor
    forces: Tensor | None = None
    stress: Tensor | None = None
    magmoms: Tensor | None = None
    atom_features: Tensor | None = None
    crystal_features: Tensor | None = None
    energy_std: Tensor | None = None
    forces_std: Tensor | None = None

    def split(self, graph: AtomGraph) -> list[Prediction]:
        """One prediction for each graph of a batch."""
        sizes = graph.atoms_per_graph().tolist()
        per_graph = ("energy", "stress", "crystal_features", "energy_std")
        parts: list[dict[str, Tensor]] = [{} for _ in sizes]
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is None:
                continue
            pieces = value.split(1) if entry.name in per_graph else value.split(sizes)
            for part, piece in zip(parts, pieces, strict=True):
                part[entry.name] = piece
        return [Prediction(**part) for part in parts]


FastPath = Callable[[AtomGraph, bool, bool], Prediction]
"""``fast(graph, forces, stress)``: the inference path; same answer as the plain one."""


TrainingPath = Callable[["Potential", AtomGraph, bool, bool], Prediction]
"""``path(model, graph, forces, stress)``: what :meth:`Potential.differentiable` gives, attached to the
model's weights as they are at the call, and to nothing else; differentiable once."""


class Potential(Heads, Model):
    """Energy of a structure; forces and stress follow by differentiation.

    A subclass implements :meth:`energies` in differentiable torch, sets ``info``, and
    may offer a fast inference path by overriding :meth:`build_fast_path`, and a fast way to
    the gradients of a loss by overriding :meth:`build_training_path`.
    """

    def __init__(self, info: ModelInfo) -> None:
        super().__init__(info)
        self._fast: FastPath | None = None
        self._fast_key: list[int] | None = None
        self._training_path: TrainingPath | None = None
        self._training_key: tuple[object, ...] | None = None
        self._said_lonely = False

    @abc.abstractmethod
    def energies(self, graph: AtomGraph) -> Energies:
        """Site energies of every atom, differentiable in positions and cell."""

    def build_fast_path(self) -> FastPath | None:
        """The fast inference path for the present weights and device; None where there is none."""
        return None

    def references(self) -> dict[int, float] | None:
        """Constant energy of each element, eV by atomic number; None where there is none (the default)."""
        return None

    def shift_references(self, shifts: Mapping[int, float]) -> None:
        """Add to the constant energies of elements.

        Args:
            shifts: eV by atomic number.

        Raises:
            ModelError: The model has no constant energies (the default).
        """
        raise ModelError(f"{self.info.name} has no reference energies of elements that could be changed.")

    def set_scales(self, neighbours: float, force: float | None) -> bool:
        """Tell fresh weights the scales of the data that they will learn; whether they made use of it.

        Args:
            neighbours: Mean number of neighbours of an atom within the cutoff.
            force: Root mean square of force components, eV/Å; None if unknown.
        """
        return False

    def cutoff_jump(self, cutoff: float) -> tuple[float, float]:
        """What is left of an atom at a cutoff (Å) in parts of its whole, and how it changes there, 1/Å.

        Nothing by default: energy and forces are continuous.
        """
        return 0.0, 0.0

    def build_training_path(self) -> TrainingPath | None:
        """A faster :meth:`differentiable` for training on this device; None where there is none."""
        return None

    def predict(
        self,
        graph: AtomGraph,
        *,
        forces: bool = True,
        stress: bool = True,
        path: Literal["auto", "plain", "fast"] = "auto",
    ) -> Prediction:
        """Energy, forces and stress of every structure in the graph; detached.

        Args:
            graph: One structure or a batch, built with this model's cutoffs.
            forces: Whether to compute forces.
            stress: Whether to compute stress.
            path: ``fast`` insists on the fast path, ``plain`` on differentiable torch;
                ``auto`` takes the fast one where there is one.

        Raises:
            ModelError: An element that the model does not know, or no fast path though asked for.
            RunFailedError: The model gave a number that is not finite.
        """
        self.check_elements(graph)
        self._warn_of_lonely_atoms(graph)
        fast = self.fast_path() if path != "plain" else None
        if path == "fast" and fast is None:
            raise ModelError(f"{self.info.name} has no fast path on {self.device} in {self.dtype}.")
        prediction = fast(graph, forces, stress) if fast else self._predict_plain(graph, forces, stress)
        _check_finite(prediction, graph)
        return prediction

    def fast_path(self) -> FastPath | None:
        """The fast path for the weights as they are now; rebuilt when they change."""
        key = _state_of(self)
        if key != self._fast_key:
            with torch.no_grad():  # weights that are being trained are read, not followed
                self._fast, self._fast_key = self.build_fast_path(), key
        return self._fast

    def differentiable(
        self, graph: AtomGraph, *, forces: bool = True, stress: bool = True, create_graph: bool = False
    ) -> Prediction:
        """Like :meth:`predict` by the plain path, still attached to the autograd graph.

        ``create_graph`` keeps what second derivatives (training on forces) need. Where only weights ask
        for a gradient, and not positions, the model's training path answers if it has one: ``backward``
        of a loss of the prediction gives the same gradients, sooner. That path differentiates once;
        ``positions.requires_grad`` insists on the plain one, which differentiates any number of times.
        """
        if create_graph and (forces or stress) and self._only_weights_ask(graph):
            path = self.training_path()
            if path is not None:
                return path(self, graph, forces, stress)
        return _derive(self, graph, forces, stress, create_graph)

    def training_path(self) -> TrainingPath | None:
        """The training path for the device and type that the weights have now."""
        key = (self.device, self.dtype)
        # Whether there is one may hang on the head that answers, so none is not remembered.
        if key != self._training_key or self._training_path is None:
            self._training_path, self._training_key = self.build_training_path(), key
        return self._training_path

    def _only_weights_ask(self, graph: AtomGraph) -> bool:
        """Whether a gradient is wanted for weights, and for nothing of the graph."""
        if graph.positions.requires_grad or graph.cell.requires_grad or not torch.is_grad_enabled():
            return False
        return any(weights.requires_grad for weights in self.parameters())

    def _warn_of_lonely_atoms(self, graph: AtomGraph) -> None:
        """Say once for each model that an atom is beyond every other's reach."""
        if self._said_lonely:
            return
        lonely = torch.bincount(graph.edge_index[0], minlength=graph.n_atoms) == 0
        if bool(lonely.any()):
            self._said_lonely = True
            logger.warning(
                "Atom %d has no neighbour within %g Å: %s gives it the energy of a free atom, which it "
                "was hardly trained on.",
                int(lonely.nonzero()[0]),
                graph.cutoff,
                self.info.name,
            )

    def _predict_plain(self, graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
        graph = graph.to(self.device)
        prediction = _derive(self, graph, forces, stress, create_graph=False)
        changes = {
            entry.name: value.detach()
            for entry in fields(prediction)
            if (value := getattr(prediction, entry.name)) is not None
        }
        return replace(prediction, **changes)


def _state_of(model: nn.Module) -> list[int]:
    """Another list whenever a weight or buffer was changed or replaced.

    Asked before each prediction, so it walks the modules itself: torch's iterators take three times as long.
    """
    state: list[int] = []
    modules = [model]
    while modules:
        module = modules.pop()
        modules += [child for child in module._modules.values() if child is not None]
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                state += (tensor.data_ptr(), tensor._version)
    return state


def _derive(model: Potential, graph: AtomGraph, forces: bool, stress: bool, create_graph: bool) -> Prediction:
    """Differentiate the summed energy with respect to positions and a strain of each cell."""
    with torch.enable_grad():
        positions = graph.positions
        if forces and not positions.requires_grad:
            positions = positions.detach().requires_grad_()
        graph = replace(graph, positions=positions)
        strain = torch.zeros_like(graph.cell, requires_grad=stress)
        energies = model.energies(graph.strained(strain) if stress else graph)
        wanted = [t for t, on in ((positions, forces), (strain, stress)) if on]
        gradients = _gradients(energies.site, wanted, create_graph)
    site = energies.site.double()
    if energies.reference is not None:
        site = site + energies.reference
    total = torch.zeros(graph.n_graphs, dtype=torch.float64, device=graph.device)
    total = total.index_add(0, graph.batch, site)
    return Prediction(
        energy=total,
        site_energies=site,
        forces=-gradients[0] if forces else None,
        stress=virial_to_stress(gradients[-1], graph) if stress else None,
        **energies.extras,
    )


def _gradients(site: Tensor, wanted: list[Tensor], create_graph: bool) -> tuple[Tensor, ...]:
    if not wanted:
        return ()
    if not site.requires_grad:  # no edge anywhere: the energy does not depend on the geometry
        return tuple(torch.zeros_like(tensor) for tensor in wanted)
    found = torch.autograd.grad(
        site.sum(), wanted, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return tuple(found)


def virial_to_stress(strain_gradient: Tensor, graph: AtomGraph) -> Tensor:
    """``dE/dstrain`` (n_graphs, 3, 3) in eV over the volume; NaN without volume or periodicity."""
    volume = graph.volumes()
    no_stress = (volume == 0) | ~graph.pbc.any(dim=1)
    volume = torch.where(no_stress, torch.ones_like(volume), volume)
    symmetric = 0.5 * (strain_gradient + strain_gradient.mT)
    # NaN is chosen, not divided by: a loss that leaves it out must not get NaN back.
    return torch.where(no_stress[:, None, None], torch.nan, symmetric / volume[:, None, None])


def _check_finite(prediction: Prediction, graph: AtomGraph) -> None:
    """A model that answers NaN or infinity has failed; say for which structure and atom."""
    bad = torch.nonzero(~torch.isfinite(prediction.energy))
    if len(bad):
        raise RunFailedError(f"The model's energy of structure {int(bad[0])} is not finite.")
    if prediction.forces is not None:
        bad = torch.nonzero(~torch.isfinite(prediction.forces).all(dim=1))
        if len(bad):
            atom = int(bad[0])
            raise RunFailedError(
                f"The model's force on atom {atom} of structure {int(graph.batch[atom])} is not finite."
            )
