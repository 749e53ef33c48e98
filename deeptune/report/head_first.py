"""The section on fine-tuning and the head that it started from: which of them is the run's model, and their scores."""

from __future__ import annotations

from deeptune.report.finished_run import FinishedRun
from deeptune.report.sections import ReportSection, Table
from deeptune.report.tables import TITLES, value_text
from deeptune.spec.metrics import shown_metrics


def head_section(run: FinishedRun) -> ReportSection | None:
    """Return the scores of both on val and test; None where fine-tuning started with a new head."""
    head = run.metrics.get("head")
    if head is None:
        return None
    rejected = run.metrics.get("fine_tuned")
    tuned = (rejected or {}) if head["is_model"] else run.metrics
    rows = [
        [f"{TITLES[name]} ({split})", *(value_text(name, (one.get(split) or {}).get(name)) for one in (head, tuned))]
        for split in ("val", "test")
        for name in shown_metrics(head.get(split) or {})
    ]
    said = head["said"][0].upper() + head["said"][1:] + "."
    how = (
        "The head was fitted first, alone, on the features of the frozen backbone, and fine-tuning started from it. "
        "Fine-tuning is kept only where it is better on the rows of val by about half a standard error of the paired "
        "difference (one-sided paired t-test, p < 0.3)."
    )
    missing = "Weights that were never the best are not stored, so they have no scores on test." if rejected else ""
    caption = " ".join(filter(None, ["Head and fine-tuned model on the same rows.", missing]))
    table = Table(("Metric", "Head", "Fine-tuned"), rows, caption)
    return ReportSection(
        "head", "Fine-tuning and its head", [said, how], [table], data={**head, "fine_tuned": rejected}
    )
