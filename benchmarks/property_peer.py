"""CGCNN's or ALIGNN's public code in a process of its own, for ``property_speed.py``.

Arguments: ``cgcnn PATH`` (a clone of github.com/txie-93/cgcnn) or ``alignn -`` (the package), threads. A
line of JSON in: structures, what to do, batch size; a line out: seconds by the wall and by the processor.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch


def main() -> None:
    """Answer line after line."""
    kind, path, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    peer: Any = CGCNN(Path(path)) if kind == "cgcnn" else ALIGNN()
    for line in sys.stdin:
        given = json.loads(line)
        sys.stdout.write(json.dumps(answer(peer, given)) + "\n")
        sys.stdout.flush()


def answer(peer: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Seconds of building the inputs, of an epoch of training, or of a pass of prediction."""
    started = time.perf_counter(), time.process_time()
    if given["do"] == "build":
        peer.build(given["structures"])
    elif given["do"] == "train":
        peer.model.train()
        for batch, labels in peer.batches(given["batch"]):
            peer.optimiser.zero_grad()
            loss = torch.nn.functional.mse_loss(peer.forward(batch).reshape(-1), labels)
            loss.backward()
            peer.optimiser.step()
    else:
        peer.model.eval()
        with torch.no_grad():
            for batch, _ in peer.batches(given["batch"]):
                peer.forward(batch)
    found = {"wall": time.perf_counter() - started[0], "cpu": time.process_time() - started[1]}
    return {**found, "weights": sum(p.numel() for p in peer.model.parameters())}


class CGCNN:
    """Its dataset's steps on structures in memory, its collation, its network."""

    def __init__(self, path: Path) -> None:
        sys.path.insert(0, str(path))
        from cgcnn.data import AtomCustomJSONInitializer, GaussianDistance, collate_pool
        from cgcnn.model import CrystalGraphConvNet

        table = next((path / "data").rglob("atom_init.json"))
        self.atoms, self.waves = AtomCustomJSONInitializer(str(table)), GaussianDistance(0, 8, 0.2)
        self.collate = collate_pool
        self.model = CrystalGraphConvNet(92, 41)
        self.optimiser = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.samples: list[Any] = []

    def build(self, structures: list[dict[str, Any]]) -> None:
        """What ``CIFData.__getitem__`` does once a structure is read."""
        from pymatgen.core import Lattice, Structure

        self.samples = []
        for one in structures:
            crystal = Structure(Lattice(one["cell"]), one["numbers"], one["scaled"])
            atoms = torch.Tensor(np.vstack([self.atoms.get_atom_fea(z) for z in one["numbers"]]))
            index, length = [], []
            for near in crystal.get_all_neighbors(8, include_index=True):
                ordered = sorted(near, key=lambda x: x[1])[:12]
                missing = 12 - len(ordered)
                index.append([x[2] for x in ordered] + [0] * missing)
                length.append([x[1] for x in ordered] + [9.0] * missing)
            bonds = torch.Tensor(self.waves.expand(np.array(length)))
            self.samples.append(((atoms, bonds, torch.LongTensor(np.array(index))), torch.zeros(1), ""))

    def batches(self, size: int) -> Any:
        """Collated, as its loader does."""
        for start in range(0, len(self.samples), size):
            batch, labels, _ = self.collate(self.samples[start : start + size])
            yield batch, labels.reshape(-1)

    def forward(self, batch: Any) -> Any:
        """The network."""
        return self.model(*batch)


class ALIGNN:
    """Its graphs, DGL's batches, its network."""

    def __init__(self) -> None:
        from alignn.models import alignn

        self.model = alignn.ALIGNN(alignn.ALIGNNConfig(name="alignn"))
        self.optimiser = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.graphs: list[Any] = []

    def build(self, structures: list[dict[str, Any]]) -> None:
        """Crystal graphs and line graphs."""
        from alignn.graphs import Graph
        from jarvis.core.atoms import Atoms

        from_numbers = [[symbol(z) for z in one["numbers"]] for one in structures]
        self.graphs = [
            Graph.atom_dgl_multigraph(
                Atoms(lattice_mat=one["cell"], coords=one["scaled"], elements=elements, cartesian=False),
                cutoff=8.0,
                max_neighbors=12,
                atom_features="cgcnn",
                use_canonize=True,
                id="one",
            )
            for one, elements in zip(structures, from_numbers, strict=True)
        ]

    def batches(self, size: int) -> Any:
        """Batched by DGL."""
        import dgl

        for start in range(0, len(self.graphs), size):
            part = self.graphs[start : start + size]
            graphs = dgl.batch([g for g, _ in part]), dgl.batch([lg for _, lg in part]), None
            yield graphs, torch.zeros(len(part))

    def forward(self, batch: Any) -> Any:
        """The network."""
        return self.model(batch)


def symbol(number: int) -> str:
    """Of an element."""
    from ase.data import chemical_symbols

    return chemical_symbols[number]


if __name__ == "__main__":
    main()
