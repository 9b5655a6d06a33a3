"""MACE against mace-torch 0.3.16 on seeded random weights, float64: energies, forces, stress.

The answers come from ``tests/golden/mace_reference.py``, run in an environment of its own.
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
from atomml.potentials.mace import MACE, from_mace_torch

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))

from mace_cases import CASES, case_seed, draw_weights, structures  # noqa: E402

BIG = {"mp-0-large", "off23-large", "mh-1", "mp-0-medium", "mpa-0-medium", "omat-0-medium"}
FLAT_RADIAL = {"chebyshev"}
"""mace-torch takes its polynomials from torch, where they have no derivative: its forces lack that part (a
difference quotient of its own energy says -0.6588 eV/Å where it answers -0.6469). Ours are the derivative."""

NAMES = [pytest.param(name, marks=pytest.mark.slow if name in BIG else ()) for name in CASES]


def golden(name: str) -> tuple[MACE, dict[str, Any]]:
    """The model of a case, with its weights drawn again, and mace-torch's answers."""
    with np.load(GOLDEN / "mace" / f"{name}.npz") as file:
        answers = {key: file[key] for key in file.files}
    settings = json.loads(str(answers["settings"]))
    shapes = {key: tuple(shape) for key, shape in json.loads(str(answers["shapes"])).items()}
    state = {key: torch.as_tensor(values) for key, values in draw_weights(shapes, case_seed(name)).items()}
    for key, value in answers.items():
        if key.startswith("constant:"):
            state[key.removeprefix("constant:")] = torch.as_tensor(value)
    n_heads = len(settings["heads"])
    state |= {"scale_shift.scale": torch.ones(n_heads), "scale_shift.shift": torch.zeros(n_heads)}
    model = from_mace_torch(state, settings, name)
    model.scale[:] = float(answers["factor"])
    return model, answers


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_mace_torch(name: str) -> None:
    """1e-9 eV/atom, 1e-8 eV/Å, 1e-9 eV/Å³, on a surface that is not flat."""
    model, answers = golden(name)
    for head in model.config.heads:
        model.with_head(head)
        start = 0
        squares = []
        for i, atoms in enumerate(structures(list(model.config.elements), case_seed(name))):
            graph = build_graph(atoms, model.config.cutoff)
            found = model.predict(graph, path="plain")
            free = model.reference[model.config.head_index, model._row[graph.numbers]].sum()
            error = abs(float(found.energy - free) - answers[f"energy:{head}"][i]) / len(atoms)
            assert error < 1e-9, f"structure {i}, head {head}"
            wanted = answers[f"forces:{head}"][start : start + len(atoms)]
            start += len(atoms)
            assert found.forces is not None
            assert found.stress is not None
            squares.append(wanted.ravel() ** 2)
            if name in FLAT_RADIAL:
                continue
            np.testing.assert_allclose(found.forces, wanted, rtol=0, atol=1e-8)
            if atoms.pbc.all():
                np.testing.assert_allclose(found.stress[0], answers[f"stress:{head}"][i], rtol=0, atol=1e-9)
        assert 0.5 < np.sqrt(np.concatenate(squares).mean()) < 5
