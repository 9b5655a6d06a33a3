"""Kohn-Sham matrices of molecules as samples, and what is minimised over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from atomml.data.dataset import Dataset
from atomml.data.entry import Entry
from atomml.electronic.hamiltonian_model import HamiltonianModel
from atomml.electronic.matrices import MatrixBlocks, all_pairs, assemble, blocks_of, join_blocks
from atomml.electronic.orbitals import n_orbitals
from atomml.errors import StructureError
from atomml.graph.atom_graph import AtomGraph
from atomml.graph.batching import collate
from atomml.train.losses import Errors
from atomml.train.validation import Parity

__all__ = [
    "HamiltonianObjective",
    "HamiltonianSample",
    "HamiltonianSamples",
    "matrix_of",
    "prior_of",
]

UNITS = {"hamiltonian": ("uEh", 1e6), "levels": ("uEh", 1e6)}
"""Suffix and factor under which errors are written; losses count Hartree."""

_UNIT = 1e3
"""Losses are of errors in mEh: absolute values count most below one, squares above."""


@dataclass(frozen=True)
class HamiltonianSample:
    """One molecule with what is to be learned of its matrix.

    Attributes:
        graph: Of all pairs.
        target: Blocks of the matrix less the prior, Hartree.
        where: What to call it in an error.
        n_entries: Numbers in the matrix.
        orbitals: ``(n, n)`` coefficients of the matrix's own orbitals in columns; None where not needed.
        orthonormal: ``(n, n)`` inverse root of the overlap matrix; None where not needed.
    """

    graph: AtomGraph
    target: MatrixBlocks
    where: str
    n_entries: int
    orbitals: Tensor | None = None
    orthonormal: Tensor | None = None
    head: str = ""
    kind: tuple[str, ...] = ()


class HamiltonianSamples:
    """The entries of a data set as samples, made once each and kept while there is :attr:`room`.

    Args:
        dataset: Entries with matrices.
        model: For its shells and prior.
        aligned: Whether orbitals are needed.
        orthogonal: Whether the inverse root of the overlap matrix is.
    """

    heads: tuple[str, ...] = ("",)
    room = 4 << 30
    """Bytes of matrices that are kept; what comes later is made anew each time."""

    def __init__(
        self, dataset: Dataset, model: HamiltonianModel, *, aligned: bool = False, orthogonal: bool = False
    ) -> None:
        self.dataset, self.aligned, self.orthogonal = dataset, aligned, orthogonal
        self.n_atoms = np.asarray(dataset.n_atoms)
        self._model = model
        self._kept: dict[int, HamiltonianSample] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.dataset)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Numbers in all matrices, and orbital energies."""
        sizes = [len(entry.matrices["hamiltonian"]) for entry in self.dataset]
        return {"hamiltonian": sum(n * n for n in sizes), "levels": sum(sizes) if self.aligned else 0}

    def __getitem__(self, index: int) -> HamiltonianSample:
        """One sample.

        Raises:
            StructureError: No matrix, or one of another basis set.
        """
        if index in self._kept:
            return self._kept[index]
        made = self._made(self.dataset[index])
        size = 8 * made.n_entries * (1 + self.aligned + self.orthogonal)
        if self._bytes + size <= self.room:
            self._kept[index] = made
            self._bytes += size
        return made

    def _made(self, entry: Entry) -> HamiltonianSample:
        model = self._model
        matrix, graph = matrix_of(entry), all_pairs(entry.atoms, entry.where)
        left = matrix - prior_of(entry, model.level.prior)
        n = sum(n_orbitals(model.shells_of(int(z))) for z in entry.atoms.numbers)
        if len(matrix) != n:
            raise StructureError(
                f"{entry.where} has a matrix of {len(matrix)} orbitals, and {model.level.level} has {n} for "
                "it: label it at that level."
            )
        target = blocks_of(torch.from_numpy(left), graph, model.shells_of)
        orbitals = orthonormal = None
        if self.aligned or self.orthogonal:
            from atomml.electronic.orbital_levels import inverse_root, solve_orbitals

            solved = solve_orbitals(matrix, entry.atoms, model.level.basis)
            orbitals = torch.from_numpy(solved.coefficients) if self.aligned else None
            orthonormal = torch.from_numpy(inverse_root(solved.overlap)) if self.orthogonal else None
        return HamiltonianSample(graph, target, entry.where, n * n, orbitals, orthonormal)


def matrix_of(entry: Entry) -> np.ndarray:
    """The Kohn-Sham matrix of an entry.

    Raises:
        StructureError: It has none.
    """
    if "hamiltonian" not in entry.matrices:
        raise StructureError(f"{entry.where} has no matrix: label it with atomml hamiltonian label.")
    return entry.matrices["hamiltonian"]


def prior_of(entry: Entry, prior: str) -> np.ndarray:
    """The prior that was kept with an entry; zeros for ``none``.

    Raises:
        StructureError: It was not kept.
    """
    if prior == "none":
        return np.zeros_like(matrix_of(entry))
    if prior not in entry.matrices:
        kept = [name for name in entry.matrices if name != "hamiltonian"]
        raise StructureError(
            f"{entry.where} keeps no prior {prior}: label it again with --prior {prior}, or train with the "
            f"one that it keeps ({', '.join(kept) or 'none'})."
        )
    return entry.matrices[prior]


@dataclass(frozen=True)
class HamiltonianObjective:
    """Mean absolute and squared errors over real orbitals, and in two orthonormal bases.

    In the basis of the reference's own orbitals they are the wavefunction alignment of Li et al. (WANet, ICLR
    2025): those on the diagonal are first-order errors of orbital energies. In Löwdin's, of the orbitals
    ``S^-1/2``, errors count as they change levels too, but each by its place in the molecule.

    Attributes:
        entries: Weight of the errors of the matrix's numbers.
        alignment: Weight of those between orbitals.
        orthogonal: Weight of those between Löwdin's.
    """

    entries: float = 1.0
    alignment: float = 0.0
    orthogonal: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Numbers of the matrix, and orbital energies to first order."""
        return tuple(UNITS)

    @property
    def units(self) -> Mapping[str, tuple[str, float]]:
        """Micro-Hartree."""
        return UNITS

    @property
    def shown(self) -> tuple[tuple[str, str, float], ...]:
        """Both."""
        return ("hamiltonian", "H µEh", 1e6), ("levels", "ε µEh", 1e6)

    def counts(self, samples: Sequence[HamiltonianSample]) -> dict[str, int]:
        """Numbers in the matrices, and orbital energies."""
        with_orbitals = [s.orbitals for s in samples if s.orbitals is not None]
        return {
            "hamiltonian": sum(sample.n_entries for sample in samples),
            "levels": sum(len(orbitals) for orbitals in with_orbitals),
        }

    def judge(
        self,
        model: HamiltonianModel,
        samples: Sequence[HamiltonianSample],
        counts: Mapping[str, int],
        progress: float,
        device: torch.device,
        *,
        learning: bool,
        parity: Parity | None = None,
    ) -> tuple[Tensor, Errors]:
        """Loss and errors of a part."""
        graph = collate([sample.graph for sample in samples]).to(device)
        target = join_blocks([sample.target for sample in samples])
        model.train(learning)
        found = model.matrix_blocks(graph)
        errors = Errors()
        total = torch.zeros((), dtype=torch.float64, device=device)
        absolute, n = 0.0, counts["hamiltonian"]
        for (ours, times), (theirs, _) in zip(found.entries(), target.entries(), strict=True):
            difference = (ours.double() - theirs.to(device)) * _UNIT
            total = total + self.entries * times * _loss(difference).sum() / n
            absolute += times * float(difference.detach().abs().sum()) / _UNIT
        errors.sums["hamiltonian"] = absolute
        errors.counts["hamiltonian"] = sum(sample.n_entries for sample in samples)
        if samples[0].orbitals is not None or samples[0].orthonormal is not None:
            total = total + self._in_bases(model, samples, graph, found, target, counts, errors)
        model.train(False)
        return total, errors

    def _in_bases(
        self,
        model: HamiltonianModel,
        samples: Sequence[HamiltonianSample],
        graph: AtomGraph,
        found: MatrixBlocks,
        target: MatrixBlocks,
        counts: Mapping[str, int],
        errors: Errors,
    ) -> Tensor:
        """The losses between orthonormal orbitals; errors of the reference's energies are counted."""
        off = MatrixBlocks(
            {z: found.atoms[z].double() - target.atoms[z].to(graph.device) for z in found.atoms},
            {key: found.pairs[key].double() - target.pairs[key].to(graph.device) for key in found.pairs},
        )
        total = torch.zeros((), dtype=torch.float64, device=graph.device)
        absolute = 0.0
        for error, sample in zip(assemble(off, graph, model.shells_of), samples, strict=True):
            if sample.orthonormal is not None:
                between = _turned(error, sample.orthonormal)
                total = total + self.orthogonal * _loss(between * _UNIT).sum() / counts["hamiltonian"]
            if sample.orbitals is not None:
                between = _turned(error, sample.orbitals)
                levels = torch.diagonal(between)
                own = _loss(between * _UNIT).sum() / counts["hamiltonian"]
                total = total + self.alignment * (own + _loss(levels * _UNIT).sum() / counts["levels"])
                absolute += float(levels.detach().abs().sum())
        if samples[0].orbitals is not None:
            errors.sums["levels"], errors.counts["levels"] = absolute, self.counts(samples)["levels"]
        return total


def _turned(error: Tensor, orbitals: Tensor) -> Tensor:
    orbitals = orbitals.to(error)
    return orbitals.T @ error @ orbitals


def _loss(difference: Tensor) -> Tensor:
    return difference.abs() + difference.square()
