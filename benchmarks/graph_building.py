"""The graph of LiCoO2 with 108 atoms (6 Å cutoff, 3 Å bond graph): atomml against the chgnet package."""

from __future__ import annotations

import argparse

from machine import describe, limit_threads


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    told = parser.parse_args()
    limit_threads(2)
    import torch

    torch.set_num_threads(2)
    describe("chgnet", "vesin", "numba")
    from chgnet.graph import CrystalGraphConverter
    from crystals import lithium_cobalt_oxide, rattled
    from pairing import HEAD, in_turn
    from pymatgen.io.ase import AseAtomsAdaptor

    from atomml.graph import GraphBuilder

    frames = [rattled(lithium_cobalt_oxide(), 0.02, seed) for seed in range(told.rounds + 2)]
    converter = CrystalGraphConverter(atom_graph_cutoff=6, bond_graph_cutoff=3, algorithm="fast")
    structures = [AseAtomsAdaptor.get_structure(atoms) for atoms in frames]
    print(f"\n{HEAD}")
    modes = {
        "from nothing": (GraphBuilder(6.0, 3.0), False),
        "next step of MD (skin 1 Å)": (GraphBuilder(6.0, 3.0, skin=1.0), True),
    }
    for name, (builder, keep) in modes.items():
        mine, theirs = list(frames), list(structures)

        def ours(queue: list[object] = mine, kept: GraphBuilder = builder, keep: bool = keep) -> None:
            (kept if keep else GraphBuilder(6.0, 3.0))(queue.pop())

        pair = in_turn(ours, lambda queue=theirs: converter(queue.pop()), told.rounds)
        print(pair.row(f"LiCoO2-108, {name}"))


if __name__ == "__main__":
    main()
