"""The shape of a DPA3, as plain values, under the names that DeePMD-kit's input files give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from atomml.errors import ModelError
from atomml.shape import HeadedShape

__all__ = ["DPA3Config"]


@dataclass(frozen=True)
class DPA3Config(HeadedShape):
    """Shape of a DPA3; the defaults are those of DPA-3.1-3M but for its branches.

    Zhang et al., "A graph neural network for the era of large atomistic models", arXiv:2506.01686.

    Attributes:
        elements: Atomic numbers in the order of the type embedding's rows.
        nlayers: Message-passing layers.
        n_dim, e_dim, a_dim: Features of an atom, of an edge and of an angle.
        e_rcut, e_rcut_smth: Where edges end, and where they begin to be switched off, Å.
        a_rcut, a_rcut_smth: The same of edges that enclose angles, Å.
        e_sel, a_sel: Numbers of edges and of angles' edges of an atom by which sums over them are divided;
            none is ever cut off here.
        use_dynamic_sel: Whether both are divided by ``sel_reduce_factor`` first.
        sel_reduce_factor: See there.
        axis_neuron: Columns of the symmetrised features that are kept.
        update_angle: Whether there are angles.
        a_compress_rate: Atoms enter angles with ``a_dim / rate`` features, edges with
            ``a_dim * a_compress_e_rate / (2 * rate)``; 0 is all of them.
        a_compress_e_rate: See there.
        a_compress_use_split: Whether those are the first of their features, and not a linear map of them.
        n_multi_edge_message: Messages that an atom takes from each edge.
        smooth_edge_update: Whether an edge that encloses no angle is updated as by an empty sum of them, and
            not by itself.
        edge_init_use_dist: Whether edges begin as their length, and not as its switched inverse.
        use_exp_switch: Whether the switch is ``exp(-exp(20 (r - r_smth) / r_smth))``, and not a polynomial.
        update_style: How updates are added: ``res_residual`` with a weight for each feature.
        update_residual: Those weights at first, or their standard deviation.
        update_residual_init: Which of both.
        sequential_update: Whether edges, angles and atoms are updated one after the other.
        fix_stat_std: What environments are divided by; 0 where that was taken from data.
        env_protection: Added to distances that are divided by, Å.
        activation: Of the message passing: ``silu``, ``tanh``, ``silut:3.0`` (tanh above 3) ...
        concat_output_tebd: Whether the fitting net sees the type embedding once more.
        charge_spin: Whether charge and spin are embedded with the type.
        default_charge_spin: Taken where a structure has none of its own; None if each must say.
        neuron: Widths of the fitting net.
        resnet_dt: Whether its residual layers have a step for each feature.
        fitting_activation: Of the fitting net.
        dim_case_embd: Length of the vector that tells data sets apart; 0 where there is none.
        heads: Names of the branches, one for each data set.
        head: The one that answers; None where none was chosen.
    """

    family: ClassVar[str] = "DPA3"
    head_word: ClassVar[tuple[str, str]] = ("branch", "branches")

    elements: tuple[int, ...] = tuple(range(1, 119))
    nlayers: int = 16
    n_dim: int = 128
    e_dim: int = 64
    a_dim: int = 32
    e_rcut: float = 6.0
    e_rcut_smth: float = 5.3
    a_rcut: float = 4.0
    a_rcut_smth: float = 3.5
    e_sel: int = 1200
    a_sel: int = 300
    use_dynamic_sel: bool = True
    sel_reduce_factor: float = 10.0
    axis_neuron: int = 4
    update_angle: bool = True
    a_compress_rate: int = 1
    a_compress_e_rate: int = 2
    a_compress_use_split: bool = True
    n_multi_edge_message: int = 1
    smooth_edge_update: bool = True
    edge_init_use_dist: bool = False
    use_exp_switch: bool = True
    update_style: Literal["res_residual", "res_avg", "res_incr"] = "res_residual"
    update_residual: float = 0.1
    update_residual_init: Literal["const", "norm"] = "const"
    sequential_update: bool = False
    fix_stat_std: float = 0.3
    env_protection: float = 0.0
    activation: str = "silut:3.0"
    concat_output_tebd: bool = False
    charge_spin: bool = False
    default_charge_spin: tuple[float, ...] | None = None
    neuron: tuple[int, ...] = (240, 240, 240)
    resnet_dt: bool = True
    fitting_activation: str = "silut:3.0"
    dim_case_embd: int = 0
    heads: tuple[str, ...] = ("default",)
    head: str | None = "default"

    def __post_init__(self) -> None:
        """Refuse what no DPA3 can be.

        Raises:
            ModelError: Names the setting.
        """
        for name, hint in get_type_hints(type(self)).items():
            if get_args(hint) and isinstance(get_args(hint)[0], str):  # a Literal
                _choose(name, getattr(self, name), get_args(hint))
        if not 0 < self.e_rcut_smth < self.e_rcut or not 0 < self.a_rcut_smth < self.a_rcut:
            raise ModelError("DPA3's switches begin before its cutoffs: check e_rcut_smth and a_rcut_smth.")
        if self.a_rcut > self.e_rcut:
            raise ModelError(f"DPA3's angles end before its edges: a_rcut is at most {self.e_rcut}.")
        if self.use_dynamic_sel and not self.smooth_edge_update:
            raise ModelError("DPA3's use_dynamic_sel needs smooth_edge_update.")
        if self.sequential_update and (self.update_style != "res_residual" or not self.update_angle):
            raise ModelError("DPA3's sequential_update needs update_angle and update_style res_residual.")
        if self.a_compress_rate and (self.a_dim * self.a_compress_e_rate) % (2 * self.a_compress_rate):
            raise ModelError("DPA3's a_dim * a_compress_e_rate must be a multiple of 2 * a_compress_rate.")
        if min(self.sel_reduce_factor, self.e_sel, self.a_sel, self.nlayers, self.n_multi_edge_message) <= 0:
            raise ModelError("DPA3's selections, layers and messages are positive.")
        if self.default_charge_spin is not None and len(self.default_charge_spin) != 2:
            raise ModelError("DPA3's default_charge_spin is a charge and a spin.")
        self.check_heads()

    @property
    def mean_edges(self) -> float:
        """What sums over an atom's edges are divided by."""
        return self.e_sel / self.sel_reduce_factor if self.use_dynamic_sel else float(self.e_sel)

    @property
    def mean_angles(self) -> float:
        """The square of what sums over an edge's angles are divided by."""
        return self.a_sel / self.sel_reduce_factor if self.use_dynamic_sel else float(self.a_sel)

    @property
    def compressed(self) -> tuple[int, int]:
        """Features of an atom and of an edge that angles see."""
        if not self.a_compress_rate:
            return self.n_dim, self.e_dim
        atom = self.a_dim // self.a_compress_rate
        return atom, self.a_dim // (2 * self.a_compress_rate) * self.a_compress_e_rate

    @property
    def descriptor_width(self) -> int:
        """Features of an atom that the fitting net sees, without those of the data set."""
        return self.n_dim * (2 if self.concat_output_tebd else 1)


def _choose(name: str, value: Any, options: tuple[Any, ...]) -> None:
    if value not in options:
        raise ModelError(f"DPA3 has no {name} {value!r}: choose from {', '.join(options)}.")
