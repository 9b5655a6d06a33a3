"""The shape of an SPHNet, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from atomml.electronic.hamiltonian_model import PRIORS
from atomml.electronic.orbitals import highest_degree
from atomml.errors import ModelError

__all__ = ["SPHNetConfig"]


@dataclass(frozen=True)
class SPHNetConfig:
    """Shape of an SPHNet; the defaults are the published ones for def2-SVP, but for the sparsity.

    Luo et al., "Efficient and Scalable Density Functional Theory Hamiltonian Prediction through Adaptive
    Sparsity", ICML 2025, arXiv:2502.01171.

    Attributes:
        shells: Of each atomic number the degrees of its shells in PySCF's order: ``{1: (0, 0, 1)}``.
        level: Functional and basis that the matrices are of, such as ``pbe/def2-svp``.
        method: The exact method of the labels, with versions.
        prior: What is subtracted before learning, as of
            :data:`~atomml.electronic.hamiltonian_model.PRIORS`.
        max_degree: Highest degree of the features: twice that of the basis set, 2 at least.
        channels: Features of each degree.
        bottleneck: Features that the blocks are expanded from.
        vectorial_layers: Layers of the vectorial node interaction.
        heads: Heads of their attention.
        vectorial_radial: Radial functions there.
        short_cutoff: Where these layers end, Å.
        spherical_layers: Layers of the spherical node interaction.
        pair_layers: Layers of the pair construction.
        radial: Radial functions of pairs, exponential Bernstein polynomials.
        long_cutoff: Where edges of the spherical layers end, Å.
        fading: Whether what two atoms tell each other, and what is learned of their block, fades to nothing
            at the long cutoff, as the true matrix less its prior does: molecules far apart are as alone.
        pair_harmonics: Whether a pair's features begin with the harmonics of its own direction; the paper
            leaves directions to the atoms' features.
        sparsity: Share of the paths of the pair construction's tensor products that are dropped in the end.
        pair_sparsity: Share of the pairs that the gated layers pass over.
        path_cost: Exponent of a path's cost by which its score is divided before paths are chosen.
        random_until: Share of the training with paths at random.
        adaptive_until: Share after which the chosen ones stay.
    """

    shells: tuple[tuple[int, tuple[int, ...]], ...]
    level: str
    method: str = ""
    prior: str = "minao-pbe"
    max_degree: int = 4
    channels: int = 128
    bottleneck: int = 32
    vectorial_layers: int = 4
    heads: int = 8
    vectorial_radial: int = 50
    short_cutoff: float = 5.0
    spherical_layers: int = 2
    pair_layers: int = 2
    radial: int = 16
    long_cutoff: float = 15.0
    fading: bool = True
    pair_harmonics: bool = True
    sparsity: float = 0.0
    pair_sparsity: float = 0.0
    path_cost: float = 0.0
    random_until: float = 0.02
    adaptive_until: float = 0.04

    def __post_init__(self) -> None:
        """Refuse what no SPHNet can be.

        Raises:
            ModelError: Names the setting.
        """
        if self.prior not in PRIORS:
            raise ModelError(f"SPHNet has no prior {self.prior!r}: choose from {', '.join(PRIORS)}.")
        if not self.shells:
            raise ModelError("SPHNet needs the shells of at least one element.")
        highest = highest_degree(degrees for _, degrees in self.shells)
        if not highest <= self.max_degree <= 8:
            raise ModelError(
                f"SPHNet's max_degree is {self.max_degree}: blocks of this basis set need {highest} at "
                "least, and 8 is the most."
            )
        counts = (self.channels, self.bottleneck, self.heads, self.radial, self.vectorial_radial)
        layers = (self.vectorial_layers, self.spherical_layers, self.pair_layers)
        if min(*counts, *layers) < 1 or self.channels % self.heads:
            raise ModelError("SPHNet's widths and layers are positive, and heads divide its channels.")
        for name in ("sparsity", "pair_sparsity"):
            if not 0 <= getattr(self, name) < 1:
                raise ModelError(f"SPHNet's {name} is a share from 0 to below 1, not {getattr(self, name)}.")
        if not 0 <= self.random_until <= self.adaptive_until <= 1 or self.path_cost < 0:
            raise ModelError("SPHNet needs random_until <= adaptive_until <= 1, and path_cost of 0 or more.")
        if not 0 < self.short_cutoff <= self.long_cutoff:
            raise ModelError("SPHNet's short_cutoff is at most its long_cutoff.")

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers."""
        return tuple(number for number, _ in self.shells)

    def shells_of(self, number: int) -> tuple[int, ...]:
        """Degrees of an element's shells."""
        return dict(self.shells)[number]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        shells = {str(number): list(degrees) for number, degrees in self.shells}
        return asdict(self) | {"shells": shells}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`; what is left out keeps its default.

        Raises:
            ModelError: A setting that SPHNet does not have, or one that is missing.
        """
        known = [entry.name for entry in fields(cls)]
        for key in values:
            if key not in known:
                raise ModelError(f"SPHNet has no setting {key!r}: there are {', '.join(known)}.")
        for key in ("shells", "level"):
            if key not in values:
                raise ModelError(f"SPHNet needs the setting {key}.")
        shells = tuple(
            sorted((int(z), tuple(int(d) for d in ds)) for z, ds in dict(values["shells"]).items())
        )
        return cls(**{**values, "shells": shells})
