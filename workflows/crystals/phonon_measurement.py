"""Forces of displaced supercells, and the phonons that phonopy makes of them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomml.data.structures import extxyz_frame
from atomml.errors import MissingExtraError, OptionError
from atomml.files import write_atomic, write_table
from atomml.workflows.crystals.crystal import CrystalRun, relaxed_start
from atomml.workflows.crystals.crystal_images import Image, evaluate_images
from atomml.workflows.crystals.lattice_dynamics import PhononOptions, PhononResult
from atomml.workflows.crystals.phonon_path import BandPath, imaginary_modes, standard_path

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "MEV_PER_KJ_PER_MOL",
    "count_cells",
    "force_constants",
    "measure",
    "need_phonopy",
    "quiet_phonopy",
    "repeats_for",
    "supercell_of",
    "thermal_table",
    "warn_of_thin_supercell",
]

MEV_PER_KJ_PER_MOL = 10.364269656
"""meV in one kJ/mol (e and N_A of CODATA 2018)."""

_THIN = 10.0  # Å, below which a supercell is said to be small


def need_phonopy() -> None:
    """Say which extra brings phonopy if it is not there.

    Raises:
        MissingExtraError: It is not.
    """
    try:
        import phonopy  # noqa: F401
    except ImportError as error:
        raise MissingExtraError.for_extra("phonopy", "phonons") from error


def repeats_for(cell: Array, length: float) -> tuple[int, int, int]:
    """The fewest repeats that put opposite faces of the supercell at least ``length`` Å apart."""
    areas = np.linalg.norm(np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1)
    heights = abs(np.linalg.det(cell)) / areas
    first, second, third = (max(1, math.ceil(length / height - 1e-6)) for height in heights)
    return first, second, third


def measure(run: CrystalRun) -> PhononResult:
    """The whole of a ``phonons`` run: relax, displace, force constants, and write the tables."""
    options: PhononOptions = run.options
    supercell_of(run.given.atoms, options)
    atoms, converged = relaxed_start(run)
    repeats = supercell_of(atoms, options)
    with quiet_phonopy():
        atoms, phonopy, images = force_constants(run, atoms, repeats, "forces.safetensors")
        path = standard_path(phonopy.primitive.cell, options.path_points)
        result = _spectrum(phonopy, path, options)
        write_atomic(run.folder.file("crystal.extxyz"), extxyz_frame(atoms, {}))
        _write_log(run, phonopy, images)
        _write_bands(run, phonopy, path)
        _write_rest(run, phonopy, options)
    result.formula, result.atoms = str(atoms.get_chemical_formula()), atoms
    result.supercell, result.n_supercell_atoms = list(repeats), len(atoms) * math.prod(repeats)
    result.n_displacements, result.converged = len(images), converged
    _warn(run, result, atoms)
    return result


def force_constants(
    run: CrystalRun, atoms: Atoms, repeats: tuple[int, int, int], keep: str
) -> tuple[Atoms, Any, list[Image]]:
    """The crystal on its symmetric sites, phonopy's object with force constants, the displaced supercells.

    Args:
        run: The run; its options say how far atoms are moved and whether the sum rule is imposed.
        atoms: The crystal, relaxed.
        repeats: The supercell's repeats.
        keep: File of the run folder that keeps the forces so far.
    """
    options = run.options
    atoms = _refined(atoms, options.symprec)
    phonopy = _phonopy(atoms, repeats, options.displacement)
    images = evaluate_images(run, [_atoms(cell) for cell in _displaced(phonopy)], keep=keep)
    phonopy.forces = np.array([image.forces for image in images])
    phonopy.produce_force_constants(show_drift=False)
    if options.sum_rule:
        phonopy.symmetrize_force_constants()
    return atoms, phonopy, images


def supercell_of(atoms: Atoms, options: Any) -> tuple[int, int, int]:
    """The supercell's repeats.

    Raises:
        OptionError: It has more atoms than allowed.
    """
    repeats = options.supercell or repeats_for(atoms.cell.array, options.min_length)
    n_atoms = len(atoms) * math.prod(repeats)
    if n_atoms > options.max_atoms:
        shape = "x".join(map(str, repeats))
        raise OptionError(
            f"{atoms.symbols}: the {shape} supercell has {n_atoms} atoms, more than --max-atoms "
            f"{options.max_atoms}: raise that, lower --min-length, or give the primitive cell."
        )
    return repeats


def count_cells(atoms: Atoms, options: Any) -> int:
    """Unit cells in all displaced supercells together, from the structure as it is given.

    Raises:
        OptionError: The supercell has more atoms than allowed.
    """
    repeats = supercell_of(atoms, options)
    with quiet_phonopy():
        phonopy = _phonopy(_refined(atoms, options.symprec), repeats, options.displacement)
    return len(_displaced(phonopy)) * math.prod(repeats)


@contextmanager
def quiet_phonopy() -> Iterator[None]:
    """Without the announcements of phonopy and spglib of what later versions will do."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


def _refined(atoms: Atoms, symprec: float) -> Atoms:
    """The crystal on its symmetric sites; phonopy looks for them within 1e-5 Å, closer than relaxed ones."""
    from ase.spacegroup.symmetrize import refine_symmetry

    refined = atoms.copy()
    refined.set_constraint()
    refine_symmetry(refined, symprec=symprec, verbose=False)
    return refined


def _phonopy(atoms: Atoms, repeats: tuple[int, int, int], distance: float) -> Any:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=list(atoms.symbols),
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(),
        masses=atoms.get_masses(),
    )
    phonopy = Phonopy(cell, np.diag(repeats), primitive_matrix="auto")
    phonopy.generate_displacements(distance=distance)
    return phonopy


def _displaced(phonopy: Any) -> list[Any]:
    return list(phonopy.supercells_with_displacements)


def _atoms(cell: Any) -> Atoms:
    from ase import Atoms

    return Atoms(cell.symbols, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)


def _spectrum(phonopy: Any, path: BandPath, options: PhononOptions) -> PhononResult:
    """Frequencies on the mesh and the path, imaginary modes, and the thermodynamics of the mesh."""
    mesh = phonopy.run_mesh(options.mesh)
    on_mesh = np.asarray(mesh.frequencies)
    bands = np.concatenate(phonopy.run_band_structure(path.segments).frequencies)
    softest = {
        "on the path": np.concatenate(path.segments)[int(bands.min(axis=1).argmin())],
        "on the mesh": np.asarray(mesh.qpoints)[int(on_mesh.min(axis=1).argmin())],
    }
    modes = imaginary_modes(phonopy, path, softest, options.imaginary)
    lowest = float(min(on_mesh.min(), bands.min()))
    at = thermal_table(phonopy, [0.0, options.temperature], options.sum_rule)
    return PhononResult(
        stable=lowest > -options.imaginary,
        lowest_frequency=lowest,
        highest_frequency=float(max(on_mesh.max(), bands.max())),
        imaginary_modes=modes,
        temperature=options.temperature,
        heat_capacity=at["heat_capacity_J_per_K_per_mol"][1],
        entropy=at["entropy_J_per_K_per_mol"][1],
        free_energy=at["free_energy_meV_per_atom"][1],
        zero_point_energy=at["free_energy_meV_per_atom"][0],
        band_path=path.text,
        frequencies=bands,
        phonopy=phonopy,
    )


def thermal_table(phonopy: Any, temperatures: list[float], sum_rule: bool = True) -> dict[str, list[float]]:
    """Heat capacity, entropy and free energy of the mesh's real modes, per atom or mole of atoms.

    Args:
        phonopy: phonopy's object after its mesh was run; its own numbers are of primitive cells.
        temperatures: K.
        sum_rule: Whether a translation costs nothing, so that the acoustic modes at Γ, which rounding
            puts near 1e-7 THz and which would add -kT times a large logarithm, are left out.
    """
    n = len(phonopy.primitive)
    found = phonopy.run_thermal_properties(
        temperatures=temperatures, cutoff_frequency=0.0, exclude_gamma_acoustic=sum_rule
    )
    return {
        "temperature_K": [float(t) for t in found.temperatures],
        "heat_capacity_J_per_K_per_mol": [float(c) / n for c in found.heat_capacity],
        "entropy_J_per_K_per_mol": [float(s) / n for s in found.entropy],
        "free_energy_meV_per_atom": [float(f) / n * MEV_PER_KJ_PER_MOL for f in found.free_energy],
    }


def _write_log(run: CrystalRun, phonopy: Any, images: list[Image]) -> None:
    rows = []
    for step, (moved, image) in enumerate(zip(phonopy.dataset["first_atoms"], images, strict=True), 1):
        x, y, z = (float(d) for d in moved["displacement"])
        row = {"step": step, "atom": int(moved["number"]), "dx_A": x, "dy_A": y, "dz_A": z}
        rows.append(row | {"energy_eV": image.energy, "max_force_eV_per_A": image.max_force})
    write_table(run.folder.file("log.csv"), rows)


def _write_bands(run: CrystalRun, phonopy: Any, path: BandPath) -> None:
    """A row for each wave vector: where on the path, its corner's name if it is one, the frequencies."""
    found = phonopy.band_structure
    rows = []
    for number, corners in enumerate(path.corners):
        distances, frequencies = found.distances[number], found.frequencies[number]
        last = len(distances) - 1
        for n, (q, distance) in enumerate(zip(path.segments[number], distances, strict=True)):
            name = corners[0] if n == 0 else (corners[1] if n == last else "")
            row: dict[str, Any] = {"segment": number, "point": name, "distance": float(distance)}
            row |= {f"q{axis}": float(x) for axis, x in enumerate(q, 1)}
            rows.append(row | {f"band_{b}_THz": float(f) for b, f in enumerate(frequencies[n], 1)})
    write_table(run.folder.file("bands.csv"), rows)


def _write_rest(run: CrystalRun, phonopy: Any, options: PhononOptions) -> None:
    """``dos.csv``, ``thermal.csv``, and phonopy's own file, with which its commands go on."""
    dos = phonopy.run_total_dos()
    pairs = zip(dos.frequency_points, dos.dos, strict=True)
    rows: list[dict[str, Any]] = [{"frequency_THz": float(f), "states_per_THz": float(d)} for f, d in pairs]
    write_table(run.folder.file("dos.csv"), rows)
    table = thermal_table(phonopy, temperatures_of(options), options.sum_rule)
    columns = zip(*table.values(), strict=True)
    write_table(run.folder.file("thermal.csv"), [dict(zip(table, row, strict=True)) for row in columns])
    with tempfile.TemporaryDirectory(prefix="atomml-") as scratch:
        file = Path(scratch, "phonopy_params.yaml")
        phonopy.save(file, settings={"force_sets": True, "displacements": True, "force_constants": False})
        write_atomic(run.folder.file(file.name), file.read_bytes())


def temperatures_of(options: PhononOptions) -> list[float]:
    """Temperatures of the table, K."""
    count = math.floor(options.max_temperature / options.temperature_step + 1e-9)
    return [n * options.temperature_step for n in range(count + 1)]


def warn_of_thin_supercell(run: CrystalRun, repeats: Sequence[int], atoms: Atoms) -> None:
    """Say so if opposite faces of the supercell are less than 10 Å apart."""
    heights = repeats_for(atoms.cell.array, _THIN)
    if any(have < need for have, need in zip(repeats, heights, strict=True)):
        run.folder.warn(
            f"The supercell is thinner than {_THIN:g} Å: forces reach an atom's own images, and bands "
            "between the wave vectors that fit into it are a guess."
        )


def _warn(run: CrystalRun, result: PhononResult, atoms: Atoms) -> None:
    warn_of_thin_supercell(run, result.supercell, atoms)
    if result.stable:
        return
    named = "; ".join(
        f"{mode['point']} ({mode['frequency_THz']:.3g} THz: {mode['move']})"
        for mode in result.imaginary_modes[:4]
    )
    run.folder.warn(
        f"The crystal is unstable, with imaginary modes at {named}; heat capacity and free energy leave "
        "them out."
    )
