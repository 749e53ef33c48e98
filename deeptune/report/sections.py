"""Further sections of a report. Each is a function of the finished run in a module of its own, and one row here."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name

from deeptune.report.finished_run import FinishedRun
from deeptune.report.section import Figure, ReportSection, Table

__all__ = ["SECTIONS", "Figure", "ReportSection", "Table", "sections_of"]

# As `module:function`, in the order in which the report shows them, after the pictures of the task. A function returns
# None where the run has nothing of the kind.
SECTIONS: tuple[str, ...] = (
    "deeptune.report.head_first:head_section",
    "deeptune.report.cross_validation:cross_validation_section",
    "deeptune.report.confidence:confidence_section",
    "deeptune.report.agreement:agreement_section",
    "deeptune.report.operating_points:operating_points_section",
    "deeptune.report.subgroups:units_section",
    "deeptune.report.subgroups:subgroups_section",
    "deeptune.report.examples:worst_section",
    "deeptune.report.examples:uncertain_section",
    "deeptune.report.explanations:explanation_section",
    "deeptune.report.embedding_map:embedding_section",
)


def sections_of(run: FinishedRun) -> list[ReportSection]:
    """Make all sections with something to show. The page adds the checklists, which name its other parts."""
    makers: list[Callable[[FinishedRun], ReportSection | None]] = [resolve_name(name) for name in SECTIONS]
    return [section for make in makers if (section := make(run)) is not None]
