"""Low-rank fine-tuning of every family: starts as its parent, merges exactly, learns, resumes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_heads import fresh
from test_trainer import FILES, PulledPlug, settings, unplug

from atomml.checkpoint import load_checkpoint, load_model_file, load_state
from atomml.cli.main import main
from atomml.data.dataset import ListDataset
from atomml.data.entry import Entry
from atomml.graph import build_graph, collate
from atomml.model import Potential
from atomml.potentials.chgnet import CHGNet
from atomml.train.low_rank import LowRank, OwnWeights
from atomml.train.processes import Processes
from atomml.train.samples import Samples
from atomml.train.trainer import Data, Trainer

FAMILIES = ("chgnet", "mace", "dpa3")


@pytest.fixture
def of(tiny: Callable[..., CHGNet]) -> Callable[[str], Potential]:
    """A small model of a family in float64."""
    return lambda family: tiny() if family == "chgnet" else fresh(family, **_SHAPES[family])


_SHAPES: dict[str, dict[str, Any]] = {"mace": {"hidden": "4x0e+4x1o", "max_degree": 2}, "dpa3": {}}


def answers(model: Potential, entries: list[Entry]) -> torch.Tensor:
    """Energies and forces by the plain path."""
    graph = collate([build_graph(e.atoms, model.info.cutoff, model.info.bond_cutoff) for e in entries[:4]])
    found = model.predict(graph, path="plain")
    assert found.forces is not None
    return torch.cat([found.energy, found.forces.ravel()])


def drawn(weights: LowRank, size: float = 0.1) -> None:
    """Some A and B, as a training would leave them."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in weights.learning().values():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    weights.put()


@pytest.mark.parametrize("family", FAMILIES)
def test_it_starts_as_its_parent_and_merges_to_the_sum(
    family: str, of: Callable[[str], Potential], entries: list[Entry], tmp_path: Path
) -> None:
    """W + (alpha / r) A B put in by hand gives the same outputs as the merged model, and as its file."""
    from atomml.checkpoint import save_model

    model, parent = of(family), of(family)
    before = answers(model, entries)
    weights = LowRank(model, 2, 6.0, seed=3)
    weights.put()
    assert torch.equal(answers(model, entries), before)
    drawn(weights)
    merged = answers(model, entries)
    assert float((merged - before).abs().max()) > 1e-3
    by_hand = dict(parent.named_parameters())
    for number, name in enumerate(weights._names):
        down, up = weights.get_parameter(f"down_{number}"), weights.get_parameter(f"up_{number}")
        assert down.shape[-1] == min(2, *by_hand[name].shape[-2:])
        with torch.no_grad():
            by_hand[name] += 6.0 / down.shape[-1] * torch.einsum("...ir,...ro->...io", down, up)
    torch.testing.assert_close(answers(parent, entries), merged, rtol=0, atol=1e-10)
    save_model(model, tmp_path / "merged.safetensors")
    again = load_model_file(tmp_path / "merged.safetensors", "float64", "cpu")
    torch.testing.assert_close(answers(again, entries), merged, rtol=0, atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_follow_the_chain_rule(
    family: str, of: Callable[[str], Potential], entries: list[Entry]
) -> None:
    """By autograd through the sum, plain path, against what the matrices' gradients give."""
    model = of(family)
    weights = LowRank(model, 2, 2.0, seed=3)
    drawn(weights)
    graph = collate([build_graph(e.atoms, model.info.cutoff, model.info.bond_cutoff) for e in entries[:3]])

    def loss(found: Any) -> torch.Tensor:
        return (found.site_energies * torch.arange(len(found.site_energies))).sum() + found.forces.pow(
            2
        ).sum()

    matrices = [p for p in model.parameters() if p.requires_grad]
    assert len(matrices) == len(weights._names)
    found = model.differentiable(graph, stress=False, create_graph=True)
    tensors = torch.autograd.grad(loss(found), matrices, allow_unused=True, materialize_grads=True)
    ours = weights.gradients(tensors)
    step, (name, parameter) = 1e-6, list(weights.learning().items())[3]
    row = int(ours[3].abs().argmax())
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter.view(-1)[row] += sign * step
        weights.put()
        values.append(float(loss(model.predict(graph, stress=False, path="plain"))))
        with torch.no_grad():
            parameter.view(-1)[row] -= sign * step
    # Central differences: error of step^2, rounding of 1e-16 / step.
    assert float(ours[3].view(-1)[row]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4), name


@pytest.mark.parametrize("family", FAMILIES)
def test_only_maps_learn_and_runs_resume_to_the_same_bits(
    family: str, of: Callable[[str], Potential], entries: list[Entry], tmp_path: Path
) -> None:
    """The plug pulled in the middle; A and B stand in the restart file; biases and embeddings stay."""

    def make(folder: Path) -> Trainer:
        folder.mkdir(exist_ok=True)
        model = of(family)
        weights = LowRank(model, 2, 2.0, seed=3)
        data = Data(Samples(ListDataset(entries[:7]), model), Samples(ListDataset(entries[7:9]), model))
        return Trainer(model, data, settings(), folder, Processes("cpu"), weights=weights)

    whole = make(tmp_path / "whole")
    whole.run()
    broken = make(tmp_path / "broken")
    unplug(broken, 6)
    with pytest.raises(PulledPlug):
        broken.run()
    kept = load_state(tmp_path / "broken" / "restart.safetensors").arrays
    assert any(name.startswith("learned.down_") for name in kept)
    make(tmp_path / "broken").run(resume=True)
    found = [
        {name: hashlib.sha256((tmp_path / run / name).read_bytes()).hexdigest() for name in FILES}
        for run in ("whole", "broken")
    ]
    assert found[0] == found[1]
    maps, last = set(whole.model.linear_maps()), load_checkpoint(tmp_path / "whole" / "last.safetensors")
    moved = {
        name for name, p in of(family).named_parameters() if not torch.equal(p, last.tensors[name].double())
    }
    assert moved
    assert moved <= maps
    assert len(OwnWeights(of(family)).learning()) > len(maps)


def test_rotations_leave_a_tuned_mace_alone(of: Callable[[str], Potential], entries: list[Entry]) -> None:
    """A map of each irrep by itself is still one of each irrep by itself."""
    model = of("mace")
    drawn(LowRank(model, 2, 6.0, seed=3), 1.0)
    atoms = entries[0].atoms.copy()
    energy = model.predict(build_graph(atoms, 4.0)).energy
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    torch.testing.assert_close(model.predict(build_graph(atoms, 4.0)).energy, energy, rtol=1e-11, atol=0)


def test_the_command_and_its_card(
    tiny_file: Path, crystals_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two generations: the card names the method, seed, digests of data, and both ancestors."""
    call = ["--train", str(crystals_file), "--epochs", "2", "--quiet", "--device", "cpu"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["finetune", "--model", str(tiny_file), *call, "--out", str(first)]) == 0
    lora = ["--method", "lora", "--lora-rank", "2", "--seed", "5", "--name", "grandchild"]
    model = str(first / "model.safetensors")
    assert main(["finetune", "--model", model, *call, *lora, "--out", str(second)]) == 0
    capsys.readouterr()
    assert main(["models", "info", str(second / "model.safetensors")]) == 0
    card = capsys.readouterr().out
    parent = load_checkpoint(model).sha256
    oldest = load_checkpoint(tiny_file).sha256
    for word in ("grandchild", "lora", "rank 2, alpha 8", "seed", parent, oldest, "data, train"):
        assert word in card
    assert card.index(parent) < card.index(oldest)
