"""The workflows that are commands: where each lives, and what its help says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from atomml.config import OptionSpec, close_match, option_specs
from atomml.errors import OptionError
from atomml.workflows import OF_ONE_STRUCTURE

__all__ = ["WORKFLOWS", "Workflow", "leading_workflow"]


@dataclass(frozen=True)
class Workflow:
    """A workflow as a command.

    Attributes:
        module: Where its function and options live.
        function: Name of the function.
        options: Name of the options dataclass.
        description: One or two sentences for the help.
        many: ``module:function`` for several structures; "" for none.
        reads_data: Whether it takes labelled data, as files and stores, instead of structures.
        together: Whether its function takes all structures as one input, such as the ends of a path.
    """

    module: str
    function: str
    options: str
    description: str
    many: str = ""
    reads_data: bool = False
    together: bool = False

    def specs(self) -> dict[str, OptionSpec]:
        """Its own options."""
        specs = option_specs(getattr(import_module(self.module), self.options))
        return {name: spec for name, spec in specs.items() if name != "allow_code"}

    def call(self, several: bool) -> Callable[..., Any]:
        """Its function for one structure or for several."""
        module, _, name = self.many.partition(":") if several else (self.module, "", self.function)
        return getattr(import_module(module), name)


WORKFLOWS = {
    "predict": Workflow(
        "atomml.workflows.predicting.single_point",
        "predict",
        "PredictOptions",
        "Energy, forces and stress of structures. Writes results.csv, predictions.extxyz and report.html.",
        many="atomml.workflows.predicting.single_point:predict",
    ),
    "relax": Workflow(
        "atomml.workflows.relaxing.relaxation",
        "relax",
        "RelaxOptions",
        "Relax positions, and the cell with --cell. Several structures get a folder each and one table.",
        many="atomml.workflows.relaxing.relaxation_many:relax_many",
    ),
    "md": Workflow(
        "atomml.workflows.dynamics.molecular_dynamics",
        "md",
        "MDOptions",
        "Molecular dynamics. --resume goes on after any interruption, to the same bits.",
    ),
    "eos": Workflow(
        "atomml.workflows.crystals.equation_of_state",
        "eos",
        "EosOptions",
        "Energy against volume, with the equations of state of Birch-Murnaghan and Vinet: V0, the bulk "
        "modulus and its derivative. A minimum that is not among the volumes is refused.",
    ),
    "elastic": Workflow(
        "atomml.workflows.crystals.elasticity",
        "elastic",
        "ElasticOptions",
        "Elastic tensor from stresses of strained cells, with Born's stability, the averages of Voigt, Reuss "
        "and Hill, anisotropy, sound speeds and the Debye temperature.",
    ),
    "diffusion": Workflow(
        "atomml.workflows.dynamics.diffusivity",
        "diffusion",
        "DiffusionOptions",
        "Diffusion by molecular dynamics at several temperatures: mean squared displacements, D with its "
        "error, activation energy, conductivity. Takes a structure, or run folders of md and trajectories.",
        together=True,
    ),
    "neb": Workflow(
        "atomml.workflows.barriers.nudged_band",
        "neb",
        "NebOptions",
        "The path of least energy from one minimum to another and its barrier, by climbing-image nudged "
        "elastic band. Takes start and end, or one file with both; frames between are the first path.",
        together=True,
    ),
    "phonons": Workflow(
        "atomml.workflows.crystals.lattice_dynamics",
        "phonons",
        "PhononOptions",
        "Phonons by finite displacements in a supercell of 20 Å: bands on the standard path, density of "
        "states, heat capacity, free energy; imaginary modes are named. Needs the extra 'phonons'.",
    ),
    "qha": Workflow(
        "atomml.workflows.crystals.quasi_harmonic",
        "qha",
        "QhaOptions",
        "Quasi-harmonic thermal expansion, C_p, Grueneisen parameter and bulk modulus against temperature, "
        "by phonopy, from cells relaxed at each volume. Needs the extra 'phonons'.",
    ),
    "strain": Workflow(
        "atomml.workflows.crystals.straining",
        "strain",
        "StrainOptions",
        "Stress against strain along a direction, in shear or along a tensor, to failure, with the "
        "transverse stress relaxed: ideal strength, initial slope.",
    ),
    "surface": Workflow(
        "atomml.workflows.crystals.surfaces",
        "surface",
        "SurfaceOptions",
        "Surface energies of all terminations up to a Miller index, against a bulk of the same orientation, "
        "with their convergence with thickness and the Wulff shape.",
    ),
    "vacancy": Workflow(
        "atomml.workflows.defects.vacancies",
        "vacancy",
        "VacancyOptions",
        "Vacancies on every site that symmetry tells apart: formation energy unrelaxed and relaxed, "
        "convergence with the supercell, concentration. Chemical potentials come from the same model.",
    ),
    "defect": Workflow(
        "atomml.workflows.defects.point_defects",
        "defect",
        "DefectOptions",
        "Substituted atoms (--substitute Li:Na) and antisites: formation energies as those of vacancies.",
    ),
    "formation": Workflow(
        "atomml.workflows.crystals.formation_energy",
        "formation",
        "FormationOptions",
        "Formation energy of crystals from the elements as the model itself relaxes them, and energy above "
        "the hull and decomposition within the structures and the phases of --phases.",
        many="atomml.workflows.crystals.formation_energy:formation",
    ),
    "learn": Workflow(
        "atomml.workflows.active.learning",
        "learn",
        "LearnOptions",
        "Molecular dynamics with a committee that stops where the models disagree, has the most different of "
        "these frames labelled, and trains on them, until no run stops or the budget of labels is spent.",
        together=True,
    ),
    "serve": Workflow(
        "atomml.workflows.predicting.serving",
        "serve",
        "ServeOptions",
        "Answer i-PI (or any server of its protocol) with a model: energy, forces and virial of each "
        "structure that it sends. STRUCTURE has the atoms in the server's order.",
    ),
    "evaluate": Workflow(
        "atomml.workflows.evaluations.evaluation",
        "evaluate",
        "EvaluateOptions",
        "Errors of a model against labelled data, with 95% intervals, by element, configuration type and "
        "force, beside a baseline. Writes errors.csv, groups.csv, predictions.extxyz and report.html.",
        many="atomml.workflows.evaluations.evaluation:evaluate",
        reads_data=True,
    ),
}


def leading_workflow(argv: Sequence[str], known: str, also: Sequence[str] = ()) -> str | None:
    """The workflow of one structure that is named first; None for a flag or nothing.

    Args:
        argv: Words of the command.
        known: Which ones there are, for the message.
        also: What else may stand first, for a near miss.

    Raises:
        OptionError: There is none of this name.
    """
    name = argv[0] if argv and not argv[0].startswith("-") else None
    if name is not None and name not in OF_ONE_STRUCTURE:
        raise OptionError(
            f"There is no workflow {name!r}; {close_match(name, (*OF_ONE_STRUCTURE, *also), known)}"
        )
    return name
