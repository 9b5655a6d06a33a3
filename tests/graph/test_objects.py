"""Structures of other packages give the graph of the same atoms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from pymatgen.core import Lattice, Molecule, Structure

from atomml.errors import StructureError
from atomml.graph import AtomGraph, build_graph
from atomml.graph.objects import to_ase

SameGraph = Callable[[AtomGraph, AtomGraph], None]


def test_a_pymatgen_structure(oxide: Atoms, assert_same: SameGraph) -> None:
    oxide.pbc, oxide.info["charge"] = [True, True, False], 1
    lattice = Lattice(oxide.cell.array, pbc=(True, True, False))
    structure = Structure(
        lattice, oxide.get_chemical_symbols(), oxide.positions, coords_are_cartesian=True, charge=1
    )
    # pymatgen keeps fractions; turned back, positions differ in the last bit or two
    found = to_ase(structure)
    assert np.allclose(found.positions, oxide.positions, rtol=0, atol=1e-14)
    oxide.positions = found.positions
    assert_same(build_graph(structure, 4.0, 2.9), build_graph(oxide, 4.0, 2.9))


def test_oxidation_states_are_no_charge(oxide: Atoms) -> None:
    structure = Structure(Lattice.cubic(4.2), ["Mg2+", "O-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert build_graph(structure, 4.0).charge.tolist() == [0.0]
    assert build_graph(structure, 4.0).numbers.tolist() == [12, 8]


def test_a_pymatgen_molecule_with_charge_and_spin() -> None:
    positions = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.97]]
    graph = build_graph(Molecule(["O", "H"], positions, charge=1, spin_multiplicity=3), 4.0)
    assert (graph.charge.tolist(), graph.spin.tolist()) == ([1.0], [2.0])
    assert graph.positions.tolist() == positions
    assert not graph.pbc.any()


def test_disorder_is_refused() -> None:
    alloy = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(StructureError, match="disordered"):
        build_graph(alloy, 4.0)


def test_an_rdkit_molecule() -> None:
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    ammonium = chem.AddHs(chem.MolFromSmiles("C[NH3+]"))
    with pytest.raises(StructureError, match="no conformer"):
        build_graph(ammonium, 4.0)
    AllChem.EmbedMolecule(ammonium, randomSeed=1)
    graph = build_graph(ammonium, 4.0)
    assert graph.numbers.tolist() == [6, 7] + [1] * 6
    assert np.array_equal(graph.positions.numpy(), ammonium.GetConformer().GetPositions())
    assert (graph.charge.tolist(), graph.spin.tolist()) == ([1.0], [0.0])


def test_an_rdkit_radical_has_unpaired_electrons() -> None:
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    methyl = chem.AddHs(chem.MolFromSmiles("[CH3]"))
    AllChem.EmbedMolecule(methyl, randomSeed=1)
    assert build_graph(methyl, 4.0).spin.tolist() == [1.0]


def test_ase_atoms_pass_through_and_lists_may_mix(oxide: Atoms) -> None:
    assert to_ase(oxide) is oxide
    mixed = build_graph([oxide, Molecule(["O"], [[0.0, 0.0, 0.0]])], 4.0)
    assert mixed.atoms_per_graph().tolist() == [12, 1]


@pytest.mark.parametrize("thing", ["LiCoO2", 3, None, Lattice.cubic(3.0)])
def test_other_things_are_refused(thing: object) -> None:
    with pytest.raises(StructureError, match="is no structure; give"):
        build_graph(thing, 4.0)
