"""Inference of SPHNet against QHNet's public code: 128 channels, degrees up to 4, float32, random weights.

    python benchmarks/hamiltonian_speed.py --qhnet QHNet.py

``QHNet.py`` is ``OpenDFT/QHBench/QH9/models/QHNet.py`` of github.com/divelab/AIRS. Both sides give the blocks
of the matrices of the same molecules, in turn, round after round; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads
from peer import Peer

SVP = {1: [0, 0, 1], 6: [0, 0, 0, 1, 1, 2], 7: [0, 0, 0, 1, 1, 2], 8: [0, 0, 0, 1, 1, 2]}
CASES = {"water": (1, 10), "ethanol": (1, 5), "C7H10O2": (1, 2)}


def main() -> None:
    """Parse, time in turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--qhnet", type=Path, help="QHNet.py; without it only this side is timed")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=json.loads, default={}, help="hyperparameters as JSON")
    told = parser.parse_args()
    limit_threads(told.threads)
    describe()
    import torch

    from atomml.electronic.matrices import all_pairs
    from atomml.graph.batching import collate
    from atomml.potentials.sphnet import SPHNet

    torch.manual_seed(0)
    model = SPHNet.fresh("x", sorted(SVP), {"shells": SVP, "level": "pbe/def2-svp", **told.model}).eval()
    model.begin_step(1, 1, 0)
    peer = None
    if told.qhnet is not None:
        threads = {name: str(told.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        script = ["hamiltonian_peer.py", [str(told.qhnet.resolve()), str(told.threads)]]
        peer = Peer(Path(sys.executable), *script, threads)  # type: ignore[arg-type]
    print("\n| molecules | atoms | QHNet, ms | SPHNet, ms | times faster |\n|---|---|---|---|---|")
    weights = {"SPHNet": sum(p.numel() for p in model.parameters()), "QHNet": 0}
    peak = 0.0
    for name, sizes in CASES.items():
        for n in sizes:
            atoms = geometry(name)
            graph = collate([all_pairs(atoms)] * n)
            given = {"molecules": [plain(atoms)] * n, "repeats": 1}
            ours, theirs = [], []
            with torch.no_grad():
                for turn in range(told.rounds + 2):
                    started = time.perf_counter()
                    model.matrix_blocks(graph)
                    seconds = time.perf_counter() - started
                    reply = peer.send(given) if peer else {"seconds": float("nan")}
                    if turn >= 2:
                        ours.append(seconds)
                        theirs.append(reply["seconds"])
            mine, other = sorted(ours)[len(ours) // 2], sorted(theirs)[len(theirs) // 2]
            weights["QHNet"], peak = int(reply.get("weights", 0)), float(reply.get("peak_MB", 0.0))
            cells = f"{1e3 * other:.1f} | {1e3 * mine:.1f} | {other / mine:.1f}"
            print(f"| {n} {name} | {n * len(atoms)} | {cells} |", flush=True)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nweights: {weights}; peak memory of the process: QHNet {peak:.0f} MB, SPHNet {own:.0f} MB")


def geometry(name: str) -> Any:
    """A molecule by RDKit, the same each time."""
    from ase import Atoms
    from rdkit import Chem
    from rdkit.Chem import AllChem

    smiles = {"water": "O", "ethanol": "CCO", "C7H10O2": "CC1CC(=O)OC1C=C"}[name]
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    return Atoms([a.GetSymbol() for a in molecule.GetAtoms()], molecule.GetConformer().GetPositions())


def plain(atoms: Any) -> dict[str, Any]:
    """As JSON."""
    return {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist()}


if __name__ == "__main__":
    main()
