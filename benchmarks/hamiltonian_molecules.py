"""Small molecules of H, C, N and O for ``hamiltonian_learning.py``; no ring of TEST stands in TRAIN."""

from __future__ import annotations

__all__ = ["TEST", "TRAIN"]

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
