"""DPA3 shapes, weights and structures that both sides make from seeds; imported in two environments.

``example-fixed`` and ``example-dynamic`` are DeePMD-kit's ``examples/water/dpa3``; ``dpa-3.1-3m`` is the
published model's shape (16 layers, all elements, a vector of 31 for its data sets; arXiv:2506.01686).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from mace_cases import structures as random_structures
from numpy.typing import NDArray

__all__ = ["CASES", "SEED", "case_seed", "draw_weights", "fitting_of", "settings_of", "structures"]

SEED = 3000

EXAMPLE: dict[str, Any] = {
    "n_dim": 128,
    "e_dim": 64,
    "a_dim": 32,
    "nlayers": 6,
    "e_rcut": 6.0,
    "e_rcut_smth": 5.3,
    "e_sel": 120,
    "a_rcut": 4.0,
    "a_rcut_smth": 3.5,
    "a_sel": 30,
    "a_compress_rate": 1,
    "a_compress_e_rate": 2,
    "a_compress_use_split": True,
    "smooth_edge_update": True,
    "edge_init_use_dist": True,
    "use_exp_switch": True,
}
DYNAMIC = {"use_dynamic_sel": True, "sel_reduce_factor": 10.0, "e_sel": 1200, "a_sel": 300}
SMALL = EXAMPLE | {"n_dim": 24, "e_dim": 16, "a_dim": 8, "nlayers": 3, "e_sel": 500, "a_sel": 120}
PLAIN = {
    "use_exp_switch": False,
    "edge_init_use_dist": False,
    "smooth_edge_update": False,
    "e_rcut": 5.0,
    "e_rcut_smth": 3.0,
    "a_rcut": 3.5,
    "a_rcut_smth": 2.0,
    "a_compress_rate": 0,
    "a_compress_e_rate": 1,
    "a_compress_use_split": False,
}
FEW = ["H", "C", "O", "Si"]


def _case(repflow: dict[str, Any], types: list[str] = FEW, **more: Any) -> dict[str, Any]:
    case: dict[str, Any] = {
        "repflow": repflow,
        "types": types,
        "activation_function": "silut:10.0",
        "fitting": {"neuron": [240, 240, 240], "activation_function": "silut:10.0"},
        "branches": ["default"],
    }
    return case | more


CASES: dict[str, dict[str, Any]] = {
    "example-fixed": _case(EXAMPLE, sparse=True),
    "example-dynamic": _case(EXAMPLE | DYNAMIC),
    "dpa-3.1-3m": _case(
        EXAMPLE | DYNAMIC | {"nlayers": 16, "edge_init_use_dist": False},
        chemical_symbols[1:119],
        activation_function="custom_silu:3.0",
        fitting={"neuron": [240] * 3, "activation_function": "silut:3.0", "dim_case_embd": 31},
        branches=["Domains_Alloy", "Omat24"],
    ),
    "two-tasks": _case(
        SMALL | DYNAMIC,
        fitting={"neuron": [48, 48], "activation_function": "tanh", "dim_case_embd": 2},
        branches=["pbe", "r2scan"],
    ),
    "sequential": _case(SMALL | DYNAMIC | {"sequential_update": True, "update_residual_init": "norm"}),
    "polynomial": _case(SMALL | PLAIN, activation_function="tanh", use_tebd_bias=True),
    "compressed": _case(
        SMALL | PLAIN | {"a_compress_rate": 2, "a_compress_e_rate": 2, "n_multi_edge_message": 3},
        activation_function="silu",
        concat_output_tebd=True,
    ),
    "average": _case(SMALL | {"update_style": "res_avg", "axis_neuron": 2}, env_protection=0.01, sparse=True),
    "increment": _case(
        SMALL | DYNAMIC | {"update_style": "res_incr"},
        fitting={"neuron": [12, 24, 24], "activation_function": "gelu", "resnet_dt": False},
    ),
    "no-angles": _case(SMALL | DYNAMIC | {"update_angle": False}, activation_function="softplus"),
    "charge-spin": _case(SMALL | DYNAMIC, add_chg_spin_ebd=True, default_chg_spin=[0.0, 1.0]),
    "statistics": _case(SMALL | DYNAMIC | {"edge_init_use_dist": False}, drawn_statistics=True),
}


def case_seed(name: str) -> int:
    """A seed for each case, from its place in the list."""
    return SEED + list(CASES).index(name)


def settings_of(case: dict[str, Any]) -> dict[str, Any]:
    """The descriptor's settings, as in DeePMD-kit's input, in float64."""
    own = ("use_tebd_bias", "concat_output_tebd", "env_protection", "add_chg_spin_ebd", "default_chg_spin")
    return {
        "type": "dpa3",
        "repflow": case["repflow"],
        "activation_function": case["activation_function"],
        "precision": "float64",
        **{key: case[key] for key in own if key in case},
    }


def fitting_of(case: dict[str, Any]) -> dict[str, Any]:
    """The fitting net's settings."""
    return {"type": "ener", "precision": "float64", **case["fitting"]}


def draw_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[np.float64]]:
    """Weights of every name: normal, matrices over the root of their inputs, residuals near a half."""
    generator = np.random.default_rng(seed)
    drawn = {}
    for name in sorted(shapes):
        values = generator.standard_normal(shapes[name])
        if name.endswith("matrix"):
            values = values / np.sqrt(shapes[name][0] if shapes[name][0] > 1 else 4)
        elif "residual" in name or name.endswith("idt"):
            values = 0.4 + 0.1 * values
        drawn[name] = values
    return drawn


def structures(case: dict[str, Any], seed: int) -> list[Atoms]:
    """Eight random crystals and molecules; ``sparse`` ones have no more neighbours than a fixed selection."""
    elements = [chemical_symbols.index(symbol) for symbol in case["types"]]
    made = random_structures([z for z in elements if z < 95], seed)
    for index, atoms in enumerate(made):
        atoms.pbc = bool(atoms.pbc.sum() >= 2)
        atoms.set_cell((1.6 if case.get("sparse") else 1.3) * atoms.cell.array, scale_atoms=True)
        atoms.info |= {"charge": float(index % 3 - 1), "spin": float(index % 2 + 1)}
    return made
