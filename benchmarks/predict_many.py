"""Energy, forces and stress of hundreds of small crystals: ``atomml predict``'s batches against chgnet's."""

from __future__ import annotations

import argparse
import warnings

from machine import describe, limit_threads


def main() -> None:
    """Parse, measure in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--structures", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    limit_threads(2)
    import torch

    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    describe("chgnet")
    from ase.build import bulk
    from chgnet.model import CHGNet
    from crystals import rattled
    from pairing import HEAD, in_turn
    from pymatgen.io.ase import AseAtomsAdaptor

    from atomml import load_model
    from atomml.graph import build_graph

    kinds = [
        bulk("MgO", "rocksalt", 4.21, cubic=True),
        bulk("Si", cubic=True),
        bulk("Cu", cubic=True).repeat((2, 1, 1)),
        bulk("ZnO", "wurtzite", 3.25, 5.2),
    ]
    frames = [rattled(kinds[k % len(kinds)], 0.05, k) for k in range(told.structures)]
    structures = [AseAtomsAdaptor.get_structure(atoms) for atoms in frames]
    peer = CHGNet.load(use_device="cpu", verbose=False)
    model = load_model("chgnet-0.3.0", device="cpu")
    batches = [frames[k : k + 32] for k in range(0, len(frames), 32)]

    def ours() -> None:
        for batch in batches:
            model.predict(build_graph(batch, 6.0, 3.0))

    print(f"\n{HEAD}")
    pair = in_turn(ours, lambda: peer.predict_structure(structures, batch_size=32), told.rounds, 1)
    print(pair.row(f"{told.structures} crystals of 4 to 8 atoms"))


if __name__ == "__main__":
    main()
