"""What fails in silence elsewhere is an error or a line of the report here.

No labels found (mace issues 364), stress on some frames only (1518), one-atom cells dropped (276), replay
that switches itself off (1443), final model not written (509), restart from the first epoch (997; in
``test_trainer.py``, as is the final model).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from atomml.data.dataset import ListDataset
from atomml.data.entry import Entry, Labels
from atomml.errors import AtomMLError, InputError, ModelError, OptionError
from atomml.model import Potential
from atomml.train.holdout import hold_out
from atomml.train.losses import Loss
from atomml.train.replay import generate, label_by_model, prototypes
from atomml.train.samples import Samples
from atomml.train.survey import check_groups, survey
from atomml.train.weights import WeightSchedule
from atomml.workflows.trainings.fine_tuning import FineTuneOptions, check_method
from atomml.workflows.trainings.training_references import replay_files, replay_of
from atomml.workflows.trainings.training_settings import loss_of as loss_of_options
from atomml.workflows.trainings.training_settings import parse_weights


def loss_of(**weights: float) -> Loss:
    names = ("energy", "forces", "stress", "magmoms")
    return Loss("mse", 0.1, {name: WeightSchedule.parse(weights.get(name, 1.0), name) for name in names})


def test_no_labels_at_all_is_an_error(entries: list[Entry]) -> None:
    bare = ListDataset([replace(entry, labels=Labels()) for entry in entries])
    with pytest.raises(OptionError, match=r"None of the 10 training structures has a label.*--energy-key"):
        survey(bare, "training", loss_of())


def test_labels_whose_weight_is_zero_are_no_labels(dataset: ListDataset) -> None:
    with pytest.raises(OptionError, match="magmoms"):
        survey(dataset, "training", loss_of(energy=0, forces=0, stress=0))


def test_stress_on_some_frames_is_counted_and_said(entries: list[Entry]) -> None:
    some = [replace(e, labels=replace(e.labels, stress=None)) if k < 3 else e for k, e in enumerate(entries)]
    seen = survey(ListDataset(some), "training", loss_of())
    assert seen.labels["stress"] == 7
    assert seen.record()["stress"] == 7
    assert any(
        sentence.startswith("3 of 10 training structures have no stress")
        for sentence in seen.sentences(loss_of())
    )


def test_a_stress_without_volume_is_counted_and_said(entries: list[Entry]) -> None:
    molecule = Entry(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.3]]), Labels(-1.0, stress=np.eye(3)))
    seen = survey(ListDataset([*entries, molecule]), "training", loss_of())
    assert seen.lost_stress == 1
    assert any("their stress does not count" in sentence for sentence in seen.sentences(loss_of()))


def test_charges_that_the_model_does_not_see_are_said(entries: list[Entry]) -> None:
    ion = entries[0].atoms.copy()
    ion.info["charge"] = 1
    seen = survey(ListDataset([*entries[1:], replace(entries[0], atoms=ion)]), "training", loss_of())
    assert next(s for s in seen.sentences(loss_of()) if "net charge" in s).startswith("1 training structures")


def test_one_atom_cells_are_trained_on(tiny: Callable[..., Potential], entries: list[Entry]) -> None:
    one = Entry(bulk("Cu"), Labels(-3.5, np.zeros((1, 3)), np.zeros((3, 3))))
    data = ListDataset([*entries, one])
    assert survey(data, "training", loss_of()).one_atom == 1
    sample = Samples(data, tiny())[10]
    assert float(sample.targets.energy) == -3.5
    assert sample.graph.n_edges > 0


def test_elements_that_the_model_does_not_know_are_named(
    tiny: Callable[..., Potential], entries: list[Entry]
) -> None:
    foreign = Entry(bulk("Fe"), Labels(-8.0), source="iron.xyz", frame=4)
    with pytest.raises(ModelError, match=r"iron\.xyz, frame 4: atom 0 is Fe"):
        survey(ListDataset([*entries, foreign]), "training", loss_of(), tiny().info)


def test_structures_in_both_sets_are_counted(entries: list[Entry]) -> None:
    first = survey(ListDataset(entries), "training", loss_of())
    moved = entries[2].atoms.copy()
    moved.positions[0, 0] += 1e-3
    other = survey(ListDataset([*entries[3:5], replace(entries[2], atoms=moved)]), "validation", loss_of())
    assert first.repeated_in(other) == 2


def test_groups_that_do_not_exist_are_named() -> None:
    assert parse_weights(["Surface=2", "a=b=0.5"], "group_weights", "GROUP=WEIGHT") == {
        "Surface": 2.0,
        "a=b": 0.5,
    }
    with pytest.raises(OptionError, match=r"'Surfaec'.*Surface"):
        check_groups({"Surfaec": 2.0}, ["Surface", ""])
    for text in ("Surface", "Surface=x", "Surface=-1"):
        with pytest.raises(OptionError, match="GROUP=WEIGHT"):
            parse_weights([text], "group_weights", "GROUP=WEIGHT")


def test_a_loss_of_nothing_is_refused() -> None:
    nothing = FineTuneOptions(energy_weight="0", forces_weight="0", stress_weight="0", magmoms_weight="0")
    with pytest.raises(OptionError, match="zero"):
        loss_of_options(nothing)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "lora", "freeze": ("readout",)}, "leave one out"),
        ({"method": "full", "replay": ("old.xyz",)}, "take --method replay"),
        ({"method": "full", "replay_size": 16}, "--replay-size is of --method replay alone"),
        ({"method": "replay", "lora_rank": 4}, "--lora-rank is of --method lora alone"),
        ({"method": "frozen", "drift_forces": 5.0}, "--drift-forces"),
    ],
)
def test_methods_that_would_do_something_else_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        check_method(FineTuneOptions(**options))


def test_replay_of_nothing_is_an_error(tiny: Callable[..., Potential]) -> None:
    """A model that knows only the user's elements leaves nothing to generate."""
    with pytest.raises(OptionError, match="Nothing can be replayed"):
        generate(tiny(), 5, 0, own=(13, 29))


def test_replayed_files_need_no_labels_under_the_keys_of_the_training_files(
    tiny: Callable[..., Potential], crystals_file: Path
) -> None:
    """The model labels them; what the files say is not even looked at."""
    options = FineTuneOptions(
        method="replay", replay=(str(crystals_file),), energy_key="E_dft", forces_key="F_dft"
    )
    model = tiny()
    found = replay_of(options, model, (13, 29), "", replay_files(options, model.info))
    assert len(found.dataset) + len(found.before) == 10
    again = label_by_model(model, found.dataset)
    assert [entry.labels.energy for entry in found.dataset] == [entry.labels.energy for entry in again]
    with pytest.raises(InputError, match="no frame has energy under the key 'E_dft'"):
        replay_files(replace(options, replay_labels="file"), model.info)


def test_replayed_crystals_have_the_models_labels_and_leave_the_users_chemistry_out(
    tiny: Callable[..., Potential],
) -> None:
    model = tiny(0, (13, 29, 47))
    data = generate(model, 12, 0, own=(13,))
    assert 0 < len(data) <= 12
    again = label_by_model(model, data)
    for entry, same in zip(data, again, strict=True):
        assert set(entry.atoms.numbers.tolist()) != {13}
        assert entry.labels.energy == pytest.approx(same.labels.energy, abs=1e-9)
        assert entry.labels.forces is not None
        assert np.abs(entry.labels.forces).max() < 20
        # forces sum to zero in any model that depends on distances alone
        assert np.abs(entry.labels.forces.sum(axis=0)).max() < 1e-9
    first, second = (generate(model, 6, seed, own=()) for seed in (1, 1))
    assert all(
        np.array_equal(a.atoms.positions, b.atoms.positions) for a, b in zip(first, second, strict=True)
    )


def test_prototypes_draw_every_element_about_equally_often() -> None:
    elements = [3, 8, 13, 14, 26, 29, 47, 79]
    crystals = prototypes(elements, 200, np.random.default_rng(0))
    found = np.array([[z in atoms.numbers for z in elements] for atoms in crystals]).sum(axis=0)
    assert found.min() > 0.6 * found.mean()


def test_what_is_held_out_shares_no_trajectory_and_is_said(entries: list[Entry]) -> None:
    single = hold_out(ListDataset(entries), 0.2, 0)
    assert sorted(single.train + single.valid) == list(range(10))
    assert len(single.valid) == 2
    assert "2 of 10 structures" in single.sentence
    assert hold_out(ListDataset(entries), 0.2, 0).valid == single.valid
    runs = ListDataset(
        [replace(entries[k % 10], trajectory=f"run {k // 5}", frame=k % 5, source="x") for k in range(100)]
    )
    few = hold_out(ListDataset(entries[:4]), 0.05, 0)
    assert (len(few.train), len(few.valid)) == (3, 1)  # a twentieth of four is one all the same
    short = [replace(entry, trajectory="one", frame=k, source="x") for k, entry in enumerate(entries[:8])]
    few = hold_out(ListDataset(short), 0.1, 0)
    assert len(few.valid) == 1
    assert min(abs(few.valid[0] - k) for k in few.train) > 1
    parts = hold_out(runs, 0.2, 0)
    of = {k: k // 5 for k in range(100)}
    assert not {of[k] for k in parts.train} & {of[k] for k in parts.valid}
    with pytest.raises(OptionError, match="--valid"):
        hold_out(ListDataset(entries[:1]), 0.2, 0)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_isolated_atoms_are_never_held_out(entries: list[Entry], fraction: float) -> None:
    """Else one in ten elements has none in what is left, and reference energies cannot be had."""
    atoms = [Entry(Atoms(symbol), Labels(-0.5)) for symbol in ("Cu", "Al", "Ag")]
    runs = [replace(entry, trajectory="one", frame=k, source="x") for k, entry in enumerate(entries)]
    for data in ([*atoms, *entries], [*runs[:5], *atoms, *runs[5:]]):
        places = {k for k, entry in enumerate(data) if len(entry.atoms) == 1 and not entry.atoms.pbc.any()}
        for seed in range(3):
            parts = hold_out(ListDataset(data), fraction, seed)
            assert places <= set(parts.train)
            assert parts.valid
            assert not set(parts.train) & set(parts.valid)
            assert f"({len(places)})" in parts.sentence


def test_every_error_is_one_of_ours(crystals_file: Path, tmp_path: Path) -> None:
    """Wrong files, options and models: exit code 2, nothing left behind."""
    from atomml.workflows import finetune

    for given, options in (
        ((), {}),
        (tmp_path / "missing.xyz", {}),
        (crystals_file, {"energy_key": "DFT_energy"}),
        (crystals_file, {"max_time": "soon"}),
        (crystals_file, {"ema": 1.0}),
        (crystals_file, {"decay_steps": 7}),
        (crystals_file, {"schedule": "exponential", "plateau_patience": 9}),
        (crystals_file, {"schedule": "constant", "final_rate": 0.5}),
        (crystals_file, {"loss": "mse", "huber_delta": 0.1}),
        (crystals_file, {"device": "tpu"}),
        (crystals_file, {"precision": "bf16", "device": "cpu"}),
        (crystals_file, {"method": "frozen", "freeze": ("no such block",)}),
    ):
        with pytest.raises(InputError) as caught:
            finetune(
                "lj-argon" if not options else "chgnet",
                given,
                out=tmp_path / "run",
                overwrite=True,
                **options,
            )
        assert isinstance(caught.value, AtomMLError)
        assert not (tmp_path / "run" / "summary.json").exists()


def test_the_summary_of_a_run_tells_what_lacked(tiny_file: Path, crystals_file: Path, tmp_path: Path) -> None:
    from atomml.workflows import finetune

    result = finetune(
        tiny_file, crystals_file, out=tmp_path / "run", epochs=1, precision="float64", device="cpu"
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert any("have no stress" in warning for warning in summary["warnings"])
    labels = summary["results"]["labels"]["training"]
    assert labels["structures"] == labels["energy"] == 9
    assert labels["stress"] < 9
    assert summary["results"]["model"].endswith("run/model.safetensors")
    assert summary["held_out"].startswith("1 of 10")
    assert summary["units"]["energy_mae_meV_per_atom"] == "meV/atom"
    assert result.before.keys() >= {"valid_energy_mae_meV_per_atom", "valid_forces_mae_meV_per_A"}
