"""London dispersion by D3 added to any potential: energy, forces and stress, molecules and crystals.

Grimme, Antony, Ehrlich and Krieg, J. Chem. Phys. 132, 154104 (2010); damping of Becke and Johnson: Grimme,
Ehrlich and Goerigk, J. Comput. Chem. 32, 1456 (2011). The coefficients and sums are those of the package
``dftd3`` (simple-dftd3); pairs only, without the three-body term, as D3 is mostly meant.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any, NoReturn, Self

import numpy as np
import torch
from ase.units import Bohr, Hartree
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from atomml.errors import ModelError
from atomml.graph.atom_graph import AtomGraph
from atomml.model import Energies, FastPath, ModelInfo, Potential, Prediction, virial_to_stress

__all__ = ["Dispersed", "split_dispersion"]

DAMPINGS = {
    "d3bj": "RationalDampingParam",
    "d3zero": "ZeroDampingParam",
    "d3bjm": "ModifiedRationalDampingParam",
    "d3zerom": "ModifiedZeroDampingParam",
    "d3op": "OptimizedPowerDampingParam",
}
"""Our names of the dampings to the classes of dftd3."""

HEAVIEST = 94
"""D3 has coefficients from hydrogen to plutonium."""

_CITATION = "Grimme et al., J. Chem. Phys. 132, 154104 (2010)"
_SUFFIX = re.compile(r"(?P<model>.+)\+(?P<damping>d3[a-z]*):(?P<method>[A-Za-z0-9_-]+)")
_STEP = 1e-4
"""Å by which positions are moved for second derivatives; the first ones are good to 1e-13 of them."""

_CUTOFFS = (60.0, 40.0, 40.0, 10.0, 10.0)
"""Bohr: where pairs, triples (unused) and coordination numbers end; widths that fade out the first two.

The cutoffs are dftd3's own; without the widths energies jump as atoms cross them, and a crystal's stress is
off by a thousandth. What lies beyond is some 0.1 % of the correction."""

_OUT_OF_REACH = 60.0
"""Å of emptiness: sums over pairs end at 60 Bohr (32 Å), and none is left beyond it."""

Doubles = NDArray[np.float64]


def split_dispersion(name: str) -> tuple[str, str | None]:
    """``MODEL+d3bj:pbe`` as the model's name and the correction's; None where there is none."""
    found = _SUFFIX.fullmatch(name)
    return (found["model"], f"{found['damping']}:{found['method']}") if found else (name, None)


class Dispersed(Potential):
    """A potential with D3 added.

    The correction is shared equally among the atoms of a structure where site energies are given; its cost
    grows with the square of the number of atoms up to some hundred, then in proportion.

    Args:
        model: The potential; trained on a functional without dispersion, which nothing here can check.
        correction: ``DAMPING:METHOD``, such as ``d3bj:pbe``.

    Raises:
        ModelError: No such damping or method; or the package is not there.
    """

    def __init__(self, model: Potential, correction: str) -> None:
        inner = model.info
        digest = hashlib.sha256(f"{inner.sha256} {correction}".encode()).hexdigest()
        info = replace(
            inner,
            name=f"{inner.name}+{correction}",
            elements=tuple(z for z in inner.elements if z <= HEAVIEST),
            interaction_range=None,
            sha256=digest if inner.sha256 else "",
            citation="; ".join(
                filter(None, (inner.citation, "Grimme et al., J. Chem. Phys. 132, 154104 (2010)"))
            ),
        )
        super().__init__(info)
        self.model, self.correction = model, correction
        self.training_record = model.training_record
        _parameters(correction)

    def energies(self, graph: AtomGraph) -> Energies:
        """The model's energies and an equal share of the correction, differentiable twice."""
        found = self.model.energies(graph)
        correction: Tensor = _Energy.apply(  # type: ignore[no-untyped-call]
            graph.positions, graph.cell, graph, self.correction
        )
        share = (correction / graph.atoms_per_graph().to(correction.dtype))[graph.batch]
        return replace(found, site=found.site.double() + share.to(found.site.device))

    def build_fast_path(self) -> FastPath | None:
        """The model's, with the correction added to every answer."""
        fast = self.model.fast_path()
        return None if fast is None else lambda graph, f, s: self._add(fast(graph, f, s), graph, f, s)

    def _predict_plain(self, graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
        found = self.model.predict(graph, forces=forces, stress=stress, path="plain")
        return self._add(found, graph, forces, stress)

    def hyperparameters(self) -> NoReturn:
        """Not a model of its own.

        Raises:
            ModelError: Always.
        """
        raise ModelError("Save or train the model without its dispersion, and add that when it is used.")

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """Made from a model and a correction.

        Raises:
            ModelError: Always.
        """
        raise ModelError("Give the model's name followed by its dispersion, such as chgnet-0.3.0+d3bj:pbe.")

    def _add(self, found: Prediction, graph: AtomGraph, forces: bool, stress: bool) -> Prediction:
        energy, gradient, virial = (torch.from_numpy(a) for a in _evaluate(graph, self.correction))
        sizes = graph.atoms_per_graph()
        changes: dict[str, Tensor] = {
            "energy": found.energy + energy,
            "site_energies": found.site_energies + (energy / sizes)[graph.batch],
        }
        if forces and found.forces is not None:
            changes["forces"] = found.forces - gradient
        if stress and found.stress is not None:
            changes["stress"] = found.stress + virial_to_stress(virial, graph)
        return replace(found, **changes)


def _parameters(correction: str) -> Any:
    """Damping parameters of dftd3; made anew each time: one that lives until Python ends cannot be freed."""
    damping, _, method = correction.partition(":")
    if damping not in DAMPINGS:
        raise ModelError(f"D3 has no damping {damping!r}: choose from {', '.join(DAMPINGS)}.")
    try:
        from dftd3 import interface
    except ImportError as error:
        raise ModelError(
            "Dispersion needs the package dftd3: install it with pip install 'atomml[dispersion]'."
        ) from error
    try:
        return getattr(interface, DAMPINGS[damping])(method=method)
    except RuntimeError as error:
        raise ModelError(
            f"D3 has no parameters of {method!r} for {damping}: give a functional that it was fitted to, "
            "such as pbe, pbesol, scan, b3lyp or pbe0."
        ) from error


def _evaluate(graph: AtomGraph, correction: str) -> tuple[Doubles, Doubles, Doubles]:
    """Energies ``(n_graphs,)`` eV, gradients ``(n_atoms, 3)`` eV/Å, dE/dstrain ``(n_graphs, 3, 3)`` eV."""
    from dftd3.interface import DispersionModel

    parameters = _parameters(correction)
    positions, cells = (tensor.detach().cpu().double().numpy() for tensor in (graph.positions, graph.cell))
    numbers, periodic = graph.numbers.cpu().numpy(), graph.pbc.cpu().numpy()
    last = np.cumsum(graph.atoms_per_graph().cpu().numpy())
    energies, gradients = np.zeros(graph.n_graphs), np.zeros_like(positions)
    virials = np.zeros((graph.n_graphs, 3, 3))
    for g, stop in enumerate(last):
        own = slice(last[g - 1] if g else 0, stop)
        lattice = _lattice(cells[g], periodic[g], positions[own]) if periodic[g].any() else (None, None)
        d3 = DispersionModel(numbers[own], positions[own] / Bohr, *lattice)
        d3.set_realspace_cutoff(*_CUTOFFS)
        found = d3.get_dispersion(parameters, grad=True)
        energies[g] = float(found["energy"]) * Hartree
        gradients[own] = found["gradient"] * (Hartree / Bohr)
        virials[g] = found["virial"] * Hartree
    return energies, gradients, virials


def _lattice(cell: Doubles, periodic: NDArray[np.bool_], positions: Doubles) -> tuple[Doubles, Any]:
    """A lattice in Bohr, periodic in all directions; where the structure is not, images are out of reach.

    dftd3 wraps atoms into the cell in directions that are not periodic too, which would tear a layer apart.
    """
    if periodic.all():
        return cell / Bohr, periodic
    across = np.linalg.svd(cell[periodic])[2][int(periodic.sum()) :]
    lengths = np.ptp(positions @ across.T, axis=0) + _OUT_OF_REACH
    return np.concatenate([cell[periodic], across * lengths[:, None]]) / Bohr, np.ones(3, dtype=bool)


def _slopes(graph: AtomGraph, correction: str) -> tuple[Doubles, Doubles]:
    """Derivatives with respect to positions ``(n_atoms, 3)`` and cells ``(n_graphs, 3, 3)``, eV/Å.

    dE/dstrain is the sum of what atoms and cell vectors contribute when both are strained; what is left
    after the atoms is the cell's.
    """
    _, gradients, virials = _evaluate(graph, correction)
    cells = np.zeros_like(virials)
    positions = graph.positions.detach().cpu().double().numpy()
    batch = graph.batch.cpu().numpy()
    for g in range(graph.n_graphs):
        own = batch == g
        rest = virials[g] - gradients[own].T @ positions[own]
        cells[g] = (rest @ np.linalg.pinv(graph.cell[g].detach().cpu().double().numpy())).T
    return gradients, cells


class _Energy(torch.autograd.Function):
    """Energies of the correction, ``(n_graphs,)`` eV."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, cell: Tensor, graph: AtomGraph, correction: str) -> Tensor:
        """Evaluate the graph at these positions and cells."""
        ctx.rest = (graph, correction)
        ctx.save_for_backward(positions, cell)
        moved = replace(graph, positions=positions, cell=cell)
        return torch.from_numpy(_evaluate(moved, correction)[0]).to(positions.device)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients, themselves differentiable once."""
        positions, cell = ctx.saved_tensors
        graph, correction = ctx.rest
        slopes = _Slopes.apply(positions, cell, graph, correction)  # type: ignore[no-untyped-call]
        by_position, by_cell = slopes
        return by_position * above[0][graph.batch][:, None], by_cell * above[0][:, None, None], None, None


class _Slopes(torch.autograd.Function):
    """First derivatives of the correction; theirs are central differences along the direction asked for."""

    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, cell: Tensor, graph: AtomGraph, correction: str
    ) -> tuple[Tensor, Tensor]:
        """As :func:`_slopes`."""
        ctx.rest = (graph, correction)
        ctx.save_for_backward(positions, cell)
        found = _slopes(replace(graph, positions=positions, cell=cell), correction)
        by_position, by_cell = (torch.from_numpy(slope).to(positions.device) for slope in found)
        return by_position, by_cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        """Second derivatives times a direction: they are symmetric, so the direction can be moved along."""
        positions, cell = ctx.saved_tensors
        graph, correction = ctx.rest
        size = max(float(tensor.abs().max()) for tensor in above)
        if size == 0:
            return torch.zeros_like(positions), torch.zeros_like(cell), None, None
        step = _STEP / size
        sides = []
        for sign in (1, -1):
            moved = replace(
                graph,
                positions=positions + sign * step * above[0],
                cell=cell + sign * step * above[1],
            )
            sides.append(_slopes(moved, correction))
        differences = [(a - b) / (2 * step) for a, b in zip(*sides, strict=True)]
        by_position, by_cell = (torch.from_numpy(d).to(positions.device) for d in differences)
        return by_position, by_cell, None, None
