"""``data report``: is a labelled set what it says it is? Statistics, traps, plots, in a run folder."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.config import build_options
from atomml.data.label_keys import LabelKeys
from atomml.errors import AtomMLError, OptionError
from atomml.files import write_atomic
from atomml.options import option
from atomml.result import Result, quantity
from atomml.run import RunFolder
from atomml.workflows.run_record import finish_run, open_with_options

if TYPE_CHECKING:
    from atomml.data.audit import Audit
    from atomml.data.audit.evidence import Evidence
    from atomml.data.entry import Entry
    from atomml.model import Potential

__all__ = ["DataReportOptions", "DataReportResult", "report_data"]

_PEEKED = 20


@dataclass(frozen=True)
class DataReportOptions(LabelKeys):
    """Options of ``data report``."""

    model: str | None = option(
        None, "a model to compare labels with, such as chgnet-0.3.0; units show even where no pairs are near"
    )
    sample: int = option(
        50_000, "entries whose surroundings are looked at, evenly spaced in a larger set", minimum=10
    )
    device: str = option("auto", "where the model runs: auto, cpu, cuda, cuda:1 ...")


@dataclass(kw_only=True)
class DataReportResult(Result):
    """What ``data report`` returns; ``converged`` is False where an error was found.

    Attributes:
        n_entries: Entries of the set.
        n_atoms: Atoms in all of them.
        n_elements: Different elements.
        n_formulas: Different formulas.
        n_with_energy: Entries with an energy.
        n_with_forces: Entries with forces.
        n_with_stress: Entries with a stress.
        n_errors: Findings that make the set unfit as it is.
        n_warnings: Findings that need a look.
        n_notes: Facts that other programs trip over.
        n_near_pairs: Pairs of near-by structures, along which labels were held against each other.
        n_near_duplicates: Entries with another within about 0.01 Å.
        composition_deviation: Robust deviation of the energy from a linear model of the composition.
        max_force: Largest force on an atom.
        findings: All findings, the worst first, as records.
    """

    n_entries: int = 0
    n_atoms: int = 0
    n_elements: int = 0
    n_formulas: int = 0
    n_with_energy: int = 0
    n_with_forces: int = 0
    n_with_stress: int = 0
    n_errors: int = 0
    n_warnings: int = 0
    n_notes: int = 0
    n_near_pairs: int = 0
    n_near_duplicates: int = 0
    composition_deviation: float | None = quantity("eV/atom", default=None)
    max_force: float | None = quantity("eV/Å", default=None)
    findings: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False})


def report_data(
    paths: str | Path | Sequence[str | Path] | Sequence[Entry],
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> DataReportResult:
    """Audit a set and, with ``out``, write ``findings.csv``, ``summary.json`` and ``report.html``.

    Args:
        paths: Stores and files, one set together; or entries in memory.
        out: Run folder; None leaves nothing behind.
        overwrite: Replace a folder of an earlier run.
        **options: Fields of :class:`DataReportOptions`.

    Raises:
        InputError: A file that cannot be read, a label of a wrong shape, or a wrong option.
    """
    from atomml.data.audit.audit import Audit, judge
    from atomml.data.audit.evidence import gather

    chosen = build_options(DataReportOptions, options)
    model = _model(chosen)
    started = time.perf_counter()
    names, entries, inputs, hidden = _opened(paths, chosen)
    with open_with_options(out, "data report", chosen, overwrite=overwrite, paths=names) as run:
        evidence = gather(entries, chosen.sample)
        evidence = replace(evidence, unread={**evidence.unread, **hidden})
        found = Audit(judge(evidence, model), evidence)
        result = _result(found)
        _say_what_was_sampled(run, evidence)
        _write_tables(run, found)
        record = None if model is None else {"name": model.info.name, "sha256": model.info.sha256 or None}
        seconds = time.perf_counter() - started
        finish_run(run, result, model=record, inputs=inputs, seconds=seconds, findings=result.findings)
    return result


def _model(options: DataReportOptions) -> Potential | None:
    """The model to compare with.

    Raises:
        OptionError: It is not one of ours.
    """
    if options.model is None:
        return None
    from atomml.workflows.inputs import given_model

    potential = given_model(options.model, device=options.device).potential
    if potential is None:
        raise OptionError(f"--model {options.model}: give one of the models of 'atomml models list'.")
    return potential


def _opened(
    paths: Any, options: DataReportOptions
) -> tuple[list[str], Sequence[Entry], list[dict[str, Any]], dict[tuple[str, str], int]]:
    """Names, entries, what the summary says of the files, and labels that were passed over in them."""
    from atomml.data.dataset import open_dataset
    from atomml.data.entry import Entry

    given: list[Any] = [paths] if isinstance(paths, str | Path) else list(paths)
    if given and isinstance(given[0], Entry):
        return [], given, [{"path": None, "sha256": None}], {}
    names = [str(path) for path in given]
    keys = LabelKeys.of(options)
    dataset = open_dataset(names, keys, unlabelled=True)
    hidden: dict[tuple[str, str], int] = {}
    for name in names:
        hidden.update(_passed_over(name, dataset))
    return names, dataset, list(dataset.sources), hidden


def _passed_over(name: str, dataset: Sequence[Entry]) -> dict[tuple[str, str], int]:
    """Arrays of a file's first frames that look like forces, where its entries have none."""
    from itertools import islice

    from atomml.data.audit.evidence import looks_like_forces
    from atomml.data.structures import read_structures

    entry = next((one for one in islice(dataset, 1000) if one.source == name), None)
    if entry is None or entry.labels.forces is not None or not Path(name).is_file():
        return {}
    counts: dict[tuple[str, str], int] = {}
    with suppress(AtomMLError):  # a format that only the reader of calculations knows
        for frame in islice(read_structures(name, validate=False), _PEEKED):
            for key, values in frame.atoms.arrays.items():
                if looks_like_forces(key, values):
                    counts["forces", key] = counts.get(("forces", key), 0) + 1
    return counts


def _result(found: Audit) -> DataReportResult:
    """The numbers of the summary."""
    import numpy as np

    from atomml.data.audit.composition import fit_composition
    from atomml.data.audit.duplicates import find_twins

    evidence = found.evidence
    composition = fit_composition(evidence)
    forces = evidence["max_force"]
    counts = dict.fromkeys(("error", "warning", "note"), 0)
    for finding in found.findings:
        counts[finding.severity] += 1
    return DataReportResult(
        converged=found.passed,
        n_entries=len(evidence),
        n_atoms=int(evidence["n_atoms"].sum()),
        n_elements=len(evidence.elements),
        n_formulas=len(evidence.words["composition"]),
        n_with_energy=int(np.isfinite(evidence["energy"]).sum()),
        n_with_forces=int(evidence["has_forces"].sum()),
        n_with_stress=int(evidence["has_stress"].sum()),
        n_errors=counts["error"],
        n_warnings=counts["warning"],
        n_notes=counts["note"],
        n_near_pairs=len(evidence.pairs),
        n_near_duplicates=find_twins(evidence).n_near,
        composition_deviation=None if composition is None else composition.deviation,
        max_force=float(np.nanmax(forces)) if np.isfinite(forces).any() else None,
        findings=[_record(finding, evidence) for finding in found.findings],
    )


def _record(finding: Any, evidence: Evidence) -> dict[str, Any]:
    return {
        "severity": finding.severity,
        "trap": finding.trap,
        "n_entries": finding.n_entries,
        "sentence": finding.sentence,
        "advice": finding.advice,
        "first_entries": "; ".join(evidence.named(index) for index in finding.entries[:5]),
    }


def _say_what_was_sampled(run: RunFolder, evidence: Evidence) -> None:
    if evidence.looked_at < len(evidence):
        run.warn(
            f"Surroundings were looked at in {evidence.looked_at} of {len(evidence)} entries, evenly spaced: "
            "overlaps, duplicates and outliers among the others go unseen; --sample takes more."
        )


def _write_tables(run: RunFolder, found: Audit) -> None:
    """``findings.csv``, and what the plots of the report are drawn from."""
    from atomml.data.audit.tables import element_rows, entry_rows, formula_rows, pair_rows

    evidence = found.evidence
    findings = [_record(finding, evidence) for finding in found.findings]
    columns = list(_COLUMNS)
    _write_csv(run, "findings.csv", columns, [[record[name] for name in columns] for record in findings])
    for name, table in (
        ("elements.csv", element_rows(evidence)),
        ("entries.csv", entry_rows(evidence)),
        ("formulas.csv", formula_rows(evidence)),
        ("pairs.csv", pair_rows(evidence)),
    ):
        if len(table) > 1:
            _write_csv(run, name, table[0], table[1:])


_COLUMNS = ("severity", "trap", "n_entries", "sentence", "advice", "first_entries")


def _write_csv(run: RunFolder, name: str, columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomic(run.file(name), text.getvalue())
