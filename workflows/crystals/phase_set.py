"""Phases of a set of elements with one model's energies: the relaxed references, and the convex hull.

Every energy in a set is the same model's. Those of another code, corrected or not, have another zero:
mixed in, they would be wrong by electronvolts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atomml.data.elements import element_structure
from atomml.errors import StructureError
from atomml.run import RunFolder
from atomml.workflows.crystals.crystal import Limits, check_crystal
from atomml.workflows.inputs import GivenModel, GivenStructure, check_covered, expand_sources, structures_of
from atomml.workflows.relaxing.kept_relaxation import Relaxed, relax_kept

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    "Phase",
    "PhaseSet",
    "composition_of",
    "given_phases",
    "needed_references",
    "reduced_formula",
    "relaxed_phase",
    "relaxed_references",
    "warn_of_molecules",
]

_SWOLLEN = 2.0  # times the published volume; without dispersion molecular crystals reach 1.7


@dataclass(frozen=True)
class Phase:
    """A compound or an element, and its energy by the model.

    Attributes:
        name: What it is called: a file's name, or the phase of an element.
        role: ``reference``, ``structure`` or ``phase`` (of the user's own set).
        atoms: The crystal, relaxed if that was asked for.
        energy: Of ``atoms``, eV.
        converged: Whether its relaxation converged.
        n_steps: Steps of the relaxation.
        molecule: Of a reference that consists of molecules, their formula.
        source: Of a reference, where its structure was published.
    """

    name: str
    role: str
    atoms: Atoms
    energy: float
    converged: bool = True
    n_steps: int = 0
    molecule: str | None = None
    source: str = ""

    @property
    def elements(self) -> frozenset[str]:
        """Its elements."""
        return frozenset(self.atoms.get_chemical_symbols())

    @property
    def energy_per_atom(self) -> float:
        """eV/atom."""
        return self.energy / len(self.atoms)

    @property
    def formula(self) -> str:
        """Reduced formula."""
        return reduced_formula(self.atoms)


def composition_of(atoms: Atoms) -> dict[str, int]:
    """Atoms of each element, the elements in alphabetical order."""
    return dict(sorted(Counter(atoms.get_chemical_symbols()).items()))


def reduced_formula(atoms: Atoms) -> str:
    """The formula in the fewest whole atoms, as pymatgen writes it."""
    from pymatgen.core import Composition

    with _quiet():
        return str(Composition(composition_of(atoms)).reduced_formula)


def given_phases(
    sources: Sequence[str], model: GivenModel, warn: Callable[[str], None], allow_charge_mismatch: bool
) -> list[GivenStructure]:
    """The structures behind ``--phases``: files, folders and patterns; each is checked.

    Raises:
        InputError: A file that cannot be read, or a structure that is no crystal or not covered.
    """
    found = [one for source in expand_sources(sources) for one in structures_of(source)]
    for one in found:
        check_crystal(one)
        check_covered(one, model, warn, allow_charge_mismatch)
    return found


def needed_references(elements: Collection[str], known: Iterable[Atoms]) -> list[str]:
    """Elements that need a reference from the table; those without an entry must be among ``known``.

    Raises:
        StructureError: An element has no entry and no crystal of its own.
    """
    pure = {symbols.pop() for atoms in known if len(symbols := set(atoms.get_chemical_symbols())) == 1}
    needed = []
    for symbol in sorted(elements):
        try:
            element_structure(symbol)
        except StructureError:
            if symbol not in pure:
                raise
            continue
        needed.append(symbol)
    return needed


def relaxed_references(
    folder: RunFolder,
    model: GivenModel,
    elements: Sequence[str],
    limits: Limits,
    done: Callable[[Phase], None] = lambda _: None,
) -> list[Phase]:
    """The published structures of elements, relaxed by the model with their cells, in ``references/``.

    Args:
        folder: The run.
        model: A model with a stress.
        elements: Symbols.
        limits: When a relaxation is done.
        done: Called with each reference.

    Raises:
        ModelError: The model gives no stress, or was not made for an element.
        StructureError: The table has no entry for an element.
    """
    references = []
    for symbol in elements:
        entry = element_structure(symbol)
        found = relax_kept(folder, f"references/{symbol}", entry.atoms(), model, limits, cell="free")
        phase = _phase(f"{symbol} ({entry.name})", "reference", found, entry.molecule, entry.source)
        swollen = found.atoms.cell.volume / entry.atoms().cell.volume
        if not 1 / _SWOLLEN < swollen < _SWOLLEN:
            folder.warn(
                f"The reference of {symbol} relaxed to {swollen:.2g} times its published volume: the model "
                f"does not hold {symbol} ({entry.name}) together, so its energy is a guess."
            )
        if not found.converged:
            folder.warn(
                f"The reference of {symbol} did not relax in {limits.steps} steps (largest force "
                f"{found.max_force:.3g} eV/Å): its energy is too high; add --steps."
            )
        references.append(phase)
        done(phase)
    return references


def _phase(name: str, role: str, found: Relaxed, molecule: str | None = None, source: str = "") -> Phase:
    return Phase(name, role, found.atoms, found.energy, found.converged, found.n_steps, molecule, source)


def relaxed_phase(
    folder: RunFolder,
    place: str,
    given: GivenStructure,
    model: GivenModel,
    limits: Limits,
    role: str,
    start: str,
    allow_charge_mismatch: bool,
) -> Phase:
    """A crystal of the user's with its energy: relaxed with its cell in the folder ``place``, or as given.

    Raises:
        RunFailedError: The model gave a number that is not finite.
    """
    name = _name(given)
    if start == "relaxed":
        found = relax_kept(
            folder,
            place,
            given.atoms,
            model,
            limits,
            cell="free",
            allow_charge_mismatch=allow_charge_mismatch,
        )
        return _phase(name, role, found)
    atoms = given.atoms.copy()
    atoms.calc = model.calculator()
    energy = float(atoms.get_potential_energy())
    atoms.calc = None
    return Phase(name, role, atoms, energy)


def _name(given: GivenStructure) -> str:
    if given.path is None:
        return reduced_formula(given.atoms)
    return given.path.name if given.frame == 0 else f"{given.path.name}@{given.frame}"


def warn_of_molecules(folder: RunFolder, phases: Iterable[Phase]) -> None:
    """Say of each reference made of molecules what its energy inherits."""
    for phase in phases:
        if phase.molecule is not None:
            folder.warn(
                f"The reference of {'/'.join(phase.elements)} is {phase.molecule}, whose bond the functional "
                "behind a model describes worse than it does solids (PBE binds O2 by about 1 eV too much): "
                "energies against it inherit that, and corrections of other codes don't apply here."
            )


class PhaseSet:
    """A set of phases, the reference of each element among them, and its convex hulls.

    Args:
        phases: The phases; of those with one composition the lowest counts.

    Raises:
        StructureError: On use, if an element of a composition has no phase of its own.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.phases = list(phases)
        self._diagrams: dict[frozenset[str], Any] = {}

    def reference(self, element: str) -> Phase:
        """The lowest phase of an element.

        Raises:
            StructureError: There is none.
        """
        pure = [phase for phase in self.phases if phase.elements == {element}]
        if not pure:
            raise StructureError(f"There is no phase of {element}: give a crystal of it with --phases.")
        return min(pure, key=lambda phase: phase.energy_per_atom)

    def within(self, elements: Collection[str]) -> list[Phase]:
        """Phases that hold none but these elements."""
        return [phase for phase in self.phases if phase.elements <= set(elements)]

    def diagram(self, elements: Collection[str]) -> Any:
        """The ``PhaseDiagram`` by pymatgen of the phases of these elements."""
        from pymatgen.analysis.phase_diagram import PhaseDiagram

        key = frozenset(elements)
        if key not in self._diagrams:
            for element in sorted(key):
                self.reference(element)
            with _quiet():
                self._diagrams[key] = PhaseDiagram([self._entry(phase) for phase in self.within(key)])
        return self._diagrams[key]

    def formation_energy(self, phase: Phase) -> float:
        """Energy less that of the elements' references, eV/atom."""
        counts = composition_of(phase.atoms)
        elements = sum(n * self.reference(element).energy_per_atom for element, n in counts.items())
        return (phase.energy - elements) / len(phase.atoms)

    def above_hull(self, phase: Phase) -> tuple[float, dict[str, float]]:
        """Energy above the hull in eV/atom, and the phases of the hull by the part of the atoms in each."""
        diagram = self.diagram(phase.elements)
        with _quiet():
            parts, above = diagram.get_decomp_and_e_above_hull(self._entry(phase), allow_negative=True)
        return max(0.0, float(above)), {entry.name: float(part) for entry, part in parts.items()}

    def potentials_at(
        self, phase: Phase, elements: Collection[str]
    ) -> dict[tuple[str, ...], dict[str, float]]:
        """Chemical potentials (eV) of the elements at each corner of the diagram that a phase belongs to.

        Args:
            phase: One of the set.
            elements: Those of the diagram.

        Returns:
            By the names of the corner's phases, in alphabetical order.
        """
        from pymatgen.core import Composition

        diagram = self.diagram(elements)
        with _quiet():
            found = diagram.get_all_chempots(Composition(composition_of(phase.atoms)))
        corners = ([diagram.qhull_entries[n].name for n in facet] for facet in diagram.facets)
        names = {"-".join(corner): tuple(sorted(corner)) for corner in corners}  # as pymatgen joins them
        return {
            names[joined]: {str(element): float(mu) for element, mu in potentials.items()}
            for joined, potentials in found.items()
        }

    @staticmethod
    def _entry(phase: Phase) -> Any:
        from pymatgen.analysis.phase_diagram import PDEntry
        from pymatgen.core import Composition

        return PDEntry(Composition(composition_of(phase.atoms)), phase.energy, name=_title(phase))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without pymatgen's complaint that noble gases have no electronegativity, by which it sorts formulas."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _title(phase: Phase) -> str:
    """The formula, with the name where that says more: polymorphs have one formula."""
    named = phase.role == "reference" or phase.name.startswith(phase.formula)
    return phase.name if named else f"{phase.formula} ({phase.name})"
