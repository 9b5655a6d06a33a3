"""CGCNN and ALIGNN against their public codes: building inputs, an epoch of training, a pass of prediction.

    python benchmarks/property_speed.py --cgcnn /tmp/cgcnn --python /tmp/peer-env/bin/python

``/tmp/cgcnn`` is a clone of github.com/txie-93/cgcnn; the environment holds torch, pymatgen, ase, and
``alignn==2026.8.11`` with ``dgl==1.1.3``. Both sides take the same crystals (``../shared/data/transport``),
the published shapes, the same batches, float32, two threads. Runs alternate; each figure is the median.
``--rattle 0.05`` moves the atoms, so that no two are alike and nothing is gained by symmetry. ``--clock
cpu`` counts seconds of the processor, for a machine that does other work; take one thread with it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads
from peer import Peer

DATA = Path(__file__).parents[2] / "shared" / "data" / "transport" / "ricci_binaries.extxyz.gz"


def main() -> None:
    """Both networks; a row for each measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cgcnn", required=True, help="clone of CGCNN's public code")
    parser.add_argument("--python", required=True, type=Path, help="interpreter of the peers' environment")
    parser.add_argument("--only", default="cgcnn,alignn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rattle", type=float, default=0.0, help="Å by which atoms are moved: no symmetry")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which seconds count")
    found = parser.parse_args()
    limit_threads(found.threads)
    import torch

    torch.set_num_threads(found.threads)
    describe("xgboost-cpu")
    sizes = {"cgcnn": (512, 256), "alignn": (32, 16)}
    for kind in found.only.split(","):
        n, batch = sizes[kind]
        structures = crystals(n, found.rattle)
        peer = Peer(found.python, "property_peer.py", [kind, found.cgcnn, str(found.threads)])
        try:
            compare(kind, structures, batch, peer, found.repeats, found.clock)
        finally:
            peer.close()


def crystals(n: int, rattle: float) -> list[Any]:
    """Every so-manieth crystal of the set, its atoms moved if asked for."""
    from ase.io import read

    frames = read(str(DATA), ":")
    chosen = frames[:: max(len(frames) // n, 1)][:n]
    for seed, atoms in enumerate(chosen):
        if rattle > 0:
            atoms.rattle(rattle, seed=seed)
    return chosen


def compare(kind: str, structures: list[Any], batch: int, peer: Peer, repeats: int, clock: str) -> None:
    """One network: rows of a table."""
    given = [
        {
            "numbers": atoms.numbers.tolist(),
            "cell": atoms.cell.array.tolist(),
            "scaled": atoms.get_scaled_positions().tolist(),
        }
        for atoms in structures
    ]
    ours = Ours(kind, structures)
    seconds: dict[str, list[list[float]]] = {}
    for do in ("build", "train", "predict"):
        seconds[do] = [[], []]
        for repeat in range(repeats + 1):
            reply = peer.send({"do": do, "structures": given if do == "build" else [], "batch": batch})
            mine = ours.run(do, batch)
            if repeat:  # the first compiles and fills caches
                seconds[do][0].append(reply[clock])
                seconds[do][1].append(mine[clock])
    medians = {do: [statistics.median(side) for side in sides] for do, sides in seconds.items()}
    both = zip(medians["build"], medians["predict"], strict=True)
    medians["predict from structures"] = [a + b for a, b in both]
    n_atoms = sum(map(len, structures))
    print(f"{kind}: {len(given)} crystals, {n_atoms} atoms, batches of {batch}, {reply['weights']} weights")
    for do, (theirs, mine) in medians.items():
        print(f"| {kind} | {do} | {theirs:.2f} | {mine:.2f} | {theirs / mine:.1f} |")


class Ours:
    """The same in atomml: the samples, the objective and the gradients of ``atomml property train``."""

    def __init__(self, kind: str, structures: list[Any]) -> None:
        import numpy as np
        import torch

        from atomml.property.targets import Target
        from atomml.registry import family_class, seeded_generator
        from atomml.train.property_objective import PropertyObjective

        target = Target("x")
        self.structures = structures
        with seeded_generator(0):
            made: Any = family_class(kind, "the benchmark")
            self.model = made.fresh(kind, list(range(1, 101)), {"targets": [target]}).float()
        self.objective = PropertyObjective((target,), "mse")
        self.labels = np.zeros((len(structures), 1))
        self.optimiser = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.kept: dict[int, Any] = {}

    def run(self, do: str, batch: int) -> dict[str, float]:
        """Seconds by the ``wall`` and by the ``cpu``."""
        started = time.perf_counter(), time.process_time()
        self.work(do, batch)
        return {"wall": time.perf_counter() - started[0], "cpu": time.process_time() - started[1]}

    def work(self, do: str, batch: int) -> None:
        """Build inputs, an epoch, or a pass."""
        import torch

        from atomml.property.property_model import join_inputs
        from atomml.train.property_objective import PropertySamples

        if do == "build":
            self.kept = {k: self.model.input_of(atoms) for k, atoms in enumerate(self.structures)}
            return
        wheres = [str(k) for k in range(len(self.structures))]
        samples = PropertySamples(self.model, self.structures, wheres, self.labels, self.kept)
        for start in range(0, len(samples), batch):
            part = [samples[k] for k in range(start, min(start + batch, len(samples)))]
            if do == "predict":
                self.model.eval()
                self.model.predict(join_inputs([one.given for one in part]))
                continue
            loss, _ = self.objective.judge(
                self.model, part, self.objective.counts(part), 0.0, torch.device("cpu"), learning=True
            )
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()


if __name__ == "__main__":
    main()
