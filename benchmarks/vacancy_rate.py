"""How many unrelaxed vacancies a minute ``property vacancies`` computes, and how long a large survey takes.

    python benchmarks/vacancy_rate.py ../shared/data/crystals/mp_binary_elasticity.extxyz.gz [--profile]

Binaries whose supercell of 8 Å holds 54 to 66 atoms, CHGNet 0.3.0 in float32, two workers of a thread each. A
rate is that of a whole run, from the command's start to its last row: symmetry, supercells, neighbours, the
model, the manifest, the tables; and, in the second column, without what does not grow with the crystals
(starting the workers, loading the model). Chemical potentials are given: references are relaxed once.
``--profile`` says where the time of one worker goes instead.

The extrapolation is to 192,494 vacancies over 55,723 materials (Choudhary and Sumpter, AIP Advances 13,
095109, 2023).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe, limit_threads

VACANCIES, MATERIALS = 192_494, 55_723


def main() -> None:
    """Parse, choose crystals, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="mp_binary_elasticity.extxyz.gz")
    parser.add_argument("--crystals", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--profile", action="store_true")
    told = parser.parse_args()
    limit_threads(1)
    describe("ase", "spglib")
    crystals = chosen(told.file, told.crystals)
    if told.profile:
        profile(crystals)
        return
    few = run(crystals[: 2 * told.workers], told.workers)[1]
    count, seconds = run(crystals, told.workers)
    rates = 60 * count / seconds, 60 * count / (seconds - few)
    print(f"\n{len(crystals)} crystals, {count} vacancies, {told.workers} workers\n")
    print("| | whole run | without the start |\n|---|---|---|")
    print(f"| s | {seconds:.1f} | {seconds - few:.1f} |")
    print(f"| vacancies a minute | {rates[0]:.0f} | {rates[1]:.0f} |")
    hours = VACANCIES / rates[1] / 60
    share = len(crystals) / count * VACANCIES
    print(f"\n{VACANCIES:,} vacancies at that rate: {hours:.1f} h on this machine")
    print(f"(in {share:,.0f} crystals with as many sites as here; that survey had {MATERIALS:,})")


def chosen(file: Path, count: int) -> list[Any]:
    """Crystals whose supercell has about 60 atoms."""
    import numpy as np

    from atomml.workflows.defects.defect_cells import supercell_matrix
    from atomml.workflows.inputs import structures_of

    found = []
    for given in structures_of(file):
        atoms = len(given.atoms) * round(abs(np.linalg.det(supercell_matrix(given.atoms, 8.0, 0.01))))
        if 54 <= atoms <= 66:
            found.append(given.atoms)
        if len(found) == count:
            break
    return found


def run(crystals: list[Any], workers: int) -> tuple[int, float]:
    """Vacancies, and seconds of the whole."""
    from ase.data import chemical_symbols

    from atomml.workflows import survey_vacancies

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        mu = tuple(f"{element}=0" for element in chemical_symbols[1:95])
        found = survey_vacancies(crystals, out=Path(folder) / "run", workers=workers, mu=mu)
        seconds = time.perf_counter() - started
    assert found.n_failed == 0, [row["error"] for row in found.rows if row["error"]][:3]
    return found.n_done, seconds


def profile(crystals: list[Any]) -> None:
    """Share of each part in the time of one worker."""
    import cProfile
    import pstats

    from atomml.config import as_config
    from atomml.workflows.defects.vacancy_survey import VacancySurveyOptions
    from atomml.workflows.defects.vacancy_survey_work import survey
    from atomml.workflows.inputs import GivenStructure, given_model

    settings = as_config(VacancySurveyOptions())
    settings.pop("mu")
    group = [GivenStructure(atoms, f"crystal {number}") for number, atoms in enumerate(crystals)]
    model = given_model("chgnet-0.3.0")
    survey(model, settings, group[:4])
    timer = cProfile.Profile(time.process_time)
    timer.enable()
    answers = survey(model, settings, group)
    timer.disable()
    stats: dict[Any, Any] = pstats.Stats(timer).stats  # type: ignore[attr-defined]
    seconds = {f"{Path(file).name}:{name}": value[3] for (file, _, name), value in stats.items()}
    total = seconds["vacancy_survey_work.py:survey"]
    count = sum(len(answer["rows"]) for answer, _ in answers if answer is not None)
    print(f"\n{count} vacancies, {1e3 * total / count:.1f} ms each, of which\n\n| | % |\n|---|---|")
    for name, told in (
        ("engine.py:forwards", "the model forwards"),
        ("engine.py:__init__", "its bases, bonds and angles"),
        ("symmetry.py:_dataset", "symmetry"),
        ("builder.py:__call__", "neighbours of cell and supercell"),
        ("removal.py:without_atom", "graphs of the vacancies"),
        ("defect_cells.py:supercell", "supercells"),
    ):
        print(f"| {told} | {100 * seconds.get(name, 0.0) / total:.1f} |")


if __name__ == "__main__":
    main()
