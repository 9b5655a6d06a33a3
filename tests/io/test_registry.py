"""Names to models: listed without torch, loaded without side effects, added and removed safely."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest
import torch
from ase.build import bulk

from atomml import registry
from atomml.checkpoint import save_model
from atomml.electronic.hamiltonian_model import HamiltonianModel
from atomml.errors import CheckpointError, InputError, ModelError, OptionError
from atomml.graph import build_graph
from atomml.model import Potential
from atomml.potentials.site_regressor.model import SiteRegressor
from atomml.property.ensemble import PropertyEnsemble
from atomml.property.property_model import PropertyModel
from atomml.registry import (
    BUILT_IN,
    FAMILIES,
    add_model,
    find_entry,
    load_model,
    model_card,
    model_entries,
    models_folder,
    remove_model,
    verify_model,
)

NAMES = [entry.name for entry in BUILT_IN]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder, empty, for every test."""
    monkeypatch.setenv("ATOMML_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def argon_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_model(load_model("lj-argon", "float64", "cpu"), path)
    return path


@pytest.fixture
def torch_defaults() -> Iterator[None]:
    """Fails a test that changes what torch does for everyone else."""
    before = (torch.get_default_dtype(), torch.empty(0).device, torch.random.get_rng_state())
    yield
    assert (torch.get_default_dtype(), torch.empty(0).device) == before[:2]
    assert torch.equal(torch.random.get_rng_state(), before[2])


def test_listing_imports_neither_torch_nor_numpy_nor_ase() -> None:
    code = (
        "import sys; from atomml.registry import model_entries; names = [e.name for e in model_entries()];"
        "heavy = {'torch', 'numpy', 'ase', 'chgnet', 'pymatgen'} & set(sys.modules);"
        "assert not heavy, heavy; print(*names)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(NAMES) <= set(found.stdout.split())


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_a_frozen_model_in_either_precision(name: str, torch_defaults: None) -> None:
    for dtype in ("float32", "float64"):
        model = load_model(name, dtype=dtype, device="cpu")
        assert isinstance(model, Potential)
        assert model.info.name == name
        assert model.dtype == getattr(torch, dtype)
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
        assert len(model.info.sha256) == 64


@pytest.mark.parametrize("name", NAMES)
def test_every_model_survives_a_checkpoint_with_the_same_answers(
    name: str, tmp_path: Path, torch_defaults: None
) -> None:
    model = load_model(name, "float64", "cpu")
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors", "float64", "cpu")
    crystal = bulk("Ar", "fcc", a=5.3).repeat(2)
    crystal.numbers[:] = 18 if 18 in model.info.elements else model.info.elements[0]
    graph = build_graph(crystal, model.info.cutoff, model.info.bond_cutoff)
    ours, theirs = (m.predict(graph, path="plain") for m in (model, again))
    assert ours.forces is not None
    assert theirs.forces is not None
    assert torch.equal(ours.energy, theirs.energy)
    assert torch.equal(ours.forces, theirs.forces)


TWO_PRECISIONS = """
import sys
from ase.build import bulk
from atomml import load_model
from atomml.graph import build_graph
models = {dtype: load_model("chgnet", dtype, "cpu") for dtype in sys.argv[1:]}
atoms = bulk("NaCl", "rocksalt", a=5.7)
atoms.rattle(0.1)
graph = build_graph(atoms, 6.0, 3.0)
for dtype, model in sorted(models.items()):
    for path in ("plain", "auto"):
        found = model.predict(graph, path=path)
        print(dtype, path, found.energy.item().hex(), *[x.hex() for x in found.forces.flatten().tolist()])
"""


@pytest.mark.slow
def test_two_precisions_in_one_process_give_the_bits_that_each_gives_alone() -> None:
    """In either order of loading; alone means in a process of its own."""

    def start(*dtypes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", TWO_PRECISIONS, *dtypes], stdout=subprocess.PIPE, text=True
        )

    orders = (("float32",), ("float64",), ("float32", "float64"), ("float64", "float32"))
    single, double, one_way, other_way = [start(*order).communicate()[0].splitlines() for order in orders]
    assert len(single) == len(double) == 2
    assert one_way == other_way == [*single, *double]


def test_the_alias_is_the_default_model() -> None:
    entry = find_entry("chgnet")
    assert entry is not None
    assert entry.name == registry.DEFAULT_MODEL


def test_every_family_names_a_model() -> None:
    kinds = [registry.family_class(family, "a test") for family in FAMILIES]
    assert all(
        issubclass(kind, Potential | HamiltonianModel | PropertyModel | PropertyEnsemble | SiteRegressor)
        for kind in kinds
    )


def test_names_and_aliases_are_unique() -> None:
    names = [name for entry in model_entries() for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chgnet-0.3", "chgnet-0.3.0"),
        ("CHGNet", "chgnet"),
        ("lj", "atomml models list"),
        ("", "atomml models list"),
        ("a,b", "no model called 'a'"),
        ("mmff94s", "method without weights"),
        ("gfn2", "method without weights"),
        ("ase:ase.calculators.emt:EMT", "ASE calculator"),
        ("gone.safetensors", "no model file"),
        ("../gone", "no model file"),
        ("x" * 5000, "no model called"),
    ],
)
def test_an_unknown_name_is_answered_with_what_to_do(name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        load_model(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth.tar", ".pt", ".pth", ".model", ".ckpt", ".pkl", ".zip"])
def test_other_programs_checkpoints_are_never_opened(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"\x80\x04anything")
    with pytest.raises(CheckpointError, match="atomml convert"):
        load_model(path)


def test_a_pickle_that_would_run_code_does_not_run_it(tmp_path: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

    for name in ("bomb.safetensors", "bomb.pt", "bomb"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(CheckpointError):
            load_model(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_dtypes_and_devices_that_there_are_not() -> None:
    with pytest.raises(OptionError, match="float16"):
        load_model("lj-argon", dtype="float16")
    for device in ("warp", "cuda:99"):
        with pytest.raises(OptionError, match="not available"):
            load_model("lj-argon", device=device)


def test_an_added_model_is_loaded_by_its_name_and_can_be_removed(argon_file: Path, home: Path) -> None:
    entry = add_model(argon_file, "my-argon")
    assert entry in model_entries()
    assert models_folder() == home / "models"
    argon_file.unlink()  # the copy is ours
    model = load_model("my-argon", "float64", "cpu")
    assert model.info.name == "my-argon"
    assert verify_model("my-argon") == load_model("lj-argon").info.sha256
    remove_model("my-argon")
    assert find_entry("my-argon") is None
    assert list(models_folder().iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", "../x", "A", "a b", "-x", "x.safetensors", "a/b", "é", "x" * 65, "a\nb"]
)
def test_a_name_that_is_no_name_is_refused(name: str, argon_file: Path) -> None:
    with pytest.raises(ModelError, match="cannot name a model"):
        add_model(argon_file, name)
    assert not models_folder().exists()


def test_a_taken_name_is_refused(argon_file: Path) -> None:
    add_model(argon_file, "mine")
    for name in ("mine", "chgnet", "lj-argon"):
        with pytest.raises(ModelError, match="already"):
            add_model(argon_file, name)


def test_what_holds_no_model_is_not_added(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(InputError):
        add_model(tmp_path / "text.safetensors", "text")
    with pytest.raises(ModelError):
        add_model(tmp_path / "gone.safetensors", "gone")
    assert [entry for entry in model_entries() if entry.source == "user"] == []


def test_only_added_models_can_be_removed() -> None:
    with pytest.raises(ModelError, match="cannot be removed"):
        remove_model("chgnet")
    with pytest.raises(ModelError, match="no model called"):
        remove_model("nothing")


def test_a_model_exchanged_behind_our_back_is_refused(argon_file: Path) -> None:
    """A whole and valid file, but not the one that was added."""
    entry = add_model(argon_file, "mine")
    other = load_model("lj-argon", "float64", "cpu")
    with torch.no_grad():
        next(other.parameters()).mul_(2)
    save_model(other, entry.target)
    with pytest.raises(CheckpointError, match="not the file that was added as mine"):
        verify_model("mine")
    Path(entry.target).with_suffix(".json").write_text(json.dumps([]))
    with pytest.raises(CheckpointError, match="damaged"):
        load_model("mine")


def test_a_half_added_model_is_no_model(argon_file: Path) -> None:
    """The record is written last: a copy without one came from a process that was killed."""
    models_folder().mkdir(parents=True)
    (models_folder() / "half.safetensors").write_bytes(argon_file.read_bytes()[:100])
    assert find_entry("half") is None
    assert add_model(argon_file, "half") in model_entries()


def test_where_added_models_live(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ATOMML_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert models_folder() == tmp_path / "atomml" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert models_folder() == tmp_path / "me" / ".local" / "share" / "atomml" / "models"


def test_a_plug_in_brings_models_and_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package as pip would have installed it: a module and its metadata on the path."""
    (tmp_path / "plugged_argon.py").write_text(
        "from atomml.potentials.lennard_jones import LennardJones, argon\n"
        "class Mine(LennardJones):\n    pass\n"
        "def make():\n    return argon()\n"
    )
    metadata = tmp_path / "plugged_argon-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged-argon\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[atomml.models]\nplugged = plugged_argon:make\nbroken = plugged_argon:gone\n"
        "[atomml.families]\nmine = plugged_argon:Mine\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert any(d.name == "plugged-argon" for d in distributions())
    entry = find_entry("plugged")
    assert entry is not None
    assert (entry.source, entry.summary) == ("plug-in", "from plugged-argon")
    assert load_model("plugged").info.family == "lennard_jones"
    assert registry.family_class("mine", "a test").__name__ == "Mine"
    with pytest.raises(ModelError, match=r"plugged_argon:gone cannot be imported"):
        load_model("broken")


def test_a_card_is_fit_for_json_and_says_what_matters() -> None:
    card = json.loads(json.dumps(model_card("lj-argon")))
    assert card["elements"] == ["Ne", "Ar", "Kr", "Xe"]
    assert card["cutoff"] == 8.5
    assert card["source"] == "built-in"
    assert card["n_weights"] == 32  # two symmetric tables of four elements
    assert card["licence"]


def test_published_weights_are_verified_against_their_recorded_digest() -> None:
    """Of chgnet 0.4.2's file, computed apart from this code by sha256sum."""
    assert verify_model("chgnet") == "d14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1"
