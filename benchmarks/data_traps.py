"""Mistakes planted in labelled sets, and public sets as they are: found n of n, false alarms m.

    python benchmarks/data_traps.py [--data ../shared/data] [--seeds 3]

Each planted case counts as found if every finding that it stands for is there by name. Sound sets (a
model's own labels) and public files must give no error and no warning. A note is a fact (twenty of
the elements' ground states have one atom in the cell), not an alarm, and is listed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from atomml import load_model
from atomml.data.audit import ERROR, WARNING, audit
from atomml.data.dataset import open_dataset
from atomml.testing.planted_mistakes import PLANTED
from atomml.testing.planted_sets import clean_sets

PUBLIC = {
    **{
        f"mlearn {name}": (f"mlearn/{name}_train.extxyz", f"mlearn/{name}_test.extxyz")
        for name in ("Si", "Mo", "Li")
    },
    "acac train": ("acac/train_300K.xyz", "acac/isolated_atoms.xyz"),
    "acac test": ("acac/test_MD_300K.xyz", "acac/isolated_atoms.xyz"),
    "water data_0": ("water/data_0",),
    "water data_1": ("water/data_1",),
    "elements": ("elements/mp_ground_states.extxyz",),
    "crystals wbm": ("crystals/wbm_equilibrium.extxyz.gz",),
    "crystals alexandria": ("crystals/alexandria_binary_heat_capacity.extxyz.gz",),
    "crystals elasticity": ("crystals/mp_binary_elasticity.extxyz.gz",),
    "transport ricci": ("transport/ricci_binaries.extxyz.gz",),
}


def planted(seed: int) -> tuple[int, int, int]:
    """Cases found, cases, and alarms on the sound sets; each miss on a line of its own."""
    sets = clean_sets(seed)
    model = load_model("chgnet-0.3.0", device="cpu")
    alarms = 0
    for name, entries in sets.items():
        for finding in audit(entries).findings:
            alarms += 1
            sys.stdout.write(f"  false alarm on {name}: {finding.trap}: {finding.sentence}\n")
    found = 0
    for case in PLANTED:
        result = audit(case.plant(sets[case.base]), model if case.with_model else None)
        missing = set(case.traps) - {finding.trap for finding in result.findings}
        found += not missing
        if missing:
            sys.stdout.write(f"  missed in {case.base}: {case.name} ({', '.join(sorted(missing))})\n")
    return found, len(PLANTED), alarms


def public(data: Path) -> int:
    """Alarms on public files; a line for each set."""
    alarms = 0
    for name, files in PUBLIC.items():
        paths = [data / file for file in files]
        if not all(path.exists() for path in paths):
            sys.stdout.write(f"| {name} | not here | | |\n")
            continue
        started = time.perf_counter()
        result = audit(open_dataset(paths, unlabelled=True))
        seconds = time.perf_counter() - started
        bad = [finding for finding in result.findings if finding.severity in (ERROR, WARNING)]
        alarms += len(bad)
        shown = "; ".join(f"{one.severity}: {one.trap} ({one.n_entries})" for one in result.findings)
        sys.stdout.write(f"| {name} | {len(result.evidence)} | {seconds:.1f} s | {shown or 'nothing'} |\n")
    return alarms


def main() -> int:
    """Run both and print the table; 1 if anything was missed or raised a false alarm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=3, help="different displacements of the planted sets")
    options = parser.parse_args()
    n_found = n_cases = n_alarms = 0
    for seed in range(options.seeds):
        found, cases, alarms = planted(100 * seed)
        sys.stdout.write(f"planted, seed {100 * seed}: found {found} of {cases}, false alarms {alarms}\n")
        n_found, n_cases, n_alarms = n_found + found, n_cases + cases, n_alarms + alarms
    sys.stdout.write("\n| public set | entries | time | findings |\n|---|---|---|---|\n")
    public_alarms = public(options.data)
    sys.stdout.write(f"\nfound {n_found} of {n_cases}, false alarms {n_alarms} on sound sets")
    sys.stdout.write(f" and {public_alarms} on public ones\n")
    return 0 if n_found == n_cases and not n_alarms and not public_alarms else 1


if __name__ == "__main__":
    sys.exit(main())
