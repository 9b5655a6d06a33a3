"""Electronic structure: orbitals and their order, matrices by blocks, mean fields of PySCF."""

from __future__ import annotations
