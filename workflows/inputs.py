"""What a workflow is given: structures and a model in any of their forms, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.errors import FileFormatError, InputError, ModelError, StructureError
from atomml.files import sha256_file

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from atomml.model import Potential

__all__ = [
    "DEFAULT_MODEL",
    "GivenModel",
    "GivenStructure",
    "all_structures",
    "check_covered",
    "expand_sources",
    "given_model",
    "given_structure",
    "input_record",
    "net_charge",
    "sources_of",
    "split_index",
    "split_ordering",
    "structures_of",
    "to_be_ordered",
    "with_charge",
]

DEFAULT_MODEL = "chgnet-0.3.0"


@dataclass(frozen=True)
class GivenStructure:
    """A structure and where it came from.

    Attributes:
        atoms: The structure, a copy without a calculator; constraints are kept.
        label: Where it came from, for messages and folder names.
        path: The file, if it came from one.
        frame: Its place in the file.
        note: What was done to the structure before any workflow saw it; "" for nothing.
    """

    atoms: Atoms
    label: str
    path: Path | None = None
    frame: int = 0
    note: str = ""

    def record(self) -> dict[str, Any]:
        """What ``summary.json`` says of this input."""
        more = {"note": self.note} if self.note else {}
        formula = str(self.atoms.get_chemical_formula())
        return input_record(self.path, frame=self.frame, formula=formula, **more)


@dataclass(frozen=True)
class GivenModel:
    """A model and how to name it; one of ours or any ASE calculator.

    Attributes:
        source: What the caller gave, as text: a name, a path, a class.
        potential: The model, if it is one of ours.
        foreign: The ASE calculator, if it is not.
        settings: Keyword arguments that ``foreign`` was made with by its name.
        kept: What a workflow found with the model and needs again, under a name of its own.
    """

    source: str
    potential: Potential | None = None
    foreign: Calculator | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def calculator(self, skin: float = 1.0) -> Calculator:
        """An ASE calculator for this model."""
        if self.potential is None:
            from atomml.foreign_calculator import ForeignCalculator

            return ForeignCalculator(self.foreign, self.source)
        from atomml.calculator import AtomMLCalculator

        return AtomMLCalculator(self.potential, skin=skin)

    def need_stress(self, what: str) -> None:
        """Refuse a model that gives no stress.

        Raises:
            ModelError: It is an ASE calculator without one; ``what`` says what needs it.
        """
        if "stress" not in self.calculator().implemented_properties:
            raise ModelError(f"{self.source} gives no stress, which {what} needs: choose another model.")

    def config(self) -> dict[str, Any]:
        """What ``config.yaml`` says of the model: its name and, if it was made by name, with what."""
        return {"model": self.source} | ({"calculator": dict(self.settings)} if self.settings else {})

    def record(self) -> dict[str, Any]:
        """What ``summary.json`` says of the model."""
        if self.potential is None:
            from atomml.foreign_calculator import package_of, settings_of

            settings = settings_of(self.foreign) | dict(self.settings)
            return {"name": self.source, "sha256": None, **package_of(self.foreign), "calculator": settings}
        info = self.potential.info
        members = getattr(self.potential, "members", ())
        each = [{"name": member.info.name, "sha256": member.info.sha256} for member in members]
        return {
            **({"members": each} if each else {}),
            "name": info.name,
            "sha256": info.sha256 or None,
            "family": info.family,
            "dtype": str(self.potential.dtype).removeprefix("torch."),
            "device": str(self.potential.device),
        }


def given_model(
    model: str | Path | Potential | Calculator | GivenModel,
    *,
    dtype: str = "float32",
    device: str = "auto",
    calculator: Mapping[str, Any] | None = None,
    allow_code: bool = False,
) -> GivenModel:
    """The model behind a registered name, a file, a Potential or an ASE calculator.

    Args:
        model: The model; ``ase:MODULE:CLASS`` names an installed ASE calculator, ``gfn2`` and ``mmff94s``
            methods for molecules.
        dtype: Precision of a model that is loaded here.
        device: Device of a model that is loaded here.
        calculator: Keyword arguments for the class of ``ase:MODULE:CLASS``.
        allow_code: Whether ``ase:MODULE:CLASS`` may import its module; a configuration file alone may not.

    Raises:
        ModelError: No such model, or a form that is not supported.
        InputError: Code that may not be imported, or ``calculator`` for a model that takes none.
    """
    from atomml.foreign_calculator import is_calculator, make_calculator, refuse_settings

    if isinstance(model, GivenModel):
        return model
    if isinstance(model, str | Path):
        name = str(model)
        if name.startswith("ase:"):
            if not allow_code:
                raise InputError(
                    f"Model {name} imports code: pass it as --model on the command line, or add --allow-code."
                )
            settings = dict(calculator or {})
            return GivenModel(name, foreign=make_calculator(name, settings), settings=settings)
        refuse_settings(calculator or {}, name)
        from atomml.registry import METHODS, load_model

        if name in METHODS:
            from atomml.data.label import engine_of
            from atomml.data.label_calculator import LabelCalculator

            return GivenModel(name, foreign=LabelCalculator(engine_of(name), stress=name == "gfn2"))
        return GivenModel(name, potential=load_model(name, dtype=dtype, device=device))
    from atomml.model import Potential

    refuse_settings(calculator or {}, type(model).__name__)
    if isinstance(model, Potential):
        return GivenModel(model.info.name, potential=model)
    if is_calculator(model):
        return GivenModel(f"ase:{type(model).__module__}:{type(model).__qualname__}", foreign=model)
    raise ModelError(
        f"{type(model).__name__} is not a model: give a name, a path, a Potential or an ASE calculator."
    )


def given_structure(structure: Atoms | str | Path | Any) -> GivenStructure:
    """One structure: ``ase.Atoms``, a pymatgen structure, or a file with one frame (``FILE@INDEX`` for more).

    Raises:
        StructureError: No model can take it, or the file holds several frames and none is named.
    """
    if isinstance(structure, str | Path):
        frames = structures_of(structure)
        first = next(frames, None)
        if first is None:
            raise StructureError(f"{structure} holds no structure.")
        if next(frames, None) is not None:
            raise StructureError(
                f"{structure} holds several frames: name one as {structure}@0 (or @-1 for the last)."
                if split_ordering(structure)[1] is None
                else f"{structure} gives several ordered structures: ask for one (--orderings 1)."
            )
        path, index = split_index(structure)
        return replace(first, label=str(path) if index == ":" else f"{path}@{first.frame}")
    return _from_object(structure, "structure")


def structures_of(source: str | Path) -> Iterator[GivenStructure]:
    """The structures of a file one by one; ``FILE@INDEX`` takes a frame or a slice (``@-1``, ``@::10``).

    ``FILE@ordered`` puts partly occupied sites of a CIF in order, and ``FILE@ordered:5`` gives the five
    arrangements of lowest electrostatic energy (:mod:`atomml.workflows.ordering`).
    """
    from atomml.data.structures import read_structures

    count = split_ordering(source)[1]
    path, index = split_index(source)
    if count is not None:
        from atomml.workflows.ordering import ordered_file

        arranged = ordered_file(path, count)
        if arranged is not None:
            for number, one in enumerate(arranged):
                yield GivenStructure(one.atoms, f"{path}, ordering {number + 1}", path, number, one.note)
            return
    for frame in read_structures(path, index=index, validate=False):
        atoms = frame.atoms.copy()  # without the calculator that holds the file's labels
        yield GivenStructure(atoms, f"{frame.path}, frame {frame.index}", Path(frame.path), frame.index)


def sources_of(structures: Any) -> list[Any]:
    """Files as text, patterns and folders expanded, and other structures as :class:`GivenStructure`.

    Args:
        structures: A file, ``ase.Atoms``, a pymatgen structure, or several of any of them.

    Raises:
        InputError: A pattern or folder without files, or what is no structure.
    """
    from ase import Atoms

    single = isinstance(structures, str | Path | Atoms | GivenStructure) or hasattr(structures, "lattice")
    sources: list[Any] = []
    for entry in [structures] if single or not isinstance(structures, Iterable) else structures:
        sources += expand_sources([entry]) if isinstance(entry, str | Path) else [given_structure(entry)]
    return sources


def all_structures(structures: Any, what_for: str = "") -> list[GivenStructure]:
    """Every structure of every source of :func:`sources_of`, one at least.

    Raises:
        InputError: There is none ("... no structure{what_for}"), or one that cannot be read.
    """
    given: list[GivenStructure] = []
    for source in sources_of(structures):
        given += structures_of(source) if isinstance(source, str) else [source]
    if not given:
        raise InputError(f"There is no structure{what_for}: give at least one.")
    return given


def expand_sources(sources: Sequence[str | Path]) -> list[str]:
    """Patterns and folders as the files behind them, sorted; whatever else stays as it is.

    Raises:
        FileFormatError: A pattern or folder without files.
    """
    from glob import glob, has_magic

    found: list[str] = []
    for source in map(str, sources):
        path, index = split_index(source)
        if path.is_dir():
            files = sorted(str(f) for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
        elif has_magic(source) and not path.exists() and not _looks_like_smiles(source):
            files = sorted(glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
            files = [f if index == ":" else f"{f}@{index}" for f in files]
        else:
            files = [source]
        if not files:
            raise FileFormatError(f"{source} holds no files: check the path.")
        found += files
    return found


def split_index(source: str | Path) -> tuple[Path, str]:
    """``FILE@INDEX`` in its parts; the index of all frames, and of ``FILE@ordered``, is ``:``."""
    text = split_ordering(source)[0]
    head, at, tail = text.rpartition("@")
    if at and head and not Path(text).exists() and tail and not set(tail) - set("0123456789:-"):
        return Path(head), tail
    return Path(text), ":"


def split_ordering(source: str | Path) -> tuple[str, int | None]:
    """``FILE@ordered:5`` as the file and 5; 1 for ``FILE@ordered``, None where no order is asked for.

    Raises:
        StructureError: A number of arrangements below 1 or above 1000.
    """
    text = str(source)
    head, at, tail = text.rpartition("@ordered")
    if not at or not head or (tail and not tail[1:].isdecimal()) or tail[:1] not in ("", ":"):
        return text, None
    count = int(tail[1:]) if tail else 1
    if not 1 <= count <= 1000:
        raise StructureError(f"{text}: between 1 and 1000 orderings can be asked for.")
    return head, count


def to_be_ordered(sources: Sequence[str | Path], count: int = 1) -> list[str]:
    """The sources, CIFs with the mark that has their partly occupied sites put in order."""
    mark = "@ordered" if count == 1 else f"@ordered:{count}"
    return [
        f"{source}{mark}" if str(source).lower().endswith((".cif", ".mcif")) else str(source)
        for source in sources
    ]


def with_charge(given: GivenStructure, charge: float | None, spin: float | None) -> GivenStructure:
    """The same structure with charge and spin as asked for; as the file says where they are None."""
    changes = {key: value for key, value in (("charge", charge), ("spin", spin)) if value is not None}
    given.atoms.info.update(changes)
    return given


def check_covered(
    given: GivenStructure, model: GivenModel, warn: Callable[[str], None], allow_charge_mismatch: bool
) -> None:
    """The guard before each run: elements that the model never saw, charge or spin that it cannot see.

    Raises:
        StructureError: A geometry that no model can take.
        ModelError: An element outside the training data, or a net charge or spin on a neutral model.
    """
    from atomml.graph.validate import validate_atoms

    validate_atoms(given.atoms, where=given.label)
    if given.note:
        warn(given.note)
    if model.potential is None:
        engine = getattr(model.foreign, "engine", None)  # gfn2 or mmff94s
        if engine is not None:
            engine.check(given.atoms, given.label)
        return
    info = model.potential.info
    for atom, number in enumerate(given.atoms.numbers):
        if int(number) not in info.elements:
            raise ModelError(
                f"{given.label}: atom {atom} is {given.atoms.symbols[atom]} (Z={number}), an element that "
                f"{info.name} was not trained on; choose another model ('atomml models list')."
            )
    charge, spin = net_charge(given.atoms)
    if (charge or spin) and not info.charge_aware:
        what = f"{given.label} has charge {charge:g} and spin {spin:g}, which {info.name} cannot see"
        if not allow_charge_mismatch:
            raise ModelError(f"{what}: set them to 0, or pass --allow-charge-mismatch to go on without them.")
        warn(f"{what}: the numbers are those of the neutral system.")


def net_charge(atoms: Atoms) -> tuple[float, float]:
    """Charge (e) and spin (unpaired electrons) that the structure says it has; 0 where it says nothing.

    Raises:
        StructureError: They are not numbers.
    """
    try:
        return float(atoms.info.get("charge", 0) or 0), float(atoms.info.get("spin", 0) or 0)
    except (TypeError, ValueError):
        raise StructureError("charge and spin of a structure must be numbers.") from None


def input_record(path: Path | None, **more: Any) -> dict[str, Any]:
    """``path`` and ``sha256`` of an input file; None for both where the structure came from Python."""
    digest = sha256_file(path) if path is not None and path.is_file() else None
    return {"path": str(path) if path is not None else None, "sha256": digest, **more}


def _looks_like_smiles(text: str) -> bool:
    """``C[C@H](N)O`` has the brackets of a pattern; a pattern of files has a star, a dot or a slash."""
    return "*" not in text and "?" not in text and "." not in text


def _from_object(structure: Any, label: str) -> GivenStructure:
    from ase import Atoms

    if isinstance(structure, GivenStructure):
        return structure
    if hasattr(structure, "to_ase_atoms"):  # pymatgen
        if not structure.is_ordered:
            from atomml.workflows.ordering import partial_sites

            raise StructureError(
                f"The structure has partly occupied sites ({', '.join(partial_sites(structure)[:6])}): order "
                "it with atomml.workflows.ordering.order_sites."
            )
        structure = structure.to_ase_atoms()
    if not isinstance(structure, Atoms):
        raise StructureError(
            f"{type(structure).__name__} is not a structure: give ase.Atoms, a pymatgen structure or a file."
        )
    return GivenStructure(structure.copy(), label)
