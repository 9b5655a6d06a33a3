"""Models from elsewhere: any ASE calculator, named as ``ase:MODULE:CLASS`` or given as an object."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase.calculators.calculator import (
    Calculator,
    FileIOCalculator,
    PropertyNotImplementedError,
    all_changes,
)

from atomml.attentive_calculator import AttentiveCalculator, beside
from atomml.errors import (
    AtomMLError,
    InputError,
    MissingExtraError,
    ModelError,
    OptionError,
    RunFailedError,
)

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    "ForeignCalculator",
    "is_calculator",
    "make_calculator",
    "package_of",
    "refuse_settings",
    "settings_of",
]

_SHOWN = ("energy", "free_energy", "forces", "stress", "magmoms")


def make_calculator(name: str, settings: Mapping[str, Any]) -> Any:
    """The calculator that ``ase:MODULE:CLASS`` names, made with ``settings`` as keyword arguments.

    Raises:
        MissingExtraError: The module cannot be imported.
        ModelError: The name has another form, the module has no such class, or makes no calculator.
        OptionError: A keyword that the class does not take, or that it refuses.
    """
    parts = name.split(":")
    if len(parts) != 3 or not all(parts):
        raise ModelError(f"Model {name}: write it as ase:MODULE:CLASS, such as ase:ase.calculators.emt:EMT.")
    try:
        module = import_module(parts[1])
    except ImportError as error:
        raise MissingExtraError(
            f"Model {name}: cannot import {parts[1]} ({_line(error)}): install its package here."
        ) from error
    except Exception as error:  # a module is anybody's code, and may fail in any way
        raise ModelError(f"Model {name}: importing {parts[1]} failed ({_line(error)}).") from error
    kind = getattr(module, parts[2], None)
    if not callable(kind):
        raise ModelError(f"Model {name}: {parts[1]} has no class {parts[2]}{_closest(parts[2], module)}")
    _check_keywords(name, kind, settings)
    try:
        made = kind(**settings)
    except Exception as error:  # so may a class
        raise OptionError(f"Model {name} cannot be made with {_said(settings)}: {_line(error)}.") from error
    if not is_calculator(made):
        raise ModelError(f"Model {name} is no ASE calculator: {parts[2]} makes a {type(made).__name__}.")
    return made


def is_calculator(thing: Any) -> bool:
    """Whether it can be asked what a calculator is asked; ``Atoms`` can too, but have no ``calculate``."""
    return all(hasattr(thing, name) for name in ("get_potential_energy", "get_forces", "calculate"))


def settings_of(calculator: Any) -> dict[str, Any]:
    """What an ASE calculator says of its parameters, as far as they are numbers, words or lists of them."""
    found = getattr(calculator, "parameters", None)
    if not isinstance(found, Mapping):
        return {}
    return {str(key): value for key, value in found.items() if _is_plain(value)}


@lru_cache(maxsize=1)
def _distributions() -> Mapping[str, list[str]]:
    """Distributions by top-level package; reading them all takes a tenth of a second and more."""
    from importlib.metadata import packages_distributions

    return packages_distributions()


def package_of(calculator: Any) -> dict[str, str]:
    """``package`` and ``version`` of the distribution that a calculator's class comes from, where known."""
    from importlib.metadata import PackageNotFoundError, version

    top = type(calculator).__module__.split(".")[0]
    names = _distributions().get(top, [top])
    try:
        return {"package": names[0], "version": version(names[0])}
    except PackageNotFoundError:  # a module of the user's own
        return {"package": top}


class ForeignCalculator(AttentiveCalculator):
    """An ASE calculator from elsewhere with the manners of ours.

    Its answers are passed on as they are. What it cannot do is said in one sentence, and a number
    that is not finite stops the run instead of going into a result.

    Args:
        inner: The calculator.
        source: How to name it in messages.

    Raises:
        ModelError: On calculation, if it does not cover the structure, such as one of its elements.
        PropertyNotImplementedError: On calculation, if it has no such property.
        RunFailedError: On calculation, if it fails in any other way or answers with NaN or infinity.
    """

    default_parameters: ClassVar[dict[str, Any]] = {}

    def __init__(self, inner: Any, source: str) -> None:
        super().__init__()
        self.inner, self.source = inner, source
        self.results: dict[str, Any] = {}
        known = getattr(inner, "implemented_properties", None) or ("energy", "forces", "stress")
        self.implemented_properties = [name for name in known if name in _SHOWN]

    def _get_name(self) -> str:
        return self.source

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Ask the calculator for what is wanted, and for the energy."""
        super().calculate(atoms, properties, system_changes)
        self.atoms.set_constraint()
        last = getattr(self.inner, "atoms", None)  # of which another wrapper may have asked it
        if (last is None or beside(last) != beside(self.atoms)) and hasattr(self.inner, "reset"):
            self.inner.reset()  # it does not look at charge and spin itself, and would give its last answer
        wanted = dict.fromkeys(["energy", *(properties or [])])
        if "free_energy" in self.implemented_properties:
            wanted["free_energy"] = None
        found = {name: self._asked(name) for name in wanted}
        self.results = {**({} if system_changes else self.results), **self._known_too(), **found}

    def _known_too(self) -> dict[str, Any]:
        """What the calculator has worked out beside what it was asked for."""
        results = getattr(self.inner, "results", {})
        return {
            name: np.array(results[name], dtype=np.float64)
            for name in ("forces", "stress", "magmoms")
            if name in self.implemented_properties and name in results and np.isfinite(results[name]).all()
        }

    def _asked(self, name: str) -> Any:
        try:
            value = self._ask(name)
        except PropertyNotImplementedError:
            if name == "energy":
                raise ModelError(f"{self.source} gives no energy: it cannot serve as a model.") from None
            raise
        except NotImplementedError as error:
            raise ModelError(
                f"{self.source} cannot take {self.atoms.symbols}: {_line(error)}; choose another model."
            ) from error
        except AtomMLError:  # a method of ours, which says it in its own words
            raise
        except Exception as error:
            raise RunFailedError(
                f"{self.source} failed on {self.atoms.symbols}: {type(error).__name__}: {_line(error)}."
            ) from error
        if value is None:
            raise PropertyNotImplementedError(f"{self.source} gives no {name}.")
        if not np.isfinite(value).all():
            raise RunFailedError(
                f"{self.source} gave a {name} that is not finite for {self.atoms.symbols}: "
                "check the structure for atoms that are too close."
            )
        return value

    def _ask(self, name: str) -> Any:
        inner, atoms = self.inner, self.atoms
        if name == "energy":
            return float(inner.get_potential_energy(atoms))
        if name == "free_energy":
            return float(inner.get_potential_energy(atoms, force_consistent=True))
        if name == "forces":
            return np.array(inner.get_forces(atoms), dtype=np.float64)
        if name == "stress":
            return np.array(inner.get_stress(atoms), dtype=np.float64)
        return np.array(inner.get_property(name, atoms), dtype=np.float64)


def _check_keywords(name: str, kind: Any, settings: Mapping[str, Any]) -> None:
    """Refuse a keyword that ASE's ``Calculator`` would swallow in silence.

    A class that takes any keyword and lists its parameters knows those; one that writes input files
    hands over whatever it is given, and is left to say so itself.
    """
    if not isinstance(kind, type) or not issubclass(kind, Calculator) or issubclass(kind, FileIOCalculator):
        return
    known = {key for base in kind.__mro__ for key in vars(base).get("default_parameters", ())}
    if not known:
        return
    for base in kind.__mro__:
        if "__init__" in vars(base):
            known |= set(inspect.signature(base.__init__).parameters)  # type: ignore[misc]
    known -= {"kwargs", "args", *inspect.signature(Calculator.__init__).parameters}
    for key in settings:
        if key not in known:
            from atomml.config import close_match

            hint = close_match(key, known, f"it has {', '.join(sorted(known))}.")
            raise OptionError(f"Model {name} has no parameter {key!r}; {hint}")


def _closest(word: str, module: Any) -> str:
    from atomml.config import close_match

    names: Iterable[str] = (key for key, value in vars(module).items() if isinstance(value, type))
    found = close_match(word, names)
    return f"; {found}" if found else "."


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= 20 and all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _said(settings: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{key}={value!r}"[:60] for key, value in settings.items())
    return shown or "no arguments (a --model takes them by --set calculator.NAME=VALUE)"


def _line(error: BaseException) -> str:
    """An error's text in one line, without a full stop at its end."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")


def refuse_settings(settings: Mapping[str, Any], source: str) -> None:
    """Refuse keyword arguments for a model that is made elsewhere or is one of ours.

    Raises:
        InputError: There are some.
    """
    if settings:
        raise InputError(
            f"calculator.{next(iter(settings))} is for --model ase:MODULE:CLASS, and {source} is none."
        )
