"""Molecular dynamics: ``atomml md`` and :func:`md`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from atomml.md.driver import Hooks
    from atomml.md.settings import MDSettings
    from atomml.md.simulation import Simulation
    from atomml.model import Potential
    from atomml.run import RunFolder
    from atomml.workflows.inputs import GivenModel, GivenStructure

__all__ = ["MAY_CHANGE", "MDOptions", "MDResult", "md"]

MAY_CHANGE = frozenset({"steps", "max_time", "on_blowup", "max_rollbacks", "stop_at_uncertainty"})
"""Options that a resumed run may give other values: how far it goes, and what to do when it fails."""
_ENSEMBLES = ("nve", "nvt-langevin", "nvt-bussi", "nvt-nhc", "npt-mtk", "npt-iso")
_EVENT_INTERVAL_S = 1.0


@dataclass(frozen=True)
class MDOptions:
    """Options of a molecular-dynamics run; each field's help, unit and range are its metadata."""

    # not limited by choices=, so that Berendsen's can be refused with its reason
    ensemble: str = option("nvt-bussi", f"ensemble: {', '.join(_ENSEMBLES)}", metavar="NAME")
    temperature: str = option("300", "temperature, or START:END for a ramp over the run", unit="K")
    pressure: str = option("0", "pressure for npt ensembles, or START:END for a ramp", unit="GPa")
    timestep: float = option(1.0, "time step", unit="fs", above=0.0, maximum=100.0)
    steps: int = option(1000, "step at which the run ends; a resumed run adds none twice", minimum=0)
    max_time: str | None = option(
        None, "limit of computing time (90s, 15m, 2h), turned into a number of steps at the start"
    )
    equilibrate: int = option(0, "first steps that averages, RDF and MSD leave out", minimum=0)
    every: int = option(10, "steps between two lines of the log and frames of the trajectory", minimum=1)
    restart_every: int = option(500, "steps between two restart files", minimum=1)
    supercell: tuple[int, int, int] = option((1, 1, 1), "repeats of the cell along its vectors", minimum=1)
    fix: str = option("", "atoms to hold, such as 'z<5' or 'symbol==Pt'", metavar="EXPR")
    seed: int = option(0, "seed of the one random generator", minimum=0)
    keep_velocities: bool = option(False, "start from the structure's own velocities")
    remove_drift: bool = option(True, "keep the centre of mass at rest (no effect with fixed atoms)")
    friction: float = option(5.0, "friction of nvt-langevin", unit="1/ps", minimum=0.0)
    thermostat_time: float = option(100.0, "time constant of thermostats", unit="fs", above=0.0)
    barostat_time: float = option(1000.0, "time constant of the barostat", unit="fs", above=0.0)
    rdf_cutoff: float = option(
        6.0, "largest distance in pair distributions; 0 for none", unit="Å", minimum=0.0
    )
    min_distance: float | None = option(
        None, "stop when atoms come closer; default half the sum of covalent radii", unit="Å", minimum=0.0
    )
    max_temperature: float | None = option(
        None,
        "stop above this temperature; default ten times the target, 3000 K at least",
        unit="K",
        above=0.0,
    )
    max_energy_jump: float | None = option(
        None,
        "stop when the conserved energy jumps by more in one step; default 3 kT, 0.2 at least",
        unit="eV/atom",
        above=0.0,
    )
    on_blowup: str = option(
        "stop", "when the run blows up: stop, or go back and take finer steps", choices=("stop", "rollback")
    )
    max_rollbacks: int = option(5, "rollbacks before the run is given up", minimum=0)
    stop_at_uncertainty: float | None = option(
        None,
        "end the run when the models of a committee (--model a,b,c) differ by more in a force",
        unit="eV/Å",
        above=0.0,
    )
    dtype: str = option("float32", "precision of the model", choices=("float32", "float64"))
    device: str = option("auto", "device of the model: auto, cpu, cuda")
    allow_code: bool = option(False, "let --model ase:MODULE:CLASS from a configuration file import code")
    allow_charge_mismatch: bool = option(False, "run a charged structure on a model that sees no charge")


@dataclass(kw_only=True)
class MDResult(Result):
    """Means over the run after equilibration, their standard errors, and where the files are.

    Errors are block averages (Flyvbjerg and Petersen, 1989); None for fewer than 8 samples. ``ions`` are
    the atoms of the last frame by ion, such as ``Mn3+``, where magnetic moments tell them. Of a run that the
    spread of a committee ended, ``uncertain_atom`` is the atom on whose force the models differ by
    ``forces_std``.
    """

    atoms: Atoms = field(metadata={"summary": False})
    rdf: dict[str, Any] = field(default_factory=dict, metadata={"summary": False})
    ensemble: str = quantity()
    n_atoms: int = quantity()
    steps: int = quantity()
    simulated_time: float = quantity("ps")
    temperature: float = quantity("K")
    temperature_error: float | None = quantity("K", default=None)
    pressure: float | None = quantity("GPa", default=None)
    pressure_error: float | None = quantity("GPa", default=None)
    potential: float = quantity("eV")
    potential_error: float | None = quantity("eV", default=None)
    total: float = quantity("eV")
    conserved_drift: float = quantity("meV/atom")
    volume: float | None = quantity("Å^3", default=None)
    volume_error: float | None = quantity("Å^3", default=None)
    msd: float = quantity("Å^2")
    errors_reliable: bool = quantity()
    rollbacks: int = quantity(default=0)
    uncertain_atom: int | None = quantity(default=None)
    forces_std: float | None = quantity("eV/Å", default=None)
    ions: dict[str, int] | None = field(default=None)


def md(
    structure: Atoms | str | Path | Any,
    model: str | Path | Potential | Calculator = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> MDResult:
    """Run molecular dynamics and leave a run folder that can be read, plotted and resumed.

    Args:
        structure: ``ase.Atoms``, a pymatgen structure, or a file.
        model: A name, a path, a Potential or any ASE calculator.
        out: The run folder; ``md-STEM`` in the current folder if None.
        resume: Go on in the folder; ``steps`` is the target, not an addition.
        overwrite: Replace what an earlier run left in the folder.
        **options: Fields of :class:`MDOptions`.

    Raises:
        InputError: A structure, model or option that cannot be used.
        RunFailedError: The run blew up; the restart file holds the last good state.
    """
    from atomml.config import as_config, build_options, option_units
    from atomml.run import RunFolder, default_folder
    from atomml.workflows.dynamics.dynamics_setup import check_before, md_settings, prepared_atoms
    from atomml.workflows.inputs import given_model, given_structure

    started = time.perf_counter()
    settings = build_options(MDOptions, options)
    given = given_structure(structure)
    resolved = md_settings(settings)
    chosen = given_model(model, dtype=settings.dtype, device=settings.device, allow_code=settings.allow_code)
    warnings = check_before(given, chosen, settings)
    atoms = prepared_atoms(given, settings)
    config = {"structures": [given.label], **chosen.config(), **as_config(settings)}
    path = Path(out) if out is not None else default_folder("md", given.path)
    with RunFolder.open(
        path,
        command="md",
        config=config,
        resume=resume,
        overwrite=overwrite,
        may_change=MAY_CHANGE,
        units=option_units(MDOptions),
    ) as folder:
        for sentence in warnings:
            folder.warn(sentence)
        run = _Run(folder, given, chosen, settings)
        return run.go(atoms, resolved, resume=folder.resumed, started=started)


@dataclass
class _Run:
    """One run in its folder: the driver, and what is written when it is done."""

    folder: RunFolder
    given: GivenStructure
    model: GivenModel
    options: MDOptions

    def go(self, atoms: Atoms, settings: MDSettings, *, resume: bool, started: float) -> MDResult:
        """Run to the end and write averages, final structure, summary and report."""
        from atomml.md.driver import Driver, parse_duration
        from atomml.md.identity import run_identity
        from atomml.report.render import render_run

        limit = self.options.max_time
        driver = Driver(
            atoms,
            self.model.calculator(),
            settings,
            self.folder.path,
            max_time_s=None if limit is None else parse_duration(limit),
            identity=run_identity(self.model.record()),
            hooks=self._hooks(),
        )
        ready = time.perf_counter()
        simulation = driver.run(resume=resume)
        done = time.perf_counter()
        if simulation.progress.stopped:
            self.folder.warn(_stopping(simulation))
        result = self._result(atoms, simulation)
        self._write_tables(simulation, result)
        timing = _timing(started, ready, done, driver.steps_done, settings.timestep_fs)
        result.summary = self.folder.write_summary(
            results=result.results(),
            units=result.units(),
            model=self.model.record(),
            inputs=[self.given.record()],
            timing=timing,
            converged=True,
        )
        render_run(self.folder.path)
        return result

    def _hooks(self) -> Hooks:
        from atomml.md.driver import Hooks

        said = -_EVENT_INTERVAL_S

        def progress(step: int, of: int, row: Mapping[str, float]) -> None:
            """An event now and then, however fast the steps are."""
            nonlocal said
            now = time.monotonic()
            if step == of or now - said >= _EVENT_INTERVAL_S:
                said = now
                shown = {key: row[key] for key in ("temperature_K", "potential_eV")}
                self.folder.event("progress", step=step, of=of, **shown)

        return Hooks(event=self.folder.event, warn=self.folder.warn, progress=progress)

    def _result(self, atoms: Atoms, simulation: Simulation) -> MDResult:
        from atomml.md.tables import conserved_drift

        means = simulation.observables.means()
        system, progress = simulation.system, simulation.progress
        drift = conserved_drift(self.folder.file("log.csv"), self.options.equilibrate)
        temperature, potential, pressure = (
            means[name] for name in ("temperature_K", "potential_eV", "pressure_GPa")
        )
        volume = means.get("volume_A3")
        constant_volume = system.volume if system.pbc.all() else None
        return MDResult(
            atoms=simulation.final_atoms(atoms),
            rdf=self._rdf(simulation),
            ensemble=self.options.ensemble,
            n_atoms=system.n_atoms,
            steps=progress.step,
            simulated_time=simulation.time_fs / 1000.0,
            temperature=temperature.value,
            temperature_error=_known(temperature.error),
            pressure=_known(pressure.value),
            pressure_error=_known(pressure.error),
            potential=potential.value,
            potential_error=_known(potential.error),
            total=means["total_eV"].value,
            conserved_drift=drift / system.n_atoms * 1000.0,
            volume=volume.value if volume else constant_volume,
            volume_error=_known(volume.error) if volume else None,
            msd=simulation.observables.msd.mean(system),
            errors_reliable=temperature.reliable and potential.reliable,
            rollbacks=len(progress.rollbacks),
            uncertain_atom=(progress.stopped or {}).get("atom"),
            forces_std=(progress.stopped or {}).get("forces_std"),
            warnings=list(self.folder.warnings),
            folder=self.folder.path,
        )

    @staticmethod
    def _rdf(simulation: Simulation) -> dict[str, Any]:
        rdf = simulation.observables.rdf
        return {"r_A": rdf.radii, **rdf.curves()} if rdf is not None and rdf.n_frames else {}

    def _write_tables(self, simulation: Simulation, result: MDResult) -> None:
        """``averages.csv``, ``rdf.csv`` and ``final.extxyz``."""
        from atomml.data.structures import write_structures
        from atomml.files import write_atomic
        from atomml.md.tables import averages_csv, curves_csv

        write_atomic(self.folder.file("averages.csv"), averages_csv(simulation.observables.means()))
        if result.rdf:
            write_atomic(self.folder.file("rdf.csv"), curves_csv(result.rdf))
        write_structures(self.folder.file("final.extxyz"), [result.atoms])
        if simulation.observables.magnetic:
            from atomml.md.driver import TRAJECTORY
            from atomml.workflows.dynamics.charge_states import ions_over_time

            result.ions = ions_over_time(self.folder, TRAJECTORY)


def _stopping(simulation: Simulation) -> str:
    """The sentence of a run that was ended by the committee's spread."""
    from ase.data import chemical_symbols

    stopped = simulation.progress.stopped or {}
    symbol = chemical_symbols[int(simulation.system.numbers[stopped["atom"]])]
    return (
        f"Stopped at step {stopped['step']}: the models differ by {stopped['forces_std']:.3g} eV/Å in the "
        f"force on atom {stopped['atom']} ({symbol}), more than {stopped['limit']:g}."
    )


def _timing(started: float, ready: float, done: float, steps: int, timestep_fs: float) -> dict[str, float]:
    timing = {
        "setup_s": ready - started,
        "dynamics_s": done - ready,
        "total_s": time.perf_counter() - started,
    }
    if steps:
        timing["s_per_step"] = (done - ready) / steps
        timing["ns_per_day"] = 86400.0 / timing["s_per_step"] * timestep_fs * 1e-6
    return timing


def _known(value: float) -> float | None:
    return value if value == value else None
