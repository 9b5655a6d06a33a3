"""Chemical potentials of atoms that a defect takes away or adds, from the same model's phases.

An atom that leaves a crystal goes into a reservoir, and an atom that enters comes out of one. Where
the crystal is in equilibrium with other phases, the potential of each element lies between two limits
(C. Freysoldt et al., Rev. Mod. Phys. 86, 253, 2014, section II.B): the corners of the phase diagram
that the crystal belongs to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atomml.errors import OptionError
from atomml.workflows.crystals.phase_set import Phase, PhaseSet

__all__ = ["LIMITS", "Corner", "Potential", "choose_potentials", "corners_of", "parse_mu"]

LIMITS = ("auto", "rich", "poor")
_SAME = 1e-6  # eV, within which two corners give an element one potential

Asked = Mapping[str, str | float]


@dataclass(frozen=True)
class Potential:
    """The chemical potential of one element.

    Attributes:
        element: Its symbol.
        value: eV an atom, on the model's own scale of energies.
        convention: Which limit it is, and of which equilibrium.
        rich: Upper limit at which the crystal stands beside other phases, eV; None where none is known.
        poor: Lower limit, eV.
    """

    element: str
    value: float
    convention: str
    rich: float | None = None
    poor: float | None = None

    def row(self) -> dict[str, Any]:
        """As a row of a table."""
        return {
            "element": self.element,
            "mu_eV": self.value,
            "convention": self.convention,
            "rich_eV": self.rich,
            "poor_eV": self.poor,
        }


@dataclass(frozen=True)
class Corner:
    """An equilibrium of the crystal with as many phases as it has elements.

    Attributes:
        phases: Their names.
        potentials: eV an atom, by element.
    """

    phases: tuple[str, ...]
    potentials: Mapping[str, float]


def parse_mu(texts: Sequence[str], host: Collection[str], added: Collection[str], label: str) -> Asked:
    """``O=rich`` or ``O=-4.9`` by element.

    Args:
        texts: What ``--mu`` says.
        host: Elements of the crystal.
        added: Elements that defects bring in.
        label: The crystal's name, for messages.

    Raises:
        OptionError: Another form, an element twice, or one that is neither in the crystal nor added.
    """
    asked: dict[str, str | float] = {}
    for text in texts:
        element, equals, value = (part.strip() for part in str(text).partition("="))
        if not equals or not element or not value:
            raise OptionError(f"--mu {text}: write it as ELEMENT=auto, rich, poor or a number in eV.")
        if element not in {*host, *added}:
            known = ", ".join(sorted({*host, *added}))
            raise OptionError(
                f"--mu {text}: {element} is neither in {label} nor added to it; its elements are {known}."
            )
        if element in asked:
            raise OptionError(f"--mu {text}: {element} is given twice.")
        asked[element] = _limit_or_number(text, value)
    for element, limit in asked.items():
        if limit == "poor" and element not in host:
            raise OptionError(
                f"--mu {element}=poor: {element} is not in {label}, so its potential has no lower limit; "
                "give a number in eV."
            )
    return asked


def _limit_or_number(text: str, value: str) -> str | float:
    if value in LIMITS:
        return value
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise OptionError(f"--mu {text}: {value} is none of auto, rich, poor, nor a number in eV.")
    return number


def corners_of(host: Phase, phases: PhaseSet, elements: Collection[str]) -> list[Corner]:
    """The corners of the phase diagram that the crystal's composition belongs to.

    Args:
        host: The crystal.
        phases: A set with a phase of each element.
        elements: Those of the crystal and of what is added.
    """
    if len(set(elements)) == 1:
        return [Corner((host.name,), {next(iter(elements)): host.energy_per_atom})]
    found = phases.potentials_at(host, elements)
    return [Corner(names, potentials) for names, potentials in sorted(found.items())]


def choose_potentials(
    needed: Sequence[str], asked: Asked, host: Phase, corners: Sequence[Corner]
) -> tuple[list[Potential], list[str]]:
    """A potential for each element, and sentences on what does not fit together.

    The first element with a limit of its own chooses the corner; where none has, the first element is
    taken at its rich limit. The others follow from that corner, unless they were given.

    Args:
        needed: Elements that leave or enter, those that leave first.
        asked: From :func:`parse_mu`.
        host: The crystal.
        corners: From :func:`corners_of`; may be empty if every needed element has a number.
    """
    limits = [element for element in asked if asked[element] in ("rich", "poor")]
    driver = limits[0] if limits else next((one for one in needed if _is_open(asked, one)), None)
    corner = None if driver is None else _corner(driver, asked, needed, corners)
    chosen, remarks = [], []
    for element in needed:
        values = [one.potentials[element] for one in corners]
        rich, poor = (max(values), min(values)) if values else (None, None)
        wanted = asked.get(element, "auto")
        if not isinstance(wanted, str):
            chosen.append(Potential(element, wanted, "as given", rich, poor))
            continue
        assert corner is not None
        assert rich is not None
        assert poor is not None
        value, told = corner.potentials[element], _told(element, corner, rich, poor, host)
        best = rich if wanted == "rich" else poor
        if wanted != "auto" and abs(value - best) > _SAME:
            remarks.append(
                f"{driver} and {element} are not at the limits that were asked for in one equilibrium: the "
                f"potential of {element} is that of its own limit."
            )
            value, told = best, f"{element}-{wanted} limit"
        chosen.append(Potential(element, value, told, rich, poor if element in host.elements else None))
    return chosen, remarks


def _is_open(asked: Asked, element: str) -> bool:
    return isinstance(asked.get(element, "auto"), str)


def _corner(driver: str, asked: Asked, needed: Sequence[str], corners: Sequence[Corner]) -> Corner:
    """The corner with the driver at its limit; among several, that with the others as rich as can be."""
    sign = -1.0 if asked.get(driver) == "poor" else 1.0
    best = max(sign * one.potentials[driver] for one in corners)
    at_limit = [one for one in corners if sign * one.potentials[driver] > best - _SAME]
    rest = [element for element in needed if element != driver]
    signs = {element: -1.0 if asked.get(element) == "poor" else 1.0 for element in rest}
    return max(at_limit, key=lambda one: [round(signs[e] * one.potentials[e], 6) for e in rest])


def _told(element: str, corner: Corner, rich: float, poor: float, host: Phase) -> str:
    """The convention in words."""
    if host.elements == {element}:
        return "own bulk"
    value = corner.potentials[element]
    side = "rich" if abs(value - rich) < _SAME else "poor" if abs(value - poor) < _SAME else "intermediate"
    others = [name for name in corner.phases if name != host.name]
    beside = f", beside {' and '.join(others)}" if others else ""
    return f"{element}-{side} limit{beside}"
