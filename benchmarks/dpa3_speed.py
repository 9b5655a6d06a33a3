"""DPA3 of six layers: energy, forces and virial by atomml and by deepmd-kit 3.2's PyTorch backend, in turn.

    python benchmarks/dpa3_speed.py [--selection dynamic fixed] [--rounds 6]

deepmd-kit runs in an environment of its own (``--peer-env``, made by pip if it is not there). It draws
random weights of the shape of its ``examples/water/dpa3`` and saves a checkpoint; that file goes through
what ``atomml convert deepmd`` does, so both have the same weights, and the first line says how far their
answers are apart. Both are timed from positions to virial, neighbour lists included. Prints what share of the
counted limit is reached, with ``--memory`` the peak of each process, with ``--growth`` the time against size.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads, product_rate
from peer import Peer, interpreter

PEER = ("deepmd-kit[torch]==3.2.0", "mpich")
SELECTIONS = {
    "dynamic": {"use_dynamic_sel": True, "sel_reduce_factor": 10.0, "e_sel": 1200, "a_sel": 300},
    "fixed": {"e_sel": 120, "a_sel": 30},
}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--selection", nargs="*", default=["dynamic", "fixed"], choices=list(SELECTIONS))
    parser.add_argument("--only", nargs="*", help="names of structures")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-env", type=Path, default=Path(tempfile.gettempdir(), "deepmd-env"))
    parser.add_argument("--memory", action="store_true", help="peak memory of one evaluation of water-192")
    parser.add_argument(
        "--training",
        action="store_true",
        help="a training step on one frame: water-192, or --only, such as water-81",
    )
    parser.add_argument(
        "--cpu", action="store_true", help="that step in CPU time, on a machine that is shared"
    )
    parser.add_argument("--plain", action="store_true", help="that step by the plain path too")
    parser.add_argument("--growth", action="store_true", help="time against size, silicon, no peer")
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
    for selection in told.selection:
        with tempfile.TemporaryDirectory() as folder:
            compare(selection, Path(folder) / f"{selection}.pt", told, rate)


def settings_of(selection: str, layers: int) -> dict[str, Any]:
    """The model section of deepmd-kit's example, for water and silicon."""
    repflow = {
        "n_dim": 128,
        "e_dim": 64,
        "a_dim": 32,
        "nlayers": layers,
        "e_rcut": 6.0,
        "e_rcut_smth": 5.3,
        "a_rcut": 4.0,
        "a_rcut_smth": 3.5,
        "a_compress_rate": 1,
        "a_compress_e_rate": 2,
        "a_compress_use_split": True,
        "smooth_edge_update": True,
        "edge_init_use_dist": True,
        "use_exp_switch": True,
        **SELECTIONS[selection],
    }
    act = "silut:10.0"
    descriptor = {"type": "dpa3", "repflow": repflow, "activation_function": act, "precision": "float32"}
    fitting = {
        "neuron": [240, 240, 240],
        "resnet_dt": True,
        "activation_function": act,
        "precision": "float32",
    }
    return {"type_map": ["O", "H", "Si"], "descriptor": descriptor, "fitting_net": fitting}


def compare(selection: str, file: Path, told: argparse.Namespace, rate: float) -> None:
    """A table for one selection."""
    import numpy as np
    from crystals import liquid_and_silicon, rattled
    from crystals import water as liquid
    from pairing import HEAD, Pair, seconds_of

    from atomml import AtomMLCalculator
    from atomml.checkpoint import save_model
    from atomml.potentials.dpa3.deepmd_files import convert_deepmd
    from atomml.registry import prepare

    settings = json.dumps(settings_of(selection, told.layers))
    arguments = [settings, str(file), "--threads", str(told.threads)]
    peer = Peer(interpreter(told.peer_env, PEER), "dpa3_peer.py", arguments)
    structures = liquid_and_silicon()
    if told.training:  # for which deepmd-kit needs 10 GB of water-192
        structures["water-81"] = liquid(3)
    water = structures[told.only[0] if told.training and told.only else "water-192"]
    theirs = ask(peer, water, answers=True)
    model = prepare(convert_deepmd(file), "float32", "cpu")
    calculator = AtomMLCalculator(model)
    calculator.calculate(water, ["energy", "forces", "stress"])
    apart = abs(calculator.results["energy"] - theirs["energy"]) / len(water)
    forces = np.abs(calculator.results["forces"] - np.array(theirs["forces"])).max()
    rms = np.sqrt((np.array(theirs["forces"]) ** 2).mean())
    print(f"\n{selection}: apart {apart:.1e} eV/atom, {forces:.1e} eV/Å at an RMS force of {rms:.2f} eV/Å")
    if told.memory:
        saved = file.with_suffix(".safetensors")
        save_model(model, saved)
        command = [sys.executable, __file__, "--measure", str(saved), "--threads", str(told.threads)]
        ours = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"peak memory, MB: deepmd-kit {theirs['peak'] / 1e3:.0f}, atomml {ours / 1e3:.0f}")
        return
    if told.growth:
        grow(model)
        return
    if told.training:
        for name, atoms in structures.items():
            if name in (told.only or ["water-192"]):
                learn(peer, file, [rattled(atoms, 0.02, 1)], told, f"{selection}, {name}")
        peer.close()
        return
    print(f"\n{HEAD}")
    shares = []
    for name, atoms in structures.items():
        if told.only and name not in told.only:
            continue
        pair = Pair([], [])
        for seed in range(told.rounds + 1):
            moved = rattled(atoms, 0.005, seed)
            spent = seconds_of(
                lambda moved=moved: AtomMLCalculator(model).calculate(moved, ["energy", "stress"])
            )
            reply = ask(peer, moved)
            if seed:
                pair.ours.append(spent)
                pair.theirs.append(reply["ms"] / 1e3)
        print(pair.row(f"{selection}, {name}"), flush=True)
        shares.append((name, gflop(atoms, told.layers) / rate, statistics.median(pair.ours)))
    print("\n| | products alone, ms | atomml, ms | share of the limit |\n|---|---|---|---|")
    for name, limit, ours in shares:
        print(f"| {selection}, {name} | {1e3 * limit:.0f} | {1e3 * ours:.0f} | {limit / ours:.0%} |")
    peer.close()


def learn(peer: Peer, file: Path, structures: list[Any], told: argparse.Namespace, name: str) -> None:
    """Rows of a training step and, with ``--plain``, of the same by torch differentiating twice."""
    from pairing import HEAD

    print(f"\n{HEAD}")
    for plain in (False, True) if told.plain else (False,):
        pair, peaks = training(peer, file, structures, told, plain=plain)
        print(pair.row(f"{name}, step, plain path" if plain else f"{name}, step"), flush=True)
        print("peak memory, MB: deepmd-kit {:.0f}, atomml {:.0f}".format(*peaks))


def training(
    peer: Peer, file: Path, structures: list[Any], told: argparse.Namespace, *, plain: bool
) -> tuple[Any, tuple[float, float]]:
    """Steps on energies and forces that should be zero, all weights, Adam, neighbour lists included."""
    import torch
    from pairing import Pair

    from atomml.graph import build_graph
    from atomml.potentials.dpa3.deepmd_files import convert_deepmd
    from atomml.registry import prepare

    model = prepare(convert_deepmd(file), "float32", "cpu")
    for weights in model.parameters():
        weights.requires_grad_()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-6)
    losses: list[float] = []

    def step() -> None:
        """As the peer's."""
        graph = build_graph(structures, model.info.cutoff, model.info.bond_cutoff)
        graph.positions.requires_grad_(plain)  # which insists on the plain path
        optimiser.zero_grad()
        found = model.differentiable(graph, stress=False, create_graph=True)
        assert found.forces is not None
        loss = (found.energy / len(structures[0])).square().mean() + found.forces.square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    batch = [
        {"symbols": list(a.symbols), "positions": a.positions.tolist(), "cell": a.cell.tolist()}
        for a in structures
    ]
    pair, clock = Pair([], []), time.process_time if told.cpu else time.perf_counter
    for number in range(told.rounds + 1):
        start = clock()
        step()
        spent = clock() - start
        ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        reply = peer.send({"batch": batch})
        if number == 0 and not plain:  # before the plain path's the peer has made steps already
            print(f"first loss: deepmd-kit {reply['loss']:.6g}, atomml {losses[0]:.6g}")
        if number > 0:
            pair.ours.append(spent)
            pair.theirs.append(reply["cpu_ms" if told.cpu else "ms"] / 1e3)
    return pair, (reply["peak"] / 1e3, ours)


def ask(peer: Peer, atoms: Any, *, answers: bool = False) -> dict[str, Any]:
    """One evaluation."""
    given = {"symbols": atoms.get_chemical_symbols(), "positions": atoms.positions.tolist()}
    return peer.send({**given, "cell": atoms.cell.tolist(), "answers": answers})


def gflop(atoms: Any, layers: int) -> float:
    """GFLOP of products that no arrangement avoids, forwards and back, concatenations taken apart.

    Of edges to messages and their own update (the last layer has no update), of angles likewise (the last
    layer has none, the one below no update, the first is a multiple of one row), of bonds and atoms.
    """
    import numpy as np
    from ase.neighborlist import neighbor_list

    n_atoms, n_edges = len(atoms), len(neighbor_list("i", atoms, 6.0))
    counts = np.bincount(neighbor_list("i", atoms, 4.0), minlength=n_atoms)
    n_bonds, n_angles = counts.sum(), (counts**2).sum()
    edges = n_edges * 64 * (layers * 128 + (layers - 1) * 64)
    angles = n_angles * 32 * ((layers - 2) * 64 + max(layers - 3, 0) * 32)
    bonds = n_bonds * 64 * (2 * 96 + 64) * (layers - 1)
    node = n_atoms * 128 * (2 * 192 + 96 + 128 + 768) * layers
    return float(2 * 2 * (edges + angles + bonds + node) / 1e9)


def grow(model: Any) -> None:
    """Milliseconds of silicon crystals of 64 to 4,096 atoms."""
    import numpy as np
    from ase.build import bulk
    from crystals import rattled
    from pairing import seconds_of

    from atomml import AtomMLCalculator

    sizes, spent = [], []
    print("\n| atoms | ms | µs per atom |\n|---|---|---|")
    for n in (2, 3, 5, 8):
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


def peak_of(file: Path) -> int:
    """Peak resident kB of a process that loads a model and evaluates water once."""
    from crystals import liquid_and_silicon

    from atomml import AtomMLCalculator, load_model

    water = liquid_and_silicon()["water-192"]
    AtomMLCalculator(load_model(file)).calculate(water, ["energy", "forces", "stress"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
