"""The shape of a MACE, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from atomml.errors import ModelError
from atomml.shape import HeadedShape

__all__ = ["HIGHEST_DEGREE", "InteractionKind", "MACEConfig"]

InteractionKind = Literal["plain", "residual", "density", "density-residual", "nonlinear-residual"]
"""The interaction blocks: without and with a residual connection, the messages divided by the mean number
of neighbours or by a learned density, and the gated one of the multi-head models of 2025."""

HIGHEST_DEGREE = 4
"""Of spherical harmonics and hidden features."""


@dataclass(frozen=True)
class MACEConfig(HeadedShape):
    """Shape of a MACE; the defaults are those of MACE-MP-0 medium.

    Batatia et al., NeurIPS 2022 (arXiv:2206.07697); Batatia et al., arXiv:2401.00096.

    Attributes:
        elements: Atomic numbers in the order of the embedding's rows.
        cutoff: Å.
        hidden: Irreps of the features between layers, with one multiplicity.
        edge_irreps: Irreps that messages are made from; None where they are the hidden ones.
        edge_irreps_first: Whether the first layer follows ``edge_irreps`` too.
        max_degree: Highest degree of the spherical harmonics on edges.
        interactions: The kind of each layer.
        correlations: Correlation order of each layer's product, 1 to 4.
        radial: Radial basis.
        n_radial: Number of radial functions.
        cutoff_power: Exponent p of the polynomial cutoff, and of that of the pair repulsion.
        distance_transform: What distances go through before the basis.
        radial_widths: Hidden layers of the radial networks.
        readout: Irreps of the hidden layer of the last readout, scalars only.
        gate: Non-linearity of the last readout.
        neighbours: Mean number of neighbours, by which messages are divided.
        pair_repulsion: Whether the Ziegler-Biersack-Littmark repulsion is added.
        early_cutoff: Whether the radial basis, and not the radial network's output, is cut off.
        shared_product: Whether all elements share the weights of the products.
        last_readout_only: Whether only the last layer is read out.
        keep_last_irreps: Whether the last layer keeps more than scalars.
        scaled: Whether interaction energies are scaled and shifted (ScaleShiftMACE).
        heads: Names of the heads.
        head: The head that answers; None where none was chosen.
    """

    family: ClassVar[str] = "MACE"

    elements: tuple[int, ...] = tuple(range(1, 84)) + tuple(range(89, 95))
    cutoff: float = 6.0
    hidden: str = "128x0e+128x1o"
    edge_irreps: str | None = None
    edge_irreps_first: bool = False
    max_degree: int = 3
    interactions: tuple[InteractionKind, ...] = ("residual", "residual")
    correlations: tuple[int, ...] = (3, 3)
    radial: Literal["bessel", "gaussian", "chebyshev"] = "bessel"
    n_radial: int = 10
    cutoff_power: int = 5
    distance_transform: Literal["none", "agnesi", "soft"] = "none"
    radial_widths: tuple[int, ...] = (64, 64, 64)
    readout: str = "16x0e"
    gate: Literal["silu", "tanh", "abs", "none"] = "silu"
    neighbours: float = 1.0
    pair_repulsion: bool = False
    early_cutoff: bool = True
    shared_product: bool = False
    last_readout_only: bool = False
    keep_last_irreps: bool = False
    scaled: bool = True
    heads: tuple[str, ...] = ("default",)
    head: str | None = "default"

    def __post_init__(self) -> None:
        """Refuse what no MACE can be.

        Raises:
            ModelError: Names the setting.
        """
        for name, hint in get_type_hints(type(self)).items():
            options, values = _options(hint), getattr(self, name)
            for value in values if isinstance(values, tuple) else (values,):
                if options and value not in options:
                    raise ModelError(f"MACE has no {name} {value!r}: choose from {', '.join(options)}.")
        if len(self.interactions) != len(self.correlations) or not self.interactions:
            raise ModelError("MACE needs one correlation order for each interaction, and one at least.")
        if not all(1 <= order <= 4 for order in self.correlations):
            raise ModelError(f"MACE's correlation orders are 1 to 4, not {self.correlations}.")
        if not 0 <= self.max_degree <= HIGHEST_DEGREE:
            raise ModelError(f"MACE's max_degree is 0 to {HIGHEST_DEGREE}, not {self.max_degree}.")
        self.check_heads()


def _options(hint: Any) -> tuple[Any, ...]:
    """What a setting of this type may be, if that is a list."""
    if get_origin(hint) is tuple:
        return _options(get_args(hint)[0])
    return get_args(hint) if get_origin(hint) is Literal else ()
