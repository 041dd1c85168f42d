"""What the vendors' tools report, read back as values: synthesis, co-simulation, utilization.

report = read_report("jet_csynth.xml")  # or .rpt, *_cosim.rpt, Vivado's utilization
report.latency, report.interval, report.used.lut, report.available.lut
reports = read_project("build/jet")     # everything that the tools have left in a project
"""

from export.reports.figures import (
    Cosimulation,
    Module,
    Report,
    Resources,
    Simulation,
    Span,
    Status,
    Synthesis,
    Times,
    Tool,
    Utilization,
)
from export.reports.project import ProjectReports, read_project, read_report
from export.reports.source import ReportError

__all__ = [
    "Cosimulation",
    "Module",
    "ProjectReports",
    "Report",
    "ReportError",
    "Resources",
    "Simulation",
    "Span",
    "Status",
    "Synthesis",
    "Times",
    "Tool",
    "Utilization",
    "read_project",
    "read_report",
]
