"""What DeePMD-kit's PyTorch backend answers for seeded random weights; writes ``dpa3/*.npz``.

    python -m venv /tmp/deepmd-env && /tmp/deepmd-env/bin/pip install "deepmd-kit[torch]==3.2.0" mpich ase
    /tmp/deepmd-env/bin/python tests/golden/dpa3_reference.py [NAME ...]

Energies are scaled until the root mean square force of a case lies between 0.5 and 5 eV/Å, which is printed:
agreement on a flat surface would prove nothing. Everything is float64. A fixed selection that would cut
neighbours off is an error here: that is where atomml differs on purpose.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepmd.pt.model.model import get_model
from dpa3_cases import CASES, case_seed, draw_weights, fitting_of, settings_of, structures

TARGET = 2.0


def main() -> None:
    """Every case, or those named."""
    folder = Path(__file__).parent / "dpa3"
    folder.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        case = CASES[name]
        found: dict[str, dict[str, Any]] = {}
        for number, branch in enumerate(case["branches"]):
            model, shapes = seeded_model(case, case_seed(name), number)
            found[branch] = answer(model, case, case_seed(name))
        forces = np.concatenate([one["forces"] for one in found.values()])
        factor = TARGET / np.sqrt((forces**2).mean())
        kept: dict[str, Any] = {"shapes": json.dumps(shapes), "factor": factor}
        for branch, one in found.items():
            kept |= {f"{key}:{branch}": factor * np.array(value) for key, value in one.items()}
        np.savez_compressed(folder / f"{name}.npz", **kept)
        n_weights = sum(map(np.prod, shapes.values()))
        rms = np.sqrt(((factor * forces) ** 2).mean())
        print(f"{name}: {n_weights:.0f} weights, RMS force {rms:.2f} eV/Å", flush=True)


def seeded_model(case: dict[str, Any], seed: int, branch: int) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """A model with drawn weights, and their shapes by name; branches differ in their data set's vector."""
    model = get_model(
        {
            "type_map": case["types"],
            "descriptor": settings_of(case),
            "fitting_net": fitting_of(case),
        }
    )
    inner = model.atomic_model
    parameters = {name: p for name, p in inner.named_parameters() if "._networks." not in name}
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    with torch.no_grad():
        for name, values in draw_weights(shapes, seed).items():
            parameters[name].copy_(torch.as_tensor(values))
        if case.get("drawn_statistics"):
            drawn = np.random.default_rng(seed).uniform(0.2, 0.6, (len(case["types"]), 1, 2))
            inner.descriptor.repflows.stddev[:] = torch.as_tensor(drawn[:, :, [0, 1, 1, 1]])
            inner.descriptor.repflows.mean[:, :, 0] = torch.as_tensor(drawn[:, :, 0] - 0.3)
    if "dim_case_embd" in case["fitting"]:
        model.set_case_embd(branch)
    return model.eval(), shapes


def answer(model: Any, case: dict[str, Any], seed: int) -> dict[str, Any]:
    """Energy, forces and virial of every structure."""
    energies, forces, virials = [], [], []
    for atoms in structures(case, seed):
        check_selection(atoms, case["repflow"])
        coordinates = torch.tensor(atoms.positions[None], requires_grad=True)
        types = torch.tensor([[case["types"].index(symbol) for symbol in atoms.get_chemical_symbols()]])
        box = torch.tensor(atoms.cell.array.reshape(1, 9)) if atoms.pbc.all() else None
        more = {}
        if case.get("add_chg_spin_ebd"):
            more["charge_spin"] = torch.tensor([[atoms.info["charge"], atoms.info["spin"]]])
        out = model(coordinates, types, box=box, **more)
        energies.append(float(out["energy"]))
        forces.append(out["force"][0].detach().numpy())
        virials.append(out["virial"][0].detach().numpy().reshape(3, 3))
    return {"energy": energies, "forces": np.concatenate(forces), "virial": virials}


def check_selection(atoms: Any, repflow: dict[str, Any]) -> None:
    """Refuse a structure with more neighbours than a fixed selection keeps."""
    from ase.neighborlist import neighbor_list

    for cutoff, kept in (("e_rcut", "e_sel"), ("a_rcut", "a_sel")):
        centres = neighbor_list("i", atoms, repflow[cutoff])
        most = np.bincount(centres, minlength=len(atoms)).max() if len(centres) else 0
        if most > repflow[kept]:
            raise SystemExit(f"{most} neighbours within {cutoff}, but {kept} is {repflow[kept]}")


if __name__ == "__main__":
    main()
