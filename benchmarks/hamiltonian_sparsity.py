"""What sparse tensor products cost and save: dense, 30, 50 and 70% of the paths dropped.

Times of the tensor products alone and of whole steps and predictions on water and a molecule of 19 atoms,
dense and sparse in turn, one thread; and with ``--accuracy``, errors on water after a short training, three
seeds, with the store that ``hamiltonian_learning.py water`` has labelled.

    python benchmarks/hamiltonian_sparsity.py --accuracy hamiltonian-learning
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hamiltonian_speed import SVP, geometry
from machine import describe, limit_threads

SPARSITIES = (0.0, 0.3, 0.5, 0.7)
KINDS = {"by score": 0.0, "cheap first": 1.0}


def main() -> None:
    """Parse, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accuracy", type=Path, help="folder of hamiltonian_learning.py water")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--path-cost", type=float, default=0.0, help="of the trainings")
    told = parser.parse_args()
    limit_threads(told.threads)
    describe()
    times(told)
    if told.accuracy is not None:
        accuracy(told)


def times(told: argparse.Namespace) -> None:
    """Milliseconds of products, predictions and steps; fresh scores, so that the choice is at random."""
    from atomml.electronic.matrices import all_pairs
    from atomml.graph.batching import collate

    for name, n in (("water", 10), ("C7H10O2", 1)):
        graph = collate([all_pairs(geometry(name))] * n)
        print(f"\n{n} {name}:\n\n| dropped | chosen | paths | products | prediction | step | faster |")
        print("|---|---|---|---|---|---|---|")
        ways = [(s, kind) for s in SPARSITIES for kind in (KINDS if s else ("all",))]
        models = {way: model_of(way[0], KINDS.get(way[1], 0.0)) for way in ways}
        rows: dict[Any, list[tuple[float, float, float]]] = {way: [] for way in ways}
        for turn in range(told.rounds + 2):
            for way, model in models.items():
                found = timed(model, graph)
                if turn >= 2:
                    rows[way].append(found)
        dense = medians(rows[0.0, "all"])
        for (sparsity, kind), values in rows.items():
            own = medians(values)
            cells = " | ".join(f"{1e3 * value:.1f}" for value in own)
            gain = ", ".join(f"{a / b:.2f}" for a, b in zip(dense, own, strict=True))
            n_paths = sum(len(gate.indices()) for gate in gates_of(models[sparsity, kind]))
            print(f"| {sparsity:.0%} | {kind} | {n_paths} | {cells} | {gain} |", flush=True)


def model_of(sparsity: float, path_cost: float) -> Any:
    """A fresh model of the published size in its last phase."""
    import torch

    from atomml.potentials.sphnet import SPHNet

    torch.manual_seed(0)
    shape = {"shells": SVP, "level": "pbe/def2-svp", "sparsity": sparsity, "path_cost": path_cost}
    model = SPHNet.fresh("x", sorted(SVP), shape).eval()
    for gate in gates_of(model):
        gate.factor.data += 0.1 * torch.randn_like(gate.factor)
    model.begin_step(3, 100, 0)  # choose by score
    return model


def gates_of(model: Any) -> list[Any]:
    """The gates of its products."""
    from atomml.potentials.sphnet.gates import PathGate

    return [module for module in model.modules() if isinstance(module, PathGate)]


def timed(model: Any, graph: Any) -> tuple[float, float, float]:
    """Seconds in products (both ways), of a prediction, and of a forward and backward pass."""
    import torch

    with torch.no_grad():
        started = time.perf_counter()
        model.matrix_blocks(graph)
        prediction = time.perf_counter() - started
    with clocked() as spent:
        started = time.perf_counter()
        blocks = model.matrix_blocks(graph)
        sum(part.square().sum() for part, _ in blocks.entries()).backward()
        step = time.perf_counter() - started
    model.zero_grad()
    return spent[0], prediction, step


@contextmanager
def clocked() -> Iterator[list[float]]:
    """Seconds that the products' kernels take inside."""
    from atomml.potentials.sphnet import products

    spent, run = [0.0], products.run_ranges

    def watched(*arguments: Any) -> None:
        """The same, timed."""
        started = time.perf_counter()
        run(*arguments)
        spent[0] += time.perf_counter() - started

    products.run_ranges = watched  # type: ignore[assignment]
    try:
        yield spent
    finally:
        products.run_ranges = run  # type: ignore[assignment]


def medians(values: list[tuple[float, float, float]]) -> tuple[float, ...]:
    """Of each column."""
    columns: Callable[[int], list[float]] = lambda i: sorted(row[i] for row in values)  # noqa: E731
    return tuple(columns(i)[len(values) // 2] for i in range(3))


def accuracy(told: argparse.Namespace) -> None:
    """Errors on water of short trainings."""
    from atomml.workflows.electronic.hamiltonian_training import train_hamiltonian

    stores = {
        part: next(iter(sorted(told.accuracy.glob(f"water-{part}-*.lmdb"))))
        for part in ("train", "valid", "test")
    }
    print(f"\nwater, {told.steps} steps, test errors in µEh:\n")
    print("| dropped | seeds | mean | step, ms |\n|---|---|---|---|")
    for sparsity in SPARSITIES:
        errors, seconds = [], []
        for seed in range(told.seeds):
            out = told.accuracy / f"sparsity-{sparsity}-{told.path_cost}-{told.steps}-seed{seed}"
            started = time.perf_counter()
            result = train_hamiltonian(
                str(stores["train"]),
                str(stores["valid"]),
                test=str(stores["test"]),
                model={"family": "sphnet-small", "sparsity": sparsity, "path_cost": told.path_cost},
                out=out,
                overwrite=True,
                max_steps=told.steps,
                epochs=100_000,
                seed=seed,
                valid_every=100,
            )
            errors.append(float(result.test_mae or 0.0))
            seconds.append((time.perf_counter() - started) / told.steps)
        each = ", ".join(f"{error:.1f}" for error in errors)
        mean = sum(errors) / len(errors)
        print(f"| {sparsity:.0%} | {each} | {mean:.1f} | {1e3 * min(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()
