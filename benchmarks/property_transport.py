"""The thermoelectric study: three families and their combination on the same folds, random and by prototype.

    python benchmarks/property_transport.py --out /tmp/transport [--threads 2] [--epochs 30]

2,549 binary crystals (``../shared/data/transport``; Ricci et al. 2017): Seebeck coefficients, conductivities
and power factors of both dopings. Goes on where it was stopped, and prints the table that RESULTS.md keeps.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

DATA = Path(__file__).parents[2] / "shared" / "data" / "transport" / "ricci_binaries.extxyz.gz"
TARGETS = "S_p:abs,S_n:abs,sigma_p:log,sigma_n:log,PF_p:log,PF_n:log"


def main() -> None:
    """Run, and print a row for each target and model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--schemes", default="random,prototype")
    parser.add_argument("--descriptors", default="magpie,structure,chgnet-0.3.0")
    told = parser.parse_args()
    limit_threads(told.threads)
    import torch

    torch.set_num_threads(told.threads)
    describe("xgboost-cpu")
    from atomml.workflows.properties.property_study import study_property

    started = time.perf_counter()
    found = study_property(
        str(DATA),
        target=TARGETS,
        family="cgcnn,fcnn,xgboost",
        descriptors=told.descriptors,
        schemes=told.schemes,
        epochs=told.epochs,
        rounds=told.rounds,
        patience_rounds=50,
        learning_rate=0.003,
        device="cpu",
        out=told.out,
        resume=told.out.exists(),
    )
    n, pairs = found.n_structures, found.n_duplicates
    print(f"{n} crystals, {found.n_prototypes} prototypes, {pairs} pairs of duplicates")
    for scheme, models in found.table.items():
        for target in next(iter(models.values())):
            cells = [f"{_text(models[model][target]['r2'])}" for model in models]
            cover = models["combined"][target]["coverage"]
            print(f"| {scheme} | {target} | {' | '.join(cells)} | {_text(cover)} |")
    print(f"{time.perf_counter() - started:.0f} s of this run")


def _text(value: Any) -> str:
    known, low, high = value
    return f"{known:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
