"""Several heads: what a new one starts as, whose weights learn from whom, and how much each counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.io import read, write

from atomml.cli.main import main
from atomml.data.dataset import ConcatDataset, HeadDataset, ListDataset
from atomml.data.entry import Entry
from atomml.errors import ModelError, OptionError
from atomml.graph import build_graph
from atomml.model import Potential
from atomml.potentials.chgnet import CHGNet
from atomml.potentials.dpa3 import DPA3
from atomml.potentials.mace import MACE
from atomml.registry import load_model, seeded_generator
from atomml.train.batches import Limits
from atomml.train.drift import held_back
from atomml.train.losses import Loss
from atomml.train.potential_objective import PotentialObjective
from atomml.train.processes import Processes
from atomml.train.samples import Samples
from atomml.train.step import BatchGroup, Gradients
from atomml.train.weights import WeightSchedule
from atomml.workflows.trainings.training_heads import head_weights, split_head

DPA3_SHAPE: dict[str, Any] = {
    "nlayers": 1,
    "n_dim": 12,
    "e_dim": 8,
    "a_dim": 4,
    "e_rcut": 4.0,
    "e_rcut_smth": 3.0,
    "a_rcut": 3.5,
    "a_rcut_smth": 3.0,
    "e_sel": 40,
    "a_sel": 20,
    "neuron": [20, 20],
}
MACE_SHAPE: dict[str, Any] = {"hidden": "4x0e", "max_degree": 1, "cutoff": 4.0, "readout": "4x0e"}


def fresh(family: str, **changes: Any) -> Potential:
    """A small model in float64."""
    kind, shape = (DPA3, DPA3_SHAPE) if family == "dpa3" else (MACE, MACE_SHAPE)
    with seeded_generator(1):
        return kind.fresh("small", (13, 29), {**shape, **changes}).double().eval()


def energies(model: Potential, entries: list[Entry]) -> list[float]:
    """Of a few crystals, by the head that answers."""
    cutoffs = model.info.cutoff, model.info.bond_cutoff
    graphs = [build_graph(entry.atoms, *cutoffs) for entry in entries[:4]]
    return [float(model.predict(graph, path="plain").energy) for graph in graphs]


KINDS = [
    ("dpa3", {}),
    ("dpa3", {"heads": ["a", "b"], "head": "b"}),
    ("dpa3", {"heads": ["a", "b"], "head": "b", "dim_case_embd": 5}),
    ("mace", {}),
    ("mace", {"heads": ["a", "b"], "head": "b"}),
]


@pytest.mark.parametrize(("family", "changes"), KINDS)
def test_a_new_head_starts_as_a_copy_and_leaves_the_others_alone(
    family: str, changes: dict[str, Any], entries: list[Entry]
) -> None:
    model = fresh(family, **changes)
    model.shift_references({13: 0.7, 29: -1.3})
    before = {head: energies(model.with_head(head), entries) for head in model.heads}
    model.with_head(model.heads[-1])
    grown = model.with_new_head("new")
    assert grown.heads == (*model.heads, "new")
    assert energies(grown, entries) == pytest.approx(before[model.heads[-1]], abs=1e-12)
    for head, known in before.items():
        assert energies(grown.with_head(head), entries) == pytest.approx(known, abs=1e-12)
    again = type(grown).from_hyperparameters(grown.hyperparameters(), grown.info)
    again.load_state_dict(grown.state_dict())
    with pytest.raises(ModelError, match="different"):
        model.with_new_head(model.heads[0])


def test_a_model_with_one_head_says_so() -> None:
    model = CHGNet.fresh("tiny", (13, 29), {"n_channels": 8, "readout_widths": [8], "n_layers": 2})
    with pytest.raises(ModelError, match="one head only"):
        model.with_new_head("new")


def mse() -> Loss:
    weights = {"energy": 1.0, "forces": 3.0, "stress": 20.0, "magmoms": 0.0}
    return Loss("mse", 0.05, {name: WeightSchedule.parse(w, name) for name, w in weights.items()})


FUSED: dict[str, Any] = {"nlayers": 2, "n_dim": 32, "e_dim": 32, "a_dim": 32, "dim_case_embd": 3}


@pytest.mark.parametrize(("family", "more"), [("dpa3", {}), ("dpa3", FUSED), ("mace", {})])
def test_the_gradient_of_a_mixed_batch_is_that_of_each_head_by_its_structures(
    family: str, more: dict[str, Any], entries: list[Entry]
) -> None:
    """Counts of the whole batch divide the loss, so the parts' gradients add up, weighted by their share."""
    shape = {"heads": ["a", "b"], "head": None, **more}
    model = fresh(family, **shape).requires_grad_(True)
    assert family == "mace" or model.training_path() is None  # nobody answers yet, and that is not kept
    with model.answering_by("a"):
        assert family == "mace" or (model.training_path() is not None) == (more == FUSED)
    both = ConcatDataset(
        [HeadDataset(ListDataset(entries[:3]), "a"), HeadDataset(ListDataset(entries[3:6]), "b")]
    )
    samples = Samples(both, model)
    alone = Processes("cpu")
    mixed = Gradients(model, PotentialObjective(mse()), alone, Limits(10_000, 10_000_000))
    order = [0, 3, 1, 4, 2, 5]
    found = mixed([BatchGroup([samples[i] for i in order])], 0.0)
    assert model.head is None
    expected: list[torch.Tensor] = []
    for head, rows in (("a", (0, 1, 2)), ("b", (3, 4, 5))):
        own = [replace(samples[i], head="") for i in rows]
        part = mixed._part(own, _counts(samples), 0.0) if model.with_head(head) else None
        assert part is not None
        tensors = [
            torch.zeros_like(p) if t is None else t for p, t in zip(model.parameters(), part[2], strict=True)
        ]
        expected = tensors if not expected else [x + y for x, y in zip(expected, tensors, strict=True)]
    for ours, theirs in zip(found.tensors, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def _counts(samples: Samples) -> dict[str, int]:
    return PotentialObjective(mse()).counts([samples[i] for i in range(6)])


def test_shares_make_heads_count_as_asked_whatever_their_numbers() -> None:
    counts = {"a": 30, "b": 10}
    found = head_weights(("a=1", "b=3"), counts)
    assert found["a"] * 30 * 3 == pytest.approx(found["b"] * 10)
    assert found["a"] * 30 + found["b"] * 10 == pytest.approx(40)
    assert head_weights((), counts) == {}
    for texts, word in ((("a=1",), "a, b"), (("a=1", "b=0"), "above zero"), (("a", "b=1"), "HEAD=SHARE")):
        with pytest.raises(OptionError, match=word):
            head_weights(texts, counts)


def test_a_file_whose_own_name_holds_the_sign_is_no_head(tmp_path: Path) -> None:
    file = tmp_path / "T=300.xyz"
    file.write_text("")
    assert split_head(str(file)) == ("", str(file))
    assert split_head("pbe=set.xyz") == ("pbe", "set.xyz")
    assert split_head("runs/a=b.xyz") == ("", "runs/a=b.xyz")


@pytest.fixture
def two_levels(entries: list[Entry], tmp_path: Path) -> tuple[Path, Path]:
    """Crystals by EMT, and by another level of theory: atoms 5 eV higher, forces a tenth larger."""
    files = tmp_path / "emt.xyz", tmp_path / "other.xyz"
    for file, factor, shift in ((files[0], 1.0, 0.0), (files[1], 1.1, 5.0)):
        frames = []
        for entry in entries:
            atoms = entry.atoms.copy()
            assert entry.labels.energy is not None
            assert entry.labels.forces is not None
            atoms.info["energy"] = factor * entry.labels.energy + shift * len(atoms)
            atoms.arrays["forces"] = factor * entry.labels.forces
            frames.append(atoms)
        write(file, frames)
    return files


def config(tmp_path: Path) -> str:
    file = tmp_path / "dpa3.yaml"
    file.write_text(json.dumps({"model": {"family": "dpa3", **DPA3_SHAPE}}))
    return str(file)


OPTIONS = ["--epochs", "6", "--precision", "float64", "--valid-fraction", "0.2", "--quiet"]


def test_the_command_trains_two_levels_of_theory_into_one_model(
    two_levels: tuple[Path, Path], tmp_path: Path, entries: list[Entry]
) -> None:
    """Each head has its own level's reference energies; the file's branches answer by name; runs repeat."""
    call = ["train", config(tmp_path), "--train", f"emt={two_levels[0]}", f"other={two_levels[1]}", *OPTIONS]
    for run in ("one", "two"):
        assert main([*call, "--out", str(tmp_path / run)]) == 0
    digests = [(tmp_path / run / "last.safetensors").read_bytes() for run in ("one", "two")]
    assert digests[0] == digests[1]
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    found = summary["results"]
    assert set(found["heads"]) == {"emt", "other"}
    assert found["labels"]["training"]["heads"]["emt"] > 0
    shifts = found["reference_shifts"]
    assert shifts["other"]["Cu"] == pytest.approx(1.1 * shifts["emt"]["Cu"] + 5.0, abs=0.3)
    file = tmp_path / "one" / "model.safetensors"
    with pytest.raises(ModelError, match="emt, other"):
        energies(load_model(str(file)), entries)
    by_head = [energies(load_model(f"{file}@{head}", dtype="float64"), entries) for head in ("emt", "other")]
    sizes = np.array([len(entry.atoms) for entry in entries[:4]])
    assert np.abs((np.array(by_head[1]) - np.array(by_head[0])) / sizes - 5.0).max() < 1.0


def test_a_new_head_is_fine_tuned_beside_the_old_one_which_replay_keeps(
    two_levels: tuple[Path, Path], tmp_path: Path, entries: list[Entry]
) -> None:
    """The new head learns the other level; the old one, replayed by name, answers nearly as before."""
    base = tmp_path / "base"
    assert main(["train", config(tmp_path), "--train", str(two_levels[0]), *OPTIONS, "--out", str(base)]) == 0
    file = base / "model.safetensors"
    old = energies(load_model(str(file), dtype="float64"), entries)
    call = ["finetune", "--model", str(file), "--train", f"other={two_levels[1]}", *OPTIONS]
    replayed = ["--method", "replay", "--replay", str(two_levels[0]), "--out", str(tmp_path / "tuned")]
    assert main([*call, *replayed]) == 0
    tuned = str(tmp_path / "tuned" / "model.safetensors")
    new = energies(load_model(tuned, dtype="float64"), entries)
    kept = energies(load_model(f"{tuned}@default", dtype="float64"), entries)
    sizes = np.array([len(entry.atoms) for entry in entries[:4]])
    labels = np.array([1.1 * (entry.labels.energy or 0.0) + 5.0 * len(entry.atoms) for entry in entries[:4]])
    assert np.abs((np.array(new) - labels) / sizes).max() < 0.3
    assert np.abs((np.array(kept) - old) / sizes).max() < 0.1
    events = (tmp_path / "tuned" / "events.jsonl").read_text()
    assert "The head other starts as a copy of default" in events


@pytest.mark.parametrize(
    ("files", "word"),
    [
        (["emt={0}", "{1}"], "names no head"),
        (["emt={0}", "other={1}", "--valid", "third={0}"], "third"),
        (["emt={0}", "other={1}", "--valid", "{0}"], "no head"),
        (["emt={0}", "other={1}", "--head-shares", "emt=1"], "emt, other"),
    ],
)
def test_heads_that_do_not_fit_are_refused(
    two_levels: tuple[Path, Path],
    tmp_path: Path,
    files: list[str],
    word: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [text.format(*two_levels) for text in files]
    out = tmp_path / "run"
    assert main(["train", config(tmp_path), "--train", *given, "--out", str(out), "--epochs", "1"]) == 2
    assert word in capsys.readouterr().err
    assert not out.exists()


def test_a_new_head_needs_to_know_what_it_starts_from(
    two_levels: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from atomml.checkpoint import save_model

    model = fresh("dpa3", heads=["a", "b"], head=None)
    save_model(model, tmp_path / "two.safetensors")
    call = ["finetune", "--model", str(tmp_path / "two.safetensors"), "--train", f"c={two_levels[0]}"]
    assert main([*call, "--out", str(tmp_path / "run"), "--epochs", "1"]) == 2
    assert "MODEL@HEAD, with one of a, b" in capsys.readouterr().err


def test_heads_of_the_configuration_are_those_of_the_files(
    two_levels: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dpa3.yaml"
    file.write_text(json.dumps({"model": {"family": "dpa3", **DPA3_SHAPE, "heads": ["a", "b"]}}))
    files = [f"a={two_levels[0]}", f"c={two_levels[1]}"]
    assert main(["train", str(file), "--train", *files, "--out", str(tmp_path / "run")]) == 2
    assert "write the same" in capsys.readouterr().err


def test_drift_is_measured_on_what_was_held_back_and_beyond_its_limit_the_run_has_not_converged(
    two_levels: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same run under a wide and under a narrow limit: same figures, exits 0 and 3, said both times."""
    base = tmp_path / "base"
    few = [*OPTIONS, "--epochs", "2"]
    assert main(["train", config(tmp_path), "--train", str(two_levels[0]), *few, "--out", str(base)]) == 0
    call = ["finetune", "--model", str(base / "model.safetensors"), "--train", f"other={two_levels[1]}", *few]
    call += ["--method", "replay", "--replay", str(two_levels[0])]
    found = {}
    for limit, code in (("1e6", 0), ("1e-6", 3)):
        out = tmp_path / limit
        limits = ["--drift-energy", limit, "--drift-forces", limit]
        assert main([*call, *limits, "--out", str(out)]) == code
        summary = json.loads((out / "summary.json").read_text())
        assert summary["converged"] == (code == 0)
        assert any("moved by" in sentence for sentence in summary["warnings"]) == (code == 3)
        found[limit] = summary["results"]["drift"]
        assert found[limit]["structures"] == 2
        assert found[limit]["held_back"]
    figures = [[one[key] for key in ("energy_meV_per_atom", "forces_meV_per_A")] for one in found.values()]
    assert figures[0] == figures[1]
    assert figures[0][0] > 0
    tuned = load_model(f"{tmp_path / '1e6' / 'model.safetensors'}@default", dtype="float64")
    parent = load_model(str(base / "model.safetensors"), dtype="float64")
    frames = read(two_levels[0], ":")
    held = [frames[i] for i in held_back(len(frames), 0)[1]]
    by_hand = [
        abs(
            float(tuned.predict(build_graph(a, 4.0, tuned.info.bond_cutoff)).energy)
            - float(parent.predict(build_graph(a, 4.0, parent.info.bond_cutoff)).energy)
        )
        / len(a)
        for a in held
    ]
    assert figures[0][0] == pytest.approx(1000 * np.mean(by_hand), rel=1e-9)


def test_a_new_head_without_replay_says_that_the_old_one_is_not_held(
    two_levels: tuple[Path, Path], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    few = [*OPTIONS, "--epochs", "1"]
    assert main(["train", config(tmp_path), "--train", str(two_levels[0]), *few, "--out", str(base)]) == 0
    call = ["finetune", "--model", str(base / "model.safetensors"), "--train", f"other={two_levels[1]}", *few]
    assert main([*call, "--out", str(tmp_path / "tuned")]) == 0
    summary = json.loads((tmp_path / "tuned" / "summary.json").read_text())
    assert any("The head default is not held" in sentence for sentence in summary["warnings"])
