"""One file per scientific question, in folders by theme; each question is also a function of this package.

What all of them share stands beside this file: what they are given (``inputs``, ``ordering``), how a run
opens and closes (``run_record``), who does its items (``work_sharing``, ``shards``), which rows are chosen
(``row_selection``), how much goes to the model at once (``batch_memory``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomml.workflows.active.learning import learn
    from atomml.workflows.barriers.nudged_band import neb
    from atomml.workflows.crystals.elasticity import elastic
    from atomml.workflows.crystals.equation_of_state import eos
    from atomml.workflows.crystals.formation_energy import formation
    from atomml.workflows.crystals.lattice_dynamics import phonons
    from atomml.workflows.crystals.quasi_harmonic import qha
    from atomml.workflows.crystals.straining import strain
    from atomml.workflows.crystals.surfaces import surface
    from atomml.workflows.datasets.data_import import import_data
    from atomml.workflows.datasets.data_label import label_data
    from atomml.workflows.datasets.data_report import report_data
    from atomml.workflows.datasets.data_split import split_data
    from atomml.workflows.defects.point_defects import defect
    from atomml.workflows.defects.site_regression_training import train_site_regressor
    from atomml.workflows.defects.vacancies import vacancy
    from atomml.workflows.defects.vacancy_survey import survey_vacancies
    from atomml.workflows.dynamics.diffusivity import diffusion
    from atomml.workflows.dynamics.molecular_dynamics import md
    from atomml.workflows.dynamics.trajectory_analysis import rdf, vdos
    from atomml.workflows.electronic.dft_energy import dft_energy, dft_optimize
    from atomml.workflows.electronic.dft_label import dft_label
    from atomml.workflows.electronic.functional_evaluation import evaluate_functional
    from atomml.workflows.electronic.functional_training import train_functional
    from atomml.workflows.electronic.hamiltonian_evaluation import evaluate_hamiltonian
    from atomml.workflows.electronic.hamiltonian_import import import_hamiltonians
    from atomml.workflows.electronic.hamiltonian_prediction import predict_hamiltonian
    from atomml.workflows.electronic.hamiltonian_sampling import sample_geometries
    from atomml.workflows.electronic.hamiltonian_scf import scf_hamiltonian
    from atomml.workflows.electronic.hamiltonian_training import train_hamiltonian
    from atomml.workflows.evaluations.evaluation import evaluate
    from atomml.workflows.ligands.pose_strain import ligand_strain
    from atomml.workflows.predicting.comparison import compare
    from atomml.workflows.predicting.serving import serve
    from atomml.workflows.predicting.single_point import predict
    from atomml.workflows.properties.property_evaluation import evaluate_property
    from atomml.workflows.properties.property_prediction import predict_property
    from atomml.workflows.properties.property_study import study_property
    from atomml.workflows.properties.property_training import train_property
    from atomml.workflows.relaxing.relaxation import relax
    from atomml.workflows.relaxing.relaxation_batched import relax_batched
    from atomml.workflows.screens.screening import screen
    from atomml.workflows.trainings.fine_tuning import finetune
    from atomml.workflows.trainings.training import train

OF_ONE_STRUCTURE = (
    *("predict", "relax", "md", "eos", "elastic", "phonons", "qha", "strain", "surface"),
    *("vacancy", "defect", "formation", "diffusion"),
)
"""Workflows that take one structure and a model: what ``screen`` and ``compare`` repeat."""

__all__ = [
    "compare",
    "defect",
    "dft_energy",
    "dft_label",
    "dft_optimize",
    "diffusion",
    "elastic",
    "eos",
    "evaluate",
    "evaluate_functional",
    "evaluate_hamiltonian",
    "evaluate_property",
    "finetune",
    "formation",
    "import_data",
    "import_hamiltonians",
    "label_data",
    "learn",
    "ligand_strain",
    "md",
    "neb",
    "phonons",
    "predict",
    "predict_hamiltonian",
    "predict_property",
    "qha",
    "rdf",
    "relax",
    "relax_batched",
    "report_data",
    "sample_geometries",
    "scf_hamiltonian",
    "screen",
    "serve",
    "split_data",
    "strain",
    "study_property",
    "surface",
    "survey_vacancies",
    "train",
    "train_functional",
    "train_hamiltonian",
    "train_property",
    "train_site_regressor",
    "vacancy",
    "vdos",
]

_HOME = {
    "compare": "predicting.comparison",
    "defect": "defects.point_defects",
    "dft_energy": "electronic.dft_energy",
    "dft_label": "electronic.dft_label",
    "dft_optimize": "electronic.dft_energy",
    "diffusion": "dynamics.diffusivity",
    "elastic": "crystals.elasticity",
    "eos": "crystals.equation_of_state",
    "evaluate": "evaluations.evaluation",
    "evaluate_functional": "electronic.functional_evaluation",
    "evaluate_hamiltonian": "electronic.hamiltonian_evaluation",
    "evaluate_property": "properties.property_evaluation",
    "finetune": "trainings.fine_tuning",
    "formation": "crystals.formation_energy",
    "import_data": "datasets.data_import",
    "import_hamiltonians": "electronic.hamiltonian_import",
    "label_data": "datasets.data_label",
    "learn": "active.learning",
    "ligand_strain": "ligands.pose_strain",
    "md": "dynamics.molecular_dynamics",
    "neb": "barriers.nudged_band",
    "phonons": "crystals.lattice_dynamics",
    "predict": "predicting.single_point",
    "predict_hamiltonian": "electronic.hamiltonian_prediction",
    "predict_property": "properties.property_prediction",
    "qha": "crystals.quasi_harmonic",
    "rdf": "dynamics.trajectory_analysis",
    "relax": "relaxing.relaxation",
    "relax_batched": "relaxing.relaxation_batched",
    "report_data": "datasets.data_report",
    "sample_geometries": "electronic.hamiltonian_sampling",
    "scf_hamiltonian": "electronic.hamiltonian_scf",
    "screen": "screens.screening",
    "serve": "predicting.serving",
    "split_data": "datasets.data_split",
    "strain": "crystals.straining",
    "study_property": "properties.property_study",
    "surface": "crystals.surfaces",
    "survey_vacancies": "defects.vacancy_survey",
    "train": "trainings.training",
    "train_functional": "electronic.functional_training",
    "train_hamiltonian": "electronic.hamiltonian_training",
    "train_property": "properties.property_training",
    "train_site_regressor": "defects.site_regression_training",
    "vacancy": "defects.vacancies",
    "vdos": "dynamics.trajectory_analysis",
}


def __getattr__(name: str) -> Any:
    """Load a workflow at first use; listing the commands must not import ase or torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'atomml.workflows' has no attribute {name!r}")
    return getattr(import_module(f"atomml.workflows.{_HOME[name]}"), name)
