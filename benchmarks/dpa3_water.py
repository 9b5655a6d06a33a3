"""DPA3 taught liquid water, by ``atomml train`` and by deepmd-kit 3.2 in the same CPU time.

    python benchmarks/dpa3_water.py --minutes 15 --shape small

One ``input.json`` serves both (``atomml train --from-deepmd input.json``; ``dp --pt train input.json`` in
an environment of its own): same shape, frames, loss and learning rate, one thread each, one frame a step.
The learning rate falls over as many steps as fit into ``--minutes`` of CPU time, by trainings of four and of
24 steps before. Frames of ``data_1`` are learned; validation and test frames are of ``data_0``,
which neither sees. Errors of both are counted by the same code, deepmd-kit's checkpoints converted (to
answers equal to 1e-9 eV/atom). A side that is done is not done again, unless
its folder is removed; one that was stopped begins anew.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dpa3_speed import PEER, settings_of
from machine import children_seconds, describe, limit_threads
from peer import interpreter

DATA = Path(__file__).parents[2] / "shared" / "data" / "water"
KINDS = ("coord", "energy", "force", "box")
SHAPES: dict[str, dict[str, Any]] = {
    "six layers": {},
    "small": {
        "n_dim": 64, "e_dim": 32, "nlayers": 3,
        "e_rcut": 5.0, "e_rcut_smth": 4.4, "a_rcut": 3.5, "a_rcut_smth": 3.0,
    },
}  # fmt: skip
"""What is changed of the shape of deepmd-kit's example, for which it needs more than 10 GB in training."""

SAVES = 8
"""Checkpoints of deepmd-kit that the learning curve is made from."""


def main() -> None:
    """Parse, train both, print the table, draw the curve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=15.0, help="CPU time of each side")
    parser.add_argument("--shape", choices=list(SHAPES), default="six layers")
    parser.add_argument("--train", type=int, default=40, help="frames that are learned")
    parser.add_argument("--valid", type=int, default=8, help="frames of the curve")
    parser.add_argument("--test", type=int, default=40, help="frames of the table")
    parser.add_argument("--folder", type=Path, default=Path("dpa3-water"))
    parser.add_argument("--picture", type=Path, help="the learning curve, as PNG")
    parser.add_argument("--peer-env", type=Path, default=Path(tempfile.gettempdir(), "deepmd-env"))
    told = parser.parse_args()
    limit_threads(1)
    describe("numba")
    write_systems(told)
    curves = {}
    print("\n| | steps | CPU min | energy MAE | RMSE, meV/atom | forces MAE | RMSE, meV/Å |")
    print("|---|---|---|---|---|---|---|")
    for side in (Ours, Theirs):
        one = side(told, side.name)
        seconds = one.trained_for(60 * told.minutes)
        found = errors(one.model(), told.folder / "test")
        cells = " | ".join(f"{1e3 * value:.2f}" for value in found)
        print(f"| {one.name} | {one.n_steps} | {seconds / 60:.1f} | {cells} |", flush=True)
        curves[one.name] = [(seconds * step / one.n_steps, *pair) for step, *pair in one.curve()]
    for name, points in curves.items():
        print(
            f"\n{name}, validation: "
            + "; ".join("{:.0f} s {:.2f} meV/atom {:.0f} meV/Å".format(*p) for p in points)
        )
    if told.picture:
        draw(curves, told.picture)


def write_systems(told: argparse.Namespace) -> None:
    """Evenly spaced frames as systems of DeePMD-kit: ``train`` of data_1, the others of data_0."""
    import numpy as np

    for name, source, n, of in (
        ("train", "data_1", told.train, 0),
        ("valid", "data_0", told.valid, 0),
        ("test", "data_0", told.test, 1),
    ):
        folder = told.folder / name / "set.000"
        if folder.exists():
            continue
        folder.mkdir(parents=True)
        sets = sorted((DATA / source).glob("set.*"))
        for kind in KINDS:
            values = np.concatenate([np.load(each / f"{kind}.npy") for each in sets])
            rest = values if source == "data_1" else values[of::2]  # every other frame is for the other part
            np.save(folder / f"{kind}.npy", rest[np.linspace(0, len(rest) - 1, n).astype(int)])
        for file in ("type.raw", "type_map.raw"):
            (folder.parent / file).write_text((DATA / source / file).read_text())


def input_of(n_steps: int, shape: str) -> dict[str, Any]:
    """What both read; loss and learning rate are those of deepmd-kit's ``examples/water/dpa3``."""
    model = settings_of("dynamic", 6)
    model["type_map"] = ["O", "H"]
    model["descriptor"]["repflow"] |= SHAPES[shape]
    system = {"batch_size": 1}
    return {
        "model": model,
        "learning_rate": {"type": "exp", "decay_steps": 5000, "start_lr": 1e-3, "stop_lr": 3e-5},
        "loss": {
            "type": "ener",
            "start_pref_e": 0.2,
            "limit_pref_e": 20,
            "start_pref_f": 100,
            "limit_pref_f": 60,
            "start_pref_v": 0,
            "limit_pref_v": 0,
        },
        "training": {
            "training_data": {"systems": ["../train"], **system},
            "validation_data": {"systems": ["../valid"], **system},
            "numb_steps": n_steps,
            "gradient_max_norm": 5.0,
            "seed": 1,
            "save_freq": max(n_steps // SAVES, 20),
            "max_ckpt_keep": SAVES + 2,
            "disp_freq": 100,
        },
    }


class Side:
    """One of both: its folder, and how it is started."""

    name = ""

    def __init__(self, told: argparse.Namespace, folder: str) -> None:
        self.told, self.n_steps = told, 0
        self.folder = (told.folder / folder).resolve()

    def trained_for(self, seconds: float) -> float:
        """CPU seconds of a training whose steps alone should take so many."""
        if (self.folder / "done.json").exists():
            return self.trained(0)
        type(self)(self.told, f"{self.name}-first").trained(2)  # compiles
        few, more = (type(self)(self.told, f"{self.name}-{n}").trained(n) for n in (4, 24))
        return self.trained(max(int(20 * seconds / (more - few)), 1))

    def command(self) -> list[str]:
        """What trains, in the side's folder."""
        raise NotImplementedError

    def trained(self, n_steps: int) -> float:
        """CPU seconds that a training took, all that it reads included; those of before if it is done."""
        done = self.folder / "done.json"
        if not done.exists():
            shutil.rmtree(self.folder, ignore_errors=True)  # of a training that was stopped
            self.folder.mkdir(parents=True)
            (self.folder / "input.json").write_text(json.dumps(input_of(n_steps, self.told.shape), indent=1))
            before = children_seconds()
            threads = {f"DP_INT{kind}_OP_PARALLELISM_THREADS": "1" for kind in ("RA", "ER")}
            with (self.folder / "output.txt").open("w") as log:
                subprocess.run(
                    self.command(),
                    cwd=self.folder,
                    env={**os.environ, **threads, "NUM_WORKERS": "0"},
                    stdout=log,
                    stderr=log,
                    check=True,
                )
            done.write_text(json.dumps({"seconds": children_seconds() - before, "steps": n_steps}))
        found = json.loads(done.read_text())
        self.n_steps = int(found["steps"])
        return float(found["seconds"])


class Ours(Side):
    """``atomml train``."""

    name = "atomml"

    def command(self) -> list[str]:
        """The public command."""
        told = ["--from-deepmd", "input.json", "--out", "run", "--threads", "1", "--quiet"]
        return [sys.executable, "-m", "atomml.cli.main", "train", *told]

    def model(self) -> Any:
        """The last weights, as the peer's are."""
        from atomml import load_model

        return load_model(self.folder / "run" / "last.safetensors")

    def curve(self) -> list[tuple[int, float, float]]:
        """Steps, and mean absolute errors on the validation frames, meV/atom and meV/Å."""
        with (self.folder / "run" / "log.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        energy, forces = (
            next(key for key in rows[0] if key.startswith(f"valid_{what}_mae"))
            for what in ("energy", "forces")
        )
        return [
            (int(float(row["step"])), float(row[energy]), float(row[forces])) for row in rows if row[energy]
        ]


class Theirs(Side):
    """``dp --pt train``."""

    name = "deepmd-kit"

    def command(self) -> list[str]:
        """As its documentation says; counting neighbours first serves nothing with a dynamic selection."""
        program = interpreter(self.told.peer_env, PEER).with_name("dp")
        return [str(program), "--pt", "train", "input.json", "--skip-neighbor-stat"]

    def model(self) -> Any:
        """Its last checkpoint."""
        return self._converted(self._saved()[-1][1])

    def curve(self) -> list[tuple[int, float, float]]:
        """As ours, from its checkpoints."""
        found = []
        for step, file in self._saved():
            energy, _, forces, _ = errors(self._converted(file), self.told.folder / "valid")
            found.append((step, 1e3 * energy, 1e3 * forces))
        return found

    def _saved(self) -> list[tuple[int, Path]]:
        files = self.folder.glob("model.ckpt-*.pt")
        return sorted((int(file.stem.rpartition("-")[2]), file) for file in files)

    @staticmethod
    def _converted(file: Path) -> Any:
        from atomml.potentials.dpa3.deepmd_files import convert_deepmd
        from atomml.registry import prepare

        return prepare(convert_deepmd(file), "float32", "cpu")


def errors(model: Any, system: Path) -> tuple[float, float, float, float]:
    """Mean absolute and root mean square errors: of energies, eV/atom, and of force components, eV/Å."""
    import numpy as np
    from ase import Atoms

    from atomml.graph import build_graph

    names = (system / "type_map.raw").read_text().split()
    symbols = [names[int(kind)] for kind in (system / "type.raw").read_text().split()]
    energy_errors, force_errors = [], []
    coord, energy, force, box = (np.load(system / "set.000" / f"{kind}.npy") for kind in KINDS)
    for at in range(len(energy)):
        atoms = Atoms(symbols, coord[at].reshape(-1, 3), cell=box[at].reshape(3, 3), pbc=True)
        graph = build_graph(atoms, model.info.cutoff, model.info.bond_cutoff)
        found = model.predict(graph, stress=False)
        energy_errors.append((float(found.energy[0]) - energy[at]) / len(atoms))
        force_errors.append(found.forces.numpy() - force[at].reshape(-1, 3))
    mae = [float(np.abs(each).mean()) for each in (energy_errors, force_errors)]
    rms = [float(np.sqrt(np.square(each).mean())) for each in (energy_errors, force_errors)]
    return mae[0], rms[0], mae[1], rms[1]


def draw(curves: dict[str, list[tuple[float, float, float]]], file: Path) -> None:
    """Validation errors against CPU minutes, both sides."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(7.2, 3.2))
    for column, axes, label in zip((1, 2), both, ("energy, meV/atom", "forces, meV/Å"), strict=True):
        for name, points in curves.items():
            axes.plot([p[0] / 60 for p in points], [p[column] for p in points], "o-", ms=3, lw=1, label=name)
        axes.set(xlabel="CPU minutes", ylabel=f"MAE, {label}", yscale="log")
    both[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
