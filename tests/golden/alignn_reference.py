"""What ALIGNN's public code answers for seeded weights and element inputs; writes ``property/alignn.json``.

    python -m venv /tmp/alignn-env && /tmp/alignn-env/bin/pip install "alignn==2026.8.11" "dgl==1.1.3" ase
    /tmp/alignn-env/bin/python tests/golden/alignn_reference.py

Its own code finds neighbours and makes the line graph. Everything is float64.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import alignn
import dgl
import torch
from alignn.graphs import Graph
from alignn.models.alignn import ALIGNN, ALIGNNConfig
from ase.data import atomic_numbers
from jarvis.core.atoms import Atoms as JarvisAtoms
from jarvis.core.specie import get_node_attributes
from property_cases import draw_inputs, draw_weights, structures


def main() -> None:
    """The published shape, with one and with two outputs."""
    torch.set_default_dtype(torch.float64)
    pairs = [graphs_of(atoms) for atoms in structures().values()]
    found: dict[str, Any] = {"alignn": alignn.__version__, "structures": list(structures()), "random": {}}
    for outputs in (1, 2):
        model = ALIGNN(ALIGNNConfig(name="alignn", output_features=outputs))
        shapes = {
            k: tuple(v.shape)
            for k, v in model.state_dict().items()
            if "num_batches" not in k and "centers" not in k
        }
        drawn = {k: torch.as_tensor(v) for k, v in draw_weights(shapes, outputs).items()}
        model.load_state_dict(drawn, strict=False)
        model = model.double().eval()
        with torch.no_grad():
            batch = dgl.batch([g for g, _ in pairs]), dgl.batch([lg for _, lg in pairs]), None
            found["random"][str(outputs)] = model(batch).reshape(len(pairs), outputs).tolist()
    folder = Path(__file__).parent / "property"
    folder.mkdir(exist_ok=True)
    (folder / "alignn.json").write_text(json.dumps(found, indent=1) + "\n")


def graphs_of(atoms: Any) -> tuple[Any, Any]:
    """Crystal graph and line graph, in double precision."""
    given = JarvisAtoms(
        lattice_mat=atoms.cell.array.tolist(),
        coords=atoms.get_scaled_positions(wrap=False).tolist(),
        elements=list(atoms.symbols),
        cartesian=False,
    )
    g, lg = Graph.atom_dgl_multigraph(
        given, cutoff=8.0, max_neighbors=12, atom_features="cgcnn", use_canonize=True, id="case"
    )
    own = {tuple(get_node_attributes(symbol, "cgcnn")): symbol for symbol in set(atoms.symbols)}
    rows = [own[tuple(row)] for row in g.ndata["atom_features"].double().round().int().tolist()]
    g.ndata["atom_features"] = torch.as_tensor(draw_inputs()[[atomic_numbers[symbol] for symbol in rows]])
    for graph in (g, lg):
        for data in (graph.ndata, graph.edata):
            for key in list(data):
                if data[key].dtype == torch.float32:
                    data[key] = data[key].double()
    return g, lg


if __name__ == "__main__":
    main()
