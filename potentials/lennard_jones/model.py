"""The 12-6 pair potential, switched smoothly to zero at the cutoff.

For a pair of atoms at distance r::

    E(r) = 4 ε [(σ/r)¹² - (σ/r)⁶] S(x),    x = (r - r_on) / (r_c - r_on) clamped to [0, 1]
    S(x) = 1 - 10 x³ + 15 x⁴ - 6 x⁵

S and its first two derivatives vanish at the cutoff r_c and are those of 1 at r_on, so
energy, forces and force constants are continuous. Half of E(r) belongs to either atom.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from atomml.graph.atom_graph import AtomGraph
from atomml.model import Energies, ModelInfo, Potential

__all__ = ["NOBLE_GASES", "LennardJones", "argon", "lorentz_berthelot", "smooth_switch"]

NOBLE_GASES: dict[int, tuple[float, float]] = {
    10: (0.0031, 2.74),
    18: (0.0104, 3.40),
    36: (0.0140, 3.65),
    54: (0.0200, 3.98),
}
"""Well depth ε in eV and diameter σ in Å of Ne, Ar, Kr and Xe.

From the solids and gases: N. Bernardes, Phys. Rev. 112, 1534 (1958), as tabulated in
Ashcroft and Mermin, Solid State Physics (1976), table 20.2.
"""


def lorentz_berthelot(epsilon: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Parameters of unlike pairs: the geometric mean of ε and the arithmetic mean of σ.

    Args:
        epsilon: ``(n_elements,)`` eV.
        sigma: ``(n_elements,)`` Å.

    Returns:
        The symmetric tables of ε and σ, each ``(n_elements, n_elements)``.
    """
    return torch.sqrt(epsilon[:, None] * epsilon), 0.5 * (sigma[:, None] + sigma)


def smooth_switch(distance: Tensor, start: float, end: float) -> Tensor:
    """1 up to ``start``, 0 from ``end`` on, twice continuously differentiable everywhere."""
    x = ((distance - start) / (end - start)).clamp(0.0, 1.0)
    return 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x * x)


class LennardJones(Potential):
    """Sum over pairs of a switched 12-6 potential with parameters for each pair of elements.

    Args:
        info: Its ``elements`` are the rows of the tables; its ``cutoff`` is where the energy ends.
        epsilon: ``(n_elements, n_elements)`` eV, depth of the well of each pair of elements.
        sigma: ``(n_elements, n_elements)`` Å, distance at which each pair's energy is zero.
        switch_start: Å, distance from which the energy is switched off; below the cutoff.

    Raises:
        ValueError: Tables of the wrong shape, or a switch that starts at or beyond the cutoff.
    """

    _row: Tensor

    def __init__(self, info: ModelInfo, epsilon: Tensor, sigma: Tensor, switch_start: float) -> None:
        super().__init__(info)
        shape = (len(info.elements),) * 2
        if epsilon.shape != shape or sigma.shape != shape:
            raise ValueError(f"epsilon and sigma must have the shape {shape}, one row for each element")
        if not 0.0 <= switch_start < info.cutoff:
            raise ValueError(f"switch_start {switch_start} Å must lie in [0, {info.cutoff}) Å")
        self.switch_start = switch_start
        self.epsilon = nn.Parameter(epsilon.clone())
        self.sigma = nn.Parameter(sigma.clone())
        row = torch.zeros(max(info.elements) + 1, dtype=torch.int64)
        row[list(info.elements)] = torch.arange(len(info.elements))
        self.register_buffer("_row", row, persistent=False)

    def energies(self, graph: AtomGraph) -> Energies:
        """Half of each pair's energy on either of its atoms, ``(n_atoms,)`` eV."""
        vectors = graph.edge_vectors().to(self.dtype)
        squared = vectors.square().sum(dim=1)
        centre, neighbour = self._row[graph.numbers[graph.edge_index]]
        epsilon = 0.5 * (self.epsilon + self.epsilon.T)[centre, neighbour]
        sigma = 0.5 * (self.sigma + self.sigma.T)[centre, neighbour]
        attraction = (sigma.square() / squared) ** 3
        pair = 4.0 * epsilon * (attraction.square() - attraction)
        pair = pair * smooth_switch(squared.sqrt(), self.switch_start, self.info.cutoff)
        site = torch.zeros(graph.n_atoms, dtype=self.dtype, device=graph.device)
        return Energies(site=site.index_add(0, graph.edge_index[0], 0.5 * pair))

    def hyperparameters(self) -> dict[str, Any]:
        """Where the switch starts; cutoff and elements are in ``info``, ε and σ are weights."""
        return {"switch_start": self.switch_start}

    @classmethod
    def from_hyperparameters(cls, hyperparameters: dict[str, Any], info: ModelInfo) -> Self:
        """A model with ε = 1 eV and σ = 1 Å for all pairs, to load a checkpoint's tables into."""
        ones = torch.ones(len(info.elements), len(info.elements), dtype=torch.float64)
        return cls(info, ones, ones, hyperparameters["switch_start"])


def argon(cutoff: float = 8.5, switch_start: float = 7.0) -> LennardJones:
    """Argon, with the other noble gases but helium mixed in by the Lorentz-Berthelot rules; float64.

    Args:
        cutoff: Å; 2.5 σ of argon unless told.
        switch_start: Å, where the switch to zero starts.
    """
    info = ModelInfo(
        name="lj-argon",
        family="lennard_jones",
        cutoff=cutoff,
        elements=tuple(NOBLE_GASES),
        interaction_range=cutoff,
        training_data="second virial coefficients and the solids' lattice constants and energies",
        licence="CC0-1.0",
        citation="N. Bernardes, Phys. Rev. 112, 1534 (1958)",
    )
    table = torch.tensor(list(NOBLE_GASES.values()), dtype=torch.float64)
    epsilon, sigma = lorentz_berthelot(table[:, 0], table[:, 1])
    return LennardJones(info, epsilon, sigma, switch_start)
