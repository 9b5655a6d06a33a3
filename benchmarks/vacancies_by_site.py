"""Vacancies of the elements by ``property vacancies`` against DFT, beside the published network's.

    python benchmarks/vacancies_by_site.py ../shared/data/vacancy/jarvis_elements.csv --out runs/elements

DFT (OptB88vdW) and ALIGNN-FF are those of Choudhary and Sumpter, AIP Advances 13, 095109 (2023), as the
JARVIS-leaderboard has them. Crystals are the published ground states (``atomml.data.elements``), relaxed by
the model; of an element with several sites that with the published site's Wyckoff letter counts, else the
lowest. A run that was killed goes on in ``--out``.

A correction ``a + b E`` is fitted on a random half of the vacancies and tested on the other, 1,000 times
over; what is given is the mean absolute error of the tests and the range that holds 95% of the halves. Other
mean absolute errors carry 95% bootstrap intervals over vacancies.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from machine import describe, limit_threads


def main() -> None:
    """Parse, compute what is missing, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="jarvis_elements.csv")
    parser.add_argument("--out", type=Path, default=Path("vacancies-by-site"), help="run folders")
    parser.add_argument("--min-length", type=float, default=8.5, help="of the supercells, Å")
    parser.add_argument("--model", default="chgnet-0.3.0")
    parser.add_argument("--workers", type=int, default=1)
    told = parser.parse_args()
    limit_threads(1)
    describe("ase", "spglib")
    with told.table.open(newline="") as stream:
        entries = [(row["id"].split("_"), row) for row in csv.DictReader(stream)]
    rows = computed(told, list(dict.fromkeys(name[1] for name, _ in entries)))
    table = []
    for (_, element, letter, _), entry in entries:
        mine = [row for row in rows if row["element"] == element]
        if not mine:
            continue
        same = [row for row in mine if row["wyckoff"] == letter] or mine
        row = min(same, key=lambda one: one["vacancy_formation_energy_eV"])
        table.append(
            {
                "site": f"{element} {letter}",
                "dft": float(entry["e_vac_dft_eV"]),
                "unrelaxed": row["unrelaxed_vacancy_formation_energy_eV"],
                "relaxed": row["vacancy_formation_energy_eV"],
                "ALIGNN-FF unrelaxed": float(entry["alignnff_unrelaxed_eV"]),
                "ALIGNN-FF relaxed": float(entry["alignnff_relaxed_eV"]),
            }
        )
    show(table)


def computed(told: argparse.Namespace, elements: list[str]) -> list[dict[str, Any]]:
    """The rows of all elements that have an energy."""
    from atomml.data.elements import element_structure
    from atomml.workflows import survey_vacancies

    told.out.parent.mkdir(parents=True, exist_ok=True)
    found = survey_vacancies(
        [element_structure(element).atoms() for element in elements],
        told.model,
        out=told.out,
        resume=told.out.exists(),
        start="relaxed",
        relaxed=True,
        min_length=told.min_length,
        workers=told.workers,
        batch=1,
        smax=0.01,
    )
    for row in found.rows:
        if row["error"] is not None or not row["converged"]:
            print(row["formula"], row["error"] or "is not converged")
    return [row for row in found.rows if row["error"] is None]


def show(table: list[dict[str, Any]]) -> None:
    """The errors of each way, as they are and with a correction; then each element."""
    import numpy as np

    from atomml.data.bootstrap import interval_of_mean

    truth = np.array([row["dft"] for row in table])
    ways = [name for name in table[0] if name not in ("site", "dft")]
    print(f"\n{len(table)} vacancies; DFT {truth.mean():.2f} eV on the average\n")
    print("| | MAE, eV | median, eV | mean error, eV | r | MAE with a correction fitted on the other half |")
    print("|---|---|---|---|---|---|")
    for name in ways:
        found = np.array([row[name] for row in table])
        error = np.abs(found - truth)
        low, high = interval_of_mean(error)
        halves = corrected(found, truth)
        print(
            f"| {name} | {error.mean():.2f} [{low:.2f}, {high:.2f}] | {np.median(error):.2f} "
            f"| {(found - truth).mean():+.2f} | {np.corrcoef(found, truth)[0, 1]:.2f} "
            f"| {halves.mean():.2f} [{np.quantile(halves, 0.025):.2f}, {np.quantile(halves, 0.975):.2f}] |"
        )
    constant = corrected(np.zeros(len(truth)), truth)
    low, high = np.quantile(constant, 0.025), np.quantile(constant, 0.975)
    print(f"| the mean of the other half | | | | | {constant.mean():.2f} [{low:.2f}, {high:.2f}] |")
    print("\n| | " + " | ".join(["DFT", *ways]) + " |\n|" + "---|" * (len(ways) + 2))
    for row in table:
        print(f"| {row['site']} | " + " | ".join(f"{row[name]:.2f}" for name in ("dft", *ways)) + " |")


def corrected(found: Any, truth: Any, rounds: int = 1000) -> Any:
    """Mean absolute error of each test half, the line being fitted on the other half."""
    import numpy as np

    rng = np.random.default_rng(0)
    errors = []
    for _ in range(rounds):
        order = rng.permutation(len(truth))
        fit, test = order[: len(order) // 2], order[len(order) // 2 :]
        design = np.stack([np.ones(len(truth)), found], axis=1)
        weights = np.linalg.lstsq(design[fit], truth[fit], rcond=None)[0]
        errors.append(np.abs(design[test] @ weights - truth[test]).mean())
    return np.array(errors)


if __name__ == "__main__":
    main()
