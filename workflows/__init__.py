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
    from atomml.workflows.lattice_dynamics import phonons
    from atomml.workflows.molecular_dynamics import md
    from atomml.workflows.nudged_band import neb
    from atomml.workflows.relaxation import relax
    from atomml.workflows.serving import serve
    from atomml.workflows.single_point import predict
    from atomml.workflows.training import train
    from atomml.workflows.trajectory_analysis import rdf, vdos

__all__ = [
    "compare",
    "diffusion",
    "elastic",
    "eos",
    "evaluate",
    "finetune",
    "import_data",
    "label_data",
    "md",
    "neb",
    "phonons",
    "predict",
    "rdf",
    "relax",
    "report_data",
    "serve",
    "split_data",
    "train",
    "vdos",
]

_HOME = {
    "compare": "comparison",
    "diffusion": "diffusivity",
    "elastic": "elasticity",
    "eos": "equation_of_state",
    "evaluate": "evaluation",
    "report_data": "data_report",
    "finetune": "fine_tuning",
    "import_data": "data_import",
    "label_data": "data_label",
    "split_data": "data_split",
    "md": "molecular_dynamics",
    "neb": "nudged_band",
    "phonons": "lattice_dynamics",
    "predict": "single_point",
    "rdf": "trajectory_analysis",
    "relax": "relaxation",
    "serve": "serving",
    "train": "training",
    "vdos": "trajectory_analysis",
}


def __getattr__(name: str) -> Any:
    """Load a workflow at first use; listing the commands must not import ase or torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'atomml.workflows' has no attribute {name!r}")
    return getattr(import_module(f"atomml.workflows.{_HOME[name]}"), name)
