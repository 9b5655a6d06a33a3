"""Train a regressor of vacancy formation energies on features of sites, and say honestly how wrong it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.config import build_options
from atomml.errors import FileFormatError, StructureError
from atomml.files import write_table
from atomml.options import option
from atomml.result import Result, quantity
from atomml.run import RunFolder
from atomml.workflows.inputs import (
    DEFAULT_MODEL,
    GivenModel,
    GivenStructure,
    all_structures,
    check_covered,
    given_model,
    input_record,
)
from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from atomml.potentials.site_regressor import SiteRegressor

    Array = NDArray[np.float64]

__all__ = ["SiteRegressionOptions", "SiteRegressionResult", "TrainingSites", "train_site_regressor"]

_NOMINAL = 0.9
_FEWEST = 8
_SAME = 1e-3  # eV, within which equivalent atoms have one label


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
        mae_of_mean: Of the mean of the other elements' labels, eV: what any regressor has to beat.
        r_new_element: Correlation of predicted and labelled, elements left out.
        r_new_crystal: The same, compositions left out.
        interval_new_element: Half width that held 90% where the element was new, eV.
        interval_new_crystal: The same where the crystal was new, eV.
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
    mae_of_mean: float = quantity("eV", default=0.0)
    r_new_element: float = 0.0
    r_new_crystal: float = 0.0
    interval_new_element: float = quantity("eV", default=0.0)
    interval_new_crystal: float = quantity("eV", default=0.0)
    length: float = 0.0
    ridge: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False}, repr=False)


@dataclass
class TrainingSites:
    """Labelled sites, ``(n, ...)`` each.

    Attributes:
        features: ``(n, d)``.
        labels: eV.
        elements: Atomic numbers.
        crystals: Reduced formula of the crystal.
        names: File and frame, site and atom, for the table.
    """

    features: Array
    labels: Array
    elements: NDArray[np.int64]
    crystals: NDArray[np.str_]
    names: list[dict[str, Any]]


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
    sites = _labelled_sites(given, used, chosen)
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
        result = _train(run, sites, used, chosen)
        result.folder = run.path if run.kept else None
        inputs = [input_record(path) for path in dict.fromkeys(one.path for one in given)]
        seconds = time.perf_counter() - started
        finish_run(run, result, model=used.record(), inputs=inputs, seconds=seconds)
        return result


def _labelled_sites(
    given: list[GivenStructure], model: GivenModel, options: SiteRegressionOptions
) -> TrainingSites:
    """One site of each orbit that has a label.

    Raises:
        FileFormatError: Labels of another shape, or too few.
        StructureError: Equivalent atoms with different labels.
    """
    from atomml.data.symmetry import unique_sites
    from atomml.workflows.crystals.phase_set import reduced_formula
    from atomml.workflows.defects.site_regression import site_features

    features, labels, elements, crystals, names = [], [], [], [], []
    labelled = [one for one in given if options.label in one.atoms.arrays]
    for one, found in zip(labelled, site_features([one.atoms for one in labelled], model), strict=True):
        values = _values(one, options.label)
        for site in unique_sites(one.atoms, options.symprec):
            known = [atom for atom in site.atoms if np.isfinite(values[atom])]
            if not known:
                continue
            _check_alike(one, values, known, site.label)
            features.append(found[known[0]])
            labels.append(values[known[0]])
            elements.append(int(one.atoms.numbers[known[0]]))
            crystals.append(reduced_formula(one.atoms))
            where = {"input": one.label, "formula": crystals[-1], "site": site.label, "atom": known[0]}
            names.append(where | {"element": site.element})
    if len(labels) < _FEWEST or len(set(elements)) < 2:
        raise FileFormatError(
            f"There are {len(labels)} sites of {len(set(elements))} elements with a number in the array "
            f"{options.label}: give {_FEWEST} of two elements at least (--label names the array)."
        )
    return TrainingSites(np.array(features), np.array(labels), np.array(elements), np.array(crystals), names)


def _values(one: GivenStructure, label: str) -> Array:
    values = np.asarray(one.atoms.arrays[label])
    if values.shape != (len(one.atoms),) or values.dtype.kind not in "fiu":
        raise FileFormatError(f"{one.label}: {label} has shape {values.shape}: give a number for each atom.")
    return values.astype(np.float64)


def _check_alike(one: GivenStructure, values: Array, atoms: list[int], site: str) -> None:
    apart = np.abs(values[atoms] - values[atoms[0]])
    if apart.max() > _SAME:
        raise StructureError(
            f"{one.label}: atoms {atoms[0]} and {atoms[int(apart.argmax())]} are equivalent ({site}), and "
            f"their labels are {apart.max():.3g} eV apart: mend them, or lower --symprec."
        )


def _train(
    run: RunFolder, sites: TrainingSites, model: GivenModel, options: SiteRegressionOptions
) -> SiteRegressionResult:
    from atomml.checkpoint import save_model

    by_element = out_of_fold(sites, sites.elements, options)
    run.event("folds", left_out="elements")
    by_crystal = out_of_fold(sites, sites.crystals, options)
    run.event("folds", left_out="crystals")
    result = _scores(sites, by_element, by_crystal)
    regressor = _final(sites, result, model, options)
    result.length, result.ridge = regressor.config.smoother.length, regressor.config.smoother.ridge
    path = run.file("model.safetensors")
    save_model(regressor, path, {"scores": result.results()})
    result.model = path.name
    result.rows = [
        name
        | {
            "label_eV": sites.labels[n],
            "new_element_eV": by_element[n],
            "new_crystal_eV": by_crystal[n],
        }
        for n, name in enumerate(sites.names)
    ]
    write_table(run.file("predictions.csv"), result.rows)
    if result.mae_new_element >= result.mae_of_mean:
        run.warn(
            f"At sites of an element that it has not seen, the regressor errs by "
            f"{result.mae_new_element:.2f} eV, and the mean of the others by {result.mae_of_mean:.2f} eV: it "
            "says nothing of new elements."
        )
    return result


def out_of_fold(sites: TrainingSites, groups: NDArray[Any], options: SiteRegressionOptions) -> Array:
    """Predictions ``(n,)`` of sites whose group was left out of the fit and of the choice of its smoothness.

    Groups are dealt to the folds by size, the largest first, each to the smallest fold. Features
    are standardised, and length and ridge chosen, by what is left.
    """
    from atomml.potentials.site_regressor import Fit, anchors_of, choose_smoother
    from atomml.potentials.site_regressor.fitting import kernel, standardised

    found = np.full(len(sites.labels), np.nan)
    for left in _folds(groups, options.folds):
        kept = ~left
        z, centre, scale = standardised(sites.features[kept])
        anchors = z[anchors_of(z, options.most_anchors)]
        labels = sites.labels[kept]
        chosen = choose_smoother(z, anchors, labels, groups[kept])
        weights = Fit(z, anchors, chosen.length).coefficients(labels, chosen.ridge)
        new = (sites.features[left] - centre) / scale
        found[left] = kernel(new, anchors, chosen.length) @ weights
    return found


def _folds(groups: NDArray[Any], count: int) -> list[NDArray[np.bool_]]:
    names, sizes = np.unique(groups, return_counts=True)
    parts: list[list[Any]] = [[] for _ in range(min(count, len(names)))]
    filled = [0] * len(parts)
    for n in np.argsort(-sizes, kind="stable"):
        smallest = int(np.argmin(filled))
        parts[smallest].append(names[n])
        filled[smallest] += int(sizes[n])
    return [np.isin(groups, part) for part in parts]


def _scores(sites: TrainingSites, by_element: Array, by_crystal: Array) -> SiteRegressionResult:
    labels = sites.labels
    others = np.array([labels[sites.elements != element].mean() for element in sites.elements])
    result = SiteRegressionResult(
        n_sites=len(labels),
        n_crystals=len(set(sites.crystals.tolist())),
        n_elements=len(set(sites.elements.tolist())),
        mae_of_mean=float(np.abs(others - labels).mean()),
    )
    for name, found, groups in (
        ("new_element", by_element, sites.elements),
        ("new_crystal", by_crystal, sites.crystals),
    ):
        error = np.abs(found - labels)
        low, high = _interval(error, groups)
        setattr(result, f"mae_{name}", float(error.mean()))
        setattr(result, f"mae_{name}_low", low)
        setattr(result, f"mae_{name}_high", high)
        setattr(result, f"r_{name}", float(np.corrcoef(found, labels)[0, 1]))
        setattr(result, f"interval_{name}", _half_width(error))
    return result


def _interval(error: Array, groups: NDArray[Any]) -> tuple[float, float]:
    """95% bootstrap interval of a mean over whole groups."""
    from atomml.data.bootstrap import Bootstrap, interval

    _, member = np.unique(groups, return_inverse=True)
    means = [w @ error / w.sum(axis=1) for w in Bootstrap(member, 2000).weights()]
    return interval(np.concatenate(means), int(member.max()) + 1)


def _half_width(error: Array) -> float:
    """The split-conformal quantile: what 90% of new errors are meant to stay below."""
    rank = int(np.ceil(_NOMINAL * (len(error) + 1)))
    return float(np.sort(error)[min(rank, len(error)) - 1])


def _final(
    sites: TrainingSites, result: SiteRegressionResult, model: GivenModel, options: SiteRegressionOptions
) -> SiteRegressor:
    """Fitted to all sites."""
    from atomml.base_model import ModelInfo
    from atomml.potentials.site_regressor import SiteRegressor, anchors_of, choose_smoother
    from atomml.potentials.site_regressor.fitting import standardised

    z, _, _ = standardised(sites.features)
    rows = anchors_of(z, options.most_anchors)
    chosen = choose_smoother(z, z[rows], sites.labels, sites.crystals)
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
        sites.features,
        sites.labels,
        chosen,
        options.most_anchors,
        info,
        target=options.label,
        unit="eV",
        potential={"name": str(record["name"]), "sha256": str(record["sha256"])},
        known=result.interval_new_crystal,
        new=result.interval_new_element,
        reach=_reach(z, rows, sites.crystals),
    )


def _reach(z: Array, rows: NDArray[np.int64], crystals: NDArray[np.str_]) -> float:
    """The distance that 95% of the sites keep from the nearest anchor of another composition."""
    from atomml.potentials.site_regressor.fitting import nearest

    found = np.full(len(z), np.inf)
    for name in np.unique(crystals):
        mine, others = crystals == name, rows[crystals[rows] != name]
        if len(others):
            found[mine] = nearest(z[mine], z[others])
    return float(np.quantile(found, 0.95))
