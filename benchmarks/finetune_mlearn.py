"""Fine-tuning CHGNet 0.3.0 on the mlearn data: errors on its test files.

The data are those of Zuo et al., J. Phys. Chem. A 124, 731 (2020).

One JSON line per run: test errors of the published weights, of the fine-tuned ones, and what it took; a table
at the end. ``--fraction 0.1`` takes a seeded tenth of the training files, ``--scratch`` trains the same
network from fresh weights for the same time. Everything is trained on, nothing held out: the weights are
those of the moving average after the last step. Errors carry 95% intervals over structures.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

QSNAP = {"Si": (3.8, 116.0), "Mo": (2.8, 184.0), "Li": (0.73, 33.0)}
"""Test MAE of the qSNAP potentials published with the data: meV/atom, meV/Å."""

RECIPES: dict[str, dict[str, str]] = {
    "Si": {"group_weights": "Surface=4", "batch_size": "2"},  # 12 of 214 cells, and small ones
    "Mo": {},
    "Li": {"energy_weight": "10:100@0.6"},  # forces are small there
}
"""Options of each element beside the defaults; ``--set`` stands above them."""

TO_REACH = {"Si": (3.8, 69.0), "Mo": (2.8, 184.0), "Li": (0.73, 27.0)}


def main() -> None:
    """Parse, train, print."""
    told = parse()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(told.threads)
    rows = []
    for element in told.element:
        for seed in told.seed:
            row = run(element, seed, told)
            print(json.dumps(row), flush=True)
            rows.append(row)
    print("| | seed | structures | steps | s | core s | published | fine-tuned | qSNAP | to reach |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        pairs = [_pair(values) for values in (QSNAP[row["element"]], TO_REACH[row["element"]])]
        facts = (row["element"], row["seed"], row["structures"], row["steps"])
        spent = (f"{row['total_s']:.0f}", f"{row['cpu_s']:.0f}")
        print(f"| {' | '.join(map(str, (*facts, *spent, row['published'], row['test'], *pairs)))} |")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--element", nargs="+", default=["Si", "Mo", "Li"], choices=list(QSNAP))
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the training file")
    parser.add_argument("--scratch", action="store_true", help="train fresh weights instead")
    parser.add_argument("--method", default="full", help="full, frozen or replay")
    parser.add_argument("--max-time", default="15m")
    parser.add_argument("--epochs", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mlearn"))
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another option")
    return parser.parse_args()


def run(element: str, seed: int, told: argparse.Namespace) -> dict[str, Any]:
    """One training; returns what it reached."""
    from atomml.workflows import finetune, train

    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / f"{element}.extxyz"
        n = take(told.data / f"{element}_train.extxyz", chosen, told.fraction, seed)
        test = told.data / f"{element}_test.extxyz"
        kind = "scratch" if told.scratch else told.method
        out = (told.out or Path(folder)) / f"{element}-{kind}-{told.fraction:g}-{seed}"
        common: dict[str, Any] = {
            "test": test,
            "out": out,
            "overwrite": True,
            "seed": seed,
            "max_time": told.max_time,
            "epochs": told.epochs,
            "valid_fraction": 0.0,
            **RECIPES[element],
            **dict(text.split("=", 1) for text in told.set),
        }
        before = time.process_time()
        if told.scratch:
            result = train("chgnet", chosen, **common)
        else:
            result = finetune("chgnet-0.3.0", chosen, method=told.method, **common)
        cpu = time.process_time() - before
        reached = errors(test, result.model)
    return {
        "element": element,
        "seed": seed,
        "kind": kind,
        "fraction": told.fraction,
        "structures": n,
        "steps": result.steps,
        "total_s": result.summary["timing"]["total_s"],
        "cpu_s": cpu,
        "published": errors(test, "chgnet-0.3.0"),
        "test": reached,
    }


def take(source: Path, target: Path, fraction: float, seed: int) -> int:
    """Copy a seeded share of the frames of an extended-XYZ file; returns how many."""
    import numpy as np

    lines, frames = source.read_text().splitlines(keepends=True), []
    position = 0
    while position < len(lines) and lines[position].strip():
        end = position + int(lines[position]) + 2
        frames.append("".join(lines[position:end]))
        position = end
    n = max(round(fraction * len(frames)), 1)
    chosen = sorted(np.random.default_rng(seed).permutation(len(frames))[:n])
    target.write_text("".join(frames[k] for k in chosen))
    return n


def errors(test: Path, model: str) -> str:
    """Energy (meV/atom) and force (meV/Å) errors of a model with their intervals."""
    from evaluate_mlearn import cell, measure

    lines = measure(test, model)
    return f"{cell(lines['energy_meV_per_atom'], 1, 2)}, {cell(lines['forces_meV_per_A'], 1, 1)}"


def _pair(values: tuple[float, float]) -> str:
    return f"{values[0]:.2f}, {values[1]:.1f}"


if __name__ == "__main__":
    main()
