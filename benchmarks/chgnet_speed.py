"""Energy, forces and stress by CHGNet 0.3.0, float32: atomml against the chgnet package, in turn.

Both get the structure and build their graph (``cold``, as a relaxation's first step); ``MD`` moves the
atoms a little in each round, as molecular dynamics does, where atomml's neighbour list outlives the step.
Prints what share of the counted limit is reached: the matrix products alone at this machine's rate.
"""

from __future__ import annotations

import argparse
import statistics
import warnings

from machine import describe, limit_threads, product_rate

C, R, A = 64, 31, 31
"""Channels, radial and angular basis functions of CHGNet 0.3.0."""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="names of structures")
    told = parser.parse_args()
    limit_threads(told.threads)
    import torch

    torch.set_num_threads(told.threads)
    warnings.simplefilter("ignore")
    describe("chgnet", "numba", "vesin")
    compare(told.rounds, told.only)


def compare(rounds: int, only: list[str] | None) -> None:
    """One line for each structure and mode."""
    from ase import Atoms
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet
    from crystals import named, rattled
    from pairing import HEAD, in_turn

    from atomml import AtomMLCalculator, load_model

    model = load_model("chgnet-0.3.0", device="cpu")
    peer = CHGNet.load(use_device="cpu", verbose=False)
    rate = product_rate()
    print(f"matrix products: {rate:.0f} GFLOP/s\n\n{HEAD}")
    shares = []
    for name, atoms in named().items():
        if only and name not in only:
            continue
        steps = [rattled(atoms, 0.005, seed) for seed in range(rounds + 2)]
        limit = products_gflop(atoms) / rate
        for mode in ("cold", "MD"):
            theirs = CHGNetCalculator(peer, use_device="cpu")
            kept = AtomMLCalculator(model)

            def ours(queue: list[Atoms], mode: str = mode, kept: AtomMLCalculator = kept) -> None:
                calculator = AtomMLCalculator(model) if mode == "cold" else kept
                calculator.calculate(queue.pop(), ["energy", "forces", "stress"], ["positions"])

            def peers(queue: list[Atoms], calculator: CHGNetCalculator = theirs) -> None:
                calculator.calculate(queue.pop(), ["energy", "forces", "stress"], ["positions"])

            mine, other = list(steps), list(steps)
            pair = in_turn(lambda: ours(mine), lambda: peers(other), rounds)  # noqa: B023
            print(pair.row(f"{name}, {mode}"), flush=True)
            if mode == "MD":
                shares.append((name, limit, statistics.median(pair.ours)))
    print("\n| | products alone, ms | atomml (MD), ms | share of the limit |\n|---|---|---|---|")
    for name, limit, spent in shares:
        print(f"| {name} | {1e3 * limit:.0f} | {1e3 * spent:.0f} | {limit / spent:.0%} |")


def products_gflop(atoms: object) -> float:
    """GFLOP of the matrix products that no arrangement avoids, forwards and backwards.

    Products of weights with a concatenation are taken apart into work per atom, per bond and per
    angle. Per layer a gated MLP is two nets, core and gate: their first layers (2c wide) act on each
    input once, the second layers (c by c, twice) on each row. Backwards takes the same again.
    """
    from atomml.graph import build_graph

    graph = build_graph(atoms, 6.0, 3.0)
    assert graph.bond_graph is not None
    n, e, a = graph.n_atoms, graph.n_edges, graph.bond_graph.n_angles
    u, s = e / 2, len(graph.bond_graph.bonds) / 2
    first, second, square = 2 * C * C, 2 * C * C, C * C
    bond_terms = u * R * (4 * 2 * C + C)  # four atom layers' bond columns and weights, from the basis
    atom_layers = 4 * (n * 2 * first + e * second + n * square) + 3 * s * first
    bond_layers = 3 * (n * first + s * 2 * first + a * second + s * square) + (a * A + 2 * a * C) * 2 * C
    angle_layers = 2 * (n * first + s * 2 * first) + (a * A + a * C) * 2 * C
    embedding = a * A * C + s * R * 2 * C + 3 * n * square
    return 2 * 2 * (bond_terms + atom_layers + bond_layers + angle_layers + embedding) / 1e9


if __name__ == "__main__":
    main()
