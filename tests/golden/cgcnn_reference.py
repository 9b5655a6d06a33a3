"""What CGCNN's public code answers for seeded random weights and inputs of elements.

    git clone https://github.com/txie-93/cgcnn /tmp/cgcnn
    python -m venv /tmp/cgcnn-env && /tmp/cgcnn-env/bin/pip install torch pymatgen ase
    /tmp/cgcnn-env/bin/python tests/golden/cgcnn_reference.py /tmp/cgcnn

Structures go through CIF files, as that code wants it, and its own neighbour search. Writes
``property/cgcnn.json``. Everything is float64.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from property_cases import NETWORKS, draw_inputs, draw_weights, structures
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter


def main() -> None:
    """Every network of the cases."""
    repository = Path(sys.argv[1])
    sys.path.insert(0, str(repository))
    from cgcnn.data import collate_pool
    from cgcnn.model import CrystalGraphConvNet

    torch.set_default_dtype(torch.float64)
    graphs = graphs_of()
    batch, _, names = collate_pool(graphs)
    batch = (batch[0].double(), batch[1].double(), *batch[2:])
    found: dict[str, Any] = {"structures": names, "random": {}}
    for seed, (name, shape) in enumerate(NETWORKS.items()):
        model = CrystalGraphConvNet(
            92, 41, n_h=shape.get("hidden_layers", 1), classification=name == "classes"
        )
        shapes = {k: tuple(v.shape) for k, v in model.state_dict().items() if "num_batches" not in k}
        drawn = {k: torch.as_tensor(v) for k, v in draw_weights(shapes, seed).items()}
        model.load_state_dict(drawn, strict=False)
        with torch.no_grad():
            found["random"][name] = model.double().eval()(*batch).tolist()
    folder = Path(__file__).parent / "property"
    folder.mkdir(exist_ok=True)
    (folder / "cgcnn.json").write_text(json.dumps(found, indent=1) + "\n")


def graphs_of() -> list[Any]:
    """Every structure as that code reads it."""
    from cgcnn.data import CIFData

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = {str(number): row.tolist() for number, row in enumerate(draw_inputs()) if number}
        (root / "atom_init.json").write_text(json.dumps(table))
        lines = []
        for name, atoms in structures().items():
            structure = AseAtomsAdaptor.get_structure(atoms)
            CifWriter(structure, significant_figures=14).write_file(root / f"{name}.cif")
            lines.append(f"{name},0.0")
        (root / "id_prop.csv").write_text("\n".join(lines) + "\n")
        data = CIFData(str(root))
        return [data[i] for i in range(len(data))]


if __name__ == "__main__":
    main()
