"""MACE shapes, weights and structures that both sides make from seeds; imported in two environments.

Shapes are the arguments of mace-torch's constructors, from the training scripts that ACEsuit publishes with
its models (mace-foundations: ``mace_mp_0a``, ``mace_mp_0b3``, ``mace_omat``, ``mace_mh_1``; mace-off:
``train_scripts``; sizes of OFF23 from arXiv:2312.15211, table S1) and, for what they leave out, the defaults
of ``mace_run_train``: cutoff exponent 5, radial layers of 64, SiLU; ``model="MACE"`` starts without residual.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

__all__ = ["CASES", "case_seed", "draw_weights", "structures"]

MPTRJ = [z for z in range(1, 95) if z not in (84, 85, 86, 87, 88)]
SPICE = [1, 6, 7, 8, 9, 15, 16, 17, 35, 53]
RESIDUAL = "RealAgnosticResidualInteractionBlock"
PLAIN = "RealAgnosticInteractionBlock"
DENSITY = "RealAgnosticDensityInteractionBlock"
DENSITY_RESIDUAL = "RealAgnosticDensityResidualInteractionBlock"
NONLINEAR = "RealAgnosticResidualNonLinearInteractionBlock"


def _shape(elements: list[int], hidden: str, first: str, later: str, **more: Any) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "atomic_numbers": elements,
        "hidden_irreps": hidden,
        "interaction_cls_first": first,
        "interaction_cls": later,
        "r_max": 6.0,
        "num_bessel": 10,
        "num_polynomial_cutoff": 5,
        "max_ell": 3,
        "num_interactions": 2,
        "correlation": 3,
        "MLP_irreps": "16x0e",
        "gate": "silu",
        "avg_num_neighbors": 61.964672446250916,
        "radial_MLP": [64, 64, 64],
        "scaled": True,
        "heads": ["default"],
    }
    return shape | more


def _off(hidden: str, cutoff: float) -> dict[str, Any]:
    return _shape(SPICE, hidden, PLAIN, RESIDUAL, r_max=cutoff, num_bessel=8, avg_num_neighbors=14.3)


def _density(hidden: str, **more: Any) -> dict[str, Any]:
    return _shape(
        MPTRJ, hidden, DENSITY, DENSITY_RESIDUAL, pair_repulsion=True, distance_transform="Agnesi", **more
    )


SMALL = [1, 6, 8, 14]
CASES: dict[str, dict[str, Any]] = {
    "mp-0-small": _shape(MPTRJ, "128x0e", RESIDUAL, RESIDUAL),
    "mp-0-medium": _shape(MPTRJ, "128x0e+128x1o", RESIDUAL, RESIDUAL),
    "mp-0-large": _shape(MPTRJ, "128x0e+128x1o+128x2e", RESIDUAL, RESIDUAL),
    "mp-0b3-medium": _density("128x0e+128x1o"),
    "mpa-0-medium": _density("128x0e+128x1o", num_bessel=8),
    "omat-0-medium": _density("128x0e+128x1o", num_bessel=8),
    "off23-small": _off("96x0e", 4.5),
    "off23-medium": _off("128x0e+128x1o", 5.0),
    "off23-large": _off("192x0e+192x1o+192x2e", 5.0),
    "off24-medium": _off("128x0e+128x1o", 6.0),
    "two-heads": _shape(SMALL, "32x0e+32x1o", RESIDUAL, RESIDUAL, heads=["pbe", "r2scan"]),
    "mh-1": _shape(
        MPTRJ,
        "512x0e+512x1o",
        NONLINEAR,
        NONLINEAR,
        edge_irreps="128x0e+128x1o",
        use_edge_irreps_first=True,
        use_agnostic_product=True,
        apply_cutoff=False,
        pair_repulsion=True,
        distance_transform="Agnesi",
        heads=["omat_pbe", "omol", "spice_wB97M", "rgd1_b3lyp", "oc20_usemppbe", "matpes_r2scan"],
    ),
    "odd-irreps": _shape(SMALL, "16x0e+16x1o+16x1e+16x2e+16x2o", RESIDUAL, RESIDUAL, r_max=4.5, num_bessel=8),
    "pseudoscalars": _shape(SMALL, "8x0e+8x0o+8x1o+8x1e", RESIDUAL, RESIDUAL, r_max=4.0, max_ell=2),
    "order-4": _shape(SMALL, "8x0e+8x1o", PLAIN, RESIDUAL, correlation=[4, 1], r_max=4.0, max_ell=2),
    "gaussians": _shape(
        SMALL, "16x0e+16x1o", DENSITY, RESIDUAL, radial_type="gaussian", distance_transform="Soft", r_max=4.5
    ),
    "chebyshev": _shape(
        SMALL,
        "16x0e+16x1o+16x2e+16x3o",
        RESIDUAL,
        PLAIN,
        radial_type="chebyshev",
        distance_transform="Agnesi",
        r_max=4.5,
        scaled=False,
        pair_repulsion=True,
        gate="tanh",
        num_interactions=3,
    ),
    "one-layer": _shape(SMALL, "16x0e+16x1o", RESIDUAL, RESIDUAL, num_interactions=1, r_max=5.0),
    "last-only": _shape(
        SMALL, "16x0e+16x1o", RESIDUAL, RESIDUAL, use_last_readout_only=True, keep_last_layer_irreps=True
    ),
}


def case_seed(name: str) -> int:
    """A seed for each case, from its place in the list."""
    return 1000 + list(CASES).index(name)


def draw_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[np.float64]]:
    """Weights of every name: unit normal, divided by the root of the width in torch's own linear layers."""
    generator = np.random.default_rng(seed)
    drawn = {}
    for name in sorted(shapes):
        values = generator.standard_normal(shapes[name])
        if ".net." in name:
            values = values / np.sqrt(shapes[name][1]) if len(shapes[name]) == 2 else 0.1 * values
            layer_norm = name.endswith(".weight") and len(shapes[name]) == 1
            values = values + 1 if layer_norm else values
        elif name.endswith("alpha"):
            values = 20 + values
        drawn[name] = values
    return drawn


def structures(elements: list[int], seed: int, count: int = 8) -> list[Atoms]:
    """Random structures of three elements or fewer: crystals, layers, wires and molecules, 3 to 8 atoms."""
    generator = np.random.default_rng(seed)
    periodic = [(True,) * 3, (True,) * 3, (False,) * 3, (True, True, False), (False, True, False)]
    made = []
    for index in range(count):
        n_atoms = 3 + index % 6
        numbers = generator.choice(generator.choice(elements, min(3, len(elements)), replace=False), n_atoms)
        radii = covalent_radii[numbers]
        length = (4.5 * n_atoms) ** (1 / 3) * 2 * radii.mean() / 1.5
        cell = length * (np.eye(3) + 0.15 * generator.uniform(-1, 1, (3, 3)))
        pbc = periodic[index % len(periodic)]
        made.append(_placed(numbers, cell, pbc, generator))
    return made


def _placed(numbers: Any, cell: Any, pbc: Any, generator: np.random.Generator) -> Atoms:
    """Atoms at random where none is nearer to another than three quarters of their radii."""
    while True:
        scaled: list[Any] = []
        for _ in range(2000):
            trial = generator.uniform(0, 1, 3)
            atoms = Atoms(numbers[: len(scaled) + 1], scaled_positions=[*scaled, trial], cell=cell, pbc=pbc)
            distances = (
                atoms.get_distances(-1, list(range(len(scaled))), mic=True) if scaled else np.array([9.0])
            )
            nearest = covalent_radii[numbers[: len(scaled)]] + covalent_radii[numbers[len(scaled)]]
            if not scaled or bool((distances > 0.75 * nearest).all()):
                scaled.append(trial)
            if len(scaled) == len(numbers):
                return atoms
        cell = 1.05 * cell
