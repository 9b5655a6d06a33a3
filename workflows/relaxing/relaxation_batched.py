"""Many structures relaxed at once: one batched call of the model a step, an optimiser for each structure.

A structure that is converged leaves and the next one enters, so a batch stays full. Optimisers are ASE's
own, with the defaults of ``relax``; each structure goes the way that it goes alone, within rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from atomml.config import build_options
from atomml.errors import AtomMLError, OptionError, RunFailedError
from atomml.workflows.batch_memory import MemoryLimit
from atomml.workflows.inputs import (
    DEFAULT_MODEL,
    GivenModel,
    GivenStructure,
    check_covered,
    given_model,
    given_structure,
    with_charge,
)
from atomml.workflows.predicting.prediction_batches import BatchEvaluator
from atomml.workflows.predicting.prediction_items import Item
from atomml.workflows.relaxing.quasi_newton import QuasiNewton, StiffFirst
from atomml.workflows.relaxing.relaxation import (
    RelaxOptions,
    RelaxResult,
    check_relaxable,
    make_optimizer,
    relax,
)
from atomml.workflows.relaxing.relaxation_coordinates import Coordinates, deform, differentiate
from atomml.workflows.relaxing.relaxation_measures import driving_stress, pressure_of, relaxed_facts

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from atomml.graph import AtomGraph, GraphBuilder

    Array = NDArray[np.float64]

__all__ = ["Guess", "Relaxed", "Relaxing", "Watcher", "goes_together", "relax_batched"]

Guess = Callable[["Atoms"], "NDArray[np.float64]"]
"""The Hessian of a structure, as somebody guesses it."""

MOST_TOGETHER = 64
_SKIN = 1.0  # Å, as of the calculator


@dataclass(frozen=True)
class Relaxed:
    """How one structure ended.

    Attributes:
        index: Its place among those given.
        result: What ``relax`` returns of it; None if it failed.
        error: Why it failed, one sentence; None if it did not.
    """

    index: int
    result: RelaxResult | None
    error: str | None = None


@dataclass
class Relaxing:
    """One structure under way.

    Attributes:
        index: Its place among those given.
        given: What it started as.
        options: How it is relaxed.
        atoms: Where it is, without constraints.
        coordinates: What its optimiser moves.
        optimizer: Its optimiser.
        step: Steps taken.
        energy: eV.
        forces: ``(n_atoms, 3)`` eV/Å, those on fixed atoms too.
        stress: ``(3, 3)`` eV/Å³; None where the model gives none.
        first_energy: Of the structure given, eV.
        error: Why it cannot go on.
    """

    index: int
    given: GivenStructure
    options: RelaxOptions
    atoms: Atoms
    coordinates: Coordinates
    optimizer: Any
    builder: GraphBuilder | None
    step: int = 0
    energy: float = float("nan")
    forces: Array = field(default_factory=lambda: np.empty((0, 3)))
    stress: Array | None = None
    first_energy: float | None = None
    error: str | None = None
    graph: AtomGraph | None = None
    size: int = 0

    @property
    def max_force(self) -> float:
        """Largest force on a free atom, eV/Å."""
        squares = np.einsum("ix,ix->i", self.forces, self.forces)
        squares[self.coordinates.fixed] = 0.0
        return float(np.sqrt(squares.max()))

    @property
    def max_stress(self) -> float | None:
        """Largest component of the stress that drives the cell, GPa; None for a fixed cell."""
        if self.stress is None:
            return None
        return driving_stress(self.stress, self.options.cell, self.options.pressure)

    @property
    def converged(self) -> bool:
        """Whether forces and stress are below the criterion of the options."""
        stress = self.max_stress
        return self.max_force <= self.options.fmax and (stress is None or stress <= self.options.smax)

    def result(self) -> RelaxResult:
        """What ``relax`` would return of it as it is now."""
        assert self.first_energy is not None
        return RelaxResult(
            **relaxed_facts(self.given.atoms, self.atoms, self.energy),
            energy_change=self.energy - self.first_energy,
            max_force=self.max_force,
            max_stress=self.max_stress,
            pressure=pressure_of(self.stress),
            n_steps=self.step,
            converged=self.converged,
        )


class Watcher(Protocol):
    """Who keeps files of structures that relax together; an :class:`AtomMLError` of it ends the structure."""

    def began(self, one: Relaxing) -> None:
        """A structure enters; may put it back where an earlier run left it."""

    def stepped(self, one: Relaxing) -> None:
        """The model has answered for the structure after ``one.step`` steps."""

    def ended(self, one: Relaxing) -> None:
        """A structure leaves: converged, out of steps, or with ``one.error``."""


def goes_together(given: GivenStructure, options: RelaxOptions) -> bool:
    """Whether a structure can relax with others: one gradient a step, no constraint but fixed atoms."""
    from ase.constraints import FixAtoms

    plain = all(type(constraint) is FixAtoms for constraint in given.atoms.constraints)
    return plain and not options.fix_symmetry and options.optimizer != "bfgslinesearch"


def relax_batched(
    structures: Iterable[Any],
    model: Any = DEFAULT_MODEL,
    *,
    dtype: str = "float32",
    device: str = "auto",
    batch_edges: int | None = None,
    warn: Callable[[str], None] = lambda _: None,
    watcher: Watcher | None = None,
    guess: Guess | None = None,
    guided: type[QuasiNewton | StiffFirst] = QuasiNewton,
    options: RelaxOptions | None = None,
    **overrides: Any,
) -> Iterator[Relaxed]:
    """Relax structures together, and yield each as it ends; what is wrong with one is its own error.

    Structures are taken as there is room for them, so there may be more than fit into memory. One that
    cannot go with others (see :func:`goes_together`) relaxes alone. A batch that does not fit into memory
    is halved, and so are those after it.

    Args:
        structures: ``ase.Atoms`` (fixed atoms stay), files with one frame, or ``GivenStructure``.
        model: Registered name, file, ``Potential`` or ASE calculator.
        dtype: Precision of a model that is loaded here.
        device: Device of a model that is loaded here.
        batch_edges: Edges that are evaluated at once; as the device has room for if None.
        warn: Told, in a sentence, of a batch that was halved.
        watcher: Follows each structure.
        guess: A Hessian ``(3 n_atoms, 3 n_atoms)`` in eV/Å² for a structure in a fixed cell, from which
            ``guided`` starts in place of ASE's optimiser.
        guided: The optimiser that a guess is for.
        options: All options at once.
        **overrides: Fields of :class:`RelaxOptions`, over those of ``options``.

    Raises:
        OptionError: A wrong option.
        ModelError: No such model.
    """
    from atomml.config import as_config

    chosen = build_options(RelaxOptions, (as_config(options) if options else {}) | overrides)
    used = given_model(model, dtype=dtype, device=device)
    if chosen.cell != "none":
        used.need_stress(f"--cell {chosen.cell}")
    limit = MemoryLimit.of(used, batch_edges, warn)
    if guess is not None and chosen.cell != "none":
        raise OptionError("A guess of the Hessian is one of positions: it needs --cell none.")
    return _Batch(used, chosen, limit, watcher, guess, guided).go(iter(enumerate(structures)))


class _Batch:
    """The structures under way together."""

    def __init__(
        self,
        model: GivenModel,
        options: RelaxOptions,
        limit: MemoryLimit,
        watcher: Watcher | None,
        guess: Guess | None,
        guided: type[QuasiNewton | StiffFirst],
    ) -> None:
        self.model, self.options, self.limit, self.watcher = model, options, limit, watcher
        self.guess, self.guided = guess, guided
        self.evaluator = BatchEvaluator(model)
        # An ASE calculator takes one structure after the other: together they would only end later.
        self.most = MOST_TOGETHER if model.potential is not None else 1
        self.active: list[Relaxing] = []
        self.next: Relaxing | Relaxed | None = None

    def go(self, waiting: Iterator[tuple[int, Any]]) -> Iterator[Relaxed]:
        """Step together until nobody waits and nobody is under way."""
        while True:
            yield from self._fill(waiting)
            if not self.active:
                return
            self._evaluate()
            for one in [one for one in self.active if self._is_over(one)]:
                yield self._end(one)
            self._step()

    def _fill(self, waiting: Iterator[tuple[int, Any]]) -> Iterator[Relaxed]:
        """Let structures in while there is room; yields those that end at once."""
        while len(self.active) < self.most:
            if self.next is None:
                index, structure = next(waiting, (-1, None))
                if structure is None:
                    return
                try:
                    self.next = self._entrant(index, structure)
                except AtomMLError as error:
                    yield Relaxed(index, None, str(error))
                    continue
            if isinstance(self.next, Relaxed):
                yield self.next
            elif self.active and self._room() < self.next.size:
                return
            else:
                self.active.append(self.next)
            self.next = None

    def _room(self) -> float:
        """Edges that still fit; a tenth is kept for those that structures gain as they shrink."""
        return 0.9 * self.limit.edges - sum(one.size for one in self.active)

    def _entrant(self, index: int, structure: Any) -> Relaxing | Relaxed:
        """A structure that goes with others, or one that has relaxed alone."""
        given = self._checked(structure)
        if goes_together(given, self.options):
            return self._begin(index, given)
        return Relaxed(index, relax(given, self.model, options=self.options))

    def _checked(self, structure: Any) -> GivenStructure:
        options = self.options
        given = with_charge(given_structure(structure), options.charge, options.spin)
        check_relaxable(given, options)
        check_covered(given, self.model, lambda _: None, options.allow_charge_mismatch)
        return given

    def _begin(self, index: int, given: GivenStructure) -> Relaxing:
        from ase.constraints import FixAtoms

        from atomml.selection import select

        atoms = given.atoms.copy()
        fixed = [FixAtoms(mask=select(atoms, self.options.fix))] if self.options.fix is not None else []
        indices = [constraint.get_indices() for constraint in (*atoms.constraints, *fixed)]
        atoms.set_constraint()
        stay = np.unique(np.concatenate(indices)) if indices else np.empty(0, dtype=np.intp)
        coordinates = Coordinates(atoms, self.options.cell, self.options.pressure, stay)
        optimizer = self._optimizer(coordinates, atoms)
        one = Relaxing(index, given, self.options, atoms, coordinates, optimizer, self._builder())
        if self.watcher is not None:
            self.watcher.began(one)
        self._build(one)
        if one.error is not None:
            self._tell_end(one)
            raise RunFailedError(one.error)
        return one

    def _optimizer(self, coordinates: Coordinates, atoms: Atoms) -> Any:
        guess = self.guess
        if guess is None:
            return make_optimizer(coordinates, self.options)
        return self.guided(coordinates, lambda: guess(atoms), self.options.maxstep)

    def _builder(self) -> GraphBuilder | None:
        from atomml.graph import GraphBuilder

        potential = self.model.potential
        if potential is None:
            return None
        return GraphBuilder.for_model(potential, _SKIN, angles=potential.fast_path() is None)

    def _build(self, one: Relaxing) -> None:
        """The graph of a structure as it is now, and how much room it takes."""
        if one.builder is None:
            one.size = 1
            return
        try:
            one.graph = one.builder(one.atoms, one.given.label)
        except AtomMLError as error:
            one.error = str(error)
        else:
            one.size = one.graph.n_edges + 10

    def _evaluate(self) -> None:
        """Ask the model for every structure that has no error, and differentiate."""
        for one in self.active:
            if one.graph is None and one.error is None:
                self._build(one)
        asked = [one for one in self.active if one.error is None]
        for batch in self.limit.parts(asked, lambda one: one.size):
            self.limit.call(self._ask, batch, lambda one: one.size, self._fail)
        good = [one for one in asked if one.error is None]
        differentiate(
            [one.coordinates for one in good], [one.forces for one in good], [one.stress for one in good]
        )
        for one in good:
            self._tell_step(one)

    def _ask(self, batch: list[Relaxing]) -> None:
        from ase.stress import voigt_6_to_full_3x3_stress

        items = [Item("", one.index, GivenStructure(one.atoms, one.given.label)) for one in batch]
        for item, one in zip(items, batch, strict=True):
            item.graph = one.graph
        self.evaluator.evaluate(items)
        for item, one in zip(items, batch, strict=True):
            found = item.results or {}
            one.graph = None
            one.energy = one.coordinates.energy = float(found["energy"])
            one.forces = np.asarray(found["forces"], dtype=np.float64)
            stress = found.get("stress")
            one.stress = None if stress is None else voigt_6_to_full_3x3_stress(stress)
            if one.first_energy is None:
                one.first_energy = one.energy

    def _fail(self, one: Relaxing, error: Exception) -> None:
        one.error = " ".join(str(error).split())

    def _is_over(self, one: Relaxing) -> bool:
        return one.error is not None or one.converged or one.step >= self.options.steps

    def _end(self, one: Relaxing) -> Relaxed:
        self.active.remove(one)
        self._tell_end(one)
        if one.error is not None:
            return Relaxed(one.index, None, one.error)
        return Relaxed(one.index, one.result())

    def _step(self) -> None:
        """One step of every optimiser, then all atoms and cells at once."""
        for one in self.active:
            try:
                one.optimizer.step()
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                one.error = f"The optimiser {self.options.optimizer} has failed ({error}): try fire."
            one.step += 1
            if one.coordinates.lost:
                one.error = (
                    f"After {one.step} steps the structure has flown apart: the model holds it nowhere."
                )
        deform([one.coordinates for one in self.active if one.error is None])

    def _tell_step(self, one: Relaxing) -> None:
        if self.watcher is None:
            return
        try:
            self.watcher.stepped(one)
        except AtomMLError as error:
            one.error = str(error)

    def _tell_end(self, one: Relaxing) -> None:
        if self.watcher is not None:
            self.watcher.ended(one)
