"""A screen of 10,000 structures: the size of its page, and how long a browser's engine reads the data in it.

    python benchmarks/screen_page.py [--structures 10000]

Four-atom cells of Cu, Ag and Au, randomly mixed and displaced, `predict` with EMT of ASE. Reading is measured
with ``node``, if it is there: all embedded JSON parsed once.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe

PARSE = """
const fs = require("fs");
const started = process.hrtime.bigint();
const page = fs.readFileSync(process.argv[2], "utf8");
let n = 0;
for (const found of page.matchAll(/<script[^>]*application\\/json[^>]*>([^]*?)<\\/script>/g)) {
  JSON.parse(found[1]);
  n += 1;
}
console.log(n, Number(process.hrtime.bigint() - started) / 1e6);
"""


def main() -> None:
    """Parse, screen, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=10_000)
    told = parser.parse_args()
    describe()
    with tempfile.TemporaryDirectory() as folder:
        cells = write_cells(Path(folder) / "cells.extxyz", told.structures)
        run = Path(folder) / "run"
        started = time.perf_counter()
        command = [sys.executable, "-m", "atomml.cli.main", "screen", "predict", str(cells)]
        command += ["--model", "ase:ase.calculators.emt:EMT", "--out", str(run), "--quiet"]
        code = subprocess.run(command, check=False).returncode
        print(f"exit code {code}, {time.perf_counter() - started:.0f} s")
        page = run / "report.html"
        rows = len((run / "results.csv").read_text(encoding="utf-8").splitlines()) - 1
        print(f"{rows} rows, page {page.stat().st_size / 1e6:.1f} MB")
        outside = re.findall(r"(?:src|href)=\"https?://", page.read_text(encoding="utf-8"))
        print(f"{len(outside)} references to other places")
        node = shutil.which("node")
        if node:
            script = Path(folder) / "parse.js"
            script.write_text(PARSE, encoding="utf-8")
            done = subprocess.run([node, str(script), str(page)], capture_output=True, text=True, check=True)
            print("embedded data, and ms to read them:", done.stdout.strip())


def write_cells(file: Path, n: int) -> Path:
    """Random alloys on displaced face-centred sites."""
    import ase.io
    from ase.build import bulk

    random = np.random.default_rng(0)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True, a=float(random.uniform(3.6, 4.1)))
        atoms.symbols = list(random.choice(["Cu", "Ag", "Au"], len(atoms)))
        atoms.positions += random.normal(0, 0.05, (len(atoms), 3))
        frames.append(atoms)
    ase.io.write(file, frames)
    return file


if __name__ == "__main__":
    main()
