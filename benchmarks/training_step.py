"""One training step of CHGNet 0.3.0 in float32: atomml against the chgnet package's own trainer, in turn.

Loss on energy per atom, forces, stress and magnetic moments (the peer's ``CombinedLoss``, 'efsm'), gradient
for all weights, Adam. Batches of 8 from the training files of mlearn; magnetic moments, which they lack, are
set to zero. ``step`` has its graphs already; ``with graphs`` builds them too. Both losses of the first step
are printed: the same number means the same work. Peak memory comes from a fresh process of each side.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

GPA = 160.21766208
"""GPa in eV/Å³."""

MATERIALS = ("Si", "Mo", "Li")
SIDES = ("atomml", "chgnet")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mlearn"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=MATERIALS)
    parser.add_argument("--memory-of", choices=SIDES, help="run one side alone and print its peak")
    told = parser.parse_args()
    limit_threads(told.threads)
    import torch

    torch.set_num_threads(told.threads)
    warnings.simplefilter("ignore")
    if told.memory_of:
        print(peak_memory(told.memory_of, read_batch(told.data, told.only[0], told.batch)))
        return
    from pairing import HEAD

    describe("chgnet", "numba", "pymatgen")
    print(f"\n{HEAD}")
    for material in told.only:
        compare(material, read_batch(told.data, material, told.batch), told.rounds)
    print("\n| peak of a fresh process | chgnet, MB | atomml, MB |\n|---|---|---|")
    for material in told.only:
        ours, theirs = (memory_in_new_process(side, material, told) for side in SIDES)
        print(f"| {material} | {theirs} | {ours} |", flush=True)


def compare(material: str, frames: list[Any], rounds: int) -> None:
    """Two lines: the step alone, and with its graphs."""
    from pairing import in_turn

    makers = (atomml_steps, chgnet_steps)
    for with_graphs, name in ((False, "step"), (True, "with graphs")):
        ours, theirs = (maker(frames, with_graphs) for maker in makers)
        losses = (ours(), theirs())
        if not with_graphs:
            print(f"<!-- {material}: loss {losses[0]:.6g} (atomml), {losses[1]:.6g} (chgnet) -->")
        pair = in_turn(ours, theirs, rounds, warm_up=1)  # the losses were a first round
        print(pair.row(f"{material}, {name}"), flush=True)


def read_batch(folder: Path, material: str, size: int) -> list[Any]:
    """``size`` cells evenly spaced over the training file, so that every group is there."""
    import ase.io

    frames = ase.io.read(folder / f"{material}_train.extxyz", ":")
    return [frames[i * len(frames) // size] for i in range(size)]


def labels_of(frames: list[Any]) -> dict[str, Any]:
    """Energy per atom (eV), forces (eV/Å), stress (eV/Å³; only its trace is published)."""
    import numpy as np
    import torch

    return {
        "energy": torch.tensor([atoms.get_potential_energy() / len(atoms) for atoms in frames]),
        "forces": torch.from_numpy(np.concatenate([atoms.get_forces() for atoms in frames])).float(),
        "stress": torch.from_numpy(
            np.stack([-atoms.info["pressure_GPa"] / GPA * np.eye(3) for atoms in frames])
        ).float(),
    }


def atomml_steps(frames: list[Any], with_graphs: bool) -> Callable[[], float]:
    """Our step; returns the loss."""
    import torch

    from atomml import load_model
    from atomml.graph import build_graph, collate

    model = load_model("chgnet-0.3.0", device="cpu")
    for weights in model.parameters():
        weights.requires_grad_()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    labels = labels_of(frames)

    def graphs() -> Any:
        return collate([build_graph(atoms, model.info.cutoff, model.info.bond_cutoff) for atoms in frames])

    ready = graphs()

    def step() -> float:
        graph = graphs() if with_graphs else ready
        found = model.differentiable(graph, create_graph=True)
        energy = (found.energy / graph.atoms_per_graph()).float()
        loss = torch.nn.functional.mse_loss(energy, labels["energy"].float())
        loss = loss + torch.nn.functional.mse_loss(found.forces.float(), labels["forces"])
        loss = loss + 0.1 * GPA**2 * torch.nn.functional.mse_loss(found.stress.float(), labels["stress"])
        loss = loss + 0.1 * (found.magmoms**2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def chgnet_steps(frames: list[Any], with_graphs: bool) -> Callable[[], float]:
    """The peer's step: its ``Trainer``, fed one batch; returns the loss."""
    import torch
    from chgnet.data.dataset import collate_graphs
    from chgnet.model.model import CHGNet
    from chgnet.trainer import Trainer
    from pymatgen.io.ase import AseAtomsAdaptor

    model = CHGNet.load(use_device="cpu", verbose=False)
    trainer = Trainer(model, targets="efsm", optimizer="Adam", learning_rate=1e-5, use_device="cpu")
    structures = [AseAtomsAdaptor.get_structure(atoms) for atoms in frames]
    labels = labels_of(frames)
    forces = torch.split(labels["forces"], [len(atoms) for atoms in frames])
    targets = [
        {"e": labels["energy"][i], "f": forces[i], "s": labels["stress"][i] * -GPA * -1, "m": None}
        for i in range(len(frames))
    ]
    for target, atoms in zip(targets, frames, strict=True):
        target["m"] = torch.zeros(len(atoms))
    losses: list[float] = []
    criterion = trainer.criterion.forward

    def kept(*arguments: Any) -> Any:
        out = criterion(*arguments)
        losses.append(float(out["loss"].detach()))
        return out

    trainer.criterion.forward = kept

    def batch() -> Any:
        graphs = [model.graph_converter(structure) for structure in structures]
        return collate_graphs(list(zip(graphs, targets, strict=True)))

    ready = batch()

    def step() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            trainer._train([batch() if with_graphs else ready], 0)
        return losses[-1]

    return step


def peak_memory(side: str, frames: list[Any]) -> int:
    """Peak resident memory in MB of this process after three steps of one side."""
    step = (atomml_steps if side == "atomml" else chgnet_steps)(frames, False)
    for _ in range(3):
        step()
    # Not getrusage: a child's peak there begins with what its parent had when it started the child.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def memory_in_new_process(side: str, material: str, told: argparse.Namespace) -> int:
    """:func:`peak_memory` where nothing else was loaded before."""
    command = [sys.executable, __file__, "--memory-of", side, "--only", material]
    command += ["--data", str(told.data), "--threads", str(told.threads), "--batch", str(told.batch)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
