"""matcalc 0.7 with the chgnet package, run by ``beside_matcalc.py`` in an environment of its own.

Reads a list of structures as JSON, writes the property and the seconds of each as JSON. Nothing of atomml
is imported here, and nothing of this is imported by atomml.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any


def main() -> None:
    """Parse, load the calculator once, compute each structure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("property", choices=("moduli", "heat", "formation", "vacancy"))
    parser.add_argument(
        "source", type=Path, help="JSON: settings, and structures with id, cell, numbers, positions"
    )
    parser.add_argument("target", type=Path, help="JSON that is written")
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    given = json.loads(told.source.read_text(encoding="utf-8"))
    from chgnet.model.dynamics import CHGNetCalculator

    calculator = CHGNetCalculator(use_device="cpu")
    compute = {"moduli": moduli, "heat": heat, "formation": formation, "vacancy": vacancy}[told.property]
    compute(
        structure_of(given["structures"][0]), calculator, given["settings"]
    )  # not counted, as on our side
    rows = []
    for entry in given["structures"]:
        started, cpu = time.perf_counter(), time.process_time()
        try:
            row = compute(structure_of(entry), calculator, given["settings"])
        except Exception as error:  # a failure is a row, as on our side
            row = {"error": f"{type(error).__name__}: {error}"}
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        if entry.get("relaxed") and "error" not in row:  # what is left where both start from one cell
            same = compute(structure_of(entry | entry["relaxed"]), calculator, given["settings"], relax=False)
            row |= {f"same_{name}": value for name, value in same.items()}
        rows.append({"id": entry["id"], **row, "seconds": seconds, "cpu": cpu})
        sys.stderr.write(f"{entry['id']} {rows[-1]}\n")
    versions = {name: version(name) for name in ("matcalc", "chgnet", "torch", "phonopy", "pymatgen", "ase")}
    told.target.write_text(json.dumps({"versions": versions, "rows": rows}), encoding="utf-8")


def structure_of(entry: dict[str, Any]) -> Any:
    """A pymatgen structure."""
    from pymatgen.core import Lattice, Structure

    return Structure(Lattice(entry["cell"]), entry["numbers"], entry["positions"], coords_are_cartesian=True)


def moduli(structure: Any, calculator: Any, settings: dict[str, Any], relax: bool = True) -> dict[str, float]:
    """Bulk and shear modulus in GPa; matcalc gives eV/Å³ unless it is asked."""
    from matcalc import ElasticityCalc

    found = ElasticityCalc(
        calculator,
        norm_strains=settings["strains"],
        shear_strains=settings["shear_strains"],
        fmax=settings["fmax"],
        relax_structure=relax,
        relax_deformed_structures=False,
        units_GPa=True,
    ).calc(structure)
    return {
        "bulk_modulus": float(found["bulk_modulus_vrh"]),
        "shear_modulus": float(found["shear_modulus_vrh"]),
    }


def heat(structure: Any, calculator: Any, settings: dict[str, Any]) -> dict[str, float]:
    """Heat capacity at a temperature, J/K per mole of atoms; matcalc's is of primitive cells."""
    from matcalc import PhononCalc

    calculation = PhononCalc(
        calculator,
        atom_disp=settings["displacement"],
        min_length=settings["min_length"],
        fmax=settings["fmax"],
        write_phonon=False,
    )
    found = calculation.calc(structure)
    table = found["thermal_properties"]
    at = int(abs(table["temperatures"] - settings["temperature"]).argmin())
    return {"heat_capacity": float(table["heat_capacity"][at]) / len(found["phonon"].primitive)}


def formation(structure: Any, calculator: Any, settings: dict[str, Any]) -> dict[str, float]:
    """Formation energy from references that are given and relaxed here, eV/atom."""
    from matcalc import EnergeticsCalc

    references = {symbol: {"structure": structure_of(one)} for symbol, one in settings["references"].items()}
    calculation = EnergeticsCalc(calculator, elemental_refs=references, fmax=settings["fmax"])
    return {"formation_energy": float(calculation.calc(structure)["formation_energy_per_atom"])}


def vacancy(structure: Any, calculator: Any, settings: dict[str, Any]) -> dict[str, float]:
    """Formation energy of the relaxed vacancy of an element, eV, and the atoms of its supercell."""
    from matcalc import DefectCalc

    calculation = DefectCalc(calculator, fmax=settings["fmax"])
    found = calculation.calc_defects(structure, min_length=settings["min_length"])
    lowest = min(found, key=lambda one: one["formation_energy"])
    return {
        "vacancy_formation_energy": float(lowest["formation_energy"]),
        "atoms": len(lowest["defect"]) + 1,
    }


if __name__ == "__main__":
    main()
