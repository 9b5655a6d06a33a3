"""The thermoelectric study: three families and their combination on the same folds, random and by prototype.

    python benchmarks/property_transport.py --out /tmp/transport [--threads 2] [--epochs 30]
    python benchmarks/property_transport.py --parity /tmp/transport/parity.csv

2,549 binary crystals (``../shared/data/transport``; Ricci et al. 2017): Seebeck coefficients, conductivities
and power factors of both dopings. Goes on where it was stopped, and prints the table that RESULTS.md keeps.

``--parity`` trains nothing: of the answers that a study of random folds left it forms the combined model
again, with the weights of the other folds' tests, and beside it the power factor that follows from the
combined |S| and conductivity, ``log PF = 2 log |S| + log sigma`` and a constant.
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
    parser.add_argument("--out", type=Path)
    parser.add_argument("--parity", type=Path, help="parity.csv of a study of random folds")
    parser.add_argument("--targets", default=TARGETS)
    parser.add_argument("--families", default="cgcnn,fcnn,xgboost")
    parser.add_argument("--calibration", type=float, default=0.15, help="share for intervals")
    parser.add_argument("--ensemble", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--schemes", default="random,prototype")
    parser.add_argument("--descriptors", default="magpie,structure,chgnet-0.3.0")
    told = parser.parse_args()
    if told.parity is not None:
        combine(told.parity)
        return
    if told.out is None:
        parser.error("--out or --parity is needed")
    limit_threads(told.threads)
    import torch

    torch.set_num_threads(told.threads)
    describe("xgboost-cpu")
    from atomml.workflows.properties.property_study import study_property

    started = time.perf_counter()
    found = study_property(
        str(DATA),
        target=told.targets,
        family=told.families,
        calibration_fraction=told.calibration,
        ensemble=told.ensemble,
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
            cover = list(models.values())[-1][target]["coverage"]
            print(f"| {scheme} | {target} | {' | '.join(cells)} | {_text(cover)} |")
    print(f"{time.perf_counter() - started:.0f} s of this run")


def combine(path: Path, n_folds: int = 5, seed: int = 0) -> None:
    """The combined model of a study's answers, and the power factor by its definition; R² with intervals."""
    import csv

    import numpy as np

    from atomml.property.folds import random_folds
    from atomml.property.scores import number_scores
    from atomml.property.targets import Target
    from atomml.workflows.properties.property_weights import family_weights

    labels: dict[str, dict[str, float]] = {}
    answers: dict[str, dict[str, dict[str, float]]] = {}
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            if row["scheme"] == "random" and row["model"] != "combined":
                labels.setdefault(row["target"], {})[row["id"]] = float(row["label"])
                mine = answers.setdefault(row["target"], {}).setdefault(row["model"], {})
                mine[row["id"]] = float(row["prediction"])
    found: dict[str, Any] = {}
    for target, known in labels.items():
        ids = list(known)
        members = np.array([[one[name] for name in ids] for one in answers[target].values()])
        y, combined, shares = np.array(list(known.values())), np.empty(len(ids)), []
        for test in random_folds(len(ids), n_folds, seed):
            rest = np.setdiff1d(np.arange(len(ids)), test)
            weights = family_weights(members[:, rest], y[rest], Target(target), len(members))
            combined[test] = weights @ members[:, test]
            shares.append(weights)
        found[target] = y, combined
        each = [number_scores(y, one)["r2"] for one in members]
        cells = [_text(one) for one in [*each, number_scores(y, combined)["r2"]]]
        mean = ", ".join(f"{w:.2f}" for w in np.mean(shares, axis=0))
        print(f"| {target} | {' | '.join(cells)} | {mean} |")
    for doping in "pn":
        (y, _), (_, s), (_, sigma) = (found[f"{k}_{doping}"] for k in ("log_PF", "abs_S", "log_sigma"))
        product = 2 * np.log10(np.maximum(s, 1.0)) + sigma
        product += np.median(y - product)
        print(f"log PF, {doping}, from combined |S| and sigma: R² {_text(number_scores(y, product)['r2'])}")


def _text(value: Any) -> str:
    known, low, high = value
    return f"{known:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
