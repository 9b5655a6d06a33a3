"""Reports of crystals that are pulled, heated or cut: stress against strain, thermal expansion, surfaces."""

from __future__ import annotations

from atomml.report.plots import Series, bar_plot, line_plot
from atomml.report.report import Report
from atomml.report.run_folder import Run
from atomml.report.sections import MAX_ROWS

__all__ = ["SHOWN_QHA", "SHOWN_SURFACE", "qha", "strain", "surface"]

SHOWN_QHA = ("volumes",)
"""Results of ``qha`` that its report shows as a table."""

SHOWN_SURFACE = ("surfaces",)
"""Results of ``surface`` that its report shows as a table."""

_QHA_CURVES = (
    ("thermal_expansion_per_K", "Thermal expansion", "volume thermal expansion (1/K)"),
    ("volume_A3", "Volume", "volume of the cell (Å³)"),
    ("bulk_modulus_GPa", "Bulk modulus", "isothermal bulk modulus (GPa)"),
    ("gruneisen", "Grüneisen parameter", "thermodynamic Grüneisen parameter"),
)


def strain(run: Run, report: Report) -> None:
    """Stress against strain, energy against strain, the steps, the structures."""
    from atomml.report.recipes import show_structures

    log = run.log
    if "strain" in log.numeric and "stress_GPa" in log.numeric:
        x = log.numeric["strain"]
        curves = [Series("true stress", x, log.numeric["stress_GPa"])]
        curves.append(Series("nominal stress", x, log.numeric["nominal_stress_GPa"], style="dashed"))
        slope = run.results.get("initial_slope_GPa")
        peak = float(max(abs(log.numeric["stress_GPa"])))
        if isinstance(slope, (int, float)) and slope > 0:
            end = min(float(max(abs(x))), peak / slope) * (
                1 if run.results.get("ideal_strength_GPa", 0) > 0 else -1
            )
            curves.append(Series("initial slope", [0.0, end], [0.0, slope * end], style="dashed"))
        curves.append(Series("steps", x, log.numeric["stress_GPa"], style="points"))
        caption = str(run.results.get("failure") or "No failure within the range.")
        svg = line_plot(curves, "strain", "stress (GPa)", "Stress against strain")
        report.plot("Stress against strain", svg, caption[:1].upper() + caption[1:])
        energy = log.numeric["energy_eV"] - log.numeric["energy_eV"][0]
        svg = line_plot([Series("energy", x, energy)], "strain", "energy since the start (eV)", "Energy")
        report.plot("Energy against strain", svg)
        if run.config.get("transverse") == "relaxed":
            sides = [Series(f"along {axis}", x, log.numeric[f"strain_{axis * 2}"]) for axis in "yz"]
            report.plot(
                "Transverse strain", line_plot(sides, "strain", "transverse strain", "Transverse strain")
            )
    if len(log):
        report.table("Steps", log.names, log.rows(MAX_ROWS), total=log.total)
    show_structures(run, report, "Strained crystal")


def qha(run: Run, report: Report) -> None:
    """Expansion, heat capacities, bulk modulus, Grüneisen parameter, free energies against volume."""
    from atomml.report.recipes import show_structures

    table, free = run.tables.get("thermal"), run.tables.get("free_energies")
    if table is not None and len(table):
        t = table.numeric["temperature_K"]
        for name, title, label in _QHA_CURVES:
            if name in table.numeric:
                svg = line_plot([Series(title, t, table.numeric[name])], "temperature (K)", label, title)
                report.plot(title, svg)
        pair = [
            Series("C_p", t, table.numeric["heat_capacity_p_J_per_K_per_mol"]),
            Series("C_V", t, table.numeric["heat_capacity_v_J_per_K_per_mol"], style="dashed"),
        ]
        svg = line_plot(pair, "temperature (K)", "heat capacity (J/K per mole of atoms)", "Heat capacity")
        report.plot("Heat capacity", svg)
    if free is not None and len(free):
        volumes = free.numeric["volume_A3"]
        curves = [
            Series(name.removeprefix("F_").removesuffix("K_eV") + " K", volumes, values, style="points")
            for name, values in free.numeric.items()
            if name.startswith("F_")
        ]
        svg = line_plot(curves[:8], "volume (Å³)", "free energy (eV)", "Free energy against volume")
        report.plot("Free energy against volume", svg, "Of the cell, relaxed at each volume.")
    rows = run.results.get("volumes")
    if rows:
        report.table("Volumes", list(rows[0]), [list(row.values()) for row in rows])
    show_structures(run, report, "Crystal at each volume")


def surface(run: Run, report: Report) -> None:
    """Surface energies as bars, the area of each face of the Wulff shape, convergence, the slabs."""
    from atomml.report.recipes import show_structures

    rows = run.results.get("surfaces") or []
    good = [row for row in rows if row.get("surface_energy_J_per_m2") is not None]
    if good:
        names = [str(row["surface"]) for row in good]
        energies = [float(row["surface_energy_J_per_m2"]) for row in good]
        report.plot(
            "Surface energies", bar_plot(names, energies, "surface energy (J/m²)", "Surface energies")
        )
        faces = [row for row in good if row.get("wulff_area_percent")]
        if faces:
            shares = [float(row["wulff_area_percent"]) for row in faces]
            svg = bar_plot(
                [str(row["surface"]) for row in faces], shares, "part of the area (%)", "Wulff shape"
            )
            report.plot("Faces of the Wulff shape", svg)
    table = run.tables.get("thickness")
    if table is not None and len(table):
        curves = []
        for name in dict.fromkeys(table.cells["surface"]):
            chosen = [n for n, cell in enumerate(table.cells["surface"]) if cell == name]
            x, y = table.numeric["thickness_A"][chosen], table.numeric["surface_energy_J_per_m2"][chosen]
            curves.append(Series(str(name), x, y))
        svg = line_plot(curves[:8], "thickness of the slab (Å)", "surface energy (J/m²)", "Convergence")
        report.plot("Convergence with thickness", svg)
    if rows:
        names = list(dict.fromkeys(key for row in rows for key in row))
        report.table("Surfaces", names, [[row.get(name) for name in names] for row in rows])
    show_structures(run, report, "Slabs")
