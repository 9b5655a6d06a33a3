"""mace-torch 0.3.16, run by ``mace_speed.py`` in an environment of its own.

Makes a model of a published size with random weights, writes it whole with ``torch.save``, and answers a
line of JSON for each line that it reads: the milliseconds of energy, forces and stress of a structure by
mace-torch's own calculator, or its energy and forces. Nothing of atomml is imported here.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import warnings
from typing import Any


def main() -> None:
    """Make the model, then serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("irreps", help="hidden irreps, like 128x0e+128x1o")
    parser.add_argument("file", help="the model that is written")
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    replies = sys.stdout
    sys.stdout = sys.stderr  # mace-torch prints
    import torch

    torch.set_num_threads(told.threads)
    save(told.irreps, told.file)
    from ase import Atoms
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=told.file, device="cpu", default_dtype="float32")
    step = None
    for line in sys.stdin:
        given = json.loads(line)
        if "batch" in given:
            step = step or training_step(told.file, given["batch"])
            start = time.perf_counter()
            loss = step()
            replies.write(json.dumps({"ms": 1e3 * (time.perf_counter() - start), "loss": loss}) + "\n")
            replies.flush()
            continue
        atoms = Atoms(given["numbers"], given["positions"], cell=given["cell"], pbc=True)
        start = time.perf_counter()
        calculator.calculate(atoms, ["energy", "forces", "stress"])
        spent = time.perf_counter() - start
        reply: dict[str, Any] = {
            "ms": 1e3 * spent,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        if given.get("answers"):
            reply |= {"energy": float(calculator.results["energy"])}
            reply |= {"forces": calculator.results["forces"].tolist()}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def training_step(file: str, batch: list[dict[str, Any]]) -> Any:
    """A step on energies and forces that should be zero, all weights, Adam; float32, graphs made before."""
    import torch
    from ase import Atoms
    from mace import data, tools
    from mace.tools import torch_geometric

    model = torch.load(file, weights_only=False).float()
    table = tools.AtomicNumberTable([int(z) for z in model.atomic_numbers])
    torch.set_default_dtype(torch.float32)
    graphs = [
        data.AtomicData.from_config(
            data.config_from_atoms(Atoms(a["numbers"], a["positions"], cell=a["cell"], pbc=a["pbc"])),
            table,
            6.0,
        )
        for a in batch
    ]
    one = next(iter(torch_geometric.dataloader.DataLoader(graphs, batch_size=len(graphs)))).to_dict()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-6)

    def step() -> float:
        """Loss before the step."""
        optimiser.zero_grad()
        out = model(one, training=True)
        loss = (out["energy"] / 64).square().mean() + out["forces"].square().mean()
        loss.backward()
        optimiser.step()
        return float(loss)

    return step


def save(irreps: str, file: str) -> None:
    """A model of MACE-MP-0's shape, its weights drawn from a seed, forces of some eV/Å."""
    import mace.modules
    import numpy as np
    import torch
    from e3nn import o3

    torch.manual_seed(0)
    elements = [z for z in range(1, 95) if z not in (84, 85, 86, 87, 88)]
    residual = mace.modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = mace.modules.ScaleShiftMACE(
        r_max=6.0,
        num_bessel=10,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=residual,
        interaction_cls_first=residual,
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps(irreps),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)),
        avg_num_neighbors=60.0,
        atomic_numbers=elements,
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1e3 if irreps == "128x0e" else 3e2,
        atomic_inter_shift=0.0,
        heads=["default"],
    )
    torch.save(model, file)


if __name__ == "__main__":
    main()
