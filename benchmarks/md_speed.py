"""Molecular dynamics of LiCoO2 with 108 atoms, NVT: ``atomml md`` against the chgnet package.

Both write a trajectory and a log every tenth step, as a user runs them; start-up is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

from machine import describe, limit_threads


def main() -> None:
    """Parse, measure in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    limit_threads(2)
    import torch

    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    describe("chgnet", "ase")
    from chgnet.model import CHGNet
    from chgnet.model.dynamics import MolecularDynamics
    from crystals import lithium_cobalt_oxide
    from pairing import HEAD, in_turn

    from atomml import AtomMLCalculator, load_model
    from atomml.md.driver import Driver
    from atomml.md.schedule import Ramp
    from atomml.md.settings import MDSettings

    peer = CHGNet.load(use_device="cpu", verbose=False)
    model = load_model("chgnet-0.3.0", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def theirs() -> None:
            MolecularDynamics(
                lithium_cobalt_oxide(),
                model=peer,
                ensemble="nvt",
                temperature=300,
                timestep=1,
                trajectory=str(place / "theirs.traj"),
                logfile=str(place / "theirs.log"),
                loginterval=10,
                use_device="cpu",
            ).run(told.steps)

        def ours() -> None:
            settings = MDSettings(
                ensemble="nvt-bussi", n_steps=told.steps, temperature=Ramp(300.0, 300.0), every=10
            )
            Driver(lithium_cobalt_oxide(), AtomMLCalculator(model), settings, place).run()

        print(f"\n{HEAD}")
        print(in_turn(ours, theirs, told.rounds, 1).row(f"LiCoO2-108, {told.steps} steps"))


if __name__ == "__main__":
    main()
