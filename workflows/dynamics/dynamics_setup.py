"""What molecular dynamics starts from: settings, the guard before the run, the atoms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atomml.errors import OptionError

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.md.settings import MDSettings
    from atomml.workflows.dynamics.molecular_dynamics import MDOptions
    from atomml.workflows.inputs import GivenModel, GivenStructure

__all__ = ["check_before", "md_settings", "prepared_atoms"]


def md_settings(options: MDOptions) -> MDSettings:
    """The run's settings, checked as far as they can be without a structure.

    Raises:
        OptionError: Options that contradict each other.
    """
    from atomml.md.driver import parse_duration
    from atomml.md.guard import Limits
    from atomml.md.schedule import Ramp
    from atomml.md.settings import MDSettings, check_ensemble
    from atomml.selection import check_selection

    check_ensemble(options.ensemble)
    if options.max_time is not None:
        try:
            parse_duration(options.max_time)
        except ValueError:
            raise OptionError(
                f"max_time is {options.max_time!r}: give a length of time such as 90s, 15m or 2h."
            ) from None
    if options.fix:
        check_selection(options.fix)
    temperature = Ramp.parse(options.temperature, "temperature", options.steps)
    if options.ensemble == "nve" and temperature.start != temperature.end:
        raise OptionError("A temperature ramp needs a thermostat: take another ensemble than nve.")
    if options.equilibrate and options.equilibrate >= options.steps:
        raise OptionError(
            f"equilibrate ({options.equilibrate}) leaves nothing of the {options.steps} steps: "
            "raise steps, which counts both."
        )
    return MDSettings(
        ensemble=options.ensemble,
        n_steps=options.steps,
        temperature=temperature,
        pressure=Ramp.parse(options.pressure, "pressure", options.steps),
        timestep_fs=options.timestep,
        every=options.every,
        restart_every=options.restart_every,
        equilibrate=options.equilibrate,
        friction_per_ps=options.friction,
        thermostat_time_fs=options.thermostat_time,
        barostat_time_fs=options.barostat_time,
        seed=options.seed,
        remove_drift=options.remove_drift,
        keep_velocities=options.keep_velocities,
        rdf_cutoff=options.rdf_cutoff,
        limits=Limits(options.min_distance, options.max_temperature, options.max_energy_jump),
        stop_at_uncertainty=options.stop_at_uncertainty,
        on_blowup="rollback" if options.on_blowup == "rollback" else "stop",
        max_rollbacks=options.max_rollbacks,
    )


def check_before(given: GivenStructure, model: GivenModel, options: MDOptions) -> list[str]:
    """The guard before the run; returns what to warn of.

    Raises:
        InputError: An element, a charge or a wish that the model cannot meet.
    """
    from atomml.workflows.inputs import check_covered

    warnings: list[str] = []
    check_covered(given, model, warnings.append, options.allow_charge_mismatch)
    family = None if model.potential is None else model.potential.info.family
    if options.stop_at_uncertainty is not None and family != "committee":
        raise OptionError("--stop-at-uncertainty needs several models, whose spread it is: --model a,b,c.")
    lightest = float(given.atoms.get_masses().min())
    # a bond to hydrogen vibrates once in 9 fs (3700/cm), to anything heavier in 14 fs or more
    longest = 1.0 if lightest < 1.5 else 5.0
    if options.timestep > longest:
        what = "with hydrogen" if lightest < 1.5 else "for any solid"
        warnings.append(
            f"A time step of {options.timestep:g} fs is long {what}: check that the conserved quantity does "
            f"not drift, or take {longest:g} fs or less."
        )
    if options.ensemble not in ("nve", "nvt-langevin") and options.thermostat_time < 10 * options.timestep:
        warnings.append(
            f"A thermostat time of {options.thermostat_time:g} fs is short for steps of "
            f"{options.timestep:g} fs: take ten steps or more."
        )
    return warnings


def prepared_atoms(given: GivenStructure, options: MDOptions) -> Atoms:
    """The supercell, with what --fix names held beside what the structure holds already.

    Raises:
        OptionError: A vector without periodicity is to be repeated, or --fix names no atom.
    """
    from ase.constraints import FixAtoms

    from atomml.selection import select

    atoms = given.atoms.copy()
    if options.supercell != (1, 1, 1):
        for axis, repeats in enumerate(options.supercell):
            if repeats > 1 and not atoms.pbc[axis]:
                raise OptionError(
                    f"supercell repeats the structure {repeats} times along its vector {axis + 1}, in which "
                    "it is not periodic: give 1 there."
                )
        atoms = atoms.repeat(options.supercell)
    if options.fix:
        mask = select(atoms, options.fix)
        if not mask.any():
            raise OptionError(f"fix {options.fix!r} selects no atom of the structure.")
        atoms.set_constraint([*atoms.constraints, FixAtoms(mask=mask)])
    return atoms
