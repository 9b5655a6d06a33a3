"""Train a regressor of vacancy formation energies on features of sites, and say honestly how wrong it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.config import build_options
from atomml.files import write_table
from atomml.options import option
from atomml.result import Result, quantity
from atomml.run import RunFolder
from atomml.workflows.defects.site_card import site_card
from atomml.workflows.defects.site_errors import (
    from_composition,
    groups_of,
    half_width,
    interval_over_groups,
    out_of_fold,
)
from atomml.workflows.defects.site_labels import TrainingSites, labelled_sites
from atomml.workflows.inputs import (
    DEFAULT_MODEL,
    GivenModel,
    all_structures,
    check_covered,
    given_model,
    input_record,
)
from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from atomml.potentials.site_regressor import SiteFit, SiteRegressor

    Array = NDArray[np.float64]

__all__ = ["SiteRegressionOptions", "SiteRegressionResult", "train_site_regressor"]


@dataclass(frozen=True)
class SiteRegressionOptions:
    """Options of ``property vacancies-train``."""

    label: str = option("vacancy_formation_energy", "array of the structures that holds the labels, eV")
    folds: int = option(10, "parts that the elements, and the crystals, are left out in", minimum=2)
    most_anchors: int = option(
        1500, "sites that the fit is centred on; more cost memory and time", minimum=2, maximum=5000
    )
    symprec: float = option(0.01, "how far atoms may be off their symmetric sites", unit="Å", above=0)
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(kw_only=True)
class SiteRegressionResult(Result):
    """What ``train_site_regressor`` returns; every error is of sites that the fit had not seen.

    Attributes:
        model: The checkpoint.
        n_sites: Sites with a label, one for each that symmetry tells apart.
        n_crystals: Crystals that they are of.
        n_elements: Elements of the sites.
        mae_new_element: Mean absolute error where all sites of the element were left out, eV; as a neighbour
            of other sites it may still have been seen.
        mae_new_element_low: Of its 95% bootstrap interval over elements, eV.
        mae_new_element_high: Of the same, eV.
        mae_new_crystal: Where the crystal's composition was left out, eV.
        mae_new_crystal_low: Of its interval over compositions, eV.
        mae_new_crystal_high: Of the same, eV.
        mae_new_site: Where single sites were left out at random, and others of their crystal were not, eV.
        mae_new_site_low: Of its interval over sites, eV.
        mae_new_site_high: Of the same, eV.
        mae_of_mean: Of the mean of the other elements' labels, eV: what any regressor has to beat.
        mae_composition_new_element: Of the same fit to the site's element and the shares of elements alone,
            without any structure, elements left out, eV.
        mae_composition_new_crystal: The same, compositions left out, eV.
        mae_composition_new_site: The same, sites left out at random, eV.
        r_new_element: Correlation of predicted and labelled, elements left out.
        r_new_crystal: The same, compositions left out.
        r_new_site: The same, sites left out at random.
        interval_new_element: Half width that held 90% where the element was new, eV.
        interval_new_crystal: The same where the crystal was new, eV.
        interval_new_site: The same where the site was, eV.
        length: Of the kernel, in spreads of a feature.
        ridge: Of the fit.
    """

    model: str = ""
    n_sites: int = 0
    n_crystals: int = 0
    n_elements: int = 0
    mae_new_element: float = quantity("eV", default=0.0)
    mae_new_element_low: float = quantity("eV", default=0.0)
    mae_new_element_high: float = quantity("eV", default=0.0)
    mae_new_crystal: float = quantity("eV", default=0.0)
    mae_new_crystal_low: float = quantity("eV", default=0.0)
    mae_new_crystal_high: float = quantity("eV", default=0.0)
    mae_new_site: float = quantity("eV", default=0.0)
    mae_new_site_low: float = quantity("eV", default=0.0)
    mae_new_site_high: float = quantity("eV", default=0.0)
    mae_of_mean: float = quantity("eV", default=0.0)
    mae_composition_new_element: float = quantity("eV", default=0.0)
    mae_composition_new_crystal: float = quantity("eV", default=0.0)
    mae_composition_new_site: float = quantity("eV", default=0.0)
    r_new_element: float = 0.0
    r_new_crystal: float = 0.0
    r_new_site: float = 0.0
    interval_new_element: float = quantity("eV", default=0.0)
    interval_new_crystal: float = quantity("eV", default=0.0)
    interval_new_site: float = quantity("eV", default=0.0)
    length: float = 0.0
    ridge: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False}, repr=False)


def train_site_regressor(
    structures: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    seed: int | None = None,
    **options: Any,
) -> SiteRegressionResult:
    """Fit a regressor to labels of sites; errors are of elements and of compositions that were left out.

    Args:
        structures: Perfect crystals with an array of labels (NaN where there is none), such as the
            ``sites.extxyz`` that ``survey_vacancies`` writes, or your own calculations.
        model: The model whose features are used: a registered name, a file or a ``Potential``.
        out: Run folder, where ``model.safetensors`` lies; None leaves nothing behind.
        overwrite: Replace a folder of an earlier run.
        dtype: Precision of the model.
        device: Device of the model.
        seed: Recorded; nothing here is random.
        **options: Fields of :class:`SiteRegressionOptions`.

    Raises:
        InputError: A structure or option that is wrong, or too few labels.
        ModelError: A model without features.
    """
    started = time.perf_counter()
    chosen = build_options(SiteRegressionOptions, options)
    used = given_model(model, dtype=dtype, device=device)
    given = all_structures(structures, " to learn from")
    for one in given:
        check_covered(one, used, lambda _: None, chosen.allow_charge_mismatch)
    sites = labelled_sites(given, used, chosen.label, chosen.symprec)
    sources = [structures] if isinstance(structures, str | Path) else structures
    names = [str(source) if isinstance(source, str | Path) else "structure" for source in sources]
    with open_with_options(
        out,
        "property vacancies-train",
        chosen,
        overwrite=overwrite,
        structures=names,
        **used.config(),
        dtype=dtype,
        device=device,
        seed=seed,
    ) as run:
        inputs = [input_record(path) for path in dict.fromkeys(one.path for one in given)]
        result = _train(run, sites, used, chosen, inputs)
        seconds = time.perf_counter() - started
        finish_run(run, result, model=used.record(), inputs=inputs, seconds=seconds)
        return result


def _train(
    run: RunFolder,
    sites: TrainingSites,
    model: GivenModel,
    options: SiteRegressionOptions,
    inputs: list[dict[str, Any]],
) -> SiteRegressionResult:
    """Errors of what was left out, the fit to all, the checkpoint with its card, the table."""
    from atomml.checkpoint import save_model
    from atomml.potentials.site_regressor import fitted_to

    found: dict[str, Array] = {}
    guessed: dict[str, Array] = {}
    groups, plain = groups_of(sites), from_composition(sites)
    for name, group in groups.items():
        found[name] = out_of_fold(sites, group, options.folds, options.most_anchors)
        guessed[name] = out_of_fold(plain, group, options.folds, options.most_anchors)
        run.event("folds", left_out=name.removeprefix("new_"))
    result = _scores(sites, groups, found, guessed)
    fit = fitted_to(sites.features, sites.labels, sites.crystals, options.most_anchors)
    result.length, result.ridge = fit.smoother.length, fit.smoother.ridge
    path = run.file("model.safetensors")
    card = site_card(result, options, inputs, model.record())
    save_model(_regressor(fit, sites, result, model, options), path, {"card": card})
    result.model = path.name
    result.rows = [
        name | {"label_eV": sites.labels[n]} | {f"{key}_eV": values[n] for key, values in found.items()}
        for n, name in enumerate(sites.names)
    ]
    write_table(run.file("predictions.csv"), result.rows)
    _warn(run, result)
    return result


def _warn(run: RunFolder, result: SiteRegressionResult) -> None:
    if result.mae_new_element >= result.mae_of_mean:
        run.warn(
            f"At sites of an element that it has not seen, the regressor errs by "
            f"{result.mae_new_element:.2f} eV, and the mean of the others by {result.mae_of_mean:.2f} eV: it "
            "says nothing of new elements."
        )
    if result.mae_new_crystal >= result.mae_composition_new_crystal:
        run.warn(
            f"In crystals that it has not seen, the regressor errs by {result.mae_new_crystal:.2f} eV, and a "
            f"fit to composition and element alone by {result.mae_composition_new_crystal:.2f} eV: the "
            "features say nothing more."
        )


def _scores(
    sites: TrainingSites,
    groups: Mapping[str, NDArray[Any]],
    found: Mapping[str, Array],
    guessed: Mapping[str, Array],
) -> SiteRegressionResult:
    labels = sites.labels
    others = np.array([labels[sites.elements != element].mean() for element in sites.elements])
    result = SiteRegressionResult(
        n_sites=len(labels),
        n_crystals=len(set(sites.crystals.tolist())),
        n_elements=len(set(sites.elements.tolist())),
        mae_of_mean=float(np.abs(others - labels).mean()),
    )
    for name, group in groups.items():
        error = np.abs(found[name] - labels)
        low, high = interval_over_groups(error, group)
        setattr(result, f"mae_{name}", float(error.mean()))
        setattr(result, f"mae_{name}_low", low)
        setattr(result, f"mae_{name}_high", high)
        setattr(result, f"mae_composition_{name}", float(np.abs(guessed[name] - labels).mean()))
        setattr(result, f"r_{name}", float(np.corrcoef(found[name], labels)[0, 1]))
        setattr(result, f"interval_{name}", half_width(error))
    return result


def _regressor(
    fit: SiteFit,
    sites: TrainingSites,
    result: SiteRegressionResult,
    model: GivenModel,
    options: SiteRegressionOptions,
) -> SiteRegressor:
    """Fitted to all sites."""
    from atomml.base_model import ModelInfo
    from atomml.potentials.site_regressor import SiteRegressor

    record = model.record()
    assert model.potential is not None
    info = ModelInfo(
        name="vacancies-of-sites",
        family="site-regressor",
        cutoff=model.potential.info.cutoff,
        elements=tuple(sorted(set(sites.elements.tolist()))),
        kind="property",
        properties=(options.label,),
        training_data=f"{result.n_sites} sites of {result.n_crystals} compositions",
    )
    return SiteRegressor.fitted(
        fit,
        info,
        target=options.label,
        unit="eV",
        potential={"name": str(record["name"]), "sha256": str(record["sha256"])},
        known=result.interval_new_crystal,
        new=result.interval_new_element,
        reach=_reach((sites.features - fit.centre) / fit.scale, fit.anchors, sites.crystals),
    )


def _reach(z: Array, anchors: Array, crystals: NDArray[np.str_]) -> float:
    """The distance that 95% of the sites keep from the nearest anchor of another composition."""
    from atomml.potentials.site_regressor.fitting import nearest

    owner = {row.tobytes(): name for row, name in zip(z, crystals, strict=True)}
    of_anchor = np.array([owner[row.tobytes()] for row in anchors])
    found = np.full(len(z), np.inf)
    for name in np.unique(crystals):
        mine, others = crystals == name, of_anchor != name
        if others.any():
            found[mine] = nearest(z[mine], anchors[others])
    return float(np.quantile(found, 0.95))
