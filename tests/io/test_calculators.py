"""Calculators answer anew when charge or spin changes, and not when nothing does; keywords are checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms

from atomml import AtomMLCalculator
from atomml.data.label import Labelled
from atomml.data.label_calculator import LabelCalculator
from atomml.data.label_outside import CalculatorEngine
from atomml.errors import LabelError, ModelError, OptionError
from atomml.foreign_calculator import ForeignCalculator
from atomml.graph.atom_graph import AtomGraph
from atomml.model import Energies
from atomml.potentials.lennard_jones import LennardJones, argon


def state(atoms: Atoms) -> float:
    """An energy that charge and spin decide, eV."""
    return float(3.0 * atoms.info.get("charge", 0) + 0.5 * atoms.info.get("spin", 0))


class Charged(LennardJones):
    """Argon whose atoms each have the energy of :func:`state` too; counts its answers."""

    asked: int = 0

    def energies(self, graph: AtomGraph) -> Energies:
        self.asked += 1
        found = super().energies(graph)
        return replace(found, site=found.site + (3.0 * graph.charge + 0.5 * graph.spin)[graph.batch])


class Outside(Calculator):  # type: ignore[misc]
    """A calculator from elsewhere that reads charge and spin and, as ASE's do, does not watch them."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]
    default_parameters: ClassVar[dict[str, Any]] = {"scale": 1.0}
    asked: int = 0

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.asked += 1
        if atoms.info.get("charge") == 13:
            raise RuntimeError("no luck")
        energy = self.parameters["scale"] * state(atoms)
        self.results = {"energy": energy, "forces": 0.0 * atoms.positions}


def ours() -> tuple[Any, Any]:
    model = argon()
    charged = Charged(model.info, model.epsilon.data, model.sigma.data, model.switch_start).double()
    return AtomMLCalculator(charged), charged


def foreign() -> tuple[Any, Any]:
    inner = Outside()
    return ForeignCalculator(inner, "outside"), inner


def labels() -> tuple[Any, Any]:
    engine = CalculatorEngine(f"ase:{__name__}:Outside")
    return LabelCalculator(engine), engine._calculator.inner


@pytest.mark.parametrize("kind", [ours, foreign, labels])
def test_charge_and_spin_are_watched_and_nothing_is_asked_twice(kind: Any) -> None:
    calculator, counted = kind()
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.9]], calculator=calculator)
    per_unit = len(atoms) if kind is ours else 1
    neutral = atoms.get_potential_energy()
    for changes, expected in (({"charge": 1}, 3.0), ({"charge": 1, "spin": 1}, 3.5), ({"charge": -2}, -6.0)):
        atoms.info = dict(changes)
        assert atoms.get_potential_energy() - neutral == pytest.approx(per_unit * expected, abs=1e-12)
    atoms.get_forces()
    before = counted.asked
    atoms.info["id"] = "a name, which no energy depends on"
    atoms.get_potential_energy()
    atoms.get_forces()
    assert counted.asked == before


def test_two_wrappers_of_one_calculator_do_not_give_each_other_s_answers() -> None:
    """The calculator inside is one object; what it last answered may have been another's question."""
    inner, energies = Outside(), []
    for charge in (0, 1, 2, 1):
        atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.9]], info={"charge": charge})
        atoms.calc = ForeignCalculator(inner, "outside")
        energies.append(atoms.get_potential_energy())
    assert energies == [0.0, 3.0, 6.0, 3.0]


def test_labels_of_atoms_that_are_held_are_their_forces() -> None:
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.0]], constraint=FixAtoms([0]))
    forces = CalculatorEngine("ase:ase.calculators.emt:EMT").label(atoms).labels.forces
    assert forces is not None
    assert forces[0, 2] == pytest.approx(-forces[1, 2])
    assert abs(forces[0, 2]) > 1


CHANGES: dict[str, Any] = {
    "nothing": lambda atoms: None,
    "momenta": lambda atoms: atoms.set_momenta([[1.0, 0, 0], [0, 0, 0]]),
    "a position": lambda atoms: atoms.positions.__setitem__((1, 2), 3.9 + 1e-13),
    "a number": lambda atoms: atoms.numbers.__setitem__(1, 36),
    "the cell": lambda atoms: atoms.set_cell([9.0, 9.0, 9.5]),
    "a periodic direction": lambda atoms: atoms.set_pbc([True, False, True]),
    "a magnetic moment": lambda atoms: atoms.set_initial_magnetic_moments([0.0, 1.0]),
    "a partial charge": lambda atoms: atoms.set_initial_charges([0.5, -0.5]),
    "an atom more": lambda atoms: atoms.append("Ar"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_ase_calls_a_change_is_one(change: str) -> None:
    """The short way to see that nothing has changed says what ASE's own comparison says."""
    calculator, _ = ours()
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.9]], cell=[9.0, 9.0, 9.0], pbc=True, calculator=calculator)
    atoms.get_potential_energy()
    CHANGES[change](atoms)
    assert calculator.check_state(atoms) == Calculator.check_state(calculator, atoms)
    assert bool(calculator.check_state(atoms)) == (change not in ("nothing", "momenta"))


def test_two_labels_of_one_geometry_are_those_of_their_charges() -> None:
    engine = CalculatorEngine(f"ase:{__name__}:Outside", {"scale": 2.0})
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.9]])
    found: list[Labelled] = []
    for charge in (0, 1, 2, 1):
        atoms.info["charge"] = charge
        found.append(engine.label(atoms))
    assert [one.labels.energy for one in found] == [0.0, 6.0, 12.0, 6.0]
    assert found[0].method == f"ase:{__name__}:Outside scale=2.0"
    atoms.info["charge"] = 13
    with pytest.raises(LabelError, match="no luck"):
        engine.label(atoms)


def test_a_wrong_keyword_of_a_labelling_calculator_is_named() -> None:
    """ASE's own class takes any keyword and drops it in silence."""
    assert Outside(scales=2.0).parameters["scale"] == 1.0
    with pytest.raises(OptionError, match="'scales'; did you mean 'scale'"):
        CalculatorEngine(f"ase:{__name__}:Outside", {"scales": 2.0})
    with pytest.raises(ModelError, match="no ASE calculator"):
        CalculatorEngine("ase:ase:Atoms")
