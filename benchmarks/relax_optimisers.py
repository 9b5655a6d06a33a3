"""Force evaluations until relaxed, optimiser by optimiser: why ``atomml relax`` has the default that it has.

Crystals displaced by 0.1 Å and strained by 3%, positions and cell free, to 0.01 eV/Å and 0.1 GPa.
"""

from __future__ import annotations

import argparse
import time

from machine import describe, limit_threads


def main() -> None:
    """Parse, run each optimiser on each crystal, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--optimizers", nargs="+", help="names; all if not given")
    told = parser.parse_args()
    limit_threads(2)
    import numpy as np
    from ase.build import bulk
    from crystals import lithium_cobalt_oxide, rattled, rutile

    from atomml import load_model
    from atomml.config import option_specs
    from atomml.workflows import relax
    from atomml.workflows.relaxing.relaxation import RelaxOptions

    describe("ase")
    spec = option_specs(RelaxOptions)["optimizer"]
    names = told.optimizers or list(spec.choices or ())
    crystals = {
        "LiCoO2-12": lithium_cobalt_oxide((1, 1, 1)),
        "TiO2-12": rutile((1, 1, 2)),
        "Si-8": bulk("Si", cubic=True),
        "NaCl-8": bulk("NaCl", "rocksalt", 5.64, cubic=True),
        "NiAl-2": bulk("NiAl", "cesiumchloride", 2.88),
        "Cu-4": bulk("Cu", cubic=True),
    }
    model = load_model("chgnet-0.3.0", dtype="float64", device="cpu")
    print(f"\ndefault: {spec.default}\n\n| | {' | '.join(crystals)} | all | s |")
    print("|---|" + "---|" * (len(crystals) + 2))
    for name in names:
        started, counts = time.perf_counter(), []
        for seed, atoms in enumerate(crystals.values()):
            frame = rattled(atoms, 0.1, seed)
            strain = np.random.default_rng(seed).normal(0, 0.03, (3, 3))
            frame.set_cell(frame.cell @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
            result = relax(frame, model, cell="free", optimizer=name, steps=500, out=None)
            counts.append(result.n_steps if result.converged else None)
        spent = time.perf_counter() - started
        total = "no" if None in counts else str(sum(count for count in counts if count is not None))
        cells = " | ".join("more than 500" if count is None else str(count) for count in counts)
        print(f"| {name} | {cells} | {total} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
