"""Energies of slabs and of oriented bulk cells, and the surface energies and the Wulff shape from them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atomml.data.structures import extxyz_frame
from atomml.errors import OptionError
from atomml.files import write_atomic, write_table
from atomml.run import listening
from atomml.workflows.crystals.crystal import CrystalRun, Limits, relax_options, relaxed_start
from atomml.workflows.crystals.crystal_images import evaluate_images
from atomml.workflows.crystals.slabs import Termination, conventional, planes_of, terminations
from atomml.workflows.crystals.surfaces import SurfaceOptions, SurfaceResult

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["measure"]

_JOULES_PER_M2 = 16.02176634  # in one eV/Å²


class Slab(NamedTuple):
    """A slab of a run: of which termination, the structures, energies in eV, and its relaxation."""

    termination: Termination
    bulk_energy: float
    start: Atoms
    unrelaxed: float
    relaxed: Atoms
    energy: float
    converged: bool

    def surface_energy(self, energy: float) -> float:
        """``(E_slab - n E_bulk) / 2A`` in J/m²."""
        a, b, _ = self.start.cell.array
        area = float(np.linalg.norm(np.cross(a, b)))
        return (energy - len(self.start) * self.bulk_energy) / (2 * area) * _JOULES_PER_M2

    @property
    def thickness(self) -> float:
        """From the lowest to the highest atom, Å."""
        return float(np.ptp(self.start.positions[:, 2]))


def measure(run: CrystalRun) -> SurfaceResult:
    """The whole of a ``surface`` run: relax the bulk, cut, relax the slabs, and write the tables."""
    options: SurfaceOptions = run.options
    if list(options.thickness) != sorted(set(options.thickness)) or not options.thickness:
        raise OptionError("--thickness must grow, such as 10,15,20.")
    atoms, converged = relaxed_start(run)
    crystal = conventional(atoms, options.symprec)
    cuts = [
        cut
        for plane in planes_of(crystal, options.max_index, options.miller)
        for cut in terminations(crystal, plane, options.thickness, options.vacuum, options.symmetrize)
    ]
    for cut in cuts:
        cut.slabs = [slab for slab in cut.slabs if len(slab) <= options.max_atoms]
    slabs = _evaluated(run, cuts)
    if not slabs:
        raise OptionError(
            f"{run.given.label}: none of {len(cuts)} terminations has a whole slab of at most --max-atoms "
            f"{options.max_atoms}: raise that, or lower --thickness."
        )
    rows = [_row(run, cut, [slab for slab in slabs if slab.termination is cut]) for cut in cuts]
    result = SurfaceResult(formula=str(crystal.composition.remove_charges().formula).replace(" ", ""))
    result.bulk_energy_per_atom = slabs[0].bulk_energy
    _wulff(result, crystal, rows)
    _summarise(run, result, rows)
    result.atoms = _bulk(crystal)
    result.slabs = [slab.relaxed for slab in slabs]
    result.converged = converged and all(slab.converged for slab in slabs)
    _write(run, slabs)
    return result


def _bulk(crystal: Any) -> Atoms:
    from ase import Atoms

    return Atoms(
        [site.specie.Z for site in crystal],
        np.array(crystal.cart_coords),
        cell=crystal.lattice.matrix,
        pbc=True,
    )


def _evaluated(run: CrystalRun, cuts: Sequence[Termination]) -> list[Slab]:
    """Energies of all whole slabs, relaxed one after another; those of an earlier run are only read."""
    whole = [cut for cut in cuts if cut.stoichiometric and cut.slabs]
    bulks = evaluate_images(run, [cut.bulk for cut in whole]) if whole else []
    starts = [(cut, slab) for cut in whole for slab in cut.slabs]
    images = evaluate_images(run, [slab for _, slab in starts]) if starts else []
    per_atom = {id(cut): bulk.energy / len(cut.bulk) for cut, bulk in zip(whole, bulks, strict=True)}
    found = []
    for number, ((cut, start), image) in enumerate(zip(starts, images, strict=True), 1):
        relaxed, energy, converged = _relaxed(run, number, start, image.energy)
        found.append(Slab(cut, per_atom[id(cut)], start, image.energy, relaxed, energy, converged))
        run.folder.event("slab", step=number, of=len(starts), surface=cut.name, n_atoms=len(start))
    return found


def _relaxed(run: CrystalRun, number: int, start: Atoms, energy: float) -> tuple[Atoms, float, bool]:
    """The slab relaxed in a folder of its own, its energy, and whether it converged."""
    options: SurfaceOptions = run.options
    if options.relax == "none":
        return start, energy, True
    from atomml.workflows.relaxing.relaxation import relax

    held = start.copy()
    if options.fix_middle:
        from ase.constraints import FixAtoms

        height = held.positions[:, 2]
        third = np.ptp(height) / 3
        held.set_constraint(FixAtoms(mask=abs(height - (height.max() + height.min()) / 2) <= third / 2))
    folder = run.folder.file(f"slabs/{number:03d}") if run.folder.kept else None
    resume = folder is not None and folder.exists()
    with listening(None):  # its steps are not this run's progress
        found = relax(
            held, run.model, out=folder, resume=resume, options=relax_options(run, "none", Limits.of(options))
        )
    if not found.converged:
        run.folder.warn(
            f"Slab {number} did not relax in {options.steps} steps: its largest force is "
            f"{found.max_force:.3g} eV/Å; add --steps."
        )
    return found.atoms, found.energy, found.converged


def _row(run: CrystalRun, cut: Termination, slabs: Sequence[Slab]) -> dict[str, Any]:
    """What the table says of a termination; the energies are those of its thickest slab."""
    row: dict[str, Any] = {
        "surface": cut.name,
        "miller": "".join(cut.name.split(" ")[:-1]),
        "termination": cut.outermost,
        "symmetric": cut.symmetric,
        "polar": cut.polar,
        "stoichiometric": cut.stoichiometric,
        "thickness_A": slabs[-1].thickness if slabs else None,
        "n_atoms": len(slabs[-1].start) if slabs else None,
        "unrelaxed_energy_J_per_m2": None,
        "surface_energy_J_per_m2": None,
        "change_with_thickness_J_per_m2": None,
        "bulk_mismatch_meV_per_atom": None,
        "wulff_area_percent": None,
        "note": _note(cut, slabs),
    }
    if not slabs:
        return row
    energies = [slab.surface_energy(slab.energy) for slab in slabs]
    row["unrelaxed_energy_J_per_m2"] = slabs[-1].surface_energy(slabs[-1].unrelaxed)
    row["surface_energy_J_per_m2"] = energies[-1]
    if len(slabs) > 1:
        row["change_with_thickness_J_per_m2"] = change = energies[-1] - energies[-2]
        sizes = [len(slab.start) for slab in slabs]
        if len(set(sizes)) > 1:
            slope = float(np.polyfit(sizes, [slab.energy for slab in slabs], 1)[0])
            row["bulk_mismatch_meV_per_atom"] = 1000 * (slope - slabs[-1].bulk_energy)
        if abs(change) > run.options.tolerance:
            run.folder.warn(
                f"{cut.name}: the surface energy still changes by {change:.3g} J/m^2 at the last thickness: "
                "add a thicker one to --thickness" + (" (the surface is polar)." if cut.polar else ".")
            )
    if energies[-1] < 0:
        run.folder.warn(
            f"{cut.name}: the surface energy is below 0, so that the bulk would fall apart: it is not the "
            "stable phase of this model, or the slab has changed into something else."
        )
    return row


def _note(cut: Termination, slabs: Sequence[Slab]) -> str:
    if not cut.stoichiometric:
        return "not whole formula units: its energy depends on a chemical potential"
    if not slabs:
        return "more atoms than --max-atoms"
    notes = [] if cut.symmetric else ["mean of two unlike sides"]
    return "; ".join([*notes, "polar: unstable without charge compensation"] if cut.polar else notes)


def _wulff(result: SurfaceResult, crystal: Any, rows: list[dict[str, Any]]) -> None:
    """Areas of the Wulff shape's faces, from the lowest termination of each plane."""
    from pymatgen.analysis.wulff import WulffShape

    lowest: dict[tuple[int, ...], dict[str, Any]] = {}
    for row in rows:
        energy = row["surface_energy_J_per_m2"]
        plane = _plane(row["miller"])
        if energy is not None and (plane not in lowest or energy < lowest[plane]["surface_energy_J_per_m2"]):
            lowest[plane] = row
    planes = {_plane(row["miller"]) for row in rows}
    if (
        set(lowest) != planes
        or len(planes) < 2
        or any(row["surface_energy_J_per_m2"] <= 0 for row in lowest.values())
    ):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape = WulffShape(
            crystal.lattice, list(lowest), [row["surface_energy_J_per_m2"] for row in lowest.values()]
        )
    for plane, share in shape.area_fraction_dict.items():
        lowest[tuple(plane)]["wulff_area_percent"] = 100 * float(share)
    result.mean_surface_energy = float(shape.weighted_surface_energy)
    result.wulff_anisotropy = float(shape.anisotropy)


def _plane(text: str) -> tuple[int, ...]:
    """``(1-10)`` as numbers; indices have one digit."""
    found, sign = [], 1
    for letter in text.strip("()"):
        if letter == "-":
            sign = -1
        else:
            found.append(sign * int(letter))
            sign = 1
    return tuple(found)


def _summarise(run: CrystalRun, result: SurfaceResult, rows: list[dict[str, Any]]) -> None:
    known = [row for row in rows if row["surface_energy_J_per_m2"] is not None]
    known.sort(key=lambda row: float(row["surface_energy_J_per_m2"]))
    unknown = [row for row in rows if row["surface_energy_J_per_m2"] is None]
    result.surfaces = known + unknown
    result.n_surfaces, result.n_without_energy = len(rows), len(unknown)
    result.lowest_surface = str(known[0]["surface"])
    result.lowest_surface_energy = float(known[0]["surface_energy_J_per_m2"])
    polar = [str(row["surface"]) for row in rows if row["polar"]]
    if polar:
        run.folder.warn(
            f"Polar: {', '.join(polar[:8])}; such a surface does not exist without charge compensation, and "
            "its energy does not converge in nature."
        )
    partial = [str(row["surface"]) for row in unknown if not row["stoichiometric"]]
    if partial:
        run.folder.warn(
            f"Not whole formula units: {', '.join(partial[:8])}; their energies depend on a chemical "
            "potential and are left out."
        )
    large = [str(row["surface"]) for row in unknown if row["stoichiometric"]]
    if large:
        run.folder.warn(f"More atoms than --max-atoms: {', '.join(large[:8])}; they are left out.")


def _write(run: CrystalRun, slabs: Sequence[Slab]) -> None:
    """``thickness.csv``, and the thickest slab of each termination as it is relaxed."""
    table, frames = [], []
    for number, slab in enumerate(slabs):
        table.append(
            {
                "surface": slab.termination.name,
                "thickness_A": slab.thickness,
                "n_atoms": len(slab.start),
                "energy_eV": slab.energy,
                "unrelaxed_energy_J_per_m2": slab.surface_energy(slab.unrelaxed),
                "surface_energy_J_per_m2": slab.surface_energy(slab.energy),
                "converged": slab.converged,
            }
        )
        if number + 1 == len(slabs) or slabs[number + 1].termination is not slab.termination:
            frames.append(extxyz_frame(slab.relaxed, {"energy": slab.energy}))
    write_table(run.folder.file("thickness.csv"), table)
    write_atomic(run.folder.file("structures.extxyz"), "".join(frames))
