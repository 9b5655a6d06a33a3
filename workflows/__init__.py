"""One file per scientific question; each question is also a function of this package."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomml.workflows.comparison import compare
    from atomml.workflows.data_import import import_data
    from atomml.workflows.data_label import label_data
    from atomml.workflows.data_report import report_data
    from atomml.workflows.data_split import split_data
    from atomml.workflows.diffusivity import diffusion
    from atomml.workflows.elasticity import elastic
    from atomml.workflows.equation_of_state import eos
    from atomml.workflows.evaluation import evaluate
    from atomml.workflows.fine_tuning import finetune
    from atomml.workflows.formation_energy import formation
    from atomml.workflows.lattice_dynamics import phonons
    from atomml.workflows.learning import learn
    from atomml.workflows.molecular_dynamics import md
    from atomml.workflows.nudged_band import neb
    from atomml.workflows.point_defects import defect
    from atomml.workflows.pose_strain import ligand_strain
    from atomml.workflows.quasi_harmonic import qha
    from atomml.workflows.relaxation import relax
    from atomml.workflows.relaxation_batched import relax_batched
    from atomml.workflows.screening import screen
    from atomml.workflows.serving import serve
    from atomml.workflows.single_point import predict
    from atomml.workflows.site_regression_training import train_site_regressor
    from atomml.workflows.straining import strain
    from atomml.workflows.surfaces import surface
    from atomml.workflows.training import train
    from atomml.workflows.trajectory_analysis import rdf, vdos
    from atomml.workflows.vacancies import vacancy
    from atomml.workflows.vacancy_survey import survey_vacancies

OF_ONE_STRUCTURE = (
    *("predict", "relax", "md", "eos", "elastic", "phonons", "qha", "strain", "surface"),
    *("vacancy", "defect", "formation", "diffusion"),
)
"""Workflows that take one structure and a model: what ``screen`` and ``compare`` repeat."""

__all__ = [
    "compare",
    "defect",
    "diffusion",
    "elastic",
    "eos",
    "evaluate",
    "finetune",
    "formation",
    "import_data",
    "label_data",
    "learn",
    "ligand_strain",
    "md",
    "neb",
    "phonons",
    "predict",
    "qha",
    "rdf",
    "relax",
    "relax_batched",
    "report_data",
    "screen",
    "serve",
    "split_data",
    "strain",
    "surface",
    "survey_vacancies",
    "train",
    "train_site_regressor",
    "vacancy",
    "vdos",
]

_HOME = {
    "compare": "comparison",
    "defect": "point_defects",
    "diffusion": "diffusivity",
    "elastic": "elasticity",
    "eos": "equation_of_state",
    "evaluate": "evaluation",
    "report_data": "data_report",
    "finetune": "fine_tuning",
    "formation": "formation_energy",
    "import_data": "data_import",
    "label_data": "data_label",
    "learn": "learning",
    "ligand_strain": "pose_strain",
    "split_data": "data_split",
    "md": "molecular_dynamics",
    "neb": "nudged_band",
    "phonons": "lattice_dynamics",
    "predict": "single_point",
    "qha": "quasi_harmonic",
    "rdf": "trajectory_analysis",
    "relax": "relaxation",
    "relax_batched": "relaxation_batched",
    "screen": "screening",
    "serve": "serving",
    "survey_vacancies": "vacancy_survey",
    "strain": "straining",
    "surface": "surfaces",
    "train": "training",
    "train_site_regressor": "site_regression_training",
    "vacancy": "vacancies",
    "vdos": "trajectory_analysis",
}


def __getattr__(name: str) -> Any:
    """Load a workflow at first use; listing the commands must not import ase or torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'atomml.workflows' has no attribute {name!r}")
    return getattr(import_module(f"atomml.workflows.{_HOME[name]}"), name)
