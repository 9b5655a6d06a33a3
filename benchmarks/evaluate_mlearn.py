"""Published CHGNet 0.3.0 on the mlearn test sets, beside the potentials published with the data.

Usage: ``python benchmarks/evaluate_mlearn.py [--data FOLDER] [--model chgnet-0.3.0] [--json FILE]``

The data are those of Zuo et al., J. Phys. Chem. A 124, 731 (2020): Si, Mo and Li, PBE. A model of
ours can be given instead; ``--json`` keeps the numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ELEMENTS = ("Si", "Mo", "Li")
PUBLISHED = {  # MAE on the same files: meV/atom, eV/Å
    "SNAP": {"Si": (6.4, 0.133), "Mo": (5.5, 0.207), "Li": (1.03, 0.028)},
    "qSNAP": {"Si": (3.8, 0.116), "Mo": (2.8, 0.184), "Li": (0.73, 0.033)},
}


def main() -> int:
    """Evaluate, print the table, and return 0; 2 where the data are not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mlearn"))
    parser.add_argument("--model", default="chgnet-0.3.0")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.stderr.write(f"{options.data} is no folder: give --data.\n")
        return 2
    found = {element: measure(options.data / f"{element}_test.extxyz", options.model) for element in ELEMENTS}
    print_table(options.model, found)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(path: Path, model: str) -> dict[str, dict[str, Any]]:
    """The lines of the whole set, by quantity."""
    from atomml.workflows import evaluate

    return {line["quantity"]: line for line in evaluate(path, model).errors}


def print_table(model: str, found: dict[str, dict[str, dict[str, Any]]]) -> None:
    """One row per element: MAE with 95% intervals, and what was published."""
    sys.stdout.write(f"MAE on the mlearn test sets; brackets: 95% interval over structures ({model})\n\n")
    heads = ["energy (meV/atom)", "shifted energy", "forces (eV/Å)", "SNAP", "qSNAP"]
    sys.stdout.write("| | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 1) + "\n")
    for element, lines in found.items():
        cells = [
            cell(lines["energy_meV_per_atom"], 1, 1),
            cell(lines["shifted_energy_meV_per_atom"], 1, 1),
            cell(lines["forces_meV_per_A"], 1000, 3),
            *("{:g}, {:g}".format(*PUBLISHED[name][element]) for name in PUBLISHED),
        ]
        sys.stdout.write(f"| {element} | " + " | ".join(cells) + " |\n")


def cell(line: dict[str, Any], divisor: float, digits: int) -> str:
    """``88.5 [74.2, 102.4]``."""
    mean, low, high = (line[name] / divisor for name in ("mae", "mae_low", "mae_high"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
