"""What a Hamiltonian predictor is: blocks of a matrix over the orbitals, from the geometry alone."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from atomml.base_model import Model
from atomml.electronic.matrices import MatrixBlocks, assemble
from atomml.electronic.orbitals import Shells
from atomml.errors import ModelError
from atomml.graph.atom_graph import AtomGraph

__all__ = ["PRIORS", "HamiltonianModel", "MatrixLevel"]

PRIORS = ("minao-pbe", "minao", "none")
"""What is subtracted from a matrix before it is learned: the Fock matrix that PBE, or the level of theory,
builds on the superposition of atomic densities in a minimal basis, or nothing."""


@dataclass(frozen=True)
class MatrixLevel:
    """What a predicted matrix is of.

    Attributes:
        level: Functional and basis, such as ``pbe/def2-svp``.
        method: The exact method string of the labels; "" if unknown.
        prior: One of :data:`PRIORS`; the model predicts what is left.
    """

    level: str
    method: str = ""
    prior: str = "minao-pbe"

    @property
    def functional(self) -> str:
        """As PySCF names it."""
        return self.level.partition("/")[0]

    @property
    def basis(self) -> str:
        """As PySCF names it."""
        return self.level.partition("/")[2]


class HamiltonianModel(Model):
    """Fock or Kohn-Sham matrices in the basis of atomic orbitals, less a prior; Hartree, PySCF's order.

    A subclass implements :meth:`matrix_blocks` in differentiable torch and :attr:`level`.
    """

    @property
    @abc.abstractmethod
    def level(self) -> MatrixLevel:
        """What its matrices are of."""

    @abc.abstractmethod
    def shells_of(self, number: int) -> Shells:
        """Degrees of an element's shells in PySCF's order."""

    @abc.abstractmethod
    def matrix_blocks(self, graph: AtomGraph) -> MatrixBlocks:
        """What is left of the matrices without the prior, Hartree; differentiable in the weights."""

    @torch.no_grad()
    def predict(self, graph: AtomGraph) -> list[Tensor]:
        """What is left of each molecule's matrix without the prior, ``(n, n)`` float64 Hartree, symmetric.

        Args:
            graph: Of :func:`~atomml.electronic.matrices.all_pairs`, one or a batch.

        Raises:
            ModelError: An element that the model does not know, or a charge or open shell.
        """
        self.check_elements(graph)
        self.check_closed(graph)
        found = self.matrix_blocks(graph.to(self.device))
        double = MatrixBlocks(
            {key: value.double() for key, value in found.atoms.items()},
            {key: value.double() for key, value in found.pairs.items()},
        )
        return assemble(double, graph.to(self.device), self.shells_of)

    def check_closed(self, graph: AtomGraph) -> None:
        """Refuse what the model cannot tell from a neutral molecule with paired electrons.

        Raises:
            ModelError: Names the molecule.
        """
        wrong = torch.nonzero((graph.charge != 0) | (graph.spin != 0))
        if len(wrong):
            number = int(wrong[0])
            raise ModelError(
                f"Molecule {number} has charge {float(graph.charge[number]):g} and "
                f"{float(graph.spin[number]):g} unpaired electrons: {self.info.name} knows neutral molecules "
                "with paired electrons."
            )
