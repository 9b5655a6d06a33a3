"""DPA3 against DeePMD-kit 3.2 on seeded random weights, float64: energies, forces, virials.

The answers come from ``tests/golden/dpa3_reference.py``, run in an environment of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atomml.graph import build_graph
from atomml.potentials.dpa3 import DPA3
from atomml.potentials.dpa3.deepmd import Branch, from_deepmd

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))

from dpa3_cases import CASES, case_seed, draw_weights, fitting_of, settings_of, structures  # noqa: E402


def branches_of(name: str, shapes: dict[str, tuple[int, ...]], factor: float = 1.0) -> list[Branch]:
    """Every branch of a case, with its weights drawn again, energies multiplied by ``factor``."""
    case, seed = CASES[name], case_seed(name)
    weights = {key: torch.as_tensor(values) for key, values in draw_weights(shapes, seed).items()}
    n_types, n_layers = len(case["types"]), len(case["fitting"]["neuron"])
    for part in ("matrix", "bias"):
        weights[f"fitting_net.filter_layers.networks.0.layers.{n_layers}.{part}"] *= factor
    mean, deviation = torch.zeros(n_types, 2, 4), torch.full((n_types, 2, 4), 0.3, dtype=torch.float64)
    if case.get("drawn_statistics"):
        drawn = torch.as_tensor(np.random.default_rng(seed).uniform(0.2, 0.6, (n_types, 1, 2)))
        deviation = drawn[:, :, [0, 1, 1, 1]].expand(-1, 2, -1)
        mean = torch.zeros(n_types, 2, 4, dtype=torch.float64)
        mean[:, :, 0] = drawn[:, :, 0] - 0.3
    weights |= {"descriptor.repflows.mean": mean, "descriptor.repflows.stddev": deviation}
    weights |= {"out_bias": torch.zeros(1, n_types, 1), "fitting_net.bias_atom_e": torch.zeros(n_types, 1)}
    made = []
    for number, branch in enumerate(case["branches"]):
        own = dict(weights)
        if "dim_case_embd" in case["fitting"]:
            own["fitting_net.case_embd"] = torch.eye(case["fitting"]["dim_case_embd"])[number]
        made.append(Branch(branch, settings_of(case), fitting_of(case), case["types"], own))
    return made


def golden(name: str) -> tuple[DPA3, dict[str, Any]]:
    """The model of a case and DeePMD-kit's answers."""
    with np.load(GOLDEN / "dpa3" / f"{name}.npz") as file:
        answers = {key: file[key] for key in file.files}
    shapes = {key: tuple(shape) for key, shape in json.loads(str(answers["shapes"])).items()}
    return from_deepmd(branches_of(name, shapes, float(answers["factor"])), name, name), answers


SLOW = {"example-dynamic", "sequential"}
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES]


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_deepmd_kit(name: str) -> None:
    """1e-9 eV/atom, 1e-8 eV/Å, 1e-8 eV for the virial, on a surface that is not flat."""
    model, answers = golden(name)
    assert model.dtype == torch.float64
    for head in model.config.heads:
        model.with_head(head)
        start, squares = 0, []
        for i, atoms in enumerate(structures(CASES[name], case_seed(name))):
            graph = build_graph(atoms, model.config.e_rcut, model.config.a_rcut)
            found = model.predict(graph, path="plain")
            assert abs(float(found.energy) - answers[f"energy:{head}"][i]) / len(atoms) < 1e-9, i
            wanted = answers[f"forces:{head}"][start : start + len(atoms)]
            start += len(atoms)
            assert found.forces is not None
            assert found.stress is not None
            np.testing.assert_allclose(found.forces, wanted, rtol=0, atol=1e-8)
            squares.append(wanted.ravel() ** 2)
            if atoms.pbc.all():
                virial = -found.stress[0].numpy() * atoms.get_volume()
                theirs = answers[f"virial:{head}"][i]
                np.testing.assert_allclose(virial, (theirs + theirs.T) / 2, rtol=0, atol=1e-8)
        assert 0.5 < np.sqrt(np.concatenate(squares).mean()) < 5
