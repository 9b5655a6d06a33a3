"""Peak resident memory of energy, forces and stress of LiCoO2 with 108 atoms, one process each."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from machine import describe

OURS = """
from atomml import AtomMLCalculator, load_model
calculator = AtomMLCalculator(load_model("chgnet-0.3.0", device="cpu"))
"""
THEIRS = """
from chgnet.model.dynamics import CHGNetCalculator
calculator = CHGNetCalculator(use_device="cpu")
"""
PROGRAM = """
import resource, sys, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(2)
from crystals import lithium_cobalt_oxide, rattled
{model}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for seed in range(3):
    frame = rattled(lithium_cobalt_oxide(), 0.05, seed)
    calculator.calculate(frame, ["energy", "forces", "stress"], ["positions"])
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    """Run both and print peak and ratio."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    describe("chgnet")
    peaks = {}
    print("\n| | loaded, MB | peak, MB |\n|---|---|---|")
    for name, model in (("chgnet", THEIRS), ("atomml", OURS)):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(model=model)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
        loaded, peak = (int(word) / 1000 for word in done.stdout.split()[-2:])
        peaks[name] = peak
        print(f"| {name} | {loaded:.0f} | {peak:.0f} |")
    print(f"\natomml needs {peaks['atomml'] / peaks['chgnet']:.0%} of chgnet's peak")


if __name__ == "__main__":
    main()
