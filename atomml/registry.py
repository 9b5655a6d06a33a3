"""Names to models: built in, from plug-ins, and added by the user. Listing them imports no torch.

A model needs one line here: its family in ``FAMILIES`` and, if weights come with it, its entry
in ``BUILT_IN``. Other packages add models by entry points: ``atomml.models`` (a callable without
arguments that returns a :class:`~atomml.model.Potential`) and ``atomml.families`` (a class, so
that their checkpoints load).
"""

from __future__ import annotations

import difflib
import os
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.errors import CheckpointError, ModelError
from atomml.placement import prepare, seeded_generator, undisturbed_generator
from atomml.user_models import check_name, check_record, forget, keep, models_folder, user_models

if TYPE_CHECKING:
    from atomml.base_model import Model
    from atomml.model import Potential

__all__ = [
    "BUILT_IN",
    "DEFAULT_MODEL",
    "FAMILIES",
    "METHODS",
    "ModelEntry",
    "add_model",
    "family_class",
    "find_entry",
    "load_model",
    "model_card",
    "model_entries",
    "models_folder",
    "prepare",
    "remove_model",
    "seeded_generator",
    "undisturbed_generator",
    "verify_model",
]

DEFAULT_MODEL = "chgnet-0.3.0"

FAMILIES = {
    "alignn": "atomml.potentials.alignn:ALIGNN",
    "cgcnn": "atomml.potentials.cgcnn:CGCNN",
    "chgnet": "atomml.potentials.chgnet:CHGNet",
    "dpa3": "atomml.potentials.dpa3:DPA3",
    "fcnn": "atomml.potentials.fcnn:FCNN",
    "lennard_jones": "atomml.potentials.lennard_jones:LennardJones",
    "mace": "atomml.potentials.mace:MACE",
    "property": "atomml.property.ensemble:PropertyEnsemble",
    "site-regressor": "atomml.potentials.site_regressor:SiteRegressor",
    "sphnet": "atomml.potentials.sphnet:SPHNet",
    "xgboost": "atomml.potentials.boosted:BoostedTrees",
}
"""Family, as a checkpoint names it, to the class that its weights fit."""


@dataclass(frozen=True)
class ModelEntry:
    """A model that a name stands for.

    Attributes:
        name: Its name.
        summary: One line.
        source: ``built-in``, ``plug-in`` or ``user``.
        target: ``module:attribute`` of what makes it, or the checkpoint's path for the user's own.
        arguments: What the target is called with.
        aliases: Other names for it.
    """

    name: str
    summary: str
    source: str
    target: str
    arguments: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def _chgnet(version: str, summary: str, *aliases: str) -> ModelEntry:
    name = f"chgnet-{version}"
    return ModelEntry(
        name, summary, "built-in", "atomml.potentials.chgnet:load_published", (version,), aliases
    )


BUILT_IN = (
    _chgnet("0.3.0", "CHGNet 0.3.0: 89 elements, PBE+U, magnetic moments (default)", "chgnet"),
    _chgnet("0.2.0", "CHGNet 0.2.0: the weights of the paper"),
    _chgnet("r2scan", "CHGNet transferred to r2SCAN"),
    ModelEntry(
        "mace-tiny-organic",
        "small MACE for neutral molecules of H, C, N, O, F, S, Cl; near B3LYP-D3BJ/def2-SVP",
        "built-in",
        "atomml.potentials.mace.shipped:tiny_organic",
    ),
    ModelEntry(
        "lj-argon",
        "Lennard-Jones noble gases: for tests and tutorials",
        "built-in",
        "atomml.potentials.lennard_jones:argon",
    ),
)

METHODS = {
    "gfn2": "GFN2-xTB: molecules, and crystals at the Γ point (extra gfn2)",
    "mmff94s": "the force field MMFF94s: molecules from SMILES and SD files (extra rdkit)",
}
"""Names that workflows take as a model and that are none of ours; :mod:`atomml.data.label` computes them."""

_FOREIGN_SUFFIXES = (
    ".pt",
    ".pth",
    ".tar",
    ".model",
    ".dp",
    ".ckpt",
    ".pkl",
    ".pickle",
    ".pb",
    ".zip",
    ".bin",
    ".h5",
)


def model_entries() -> list[ModelEntry]:
    """Every model that a name stands for: built in, from plug-ins, added by the user."""
    plugged = [
        ModelEntry(point.name, f"from {_origin(point)}", "plug-in", point.value)
        for point in entry_points(group="atomml.models")
    ]
    added = [ModelEntry(name, "added by the user", "user", str(path)) for name, path in user_models().items()]
    return [*BUILT_IN, *plugged, *added]


def find_entry(name: str) -> ModelEntry | None:
    """The entry of a name or alias; None if no model is called so."""
    return next((entry for entry in model_entries() if name in (entry.name, *entry.aliases)), None)


def load_model(name_or_path: str | Path, dtype: str = "float32", device: str = "auto") -> Potential:
    """A model ready for inference: in eval mode, its weights frozen.

    Args:
        name_or_path: A registered name (``atomml models list``), a checkpoint of ours, or several of them
            separated by commas: a :class:`~atomml.committee.Committee`. ``@HEAD`` behind it chooses the
            head that answers, ``+d3bj:pbe`` behind all adds dispersion
            (:class:`~atomml.dispersion.Dispersed`).
        dtype: ``float32`` or ``float64``; torch's own default is neither read nor changed.
        device: ``cpu``, ``cuda``, ``cuda:1`` ...; ``auto`` takes a GPU if there is one.

    Raises:
        ModelError: No such model; names the closest ones.
        CheckpointError: A damaged file, or one of another program.
        OptionError: A dtype or device that there is not.
    """
    name = str(name_or_path)
    inner, correction = _without_dispersion(name)
    if correction is not None:
        from atomml.dispersion import Dispersed

        return prepare(Dispersed(load_model(inner, dtype, device), correction), dtype, device)
    if "," in name and not _exists(name):
        from atomml.committee import Committee

        return Committee([load_model(one.strip(), dtype, device) for one in name.split(",") if one.strip()])
    inner, _, head = name.rpartition("@")
    if inner and head and not _exists(name) and find_entry(name) is None:
        return load_model(inner, dtype, device).with_head(head)
    entry = find_entry(name)
    if entry is not None and entry.source != "user":
        return prepare(_made(entry), dtype, device)
    path = Path(entry.target) if entry is not None else _checkpoint_path(name)
    from atomml.checkpoint import load_model_file

    model = load_model_file(path, dtype, device)
    if entry is not None:
        check_record(entry.name, path, model.info.sha256)
        model.info = replace(model.info, name=entry.name)
    return model


def _without_dispersion(name: str) -> tuple[str, str | None]:
    """A model's name without its dispersion, and that; a name or file of just this spelling comes first."""
    if "+d3" not in name or find_entry(name) is not None or _exists(name):
        return name, None
    from atomml.dispersion import split_dispersion

    return split_dispersion(name)


def _made(entry: ModelEntry) -> Potential:
    from atomml.checkpoint import model_digest

    with undisturbed_generator():
        model: Potential = _resolve(entry.target)(*entry.arguments)
    if not model.info.sha256:  # no file to take it from
        model.info = replace(model.info, sha256=model_digest(model))
    return model


def family_class(family: str, where: str) -> type[Model]:
    """The class of a family, built in or from a plug-in; a file can name no other code.

    Raises:
        ModelError: Unknown; ``where`` says what named it.
    """
    if family in FAMILIES:
        return _resolve(FAMILIES[family])
    for point in entry_points(group="atomml.families"):
        if point.name == family:
            return _resolve(point.value)
    raise ModelError(
        f"{where} holds a model of family {family!r}, which is not installed: install its plug-in."
    )


def model_card(name_or_path: str | Path) -> dict[str, Any]:
    """What is known of a model, fit for JSON: its ``ModelInfo``, its source, its number of weights.

    Raises:
        ModelError: No such model.
        CheckpointError: A damaged file.
    """
    from ase.data import chemical_symbols

    entry = find_entry(str(name_or_path))
    model = _of_any_kind(str(name_or_path))
    card = asdict(model.info)
    card["elements"] = [chemical_symbols[number] for number in model.info.elements]
    card["properties"] = list(model.info.properties)
    card["source"] = entry.source if entry else "committee" if model.info.family == "committee" else "file"
    card["aliases"] = list(entry.aliases) if entry else []
    card["n_weights"] = sum(p.numel() for p in model.parameters())
    card["heads"] = list(getattr(model, "heads", ()))
    card["training"] = model.training_record
    return card


def verify_model(name_or_path: str | Path) -> str:
    """Read a model's file once more and compare its digest; returns the digest.

    Published weights are compared with the digest recorded in their potential's folder, added
    models with the one recorded when they were added, files with the one inside them.

    Raises:
        ModelError: No such model.
        CheckpointError: The digests differ.
    """
    return _of_any_kind(str(name_or_path)).info.sha256


def _of_any_kind(name: str) -> Model:
    """The model of a name or file, in float64; of a file also one that is no potential."""
    if find_entry(name) is None and _exists(name):
        from atomml.checkpoint import load_any_model

        return load_any_model(_checkpoint_path(name), "float64", "cpu")
    return load_model(name, dtype="float64", device="cpu")


def add_model(file: str | Path, name: str) -> ModelEntry:
    """Verify a checkpoint and copy it to the user's models under a name.

    Raises:
        ModelError: A name that is taken or not allowed.
        CheckpointError: A damaged or foreign file, or one that holds no model.
    """
    check_name(name)
    if find_entry(name) is not None:
        raise ModelError(f"There is a model called {name} already: choose another name or remove it first.")
    from atomml.checkpoint import load_model_file

    path = _checkpoint_path(str(file))
    keep(path, name, load_model_file(path, "float64", "cpu").info.sha256)
    entry = find_entry(name)
    assert entry is not None
    return entry


def remove_model(name: str) -> None:
    """Forget a model that the user added, and delete its copy.

    Raises:
        ModelError: No such model, or one that comes with atomml or a plug-in.
    """
    entry = find_entry(name)
    if entry is None:
        raise _unknown(name)
    if entry.source != "user":
        raise ModelError(f"{name} is {entry.source} and cannot be removed: only added models can.")
    forget(entry.name)


def _checkpoint_path(name: str) -> Path:
    """An existing file of a kind that may be ours.

    Raises:
        ModelError: Neither a file nor a name.
        CheckpointError: A file that only ``atomml convert`` may open.
    """
    path = Path(name)
    if _exists(name):
        suffix = path.suffix.lower()
        if suffix in _FOREIGN_SUFFIXES:
            peer = {".model": " mace", ".dp": " deepmd"}.get(suffix, "")
            raise CheckpointError(
                f"{name} is another program's checkpoint, which is never loaded as it is: turn it into a "
                f"safe file with atomml convert{peer}."
            )
        return path
    raise _unknown(name)


def _exists(name: str) -> bool:
    """Whether a file is called so."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long a name, or a NUL in it
        return False


def _unknown(name: str) -> ModelError:
    if name.startswith("ase:"):
        return ModelError(
            f"{name} names an ASE calculator, not a model of ours: give it to --model of a workflow."
        )
    if name in METHODS:
        return ModelError(f"{name} is a method without weights: give it to --model of a workflow, by itself.")
    if _path_like(name):
        return ModelError(f"There is no model file {name}: check the path, or see 'atomml models list'.")
    names = [known for entry in model_entries() for known in (entry.name, *entry.aliases)]
    close = difflib.get_close_matches(name.lower(), names, n=3)
    advice = f"the closest are {', '.join(close)}" if close else "see 'atomml models list'"
    return ModelError(f"There is no model called {name!r:.80}: {advice}.")


def _path_like(name: str) -> bool:
    return os.sep in name or name.lower().endswith((".safetensors", *_FOREIGN_SUFFIXES))


def _resolve(target: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{target} cannot be imported ({error}): install or mend the package.") from error
    return found


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module
