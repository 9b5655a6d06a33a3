"""Presets: published shapes that train as they are, and the scales that fresh weights take from the data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from atomml.cli.main import main
from atomml.data.dataset import ListDataset
from atomml.data.entry import Entry
from atomml.errors import OptionError
from atomml.potentials.dpa3 import DPA3
from atomml.potentials.mace import MACE, MACEConfig
from atomml.registry import family_class, load_model
from atomml.train.scales import scales_of
from atomml.workflows.trainings.training_presets import PRESETS, preset_of, preset_path


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_model_of_its_family(name: str) -> None:
    shape = preset_of(name)
    assert shape is not None
    family = shape.pop("family")
    model = family_class(family, "test").fresh("x", (1, 8), shape)
    assert isinstance(model, MACE | DPA3)
    if name == "mace-medium":  # MACE-MP-0's, which is what the configuration is without any setting
        assert MACEConfig.from_json({**shape, "elements": []}).hidden == MACEConfig().hidden


def test_a_file_of_the_same_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert preset_path("mace-small") is not None
    (tmp_path / "mace-small").write_text("model: chgnet\n")
    assert preset_path("mace-small") is None
    (tmp_path / "mine.yaml").write_text("model: {family: mace, cutoff: 4.0}\n")
    assert preset_of("mine.yaml") == {"family": "mace", "cutoff": 4.0}
    assert preset_of("chgnet-0.3.0") is None
    (tmp_path / "other.yaml").write_text("epochs: 3\n")
    with pytest.raises(OptionError, match="names no model"):
        preset_of("other.yaml")


def test_fresh_weights_start_at_the_scales_of_the_data(
    entries: list[Entry], crystals_file: Path, tmp_path: Path
) -> None:
    """Counted here by hand; what a configuration says of neighbours itself, stays."""
    config = tmp_path / "c.yaml"
    shape = {"preset": "mace-small", "hidden": "4x0e", "max_degree": 1, "cutoff": 4.0, "readout": "4x0e"}
    for name, more in (("own", {}), ("told", {"neighbours": 7.0})):
        config.write_text(json.dumps({"model": {**shape, **more}}))
        call = ["train", str(config), "--train", str(crystals_file), "--max-steps", "2", "--quiet"]
        call += ["--valid-fraction", "0", "--device", "cpu", "--precision", "float64", "--ema", "0"]
        assert main([*call, "--out", str(tmp_path / name)]) == 0
    forces = np.concatenate([entry.labels.forces.ravel() for entry in entries])  # type: ignore[union-attr]
    model = load_model(str(tmp_path / "own" / "model.safetensors"), dtype="float64", device="cpu")
    assert isinstance(model, MACE)
    assert float(model.scale[0]) == pytest.approx(float(np.sqrt(np.mean(forces**2))), rel=1e-9)
    expected = scales_of(ListDataset(entries), 4.0).neighbours
    assert model.config.neighbours == pytest.approx(expected)
    assert expected > 10
    told = load_model(str(tmp_path / "told" / "model.safetensors"), dtype="float64", device="cpu")
    assert isinstance(told, MACE)
    assert told.config.neighbours == 7.0


def test_unknown_presets_are_refused(
    crystals_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps({"model": {"preset": "mace-smal"}}))
    assert main(["train", str(config), "--train", str(crystals_file), "--quiet"]) == 2
    assert "mace-small, mace-medium, dpa3-l6" in capsys.readouterr().err
