"""The stages of ``learn``: each one is done once, and written in the manifest with what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.errors import InputError, RunFailedError
from atomml.files import write_table
from atomml.manifest import DONE, Manifest, digest_of
from atomml.workflows.active.learning import LearnOptions, LearnResult

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.committee import Committee
    from atomml.run import RunFolder

__all__ = ["Loop", "given_structures"]

_NEAR = 0.5
"""Frames may be chosen that reach this part of the uncertainty at which runs stop."""

_GO_ON = {
    "budget": "raise --budget and --resume.",
    "rounds": "raise --max-rounds and --resume.",
    "frames": "no frame of theirs was both uncertain and new, so begin anew with another --model, more "
    "--train-steps or more --initial structures.",
}
"""What to do where the loop ended before runs were stable, by why it did."""

Named = list[tuple[str, "Atoms"]]


def given_structures(structures: Any) -> Named:
    """Name and structure of everything given.

    Raises:
        InputError: Nothing, or something that is no structure.
    """
    from atomml.workflows.inputs import expand_sources, given_structure, structures_of

    many = structures if isinstance(structures, list | tuple) else [structures]
    found: Named = []
    for one in many:
        if isinstance(one, str | Path):
            for source in expand_sources([str(one)]):
                found += [(str(source), given.atoms) for given in structures_of(source)]
        else:
            found.append(("structure", given_structure(one).atoms))
    if not found:
        raise InputError("There is no structure to start from: name a file.")
    return found


class Loop:
    """The loop in its folder.

    Args:
        folder: The run folder.
        given: Structures that dynamics starts from.
        model: What all models start from.
        options: The options.
        dtype, device: Of the models.
        seed: Of everything that is drawn.
    """

    def __init__(
        self, folder: RunFolder, given: Named, model: str, options: LearnOptions, *,
        dtype: str, device: str, seed: int,
    ) -> None:  # fmt: skip
        self.folder, self.given, self.model, self.options = folder, given, model, options
        self.dtype, self.device, self.seed = dtype, device, seed
        self.train = [str(path) for path in options.train]
        self.test = [str(path) for path in options.test]
        self.spent = self.failed = 0
        self.rows: list[dict[str, Any]] = []
        self.ended = ""

    def go(self) -> LearnResult:
        """Rounds until one is stable, the budget is spent, or there are enough of them."""
        options, stable, committee = self.options, False, [self.model] * self.options.committee
        with Manifest(self.folder.file("manifest.sqlite"), "learn") as self.manifest:
            self._first_labels()
            for number in range(options.max_rounds):
                committee = [self._trained(number, k, parent) for k, parent in enumerate(committee)]
                row = self._errors(number, committee)
                row |= self._explored(number, committee)
                stable = row["runs_stopped"] == 0 and options.choice == "uncertain"
                self._note(row)
                left = options.budget - self.spent
                self.ended = "budget" if left <= 0 else "rounds" if number == options.max_rounds - 1 else ""
                if stable or self.ended:
                    break
                if not self._labelled(number, committee, left):
                    self.ended = "frames"
                    break
        return self._result(committee, stable)

    def inputs(self) -> list[dict[str, Any]]:
        """Digests of the files that were given."""
        from atomml.workflows.inputs import input_record

        files = [(name.rpartition("@")[0] or name, "structure") for name, _ in self.given]
        files += [(name, "train") for name in self.options.train] + [(n, "test") for n in self.options.test]
        return [input_record(Path(name), role=role) for name, role in files if Path(name).is_file()]

    def _once(self, name: str, digest: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What came of a stage: from the manifest if it was done, else by doing it."""
        known = self.manifest.find(name)
        if known is not None and known.status == DONE and known.digest == digest:
            return dict(known.result)
        self.manifest.start(name, digest)
        result = do()
        self.manifest.finish(name, result)
        return result

    def _first_labels(self) -> None:
        """Displaced structures to train on, and to test on where no file does."""
        for role, wanted in (
            ("initial", self.options.initial),
            ("test", 0 if self.test else self.options.test_size),
        ):
            if wanted:
                file = self._label(role, partial(self._displaced, role, wanted))
                (self.train if role == "initial" else self.test).append(file)

    def _displaced(self, role: str, n: int) -> list[Atoms]:
        """Copies of the given structures, one after the other, each displaced and a cell strained."""
        random = np.random.default_rng([self.seed, 11 if role == "initial" else 12])
        made = []
        for k in range(n):
            atoms = self.given[k % len(self.given)][1].copy()
            if atoms.pbc.all():
                strain = 0.02 * random.standard_normal((3, 3))
                atoms.set_cell(atoms.cell @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
            atoms.positions += self.options.displacement * random.standard_normal((len(atoms), 3))
            made.append(_bare(atoms))
        return made

    def _label(self, stage: str, frames: Callable[[], list[Atoms]]) -> str:
        """Have structures labelled; the file. Structures without a label are counted and left out."""
        from atomml.data.entry import Entry
        from atomml.workflows.datasets.data_label import label_data

        file, work = self.folder.file(f"{stage}.extxyz"), self.folder.file(f"{stage}-labels")

        def do() -> dict[str, Any]:
            """Label the frames, or go on with what is labelled."""
            entries = [Entry(atoms, source=stage, frame=k) for k, atoms in enumerate(frames())]
            again = work.exists()
            found = label_data(
                entries, to=file, out=work, resume=again, method=self.options.label, on_error="skip",
                workers=self.options.workers, time_limit=self.options.time_limit,
            )  # fmt: skip
            return {"labels": len(entries), "failed": found.n_failed}

        found = self._once(stage, digest_of(stage, self.options.label), do)
        self.spent, self.failed = self.spent + found["labels"], self.failed + found["failed"]
        if found["failed"]:
            self.folder.warn(f"{found['failed']} of {found['labels']} structures of {stage} got no label.")
        self.folder.event("labelled", stage=stage, step=self.spent, of=self.options.budget)
        return str(file)

    def _trained(self, number: int, member: int, parent: str) -> str:
        """One model of a round: the file."""
        from atomml.workflows.active.learning_training import train_member

        name = f"round-{number:02d}/model-{member}"
        out = self.folder.file(name)

        def do() -> dict[str, Any]:
            """Train one member."""
            self.folder.event("training", round=number, model=member)
            train_member(
                parent,
                self.train,
                out,
                self.options,
                seed=self.seed + member,
                dtype=self.dtype,
                device=self.device,
            )
            return {"model": "model.safetensors"}

        self._once(name, digest_of(name, *self.train, parent), do)
        return str(out / "model.safetensors")

    def _errors(self, number: int, committee: Sequence[str]) -> dict[str, Any]:
        """A row about a round: labels, and errors of the mean of the models on the test set."""
        from atomml.workflows.evaluations.evaluation import evaluate

        name = f"round-{number:02d}/test"

        def do() -> dict[str, Any]:
            """Measure the committee on the test set."""
            out = self.folder.file(name)
            found = evaluate(
                self.test,
                ",".join(committee),
                out=out,
                resume=out.exists(),
                dtype=self.dtype,
                device=self.device,
            )
            kept = ("mae_energy", "mae_shifted_energy", "mae_forces", "rmse_forces")
            return {key: getattr(found, key) for key in kept}

        found = self._once(name, digest_of(name, *committee), do)
        errors = {
            "energy_mae_meV_per_atom": found["mae_energy"],
            "shifted_energy_mae_meV_per_atom": found["mae_shifted_energy"],
            "forces_mae_meV_per_A": found["mae_forces"],
            "forces_rmse_meV_per_A": found["rmse_forces"],
        }
        return {"round": number, "labels": self.spent, **errors}

    def _explored(self, number: int, committee: Sequence[str]) -> dict[str, Any]:
        """Molecular dynamics from every structure: which runs stopped, and how long the shortest was."""
        loaded: list[Committee] = []
        stopped, shortest, largest = 0, float("inf"), 0.0
        for place in range(len(self.given) * self.options.runs):
            name = f"round-{number:02d}/md-{place:02d}"
            run = partial(self._run, number, place, name, committee, loaded)
            found = self._once(name, digest_of(name, *committee), run)
            stopped += found["stopped"]
            shortest, largest = min(shortest, found["time_ps"]), max(largest, found["uncertainty"])
        return {"runs_stopped": stopped, "shortest_run_ps": shortest, "largest_uncertainty_eV_per_A": largest}

    def _run(
        self, number: int, place: int, name: str, files: Sequence[str], loaded: list[Committee]
    ) -> dict[str, Any]:
        """One run: whether the models disagreed, or the run blew up, and when."""
        from atomml.workflows.active.learning_choice import uncertainties
        from atomml.workflows.dynamics.molecular_dynamics import md

        options, out, committee = self.options, self.folder.file(name), self._committee(files, loaded)
        steps = max(1, round(1000 * options.stable_time / options.timestep))
        blown = ""
        try:
            found = md(
                self.given[place // options.runs][1], committee, out=out, resume=out.exists(),
                ensemble=options.ensemble, temperature=options.temperature, timestep=options.timestep,
                steps=steps, every=options.every, seed=self.seed + 1000 * (number + 1) + place,
                rdf_cutoff=0.0,
                stop_at_uncertainty=options.uncertainty if options.choice == "uncertain" else None,
                dtype=self.dtype,
            )  # fmt: skip
            done = found.steps
            uncertain = found.forces_std
        except RunFailedError as error:
            blown, uncertain = str(error), None
            done = options.every * max(len(self._frames(name)) - 1, 0)
        if uncertain is None:
            last = self._frames(name)[-20:]
            uncertain = float(uncertainties(committee, last).max()) if last else 0.0
        stopped = bool(blown) or done < steps
        self.folder.event("run", round=number, run=place, steps=done, stopped=stopped, message=blown or None)
        return {"stopped": stopped, "time_ps": done * options.timestep / 1000, "uncertainty": uncertain}

    def _frames(self, name: str) -> list[Atoms]:
        """The frames of a run but its first, and the state in which it stopped."""
        from atomml.data.structures import read_structures

        found: list[Atoms] = []
        for file in ("trajectory.extxyz", "final.extxyz"):
            path = self.folder.file(name) / file
            if path.exists():
                found += [_bare(frame.atoms) for frame in read_structures(path, validate=False)]
        return found[1:]

    def _labelled(self, number: int, committee: Sequence[str], left: int) -> bool:
        """Choose frames of this round's runs and have them labelled; False where none was worth it."""
        stage = f"round-{number:02d}/chosen"
        known = self.manifest.find(stage)
        if known is None or known.status != DONE:
            frames = self._chosen(number, self._committee(committee, []), left)
            if not frames:
                return False
        else:
            frames = []
        self.train.append(self._label(stage, lambda: frames))
        return True

    def _chosen(self, number: int, committee: Committee, left: int) -> list[Atoms]:
        from atomml.data.dataset import open_dataset
        from atomml.data.label_keys import LabelKeys
        from atomml.workflows.active.learning_choice import descriptors, farthest, uncertainties

        options = self.options
        places = range(len(self.given) * options.runs)
        frames = [atoms for k in places for atoms in self._frames(f"round-{number:02d}/md-{k:02d}")]
        wanted = min(options.per_round, left)
        if options.choice == "random":
            random = np.random.default_rng([self.seed, 13, number])
            return [frames[i] for i in sorted(random.permutation(len(frames))[:wanted].tolist())]
        spread = uncertainties(committee, frames) if frames else np.empty(0)
        uncertain = [k for k, value in enumerate(spread) if value >= _NEAR * options.uncertainty]
        if not uncertain:
            return []
        chosen_from = [frames[k] for k in uncertain]
        member = committee._each()[0]
        labelled = [entry.atoms for entry in open_dataset(self.train, LabelKeys())]
        points, others = descriptors(member, chosen_from), descriptors(member, labelled)
        return [chosen_from[k] for k in farthest(points, spread[uncertain], others, wanted)]

    def _committee(self, files: Sequence[str], kept: list[Committee]) -> Committee:
        """The models of a round, loaded once."""
        from atomml.committee import Committee
        from atomml.registry import load_model

        if not kept:
            kept.append(Committee([load_model(file, self.dtype, self.device) for file in files]))
        return kept[0]

    def _note(self, row: dict[str, Any]) -> None:
        """Write the rounds so far, and say how this one went."""
        self.rows.append(row)
        write_table(self.folder.file("rounds.csv"), self.rows, list(row))
        self.folder.event("round", step=min(self.spent, self.options.budget), of=self.options.budget, **row)

    def _result(self, committee: Sequence[str], stable: bool) -> LearnResult:
        last = self.rows[-1]
        if self.options.choice == "random":
            self.folder.warn(f"Frames were drawn at random until {self.spent} labels were spent.")
        elif not stable:
            self.folder.warn(
                f"{self.spent} labels were spent in {len(self.rows)} rounds, and {last['runs_stopped']} runs "
                f"of the last still stopped before {self.options.stable_time:g} ps: {_GO_ON[self.ended]}"
            )
        return LearnResult(
            committee=",".join(committee),
            n_rounds=len(self.rows),
            n_labels=self.spent,
            n_failed=self.failed,
            stable=stable,
            mae_energy=last["energy_mae_meV_per_atom"],
            mae_forces=last["forces_mae_meV_per_A"],
            rmse_forces=last["forces_rmse_meV_per_A"],
            rows=self.rows,
            converged=stable or self.options.choice == "random",
        )


def _bare(atoms: Atoms) -> Atoms:
    """A structure without velocities, constraints and answers of a model; charge and spin stay."""
    from ase import Atoms as Plain

    kept = {key: atoms.info[key] for key in ("charge", "spin") if key in atoms.info}
    return Plain(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=kept)
