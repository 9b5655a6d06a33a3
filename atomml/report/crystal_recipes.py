"""Reports of crystals' properties: each with the picture that its property is usually shown as."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atomml.report.plots import Series, band_plot, heat_map, line_plot, polar_plot
from atomml.report.report import Report
from atomml.report.run_folder import Columns, Run
from atomml.report.sections import MAX_ROWS

__all__ = ["SHOWN_ELASTIC", "SHOWN_PHONONS", "elastic", "eos", "phonons"]

_TENSORS = {
    "elastic_tensor_GPa": "Elastic tensor (GPa)",
    "clamped_elastic_tensor_GPa": "Elastic tensor with clamped ions (GPa)",
    "ieee_elastic_tensor_GPa": "Elastic tensor in the axes of the IEEE standard (GPa)",
}

SHOWN_ELASTIC = tuple(_TENSORS)
"""Results of ``elastic`` that its report shows as tables."""

SHOWN_PHONONS = ("imaginary_modes",)
"""Results of ``phonons`` that its report shows as a table."""

_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_NAMES = {"birch_murnaghan_eV": "Birch–Murnaghan", "vinet_eV": "Vinet"}


def eos(run: Run, report: Report) -> None:
    """Energy against volume with both fitted curves, pressure against volume, the points."""
    from atomml.report.recipes import show_structures

    points, curves = run.log, run.tables.get("curves")
    if "volume_A3" in points.numeric and "energy_eV" in points.numeric:
        volumes, lowest = points.numeric["volume_A3"], float(np.nanmin(points.numeric["energy_eV"]))
        series = []
        if curves is not None:
            grid = curves.numeric["volume_A3"]
            series = [
                Series(
                    label, grid, curves.numeric[name] - lowest, style="dashed" if "vinet" in name else "line"
                )
                for name, label in _NAMES.items()
                if name in curves.numeric
            ]
        series.append(Series("model", volumes, points.numeric["energy_eV"] - lowest, style="points"))
        report.plot(
            "Energy against volume",
            line_plot(series, "volume (Å³)", "energy above the lowest point (eV)", "Energy against volume"),
        )
        if "pressure_GPa" in points.numeric:
            pressure = Series("from the stress", volumes, points.numeric["pressure_GPa"], style="points")
            report.plot("Pressure against volume", line_plot([pressure], "volume (Å³)", "pressure (GPa)"))
    if len(points):
        report.table("Points", points.names, points.rows(MAX_ROWS), total=points.total)
    show_structures(run, report, "Structures")


def elastic(run: Run, report: Report) -> None:
    """The tensor as a heat map and as a table, Young's modulus against direction, the strains."""
    from atomml.report.recipes import show_structures

    tensor, youngs = run.tables.get("elastic_tensor"), run.tables.get("youngs_modulus")
    if tensor is not None and len(tensor) == 6:
        columns = tensor.names[1:]
        values = np.array([tensor.numeric[name] for name in columns]).T
        svg = heat_map(
            values[::-1],
            "column",
            "row",
            "elastic constant (GPa)",
            "Elastic tensor",
            extent=(0.5, 6.5, 6.5, 0.5),
        )
        report.plot("Elastic tensor", svg, "Voigt order: 1 to 6 are xx, yy, zz, yz, xz, xy.")
    if youngs is not None and len(youngs):
        angle = youngs.numeric["angle_deg"]
        planes = [
            Series(f"{name.removesuffix('_GPa')} plane", angle, youngs.numeric[name])
            for name in youngs.names[1:]
        ]
        report.plot("Young's modulus against direction", polar_plot(planes, "GPa", "Young's modulus"))
    for name, title in _TENSORS.items():
        rows = run.results.get(name)
        if rows:
            names = [f"{n} ({axes})" for n, axes in enumerate(_VOIGT, 1)]
            report.table(title, ["", *names], [[names[n], *row] for n, row in enumerate(rows)])
    if len(run.log):
        report.table("Strains", run.log.names, run.log.rows(MAX_ROWS), total=run.log.total)
    show_structures(run, report, "Structures")


def phonons(run: Run, report: Report) -> None:
    """Bands on the path, density of states, heat capacity and free energy, imaginary modes, displacements."""
    from atomml.report.recipes import show_structures

    bands = run.tables.get("bands")
    if bands is not None and len(bands):
        segments, ticks = _segments(bands)
        report.plot(
            "Phonon bands", band_plot(segments, ticks, "frequency (THz)"), "Imaginary ones are negative."
        )
    dos = run.tables.get("dos")
    if dos is not None and len(dos):
        curve = Series("all atoms", dos.numeric["frequency_THz"], dos.numeric["states_per_THz"])
        svg = line_plot([curve], "frequency (THz)", "states per THz and primitive cell", "Density of states")
        report.plot("Density of states", svg)
    thermal = run.tables.get("thermal")
    if thermal is not None and len(thermal):
        for name, title, unit in _THERMAL:
            curve = Series(title, thermal.numeric["temperature_K"], thermal.numeric[name])
            report.plot(title, line_plot([curve], "temperature (K)", f"{title.lower()} ({unit})", title))
    modes = run.results.get("imaginary_modes")
    if modes:
        names = list(modes[0])
        report.table("Imaginary modes", names, [[_shown(mode[name]) for name in names] for mode in modes])
    if len(run.log):
        report.table("Displacements", run.log.names, run.log.rows(MAX_ROWS), total=run.log.total)
    show_structures(run, report, "Crystal")


_THERMAL = (
    ("heat_capacity_J_per_K_per_mol", "Heat capacity", "J/K per mole of atoms"),
    ("entropy_J_per_K_per_mol", "Entropy", "J/K per mole of atoms"),
    ("free_energy_meV_per_atom", "Free energy", "meV/atom"),
)


def _shown(value: object) -> object:
    return ", ".join(f"{x:g}" for x in value) if isinstance(value, list) else value


def _segments(
    bands: Columns,
) -> tuple[list[tuple[NDArray[np.float64], NDArray[np.float64]]], list[tuple[float, str]]]:
    """Pieces of the path with their bands, and the corners between them; two at a jump are one tick."""
    names = [name for name in bands.names if name.startswith("band_")]
    number, where = bands.numeric["segment"], bands.numeric["distance"]
    values = np.array([bands.numeric[name] for name in names]).T
    pieces = [(where[number == n], values[number == n]) for n in np.unique(number)]
    corners: dict[float, list[str]] = {}
    for place, name in zip(where, bands.cells["point"], strict=True):
        if name:
            label = "Γ" if name == "G" else name
            found = corners.setdefault(round(float(place), 6), [])
            if label not in found:
                found.append(label)
    return pieces, [(place, "|".join(labels)) for place, labels in corners.items()]
