"""Large structures are no crowds; crowds are, whatever they lie in."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from atomml.errors import StructureError
from atomml.graph.validate import check_arrays


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (True, False, False), (False,) * 3])
def test_size_alone_is_no_reason_to_refuse(pbc: tuple[bool, bool, bool]) -> None:
    """16,000 atoms of silicon at its density, in every kind of periodicity; a slab 108 Å thick."""
    atoms = bulk("Si", cubic=True) * (10, 10, 20)
    atoms.pbc = pbc
    check_arrays(atoms, "silicon")


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (True, False, False), (False,) * 3])
def test_a_crowd_is_refused_in_a_small_cell_and_in_a_corner_of_a_large_one(
    pbc: tuple[bool, bool, bool],
) -> None:
    positions = np.random.default_rng(0).uniform(0, 5.0, (20_000, 3))
    for length in (5.0, 500.0):
        crowd = Atoms("H20000", positions, cell=[length] * 3, pbc=pbc)
        with pytest.raises(StructureError, match="more than matter has"):
            check_arrays(crowd, "crowd")
