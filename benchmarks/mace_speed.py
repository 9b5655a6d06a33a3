"""MACE of the published sizes: energy, forces and stress by atomml and by mace-torch 0.3.16, in turn.

    python benchmarks/mace_speed.py [--sizes small medium] [--rounds 8]

mace-torch runs in an environment of its own (``--peer-env``, made by pip if it is not there). It draws
random weights of MACE-MP-0's shape and saves the model whole; that file goes through what ``atomml convert
mace`` does, so both have the same weights, and the first line of a size says how far their answers are apart.
Both are timed through their ASE calculators, from positions to stress, neighbour lists included. Prints what
share of the counted limit is reached, and with ``--memory`` the peak of each process.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import describe, limit_threads, product_rate
from peer import Peer, interpreter

SIZES = {"small": "128x0e", "medium": "128x0e+128x1o", "large": "128x0e+128x1o+128x2e"}
PEER = ("mace-torch==0.3.16", "torch>=2.10,<2.14")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="*", default=["small", "medium"], choices=list(SIZES))
    parser.add_argument("--only", nargs="*", help="names of structures")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-env", type=Path, default=Path(tempfile.gettempdir(), "mace-env"))
    parser.add_argument("--memory", action="store_true", help="peak memory of one evaluation of water-192")
    parser.add_argument("--growth", action="store_true", help="time against size, silicon, no peer")
    parser.add_argument("--training", action="store_true", help="a training step on four crystals of Si-64")
    parser.add_argument("--acac", type=Path, help="extxyz of molecules: a training step on eight of them")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    limit_threads(told.threads)
    import torch

    torch.set_num_threads(told.threads)
    if told.measure:
        print(peak_of(told.measure))
        return
    describe("numba", "vesin")
    rate = product_rate()
    print(f"matrix products: {rate:.0f} GFLOP/s")
    for size in told.sizes:
        with tempfile.TemporaryDirectory() as folder:
            compare(size, Path(folder) / f"{size}.model", told, rate)


def compare(size: str, file: Path, told: argparse.Namespace, rate: float) -> None:
    """A table for one size."""
    import numpy as np
    from crystals import liquid_and_silicon, rattled
    from pairing import HEAD, Pair, seconds_of

    from atomml import AtomMLCalculator
    from atomml.checkpoint import save_model
    from atomml.potentials.mace.pickled import convert_mace
    from atomml.registry import prepare

    peer = start_peer(told, size, file)
    structures = liquid_and_silicon()
    first = structures["water-192"]
    theirs = ask(peer, first, answers=True)
    model = prepare(convert_mace(file), "float32", "cpu")
    calculator = AtomMLCalculator(model)
    calculator.calculate(first, ["energy", "forces", "stress"])
    apart = abs(calculator.results["energy"] - theirs["energy"]) / len(first)
    forces = np.abs(calculator.results["forces"] - np.array(theirs["forces"])).max()
    rms = np.sqrt((np.array(theirs["forces"]) ** 2).mean())
    print(f"\n{size}: apart {apart:.1e} eV/atom, {forces:.1e} eV/Å at an RMS force of {rms:.2f} eV/Å")
    if told.memory:
        saved = file.with_suffix(".safetensors")
        save_model(model, saved)
        command = [sys.executable, __file__, "--measure", str(saved), "--threads", str(told.threads)]
        ours = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"peak memory, MB: mace-torch {theirs['peak'] / 1e3:.0f}, atomml {ours / 1e3:.0f}")
        return
    if told.growth:
        grow(model)
        return
    if told.training or told.acac:
        batch = (
            molecules(told.acac) if told.acac else [displaced(structures["Si-64"], seed) for seed in range(4)]
        )
        print(f"\n{HEAD}")
        print(training(peer, file, batch, told.rounds).row(f"{size}, training step"))
        peer.close()
        return
    print(f"\n{HEAD}")
    shares = []
    for name, atoms in structures.items():
        if told.only and name not in told.only:
            continue
        pair = Pair([], [])
        for seed in range(told.rounds + 2):
            moved = rattled(atoms, 0.005, seed)
            spent = seconds_of(
                lambda moved=moved: AtomMLCalculator(model).calculate(moved, ["energy", "stress"])
            )
            reply = ask(peer, moved)
            if seed >= 2:
                pair.ours.append(spent)
                pair.theirs.append(reply["ms"] / 1e3)
        print(pair.row(f"{size}, {name}"), flush=True)
        shares.append((name, gflop(size, atoms) / rate, statistics.median(pair.ours)))
    print("\n| | products alone, ms | atomml, ms | share of the limit |\n|---|---|---|---|")
    for name, limit, ours in shares:
        print(f"| {size}, {name} | {1e3 * limit:.0f} | {1e3 * ours:.0f} | {limit / ours:.0%} |")
    peer.close()


def peak_of(file: Path) -> int:
    """Peak resident kB of a process that loads a model and evaluates water once."""
    from crystals import liquid_and_silicon

    from atomml import AtomMLCalculator, load_model

    water = liquid_and_silicon()["water-192"]
    AtomMLCalculator(load_model(file)).calculate(water, ["energy", "forces", "stress"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def grow(model: Any) -> None:
    """Milliseconds of silicon crystals of 64 to 10,648 atoms, and the power that the time grows with."""
    import numpy as np
    from ase.build import bulk
    from crystals import rattled
    from pairing import seconds_of

    from atomml import AtomMLCalculator

    sizes, spent = [], []
    print("\n| atoms | ms | µs per atom |\n|---|---|---|")
    for n in (2, 3, 5, 8, 11):
        atoms = rattled(bulk("Si", cubic=True) * (n, n, n), 0.05, 1)
        times = [
            seconds_of(lambda atoms=atoms: AtomMLCalculator(model).calculate(atoms, ["energy", "stress"]))
            for _ in range(4)
        ]
        sizes.append(len(atoms))
        spent.append(min(times[1:]))
        print(f"| {sizes[-1]} | {1e3 * spent[-1]:.1f} | {1e6 * spent[-1] / sizes[-1]:.0f} |", flush=True)
    power = np.polyfit(np.log(sizes), np.log(spent), 1)[0]
    print(f"\ntime grows as atoms to the power {power:.2f}")


def training(peer: Peer, file: Path, structures: list[Any], rounds: int) -> Any:
    """Steps on energies and forces that should be zero, all weights, Adam, float32; graphs made before."""
    import torch
    from pairing import Pair, seconds_of

    from atomml.graph import build_graph
    from atomml.potentials.mace.pickled import convert_mace

    model = convert_mace(file).float()
    for weights in model.parameters():
        weights.requires_grad_()
    graph = build_graph(structures, model.info.cutoff)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-6)
    losses: list[float] = []

    def step() -> None:
        """As the peer's."""
        optimiser.zero_grad()
        found = model.differentiable(graph, stress=False, create_graph=True)
        assert found.forces is not None
        loss = (found.energy / 64).square().mean() + found.forces.square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    pair = Pair([], [])
    batch = [
        {
            "numbers": a.numbers.tolist(),
            "positions": a.positions.tolist(),
            "cell": a.cell.tolist(),
            "pbc": a.pbc.tolist(),
        }
        for a in structures
    ]
    for number in range(rounds + 1):
        spent = seconds_of(step)
        reply = peer.send({"batch": batch})
        if number == 0:
            print(f"first loss: mace-torch {reply['loss']:.6g}, atomml {losses[0]:.6g}")
        else:
            pair.ours.append(spent)
            pair.theirs.append(reply["ms"] / 1e3)
    return pair


def molecules(file: Path) -> list[Any]:
    """Eight evenly spaced frames of a file."""
    import ase.io

    frames = ase.io.read(file, ":")
    return [frames[i * len(frames) // 8] for i in range(8)]


def displaced(atoms: Any, seed: int) -> Any:
    """A copy, displaced by 0.1 Å."""
    copy = atoms.copy()
    copy.rattle(0.1, seed=seed)
    return copy


def gflop(size: str, atoms: Any) -> float:
    """GFLOP that no arrangement avoids, forwards and back: couplings of edges, and linear maps of atoms.

    For each edge, channel and non-zero pair of components of feature and message a product and a sum
    forwards, twice that backwards; radial weights a product; for each atom the linear maps before and after
    messages and products. The polynomials of the products are less than a tenth of it and left out.
    """
    from ase.neighborlist import neighbor_list

    n_edges, n_atoms = len(neighbor_list("i", atoms, 6.0)), len(atoms)
    # links and paths of the two layers, from degrees 0 to 3 of harmonics and messages
    links, paths, maps = {
        "small": (16 + 16, 4 + 4, 2 * (1 + 16 + 1 + 1)),
        "medium": (16 + 86, 4 + 10, (1 + 16 + 4 + 1) + (4 + 40 + 1 + 4)),
        "large": (16 + 266, 4 + 21, (1 + 16 + 9 + 1) + (9 + 100 + 1 + 9)),
    }[size]
    edges = n_edges * 128 * (6 * links + 4 * paths)
    linear = n_atoms * 128 * 128 * 2 * 2 * maps
    return (edges + linear) / 1e9


def start_peer(told: argparse.Namespace, size: str, file: Path) -> Peer:
    """The process of ``mace_peer.py``; e3nn 0.4.4 loads its constants by pickle."""
    arguments = [SIZES[size], str(file), "--threads", str(told.threads)]
    trust = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    return Peer(interpreter(told.peer_env, PEER), "mace_peer.py", arguments, trust)


def ask(peer: Peer, atoms: Any, *, answers: bool = False) -> dict[str, Any]:
    """One evaluation."""
    given = {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist()}
    return peer.send({**given, "cell": atoms.cell.tolist(), "answers": answers})


if __name__ == "__main__":
    main()
