"""What CGCNN's public code answers for seeded random weights, and for its published ones.

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
from property_cases import NETWORKS, draw_weights, structures
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter

PUBLISHED = ("formation-energy-per-atom", "band-gap", "semi-metal-classification")


def main() -> None:
    """Random networks, then published ones."""
    repository = Path(sys.argv[1])
    sys.path.insert(0, str(repository))
    from cgcnn.data import collate_pool
    from cgcnn.model import CrystalGraphConvNet

    torch.set_default_dtype(torch.float64)
    graphs = graphs_of(repository)
    batch, _, names = collate_pool(graphs)
    batch = (batch[0].double(), batch[1].double(), *batch[2:])
    found: dict[str, Any] = {"structures": names, "random": {}, "published": {}}
    for seed, (name, shape) in enumerate(NETWORKS.items()):
        model = CrystalGraphConvNet(
            92, 41, n_h=shape.get("hidden_layers", 1), classification=name == "classes"
        )
        shapes = {k: tuple(v.shape) for k, v in model.state_dict().items() if "num_batches" not in k}
        drawn = {k: torch.as_tensor(v) for k, v in draw_weights(shapes, seed).items()}
        model.load_state_dict(drawn, strict=False)
        with torch.no_grad():
            found["random"][name] = model.double().eval()(*batch).tolist()
    for name in PUBLISHED:
        found["published"][name] = published(repository, name, CrystalGraphConvNet, batch)
    folder = Path(__file__).parent / "property"
    folder.mkdir(exist_ok=True)
    (folder / "cgcnn.json").write_text(json.dumps(found, indent=1) + "\n")


def published(repository: Path, name: str, kind: Any, batch: Any) -> list[list[float]]:
    """Answers of one of the published networks, on the scale of its property."""
    file = torch.load(repository / "pre-trained" / f"{name}.pth.tar", map_location="cpu", weights_only=False)
    args = file["args"]
    classes = args["task"] == "classification" if isinstance(args, dict) else args.task == "classification"
    read = args.get if isinstance(args, dict) else lambda key: getattr(args, key)
    model = kind(
        92,
        41,
        atom_fea_len=read("atom_fea_len"),
        n_conv=read("n_conv"),
        h_fea_len=read("h_fea_len"),
        n_h=read("n_h"),
        classification=classes,
    )
    model.load_state_dict(file["state_dict"])
    with torch.no_grad():
        raw = model.double().eval()(*batch)
    if classes:
        return raw.exp().tolist()
    normalizer = file["normalizer"]
    return (raw * float(normalizer["std"]) + float(normalizer["mean"])).tolist()


def graphs_of(repository: Path) -> list[Any]:
    """Every structure as that code reads it."""
    from cgcnn.data import CIFData

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = next((repository / "data").rglob("atom_init.json"))
        (root / "atom_init.json").write_text(table.read_text())
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
