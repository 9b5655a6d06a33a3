r"""The regressor of vacancies from site features: errors at what it has not seen, learning curve, and DFT.

    atomml property vacancies ../shared/data/crystals/mp_binary_elasticity.extxyz.gz@::3 --max-atoms 128 \
        --out SITES
    python benchmarks/vacancies_regressor.py SITES/sites.extxyz ../shared/data/vacancy/jarvis_elements.csv

Labels are CHGNet 0.3.0's own unrelaxed vacancies. Rows of the first table are numbers of crystals, drawn with
a seed; each error is of sites whose element, whose composition, or which themselves were left out of the
fit, beside the mean of the other elements and the same fit to composition and element alone. The second
compares what all crystals teach with DFT (OptB88vdW) for elements, of which the training set holds compounds
only, and with CHGNet's own unrelaxed vacancies of the same crystals.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads


def main() -> None:
    """Parse, train on more and more, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sites", type=Path, help="sites.extxyz of a survey")
    parser.add_argument("table", type=Path, help="jarvis_elements.csv")
    parser.add_argument("--crystals", default="50,200,0", help="numbers of crystals; 0 for all")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--anchors", type=int, default=1000)
    told = parser.parse_args()
    limit_threads(1)
    describe("ase", "spglib")
    import numpy as np
    from ase.io import read

    from atomml.workflows import train_site_regressor

    frames = read(told.sites, ":")
    order = np.random.default_rng(0).permutation(len(frames))
    print(
        "| crystals | sites | new element | new composition | new site | mean | composition alone, likewise |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for count in map(int, told.crystals.split(",")):
            started = time.process_time()
            chosen = [frames[k] for k in order[: count or len(order)]]
            out = Path(folder) / f"n{count}"
            settings = {"folds": told.folds, "most_anchors": told.anchors}
            found = train_site_regressor(chosen, out=out, **settings)
            cells = [
                f"{getattr(found, f'mae_{key}'):.2f} [{getattr(found, f'mae_{key}_low'):.2f}, "
                f"{getattr(found, f'mae_{key}_high'):.2f}], r {getattr(found, f'r_{key}'):.2f}"
                for key in ("new_element", "new_crystal", "new_site")
            ]
            guess = ", ".join(
                f"{getattr(found, f'mae_composition_{key}'):.2f}"
                for key in ("new_element", "new_crystal", "new_site")
            )
            n = f"{len(chosen)} | {found.n_sites}"
            print(f"| {n} | {' | '.join(cells)} | {found.mae_of_mean:.2f} | {guess} |", flush=True)
            print(f"<!-- {time.process_time() - started:.0f} s of the processor -->", flush=True)
        compare(told.table, str(out / found.model))


def compare(table: Path, regressor: str) -> None:
    """Elements: by the regressor, by the model's own vacancies, against DFT."""
    import numpy as np

    from atomml.data.bootstrap import interval_of_mean
    from atomml.data.elements import element_structure
    from atomml.workflows import survey_vacancies

    with table.open(newline="") as stream:
        entries = [(row["id"].split("_"), float(row["e_vac_dft_eV"])) for row in csv.DictReader(stream)]
    names = list(dict.fromkeys(name[1] for name, _ in entries))
    crystals = [element_structure(name).atoms() for name in names]
    ways = {
        "regressor": survey_vacancies(crystals, regressor=regressor, workers=0).rows,
        "CHGNet unrelaxed": survey_vacancies(crystals, workers=0).rows,
    }
    truth, by_way = [], {way: list[float]() for way in ways}
    for (_, element, letter, _), dft in entries:
        mine = {way: _site(rows, element, letter) for way, rows in ways.items()}
        if None in mine.values():
            continue
        truth.append(dft)
        for way, value in mine.items():
            by_way[way].append(float(value))  # type: ignore[arg-type]
    y = np.array(truth)
    print(f"\n{len(y)} vacancies of elements; DFT {y.mean():.2f} eV on the average\n")
    print("| | MAE, eV | mean error, eV | r |\n|---|---|---|---|")
    for way, values in by_way.items():
        off = np.array(values) - y
        low, high = interval_of_mean(np.abs(off))
        r = np.corrcoef(values, y)[0, 1]
        print(f"| {way} | {np.abs(off).mean():.2f} [{low:.2f}, {high:.2f}] | {off.mean():+.2f} | {r:.2f} |")
    own, other = (np.array(values) for values in by_way.values())
    off, r = np.abs(own - other).mean(), np.corrcoef(own, other)[0, 1]
    print(f"| regressor against CHGNet unrelaxed | {off:.2f} | {(own - other).mean():+.2f} | {r:.2f} |")


def _site(rows: list[dict[str, Any]], element: str, letter: str) -> float | None:
    """The site with the letter, else the one of the lowest energy; None where there is none."""
    mine = [row for row in rows if row["error"] is None and row["element"] == element]
    same = [row for row in mine if row["wyckoff"] == letter] or mine
    return min((float(row["vacancy_formation_energy_eV"]) for row in same), default=None)


if __name__ == "__main__":
    main()
