"""deepmd-kit 3.2's PyTorch backend, run by ``dpa3_speed.py`` in an environment of its own.

Makes a DPA3 with random weights, writes it with its settings as a training checkpoint does, and answers a
line of JSON for each line that it reads: the milliseconds of energy, forces and virial of a structure, or
these themselves. Neighbour lists are its own and counted, as on our side. Nothing of atomml is imported here.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import sys
import time
import warnings
from typing import Any


def main() -> None:
    """Make the model, then serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", help="JSON: the model section of an input")
    parser.add_argument("file", help="the checkpoint that is written")
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    replies = sys.stdout
    sys.stdout = sys.stderr
    import numpy as np
    import torch
    from deepmd.pt.model.model import get_model

    torch.set_num_threads(told.threads)
    torch.manual_seed(0)
    settings = json.loads(told.settings)
    model = get_model(json.loads(told.settings)).eval()
    spread(model)
    state: dict[str, Any] = {f"model.Default.{key}": value for key, value in model.state_dict().items()}
    state["_extra_state"] = {"model_params": settings}
    torch.save({"model": state}, told.file)
    symbols = settings["type_map"]
    batch: list[dict[str, Any]] = []
    for line in sys.stdin:
        given = json.loads(line)
        if "batch" in given:
            if given["batch"] != batch:
                batch = given["batch"]
                step = training_step(model, symbols, batch)
            start, used = time.perf_counter(), time.process_time()
            loss = step()
            spent, cpu = time.perf_counter() - start, time.process_time() - used
            answer = {"ms": 1e3 * spent, "cpu_ms": 1e3 * cpu, "loss": loss, "peak": peak()}
            replies.write(json.dumps(answer) + "\n")
            replies.flush()
            continue
        types = torch.tensor([[symbols.index(symbol) for symbol in given["symbols"]]])
        box = torch.tensor(given["cell"], dtype=torch.float64).reshape(1, 9)
        start = time.perf_counter()
        positions = torch.tensor([given["positions"]], dtype=torch.float64, requires_grad=True)
        out = model(positions, types, box=box)
        energy, forces = float(out["energy"]), out["force"][0].detach().numpy()
        out["virial"].detach().numpy()
        reply: dict[str, Any] = {
            "ms": 1e3 * (time.perf_counter() - start),
            "peak": peak(),
        }
        if given.get("answers"):
            reply |= {"energy": energy, "forces": np.asarray(forces).tolist()}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def training_step(model: Any, symbols: list[str], batch: list[dict[str, Any]]) -> Any:
    """A step on energies and forces that should be zero, all weights, Adam, as its trainer takes one.

    Frames of a batch have the same atoms. Neighbour lists are made in the step, as they are in its training.
    """
    import torch

    model = copy.deepcopy(model)  # each batch begins from the same weights
    types = torch.tensor([[symbols.index(symbol) for symbol in frame["symbols"]] for frame in batch])
    cells = torch.tensor([frame["cell"] for frame in batch], dtype=torch.float64).reshape(len(batch), 9)
    positions = torch.tensor([frame["positions"] for frame in batch], dtype=torch.float64)
    n_atoms = types.shape[1]
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-6)

    def step() -> float:
        """Loss before the step."""
        optimiser.zero_grad()
        out = model(positions.clone().requires_grad_(), types, box=cells)
        loss = (out["energy"] / n_atoms).square().mean() + out["force"].square().mean()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def peak() -> int:
    """Resident kB at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def spread(model: Any) -> None:
    """Larger residuals than those of fresh weights: forces are then those of a trained model in size."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "residual" in name:
                weight.fill_(0.3)


if __name__ == "__main__":
    main()
