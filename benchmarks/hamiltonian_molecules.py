"""Small molecules of H, C, N and O for ``hamiltonian_learning.py``; no ring of TEST stands in TRAIN."""

from __future__ import annotations

from functools import reduce
from typing import Any

__all__ = ["TEST", "TRAIN", "grown"]

_TRAIN = """
O C N CC CCC C=C C#C CC=C CC#C CCCC CC(C)C C=CC=C CO CCCO CC(C)O C=O CC=O CC(C)=O OC=O CC(=O)O COC
CN CNC CN(C)C C#N CC#N C=N NC=O CC(N)=O OO NO NN OCO NCCO OCC=O O=CC=O C=CO C=CC=O C=CC#N C#CCO NC#N
CON CNO NC(N)=O COCO CC=C=O C=C=C C#CC#C NCC=O CC(O)C=O OCCCO OCC#N CC=NO NC=N CCCN CC(C)N CCC#C
C1CC1 CC1CC1 OC1CC1 C1CO1 CC1CO1 OCC1CO1 C1CN1 CC1CN1 C1CCC1 c1ccoc1 c1ncc[nH]1
"""

_TEST = """
CCO CCC=O COC=O CCN CNC=O OCCO NCCN CC(=O)C=O C#CC=O OC=CC=O C=CCO CCOC CC(C)C#N NCC#N OC(C)C#C CCC(N)=O
CC(=O)CO C=CN C=CC=C=C CC=CC COCC#C CC(C)C=O OCCC#N C1CCO1 c1cc[nH]c1 c1cocn1 c1cn[nH]c1 C1CCOC1
C1CCNC1 C1CNC1 C1C=C1
"""

TRAIN: tuple[str, ...] = tuple(_TRAIN.split())
"""Molecules to learn from."""

TEST: tuple[str, ...] = tuple(_TEST.split())
"""Molecules that the model never sees."""

_PIECES = """
C C C N O CC C=C C#C C=O C#N CO CN OC NC C(C)C C(=O)C C(=O)O C(=O)N NC=O OC=O C=CC CC#N CC=O C(O)C C(N)C
C=NO N=C C1CC1 C1CO1 C1CN1 C1CCC1 c1ccoc1 c1ncc[nH]1
"""


def grown(n: int, seed: int = 0, heavy: int = 6) -> list[str]:
    """``n`` molecules that two or three pieces make at a single bond; none of TEST, no ring but TRAIN's.

    Args:
        n: How many; canonical SMILES, each once, those of TRAIN left out.
        seed: Of the draws.
        heavy: Most atoms but hydrogen.
    """
    import numpy as np
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    block = BlockLogs()
    random = np.random.default_rng(seed)
    pieces = [Chem.MolFromSmiles(text) for text in _PIECES.split()]
    avoided = {Chem.CanonSmiles(text) for text in (*TEST, *TRAIN)}
    strange = Chem.MolFromSmarts("[N,O]-[N,O]")
    found: dict[str, None] = {}
    while len(found) < n:
        chosen = [pieces[k] for k in random.integers(len(pieces), size=2 + int(random.random() < 0.5))]
        if sum(piece.GetNumAtoms() for piece in chosen) > heavy:
            continue
        whole = reduce(lambda one, other: _bound(one, other, random), chosen)
        if whole is None:
            continue
        smiles = Chem.MolToSmiles(whole)
        if smiles not in avoided and not whole.HasSubstructMatch(strange):
            found.setdefault(smiles)
    del block
    return list(found)


def _bound(one: Any, other: Any, random: Any) -> Any:
    """Two molecules with a single bond between two of their atoms that had a hydrogen; None without such."""
    from rdkit import Chem

    if one is None:
        return None
    places = []
    for molecule, shift in ((one, 0), (other, one.GetNumAtoms())):
        free = [atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetTotalNumHs() > 0]
        if not free:
            return None
        places.append(shift + int(random.choice(free)))
    pair = Chem.RWMol(Chem.CombineMols(one, other))
    pair.AddBond(*places, Chem.BondType.SINGLE)
    for place in places:
        atom = pair.GetAtomWithIdx(place)
        if atom.GetNumExplicitHs():
            atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
    Chem.SanitizeMol(pair)
    return pair.GetMol()
