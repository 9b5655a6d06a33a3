"""Point defects: the options and results that vacancies and substitutions share, and ``defect``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomml.errors import OptionError
from atomml.options import option
from atomml.result import Result, quantity
from atomml.workflows.inputs import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms

    from atomml.data.symmetry import UniqueSite
    from atomml.workflows.defects.defect_cells import PointDefect

__all__ = [
    "MAY_CHANGE",
    "DefectOptions",
    "DefectResult",
    "PointDefectOptions",
    "PointDefectResult",
    "defect",
    "evaluations",
]

MAY_CHANGE = ("mu", "temperature", "max_temperature", "temperature_step")
"""What ``--resume`` may ask differently: it comes after the relaxations."""

_RELAXATION = 30


@dataclass(frozen=True)
class PointDefectOptions:
    """Options of ``vacancy`` and ``defect``."""

    min_length: float = option(
        10.0, "least distance between opposite faces of the supercell", unit="Å", above=0
    )
    converge: tuple[float, ...] = option(
        (), "further supercells, to see the convergence with size", unit="Å", above=0, metavar="X,Y,..."
    )
    max_atoms: int = option(300, "most atoms of a supercell", minimum=1)
    mu: tuple[str, ...] = option(
        (),
        "chemical potentials: auto (own bulk of an element, else rich), rich, poor, or a number in eV",
        metavar="EL=VALUE,...",
    )
    phases: tuple[str, ...] = option(
        (), "phases that limit the potentials: files, folders or patterns", metavar="FILE,..."
    )
    relax: str = option(
        "ions", "relax the ions around the defect, at fixed cell, or nothing", choices=("ions", "none")
    )
    temperature: float = option(300.0, "temperature of the concentration in the table", unit="K", above=0)
    max_temperature: float = option(1500.0, "highest temperature of concentration.csv", unit="K", above=0)
    temperature_step: float = option(50.0, "step of its temperatures", unit="K", above=0)
    symprec: float = option(0.01, "how far atoms may be off their symmetric sites", unit="Å", above=0)
    start: str = option(
        "relaxed",
        "relax positions and cell of the crystal first, or take it as it is given",
        choices=("relaxed", "given"),
    )
    fmax: float = option(0.01, "largest force at which a relaxation is converged", unit="eV/Å", above=0)
    smax: float = option(0.05, "largest stress at which one with its cell is", unit="GPa", above=0)
    steps: int = option(500, "most steps of each relaxation", minimum=0)
    dtype: str = option("float64", "precision of the model", choices=("float32", "float64"))
    allow_charge_mismatch: bool = option(False, "go on with a charge or spin that the model cannot see")


@dataclass(frozen=True)
class DefectOptions(PointDefectOptions):
    """Options of ``defect``."""

    substitute: tuple[str, ...] = option(
        (), "what replaces what: Li:Na puts sodium on lithium's sites", metavar="OLD:NEW,..."
    )
    antisites: bool = option(False, "each element of the crystal on the sites of each other")


@dataclass(kw_only=True)
class PointDefectResult(Result):
    """What ``vacancy`` and ``defect`` return; single numbers are those of the lowest defect.

    Attributes:
        defect: Name of the defect with the lowest formation energy.
        site: Its element, multiplicity and Wyckoff letter.
        relaxation_energy: What relaxing the ions gained, eV; None where nothing was relaxed.
        max_displacement: Farthest that an ion moved, Å.
        concentration: exp(-E/kT) at ``temperature``: the part of the sites with the defect.
        temperature: K.
        size_change: Formation energy in the largest supercell less that in the next, eV; None for one size.
        formula: Reduced, of the crystal.
        space_group: Of the crystal.
        n_defects: Defects that symmetry tells apart.
        n_atoms: Of the largest supercell without a defect.
        length: Smallest distance between its opposite faces, Å.
        convention: What the chemical potentials are.
        chemical_potentials: Element, value, convention and both limits (eV).
        defects: A row for each defect in the largest supercell.
        rows: The same, for a table.
        all_rows: A row for each defect and supercell.
        atoms: The crystal.
        structures: By the atoms of each supercell: it without a defect, and with each, relaxed.
    """

    defect: str = ""
    site: str = ""
    relaxation_energy: float | None = quantity("eV", default=None)
    max_displacement: float | None = quantity("Å", default=None)
    concentration: float | None = None
    temperature: float = quantity("K", default=0.0)
    size_change: float | None = quantity("eV", default=None)
    formula: str = ""
    space_group: str = ""
    n_defects: int = 0
    n_atoms: int = 0
    length: float = quantity("Å", default=0.0)
    convention: str = ""
    chemical_potentials: list[dict[str, Any]] = field(default_factory=list)
    defects: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False})
    all_rows: list[dict[str, Any]] = field(default_factory=list, metadata={"summary": False}, repr=False)
    atoms: Atoms | None = field(default=None, metadata={"summary": False})
    structures: dict[int, list[Atoms]] = field(default_factory=dict, metadata={"summary": False}, repr=False)

    def take(self, unrelaxed: float, relaxed: float | None) -> None:
        """Take the formation energies (eV) of the lowest defect; ``relaxed`` is None where nothing was."""
        raise NotImplementedError


@dataclass(kw_only=True)
class DefectResult(PointDefectResult):
    """What ``defect`` returns.

    Attributes:
        formation_energy: Of the lowest defect, relaxed if that was asked for, eV.
        unrelaxed_formation_energy: The same before the ions relaxed, eV.
    """

    formation_energy: float = quantity("eV", default=0.0)
    unrelaxed_formation_energy: float = quantity("eV", default=0.0)

    def take(self, unrelaxed: float, relaxed: float | None) -> None:
        """As :meth:`PointDefectResult.take`."""
        self.formation_energy = unrelaxed if relaxed is None else relaxed
        self.unrelaxed_formation_energy = unrelaxed


def defect(
    structure: Any,
    model: Any = DEFAULT_MODEL,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    seed: int | None = None,
    options: DefectOptions | None = None,
    **overrides: Any,
) -> DefectResult:
    """Formation energies of substituted atoms and antisites, on every site that symmetry tells apart.

    ``E_f = E(defect) - E(bulk) - sum_i dn_i mu_i``, with ``dn_i`` atoms of element i more than in the
    bulk: -1 of what is replaced, +1 of what replaces it. The cell stays that of the bulk.

    Args:
        structure: ``ase.Atoms``, a pymatgen structure, or a file with one frame.
        model: Registered name, file, ``Potential`` or ASE calculator.
        out: Run folder; None leaves nothing behind.
        resume: Go on in a folder that was interrupted.
        overwrite: Replace a folder of an earlier run.
        device: Device of a model that is loaded here.
        seed: Recorded; nothing here is random.
        options: All options at once.
        **overrides: Fields of :class:`DefectOptions`, over those of ``options``.

    Raises:
        InputError: A structure, model or option that is wrong.
        RunFailedError: The model gave a number that is not finite.
    """
    from atomml.workflows.crystals.crystal import run_on_crystal
    from atomml.workflows.defects.defect_measurement import measure_defects
    from atomml.workflows.run_record import RunRequest

    return run_on_crystal(
        "defect",
        lambda run: measure_defects(run, asked_defects, DefectResult()),
        structure,
        model,
        options or DefectOptions,
        overrides,
        RunRequest(out, resume, overwrite, device, seed),
        may_change=MAY_CHANGE,
    )


def asked_defects(sites: list[UniqueSite], options: DefectOptions, label: str) -> list[PointDefect]:
    """The defects that ``--substitute`` and ``--antisites`` name.

    Raises:
        OptionError: None is named, or a pair has another form, or an element that there is not.
    """
    from ase.data import atomic_numbers

    from atomml.workflows.defects.defect_cells import substitutions

    pairs = []
    for text in options.substitute:
        removed, colon, added = (part.strip() for part in text.partition(":"))
        if not colon or removed not in atomic_numbers or added not in atomic_numbers or removed == added:
            raise OptionError(f"--substitute {text}: write it as OLD:NEW, two elements, such as Li:Na.")
        pairs.append((removed, added))
    if options.antisites:
        elements = sorted({site.element for site in sites})
        if len(elements) < 2:
            raise OptionError(f"{label} has one element, so it has no antisites: use --substitute.")
        pairs += [(a, b) for a in elements for b in elements if a != b]
    if not pairs:
        raise OptionError("atomml defect needs --substitute OLD:NEW or --antisites.")
    return substitutions(sites, list(dict.fromkeys(pairs)), label)


def evaluations(options: PointDefectOptions, atoms: Atoms) -> int:
    """About how many times the model is asked for a unit cell, for ``--dry-run``.

    Raises:
        OptionError: A supercell has more atoms than allowed.
    """
    import numpy as np

    from atomml.data.symmetry import unique_sites
    from atomml.workflows.defects.defect_cells import checked_matrix

    sites = unique_sites(atoms, options.symprec)
    wanted = getattr(options, "element", ())
    if isinstance(options, DefectOptions):
        n_defects = len(asked_defects(sites, options, str(atoms.symbols)))
    else:
        n_defects = sum(not wanted or site.element in wanted for site in sites)
    lengths = {options.min_length, *options.converge}
    matrices = [
        checked_matrix(atoms, length, options.symprec, options.max_atoms, str(atoms.symbols))
        for length in lengths
    ]
    cells = {round(abs(np.linalg.det(matrix))) for matrix in matrices}
    at_each = _RELAXATION if options.relax == "ions" else 1
    first = _RELAXATION if options.start == "relaxed" else 0
    return first + sum(cells) * (1 + n_defects * at_each)
