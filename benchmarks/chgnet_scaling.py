"""Time of energy, forces and stress from 64 to 4,096 silicon atoms, and the power of its growth."""

from __future__ import annotations

import argparse
import statistics
import time

from machine import describe, limit_threads


def main() -> None:
    """Parse, measure, print a line per size and the slope of log time against log atoms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, nargs="+", default=[2, 3, 4, 5, 6, 8])
    told = parser.parse_args()
    limit_threads(2)
    import numpy as np
    import torch

    torch.set_num_threads(2)
    describe("numba", "vesin")
    from ase.build import bulk
    from crystals import rattled

    from atomml import AtomMLCalculator, load_model

    model = load_model("chgnet-0.3.0", device="cpu")
    sizes, medians = [], []
    print("\n| atoms | ms | µs per atom |\n|---|---|---|")
    for repeat in told.repeats:
        atoms = bulk("Si", cubic=True).repeat(repeat)
        spent = []
        for seed in range(told.rounds + 1):
            frame, calculator = rattled(atoms, 0.05, seed), AtomMLCalculator(model)
            start = time.perf_counter()
            calculator.calculate(frame, ["energy", "forces", "stress"])
            spent.append(time.perf_counter() - start)
        sizes.append(len(atoms))
        medians.append(statistics.median(spent[1:]))
        print(f"| {sizes[-1]} | {1e3 * medians[-1]:.1f} | {1e6 * medians[-1] / sizes[-1]:.0f} |", flush=True)
    slope = np.polyfit(np.log(sizes), np.log(medians), 1)[0]
    print(f"\ntime grows as atoms to the power {slope:.2f}")


if __name__ == "__main__":
    main()
