"""The published structures of the elements: symmetry as stated, density as measured, atoms apart."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from atomml.data.elements import ElementStructure, element_structure, element_structures
from atomml.data.symmetry import point_group, unique_sites
from atomml.errors import StructureError
from atomml.potentials.chgnet.published import load_published

TABLE = element_structures()
AMU = 1.66053906660  # g/cm³ in one u/Å³

# Where pymatgen's density is of another phase or temperature, or there is none: g/cm³ as published for
# this phase. Black P, alpha-S, grey Sn, alpha-Ce, alpha-Pu: CRC Handbook of Chemistry and Physics. The
# solid gases: the molar volumes (cm³) 22.9 H2, 27.2 N2, 20.9 O2, 19.3 F2 (L. Meyer et al., J. Chem. Phys.
# 49, 1902, 1968), 13.39 Ne, 22.56 Ar, 27.10 Kr, 34.74 Xe (M. L. Klein and J. A. Venables, Rare Gas Solids,
# 1976), 19.4 He at 37 atm. Cl2, Br2, I2 below 125 K and Hg: Donohue (1974).
PUBLISHED = {
    **{"P": 2.69, "S": 2.07, "Sn": 5.77, "Ce": 8.16, "Pu": 19.86, "Yb": 6.90, "Ra": 5.5},
    **{"H": 0.088, "He": 0.21, "N": 1.03, "O": 1.53, "F": 1.97, "Ne": 1.507, "Ar": 1.771},
    **{"Kr": 3.092, "Xe": 3.779, "Cl": 2.04, "Br": 4.05, "I": 5.13, "Hg": 14.46},
}


def density(entry: ElementStructure) -> float:
    atoms = entry.atoms()
    return float(atoms.get_masses().sum() / atoms.cell.volume * AMU)


def test_every_element_that_chgnet_knows_is_in_the_table() -> None:
    import ase.data

    known = {ase.data.chemical_symbols[z] for z in load_published().info.elements}
    assert known <= set(TABLE)
    assert len(TABLE) >= 88


@pytest.mark.parametrize("symbol", TABLE)
def test_spglib_finds_the_group_and_the_sites_that_are_stated(symbol: str) -> None:
    entry = TABLE[symbol]
    atoms = entry.atoms(primitive=False)
    assert len(atoms) == sum(site.multiplicity for site in entry.sites)
    group = point_group(atoms, 2e-3)
    assert group.number == entry.group
    found = sorted((site.wyckoff, site.multiplicity) for site in unique_sites(atoms, 2e-3))
    assert found == sorted((site.letter, site.multiplicity) for site in entry.sites)
    per_point = {"P": 1, "I": 2, "C": 2, "F": 4, "R": 3}[group.symbol[0]]
    assert len(entry.atoms()) * per_point == len(atoms)


@pytest.mark.parametrize("symbol", TABLE)
def test_density_and_shortest_distance_are_those_of_the_element(symbol: str) -> None:
    """Measured densities scatter by 3 %. Atoms are 0.68 (actinides) to 1.3 covalent diameters apart."""
    from pymatgen.core import Element

    entry = TABLE[symbol]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = PUBLISHED.get(symbol) or float(Element(symbol).density_of_solid) / 1000
    assert density(entry) == pytest.approx(measured, rel=0.035)
    atoms = entry.atoms()
    nearest = float(neighbor_list("d", atoms, 6.0).min())
    ratio = nearest / (2 * covalent_radii[atoms.numbers[0]])
    noble = symbol in ("He", "Ne", "Ar", "Kr", "Xe")
    assert (1.5 < ratio < 7) if noble else (0.65 < ratio < 1.35)


@pytest.mark.parametrize(
    ("symbol", "bond"),
    [("H", 0.741), ("N", 1.098), ("O", 1.208), ("F", 1.412), ("Cl", 1.988), ("Br", 2.281), ("I", 2.666)],
)
def test_gases_are_made_of_molecules_two_by_two(symbol: str, bond: float) -> None:
    """Bonds of the gas from Huber and Herzberg (1979); X-rays see the 1.21 Å of solid O2 as 1.30."""
    entry = TABLE[symbol]
    assert entry.molecule == f"{symbol}2"
    atoms = entry.atoms()
    first, lengths = neighbor_list("id", atoms, 1.15 * bond)
    assert np.array_equal(np.sort(first), np.arange(len(atoms)))  # one partner for each
    assert np.allclose(lengths, bond, rtol=0.08)


def test_sulfur_is_rings_of_eight() -> None:
    first, lengths = neighbor_list("id", TABLE["S"].atoms(), 2.5)
    assert (np.bincount(first) == 2).all()
    assert np.allclose(lengths, 2.05, atol=0.03)


def test_every_entry_names_a_publication_with_its_year() -> None:
    assert all(re.search(r"\((18|19|20)\d\d\)", entry.source) for entry in TABLE.values())


def test_an_element_without_an_entry_is_refused_in_a_sentence() -> None:
    with pytest.raises(StructureError, match=r"no published structure of At .*--phases"):
        element_structure("At")
