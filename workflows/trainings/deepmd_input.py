"""Input files of DeePMD-kit as trainings of ours: ``atomml train --from-deepmd input.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomml.errors import FileFormatError, OptionError
from atomml.workflows.trainings.deepmd_branches import Branches, branches_of
from atomml.workflows.trainings.training_heads import split_head

__all__ = ["DeepMDInput", "read_deepmd_input"]

_TAKEN = {
    "model": {"type_map", "descriptor", "fitting_net", "type", "model_dict", "shared_dict"},
    "learning_rate": {"type", "start_lr", "stop_lr", "decay_steps", "warmup_steps"},
    "loss": {"type", *(f"{when}_pref_{label}" for when in ("start", "limit") for label in "efv")},
    "optimizer": {"type", "weight_decay"},
    "training": {"training_data", "validation_data", "numb_steps", "gradient_max_norm", "seed"}
    | {"data_dict", "model_prob"},
    "loss_dict": set(),
}
"""Keys of each section that have a counterpart here."""

_CHANGES_THE_LOSS = {
    "relative_f",
    "use_huber",
    "intensive_ener_virial",
    "enable_atom_ener_coeff",
    "loss_func",
}
"""Settings that cannot be passed over: another quantity would be minimised."""


@dataclass
class DeepMDInput:
    """What was read.

    Attributes:
        model: Family and hyperparameters.
        train: Systems to train on, as ``HEAD=SYSTEM`` where there are several branches.
        valid: Systems to validate on, likewise.
        options: Fields of :class:`~atomml.workflows.trainings.training.TrainOptions`.
        not_taken: Settings without a counterpart, as ``section.key``.
    """

    model: dict[str, Any]
    train: list[str]
    valid: list[str]
    options: dict[str, Any]
    not_taken: list[str] = field(default_factory=list)


def read_deepmd_input(path: str | Path) -> DeepMDInput:
    """The model, data, learning-rate and loss sections of an ``input.json`` of DeePMD-kit 3.

    Raises:
        FileFormatError: No such file, no JSON, or without a section that is needed.
        ModelError: A model that is no DPA3 with an energy fitting; named.
        OptionError: A loss or schedule that is not offered here; named.
    """
    from atomml.potentials.dpa3.deepmd import config_of

    file = Path(path)
    given = _read(file)
    where = str(path)
    training = _section(given, "training", where)
    several = branches_of(given, where) if "model_dict" in _section(given, "model", where) else None
    read = given
    given = given if several is None else several.as_one
    model = given["model"]
    try:
        descriptor, fitting, type_map = model["descriptor"], model["fitting_net"], model["type_map"]
    except KeyError as error:
        raise FileFormatError(f"{where} has no {error} in its section model: add it.") from None
    config = config_of(descriptor, fitting, type_map, where)
    shape = {key: value for key, value in config.to_json().items() if key != "elements"}
    n_steps = int(training.get("numb_steps", 0))
    if n_steps < 1:
        raise FileFormatError(f"{where} has no training.numb_steps: say how many steps to make.")
    batch_size, train, valid, shares = _data(file, training, several)
    if several is not None:
        shape |= {"heads": list(several.training), "head": None}
    options: dict[str, Any] = {
        "max_steps": n_steps,
        "epochs": 1_000_000,  # steps end it
        "batch_size": batch_size,
        "head_shares": shares,
        "clip": float(training.get("gradient_max_norm", 0.0)),
        "seed": int(training.get("seed") or 0),
        "ema": 0.0,
        "valid_fraction": 0.0,
        **_rate(given.get("learning_rate", {}), n_steps, where),
        **_loss(given, n_steps, where),
        **_optimiser(given.get("optimizer", {}), where),
    }
    return DeepMDInput({"family": "dpa3", **shape}, train, valid, options, _not_taken(read))


def _read(file: Path) -> dict[str, Any]:
    from atomml.untrusted_json import parse_json

    try:
        given = parse_json(file.read_bytes())
    except FileNotFoundError:
        raise FileFormatError(f"There is no file {file}: check the path.") from None
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{file} is no JSON ({error}): mend it.") from None
    if not isinstance(given, dict):
        raise FileFormatError(f"{file} is no input of DeePMD-kit: it holds no sections.")
    return given


def _section(given: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    section = given.get(name)
    if not isinstance(section, dict):
        raise FileFormatError(f"{where} has no section {name}: add it.")
    return section


def _systems(file: Path, data: Mapping[str, Any], name: str, *, needed: bool) -> list[str]:
    """Folders with systems, relative to the input; a single path is searched below."""
    systems = data.get("systems", [])
    if isinstance(systems, str):
        root = file.parent / systems
        found = sorted(str(kind.parent) for kind in root.rglob("type.raw"))
    else:
        found = [str(file.parent / str(system)) for system in systems]
    missing = [system for system in found if not (Path(system) / "type.raw").is_file()]
    if missing:
        raise FileFormatError(f"{file} names the system {missing[0]}, which has no type.raw: check the path.")
    if needed and not found:
        raise FileFormatError(f"{file} names no system under training.{name}.systems: add one.")
    return found


def _data(
    file: Path, training: Mapping[str, Any], several: Branches | None
) -> tuple[int, list[str], list[str], tuple[str, ...]]:
    """Structures in a batch, systems to train and to validate on, and what each branch counts."""
    train: list[str] = []
    valid: list[str] = []
    n_systems: dict[str, int] = {}
    for head, own in ({"": training} if several is None else several.training).items():
        before, mark = len(train), f"{head}=" if head else ""
        for name, texts in (("training_data", train), ("validation_data", valid)):
            systems = _systems(file, own.get(name) or {}, name, needed=texts is train)
            texts += [mark + system for system in systems]
        n_systems[head] = len(train) - before
    first = training if several is None else next(iter(several.training.values()))
    size = _batch_size(first["training_data"].get("batch_size", "auto"), split_head(train[0])[1])
    return size, train, valid, () if several is None else several.shares(n_systems)


def _batch_size(given: Any, system: str) -> int:
    """Structures in a batch; ``auto:32`` is as many as have 32 atoms together."""
    kind, _, number = str(given).partition(":")
    if kind in ("auto", "max", "filter"):
        n_atoms = len((Path(system) / "type.raw").read_text(encoding="utf-8").split())
        return max(-(-int(number or 32) // max(n_atoms, 1)), 1)
    if isinstance(given, int) and given > 0:
        return given
    raise OptionError(f"batch_size is {given!r}, which is not offered here: give a number or auto:32.")


def _rate(given: Mapping[str, Any], n_steps: int, where: str) -> dict[str, Any]:
    """Learning rate and its fall; DeePMD-kit shortens stairs that are longer than the run."""
    if given.get("type", "exp") != "exp":
        raise OptionError(f"{where} has a learning rate of type {given['type']}: only exp is offered here.")
    start, stop = float(given.get("start_lr", 1e-3)), float(given.get("stop_lr", 1e-8))
    stair = int(given.get("decay_steps", 5000))
    if stair >= n_steps:
        stair = 100 if n_steps // 10 > 100 else n_steps // 100 + 1
    return {
        "learning_rate": start,
        "schedule": "exponential",
        "final_rate": stop / start,
        "decay_steps": stair,
        "warmup": int(given.get("warmup_steps", 0)),
    }


def _loss(given: Mapping[str, Any], n_steps: int, where: str) -> dict[str, Any]:
    """Squares, whose prefactors follow the learning rate."""
    loss = given.get("loss", {})
    if loss.get("type", "ener") != "ener":
        raise OptionError(f"{where} has a loss of type {loss['type']}: only ener is offered here.")
    for key in sorted(_CHANGES_THE_LOSS & set(loss)):
        if loss[key] not in (None, False, "mse"):
            raise OptionError(f"{where} has loss.{key}, which is not offered here: leave it out.")
    rate = _rate(given.get("learning_rate", {}), n_steps, where)
    fall = f"{rate['final_rate']:.17g}/{n_steps / rate['decay_steps']:.17g}"
    weights = {}
    for label, name in (("e", "energy"), ("f", "forces"), ("v", "stress")):
        start, limit = (float(loss.get(f"{when}_pref_{label}", 0.0)) for when in ("start", "limit"))
        weights[f"{name}_weight"] = f"{start:.17g}:{limit:.17g}~{fall}"
    return {"loss": "deepmd", **weights}


def _optimiser(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = given.get("type", "Adam")
    if kind not in ("Adam", "AdamW"):
        raise OptionError(f"{where} has the optimiser {kind}: Adam and AdamW are offered here.")
    decay = float(given.get("weight_decay", 0.0)) if kind == "AdamW" else 0.0
    return {"optimiser": "adamw", "weight_decay": decay}


def _not_taken(given: Mapping[str, Any]) -> list[str]:
    """Settings without a counterpart; comments apart."""
    found = []
    for name, section in given.items():
        if name.startswith("_"):
            continue
        if name not in _TAKEN:
            found.append(name)
        elif isinstance(section, dict):
            found += [
                f"{name}.{key}" for key in section if key not in _TAKEN[name] and not key.startswith("_")
            ]
    return sorted(found)
