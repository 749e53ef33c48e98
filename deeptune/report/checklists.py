"""The section of a report that says which items of CLAIM and TRIPOD+AI this page answers.

CLAIM: Mongan, Moy and Kahn, Radiology: Artificial Intelligence 2020. TRIPOD+AI: Collins et al., BMJ 2024. The words are
our own; only the numbers of the items are theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deeptune.report.reading import FinishedRun
from deeptune.report.section import ReportSection, Table

AUTHOR = "for the author"


@dataclass(frozen=True)
class Item:
    """An item of a checklist. `place` names the section that answers it, or returns None where this run does not."""

    number: str
    topic: str
    place: Callable[[FinishedRun], str | None] | str | None = None

    def answer(self, run: FinishedRun) -> str | None:
        return self.place(run) if callable(self.place) else self.place


PAPER, TRAINED, METRICS, WARNINGS = "For a paper", "What was trained", "Metrics", "Warnings"


def _grouped(run: FinishedRun) -> str | None:
    return f"{TRAINED}: groups in {run.spec.data.group}" if run.spec.data.group else None


def _subgroups(run: FinishedRun) -> str | None:
    return "Subgroups" if run.spec.report.by else None


def _explained(run: FinishedRun) -> str | None:
    return "What speaks for the predictions" if run.files.explanations.is_dir() else None


def _calibrated(run: FinishedRun) -> str | None:
    found = run.metrics.get(run.split, {}).get("confidence")
    return "How far predictions can be trusted" if isinstance(found, dict) else None


def _operating(run: FinishedRun) -> str | None:
    return "Operating points" if run.task.view in ("classes", "labels") else "Agreement with the truth"


def _per_class(run: FinishedRun) -> str | None:
    return "Classes, worst first" if run.task.view in ("classes", "labels") else "Agreement with the truth"


def _own_test(run: FinishedRun) -> str | None:
    return f"{TRAINED}: test files of their own" if run.spec.data.test else None


CLAIM = (
    Item("1–6", "title, abstract, background, aims, design"),
    Item("7", "where the data come from"),
    Item("8", "who or what was eligible"),
    Item("9", "preprocessing of the data", PAPER),
    Item("10", "which part of the data was used", TRAINED),
    Item("11–12", "definitions of data elements, de-identification"),
    Item("13", "missing data", WARNINGS),
    Item("14–18", "reference standard, annotators, their tools and agreement"),
    Item("19", "intended sample size"),
    Item("20", "how data were assigned to partitions", PAPER),
    Item("21", "the level at which partitions are apart", _grouped),
    Item("22", "the model in detail", TRAINED),
    Item("23", "software and its versions", f"{TRAINED}: versions and fingerprints"),
    Item("24", "initial weights", TRAINED),
    Item("25", "how the model was trained", PAPER),
    Item("26", "how the final model was selected", PAPER),
    Item("27", "ensembles", f"{TRAINED}: one model"),
    Item("28", "metrics of performance", METRICS),
    Item("29", "uncertainty of the results", METRICS),
    Item("30", "robustness and sensitivity"),
    Item("31", "explanations of the model", _explained),
    Item("32", "test on external data", _own_test),
    Item("33", "flow of participants", f"{TRAINED}: rows and bad samples"),
    Item("34", "demographics of each partition"),
    Item("35", "performance on each partition", METRICS),
    Item("36", "accuracy and its precision", _operating),
    Item("37", "failures", _per_class),
    Item("38–42", "limitations, implications, registration, protocol, funding"),
)
TRIPOD = (
    Item("1–4", "title, abstract, background, aims"),
    Item("5–6", "sources and dates of the data, participants"),
    Item("7", "preparation of the data", PAPER),
    Item("8–9", "the outcome and the predictors"),
    Item("10", "sample size"),
    Item("11", "missing data", WARNINGS),
    Item("12a", "how data were used for development and evaluation", PAPER),
    Item("12b", "how predictors entered the model", PAPER),
    Item("12c", "type of model, tuning, validation within", PAPER),
    Item("12d", "differences between clusters, such as hospitals", _subgroups),
    Item("12e", "measures of performance and their pictures", METRICS),
    Item("12f", "recalibration", _calibrated),
    Item("12g", "how predictions are computed", "Use it next"),
    Item("13", "class imbalance", PAPER),
    Item("14", "fairness", _subgroups),
    Item("15", "output of the model, and its thresholds", _operating),
    Item("16", "differences between training and evaluation data"),
    Item("17–19", "ethics, open science, involvement of patients"),
    Item("20", "participants and their characteristics"),
    Item("21", "rows and outcomes in each analysis", TRAINED),
    Item("22", "the full model, so that others can predict", f"{TRAINED}; checkpoints/best"),
    Item("23a", "performance with confidence intervals", METRICS),
    Item("23b", "performance in clusters", _subgroups),
    Item("24", "results of recalibration", _calibrated),
    Item("25–27", "interpretation, limitations, use"),
)
CHECKLISTS = {"CLAIM": CLAIM, "TRIPOD+AI": TRIPOD}


def checklists_section(run: FinishedRun) -> ReportSection:
    """Which items of the checklists this page answers, and where."""
    tables, data = [], {}
    for name, items in CHECKLISTS.items():
        answers = [(item, item.answer(run)) for item in items]
        rows = [(item.number, item.topic, "✓" if place else "–", place or AUTHOR) for item, place in answers]
        answered = sum(place is not None for _, place in answers)
        caption = f"{name}: {answered} of {len(items)} lines are answered here."
        tables.append(Table(("Item", "What", "Here", "Where"), rows, caption))
        data[name] = [{"item": item.number, "topic": item.topic, "where": place} for item, place in answers]
    said = (
        "Journals ask for these checklists: CLAIM (Mongan et al. 2020) for medical imaging, TRIPOD+AI (Collins et al. "
        "2024) for prediction models. A tick means that this page has the facts, not that a paper states them."
    )
    return ReportSection("checklists", "Checklists for a paper", [said], tables, data={"checklists": data}, folded=True)
