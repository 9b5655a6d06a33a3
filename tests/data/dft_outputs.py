"""The least that output files of DFT programs hold: written from structures with known labels.

Only the lines that readers and the check of convergence look at are there, in the programs' formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, GPa, Rydberg

__all__ = ["aims", "cp2k_verdicts", "orca_verdicts", "outcar", "pwo", "vasprun"]


def _rows(array: Any, tag: str = "v") -> str:
    return "".join(f"<{tag}>{' '.join(f'{x:.16f}' for x in row)}</{tag}>\n" for row in np.asarray(array))


def _structure(atoms: Atoms, name: str = "") -> str:
    attribute = f' name="{name}"' if name else ""
    return (
        f"<structure{attribute}><crystal>"
        f'<varray name="basis">\n{_rows(atoms.cell.array)}</varray></crystal>\n'
        f'<varray name="positions">\n{_rows(atoms.get_scaled_positions(wrap=False))}</varray></structure>\n'
    )


def vasprun(
    path: Path, frames: Sequence[Atoms], steps: Sequence[int], nelm: int = 60, finished: bool = True
) -> Path:
    """``vasprun.xml`` whose ionic steps took ``steps`` electronic ones; cut in the last if not finished."""
    symbols = "".join(f"<rc><c>{symbol}</c><c>1</c></rc>" for symbol in frames[0].symbols)
    text = (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n'
        '<kpoints><varray name="kpointlist"><v>0 0 0</v></varray>'
        '<varray name="weights"><v>1.0</v></varray></kpoints>\n'
        f'<parameters><i type="int" name="NELM">{nelm}</i><i name="ENMAX">520.0</i>'
        '<i type="string" name="GGA">PE</i></parameters>\n'
        f'<atominfo><array name="atoms"><set>{symbols}</set></array></atominfo>\n'
        f"{_structure(frames[0], 'initialpos')}"
    )
    for atoms, n in zip(frames, steps, strict=True):
        energy = atoms.get_potential_energy()
        energies = (
            f'<energy><i name="e_fr_energy">{energy:.8f}</i><i name="e_0_energy">{energy:.8f}</i></energy>'
        )
        text += (
            f"<calculation>\n{f'<scstep>{energies}</scstep>' * n}\n{_structure(atoms)}"
            f'<varray name="forces">\n{_rows(atoms.get_forces())}</varray>\n'
            f'<varray name="stress">\n{_rows(-10 * atoms.get_stress(voigt=False) / GPa)}</varray>\n'
            f"{energies}</calculation>\n"
        )
    text += "</modeling>\n"
    if not finished:
        text = text[: text.rindex("<varray")]
    path.write_text(text, encoding="utf-8")
    return path


def outcar(
    path: Path, frames: Sequence[Atoms], verdicts: Sequence[bool], nelm: int = 60, version: int = 6
) -> Path:
    """``OUTCAR`` of one element; VASP 5 says nothing when it gives up after NELM iterations."""
    first = frames[0]
    text = (
        f" vasp.{version}.3.0\n POTCAR:    PAW_PBE {first.symbols[0]} 22Jun2005\n"
        f" POTCAR:    PAW_PBE {first.symbols[0]} 22Jun2005\n   ions per type =              {len(first)}\n"
        "   k-points    NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS= 1\n"
        " k-points in reciprocal lattice and weights: K\n   0.0 0.0 0.0   1.0\n"
        f"   ISPIN  =      1    spin polarized calculation?\n   NELM   =     {nelm};   NELMIN=  2\n"
        "   ENCUT  =  520.0 eV\n   GGA     =    PE    GGA type\n\n"
    )
    for k, (atoms, converged) in enumerate(zip(frames, verdicts, strict=True), 1):
        n_iterations = 12 if converged else nelm
        for i in range(1, n_iterations + 1):
            text += f"--------------------------------------- Iteration {k:6d}({i:4d})  ---------\n"
        if converged:
            text += "------------------------ aborting loop because EDIFF is reached ----------\n"
        elif version == 6:
            text += "------------------------ aborting loop EDIFF was not reached (unconverged)  ----\n"
        stress = -10 * atoms.get_stress(voigt=False) / GPa
        kilobars = " ".join(
            f"{stress[i, j]:.5f}" for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))
        )
        energy = atoms.get_potential_energy()
        text += (
            f"  in kB   {kilobars}\n      direct lattice vectors                 reciprocal lattice vectors\n"
        )
        for row, dual in zip(atoms.cell.array, atoms.cell.reciprocal().array, strict=True):
            text += "  " + " ".join(f"{x:.9f}" for x in (*row, *dual)) + "\n"
        text += " POSITION                                       TOTAL-FORCE (eV/Angst)\n ----------\n"
        for row in np.hstack([atoms.positions, atoms.get_forces()]):
            text += "  " + " ".join(f"{x:.6f}" for x in row) + "\n"
        text += (
            " ----------\n\n  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ------------\n"
            f"  free  energy   TOTEN  =  {energy:.8f} eV\n\n"
            f"  energy  without entropy=  {energy:.8f}  energy(sigma->0) =  {energy:.8f}\n\n"
        )
    path.write_text(text + " General timing and accounting informations for this job:\n", encoding="utf-8")
    return path


def pwo(path: Path, frames: Sequence[Atoms], verdicts: Sequence[bool]) -> Path:
    """Output of ``pw.x``; a field that did not converge gives no energy."""
    first = frames[0]
    alat = first.cell.lengths()[0] / Bohr
    text = (
        "     Program PWSCF v.7.2 starts on  1Jan2024 at  0: 0: 0\n\n"
        f"     number of atoms/cell      = {len(first)}\n     number of atomic types    = 1\n"
        "     kinetic-energy cutoff     =      60.0000  Ry\n     Exchange-correlation= PBE\n"
        f"     celldm(1)= {alat:.9f}  celldm(2)=   0.000000\n"
        "     crystal axes: (cart. coord. in units of alat)\n"
    )
    for k, row in enumerate(first.cell.array / Bohr / alat, 1):
        text += f"               a({k}) = ( {row[0]:.9f} {row[1]:.9f} {row[2]:.9f} )\n"
    text += "     site n.     atom                  positions (alat units)\n"
    for k, (symbol, x) in enumerate(zip(first.symbols, first.positions / Bohr / alat, strict=True), 1):
        text += f"  {k}  {symbol}  tau({k:4d}) = ( {x[0]:.9f} {x[1]:.9f} {x[2]:.9f} )\n"
    for k, (atoms, converged) in enumerate(zip(frames, verdicts, strict=True)):
        if k:
            text += "\nATOMIC_POSITIONS (angstrom)\n"
            rows = zip(atoms.symbols, atoms.positions, strict=True)
            text += "".join(f"{s} {x[0]:.9f} {x[1]:.9f} {x[2]:.9f}\n" for s, x in rows) + "\n"
        text += "\n     End of self-consistent calculation\n\n"
        text += "     Number of k-points >= 100: set verbosity='high' to print the bands.\n\n"
        if not converged:
            text += "     convergence NOT achieved after 100 iterations: stopping\n"
            continue
        text += f"!    total energy              = {atoms.get_potential_energy() / Rydberg:.8f} Ry\n"
        text += "\n     convergence has been achieved in  9 iterations\n\n"
        text += "     Forces acting on atoms (cartesian axes, Ry/au):\n\n"
        for i, force in enumerate(atoms.get_forces() * Bohr / Rydberg, 1):
            text += f"     atom {i:4d} type  1   force = {force[0]:.8f} {force[1]:.8f} {force[2]:.8f}\n"
        text += "\n"
    path.write_text(text + "     JOB DONE.\n", encoding="utf-8")
    return path


def cp2k_verdicts(path: Path, verdicts: Sequence[bool]) -> Path:
    """The lines of CP2K that say whether a field converged, an inner loop that failed among them."""
    text = " CP2K| version string:  CP2K version 2024.1\n"
    for converged in verdicts:
        text += "  Leaving inner SCF loop after reaching   20 steps.\n"
        text += "  *** WARNING in qs_scf.F: SCF run NOT converged ***\n"
        text += "  outer SCF loop converged in   2 iterations\n" if converged else ""
        text += " ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:   -17.16\n"
    path.write_text(text + "  PROGRAM ENDED AT  2024-01-01\n", encoding="utf-8")
    return path


def orca_verdicts(path: Path, verdicts: Sequence[bool]) -> Path:
    """The lines of ORCA that say whether a field converged."""
    text = "                                 * O   R   C   A *\n"
    for converged in verdicts:
        text += (
            "     *   SCF CONVERGED AFTER  11 CYCLES     *\n"
            if converged
            else "  SCF NOT CONVERGED AFTER 125 CYCLES\n"
        )
        text += "FINAL SINGLE POINT ENERGY       -76.32\n"
    path.write_text(text + "     ****ORCA TERMINATED NORMALLY****\n", encoding="utf-8")
    return path


def aims(path: Path, verdicts: Sequence[bool]) -> Path:
    """The lines of FHI-aims that say whether a field converged; one that needed a second mixer too."""
    text = "          Invoking FHI-aims ...\n"
    for converged in verdicts:
        text += (
            "  Self-consistency cycle not yet converged - restarting mixer to attempt better convergence.\n"
        )
        text += "  Self-consistency cycle converged.\n" if converged else ""
        text += "  | Total energy of the DFT / Hartree-Fock s.c.f. calculation :   -2000.0 eV\n"
    path.write_text(text + "          Have a nice day.\n", encoding="utf-8")
    return path
