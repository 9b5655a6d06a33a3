"""Functionals in torch against libxc inside PySCF: CPU time of an SCF iteration, least of several in turns.

Time of the process, not of the clock: other work on the machine does not count.

python benchmarks/functional_speed.py
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from machine import describe, limit_threads


def main() -> None:
    """Parse, time in turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--molecules", nargs="*", default=["H2O", "CH3CH2OH", "C6H6"])
    told = parser.parse_args()
    limit_threads(told.threads)
    describe()
    print("\n| molecule | functional | libxc, ms | torch, ms | times as long |\n|---|---|---|---|---|")
    for name in told.molecules:
        for functional in ("pbe", "b3lyp", "r2scan"):
            theirs, ours = pair(name, functional)
            times: list[list[float]] = [[], []]
            for turn in range(told.rounds + 1):
                for place, field in enumerate((theirs, ours)):
                    seconds = iteration(field)
                    if turn:
                        times[place].append(seconds)
            libxc, torch = (min(values) for values in times)
            cells = f"{1e3 * libxc:.0f} | {1e3 * torch:.0f} | {torch / libxc:.2f}"
            print(f"| {name} | {functional} | {cells} |", flush=True)


def pair(name: str, functional: str) -> tuple[Any, Any]:
    """Fields of PySCF and of ours in def2-SVP after a few cycles: a density to build a Fock matrix of."""
    from ase.build import molecule
    from pyscf import dft, gto

    from atomml.electronic.functional import use_functional
    from atomml.potentials.xc import CLOSED_FORMS, closed_form

    atoms = molecule(name)
    places = list(zip(atoms.symbols, atoms.positions, strict=True))
    mol = gto.M(atom=places, basis="def2-svp", verbose=0)
    theirs = dft.RKS(mol, xc=CLOSED_FORMS[functional][2])
    ours = use_functional(dft.RKS(mol), closed_form(functional))
    for field in (theirs, ours):
        field.max_cycle = 2
        field.kernel()
    return theirs, ours


def iteration(field: Any) -> float:
    """Seconds of one Fock matrix and its diagonalisation."""
    density = field.make_rdm1()
    started = time.process_time()
    fock = field.get_fock(dm=density)
    field.eig(fock, field.get_ovlp())
    return time.process_time() - started


if __name__ == "__main__":
    main()
