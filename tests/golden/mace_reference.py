"""What mace-torch answers for seeded random weights: run in an environment of its own, writes ``mace/*.npz``.

    python -m venv /tmp/mace-env && /tmp/mace-env/bin/pip install mace-torch==0.3.16
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 /tmp/mace-env/bin/python tests/golden/mace_reference.py [NAME ...]

Energies are scaled until the root mean square force of a case lies between 0.5 and 5 eV/Å, which is printed:
agreement on a flat surface would prove nothing. Everything is float64.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mace.modules
import numpy as np
import torch
from e3nn import o3
from mace import data, tools
from mace.tools import torch_geometric
from mace_cases import CASES, case_seed, draw_weights, structures

TARGET = 2.0


def main() -> None:
    """Every case, or those named."""
    torch.set_default_dtype(torch.float64)
    folder = Path(__file__).parent / "mace"
    folder.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        settings = CASES[name]
        model, shapes = seeded_model(settings, case_seed(name))
        heads = settings["heads"]
        answers = [answer(model, settings, head, case_seed(name)) for head in heads]
        forces = np.concatenate([np.concatenate(found["forces"]) for found in answers])
        factor = TARGET / np.sqrt((forces**2).mean())
        kept = {"settings": json.dumps(settings), "shapes": json.dumps(shapes), "factor": factor}
        constants = {f"constant:{key}": value for key, value in constants_of(model).items()}
        scaled: dict[str, Any] = {}
        for head, found in zip(heads, answers, strict=True):
            scaled[f"energy:{head}"] = factor * np.array(found["energy"])
            scaled[f"forces:{head}"] = factor * np.concatenate(found["forces"])
            scaled[f"stress:{head}"] = factor * np.array(found["stress"])
        np.savez_compressed(folder / f"{name}.npz", **kept, **constants, **scaled)
        rms = np.sqrt(((factor * forces) ** 2).mean())
        print(
            f"{name}: {sum(map(np.prod, shapes.values())):.0f} weights, RMS force {rms:.2f} eV/Å", flush=True
        )


def seeded_model(settings: dict[str, Any], seed: int) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """A model with drawn weights, and their shapes by name."""
    given = {key: value for key, value in settings.items() if key != "scaled"}
    for key in ("interaction_cls", "interaction_cls_first"):
        given[key] = mace.modules.interaction_classes[given[key]]
    for key in ("hidden_irreps", "MLP_irreps", "edge_irreps"):
        if key in given:
            given[key] = o3.Irreps(given[key])
    given["gate"] = mace.modules.gate_dict[given["gate"]]
    given["num_elements"] = len(given["atomic_numbers"])
    heads = given["heads"]
    energies = np.random.default_rng(seed + 1).uniform(-10, 0, (len(heads), given["num_elements"]))
    given["atomic_energies"] = energies
    if settings["scaled"]:
        given |= {"atomic_inter_scale": [1.0] * len(heads), "atomic_inter_shift": [0.0] * len(heads)}
    model = (mace.modules.ScaleShiftMACE if settings["scaled"] else mace.modules.MACE)(**given)
    parameters = {name: p for name, p in model.named_parameters() if p.numel() and p.requires_grad}
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    with torch.no_grad():
        for name, values in draw_weights(shapes, seed).items():
            parameters[name].copy_(torch.as_tensor(values))
    return model.eval(), shapes


def constants_of(model: Any) -> dict[str, Any]:
    """Small buffers, not coupling tables; and the weights that mace-torch sets to zero for good."""
    wanted = ("radial_embedding.", "pair_repulsion_fn.", "atomic_energies_fn.")
    state = model.state_dict()
    frozen = {name: p for name, p in model.named_parameters() if p.numel() and not p.requires_grad}
    found = {name: value for name, value in state.items() if name.startswith(wanted)} | frozen
    return {name: value.detach().numpy() for name, value in found.items()}


def answer(model: Any, settings: dict[str, Any], head: str, seed: int) -> dict[str, list[Any]]:
    """Interaction energy, forces and stress of every structure by one head."""
    table = tools.AtomicNumberTable(settings["atomic_numbers"])
    found: dict[str, list[Any]] = {"energy": [], "forces": [], "stress": []}
    for atoms in structures(settings["atomic_numbers"], seed):
        config = data.config_from_atoms(atoms, head_name=head)
        config.head = head
        graph = data.AtomicData.from_config(config, table, settings["r_max"], heads=settings["heads"])
        batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1)))
        out = model(batch.to_dict(), compute_stress=True)
        rows = [table.z_to_index(z) for z in atoms.numbers]
        energies = model.atomic_energies_fn.atomic_energies.reshape(len(settings["heads"]), -1)
        free = energies[settings["heads"].index(head), rows].sum()
        found["energy"].append(float(out["energy"] - free))
        found["forces"].append(out["forces"].detach().numpy())
        found["stress"].append(out["stress"][0].detach().numpy())
    return found


if __name__ == "__main__":
    main()
