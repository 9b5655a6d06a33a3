"""Reports of how atoms move: paths and barriers, diffusion, distributions over distance and frequency."""

from __future__ import annotations

from atomml.report.plots import Series, line_plot
from atomml.report.report import Report
from atomml.report.run_folder import Run
from atomml.report.sections import MAX_ROWS

__all__ = ["neb"]


def neb(run: Run, report: Report) -> None:
    """The energy along the path with its images, the path itself, and how it converged."""
    from atomml.report.recipes import show_structures

    images, curve = run.tables.get("path"), run.tables.get("curve")
    if images is not None and curve is not None:
        where = images.numeric["distance_A"]
        series = [
            Series(
                "through energies and forces", curve.numeric["distance_A"], curve.numeric["above_start_eV"]
            ),
            Series("integral of the force", where, images.numeric["from_forces_eV"], style="dashed"),
            Series("images", where, images.numeric["above_start_eV"], style="points"),
        ]
        svg = line_plot(
            series, "distance along the path (Å)", "energy above the start (eV)", "Energy along the path"
        )
        report.plot(
            "Energy along the path", svg, "Where the dashed curve leaves the points, take more images."
        )
    show_structures(run, report, "Path")
    if images is not None:
        report.table("Images", images.names, images.rows(MAX_ROWS), total=images.total)
    if len(run.log) > 1:
        force = Series("largest force", run.log.numeric["step"], run.log.numeric["max_force_eV_per_A"])
        barrier = Series("barrier", run.log.numeric["step"], run.log.numeric["barrier_eV"])
        title = "Convergence of the force"
        report.plot(title, line_plot([force], "step", "largest force (eV/Å)", title, yscale="log"))
        report.plot("Convergence of the barrier", line_plot([barrier], "step", "barrier (eV)"))
