"""Vacancies of the elements by CHGNet 0.3.0 through ``vacancy``, against DFT (OptB88vdW, JARVIS-leaderboard).

    python benchmarks/vacancies.py ../shared/data/vacancy/jarvis_elements.csv --out vacancies.jsonl

Each element starts from its published structure (``atomml.data.elements``), which the model relaxes; the
chemical potential is that of its own bulk. A row is appended to ``--out`` as it is done, and a run that is
repeated goes on there. Mean absolute errors carry 95% bootstrap intervals over elements.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads


def main() -> None:
    """Parse, compute what is missing, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="jarvis_elements.csv")
    parser.add_argument("--min-length", type=float, default=8.5, help="of the supercells, Å")
    parser.add_argument("--only", nargs="*", default=[], help="elements")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("vacancies.jsonl"))
    told = parser.parse_args()
    limit_threads(told.threads)
    describe("ase", "spglib", "pymatgen")
    done = {row["id"]: row for row in read(told.out)}
    with told.table.open(newline="") as stream:
        wanted = [row for row in csv.DictReader(stream) if not told.only or symbol(row["id"]) in told.only]
    for entry in wanted:
        if entry["id"] not in done:
            done[entry["id"]] = row = {"id": entry["id"], **one(symbol(entry["id"]), told.min_length)}
            with told.out.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
    show([{**done[entry["id"]], "dft": float(entry["e_vac_dft_eV"])} for entry in wanted])


def symbol(name: str) -> str:
    """The element of an entry such as ``JVASP-867_Cu_a_0``."""
    return name.split("_")[1]


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of an earlier run."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def one(element: str, min_length: float) -> dict[str, Any]:
    """Formation energy of the lowest vacancy of an element, eV; or why there is none."""
    from atomml.data.elements import element_structure
    from atomml.errors import AtomMLError
    from atomml.workflows import relax, vacancy

    start = time.perf_counter()
    try:
        crystal = relax(element_structure(element).atoms(), cell="free", dtype="float64").atoms
        found = vacancy(crystal, min_length=min_length, dtype="float32")
    except AtomMLError as error:
        return {"element": element, "error": str(error)}
    return {
        "element": element,
        "unrelaxed": found.unrelaxed_vacancy_formation_energy,
        "relaxed": found.vacancy_formation_energy,
        "converged": found.converged,
        "atoms": found.n_atoms,
        "seconds": time.perf_counter() - start,
    }


def show(rows: list[dict[str, Any]]) -> None:
    """The table and the errors."""
    import numpy as np

    from atomml.data.bootstrap import interval_of_mean

    print("| | atoms | unrelaxed, eV | relaxed, eV | DFT, eV | s |\n|---|---|---|---|---|---|")
    for row in rows:
        if "error" in row:
            print(f"| {row['element']} | | | {row['error']} | {row['dft']:.2f} | |")
            continue
        mark = "" if row["converged"] else " (not converged)"
        print(
            f"| {row['element']} | {row['atoms']} | {row['unrelaxed']:.2f} | {row['relaxed']:.2f}{mark} "
            f"| {row['dft']:.2f} | {row['seconds']:.0f} |"
        )
    errors = np.array([abs(row["relaxed"] - row["dft"]) for row in rows if "error" not in row])
    low, high = interval_of_mean(errors)
    print(
        f"\nMAE of {len(errors)}: {errors.mean():.2f} [{low:.2f}, {high:.2f}] eV, "
        f"median {np.median(errors):.2f}"
    )


if __name__ == "__main__":
    main()
