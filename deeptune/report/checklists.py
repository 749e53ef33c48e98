"""The section of a report that says which items of CLAIM and TRIPOD+AI this page answers.

CLAIM: the update of 2024 by Tejani et al., Radiology: Artificial Intelligence 2024 (https://doi.org/10.1148/ryai.240300).
TRIPOD+AI: Collins et al., BMJ 2024. The words are our own; only the numbers of the items are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deeptune.report.finished_run import FinishedRun
from deeptune.report.section import Link, ReportSection, Table

AUTHOR = "for the author"


@dataclass(frozen=True)
class Item:
    """An item of a checklist.

    `places` are the anchors of parts of the page, of which the first that the page has answers the item; `remark` says
    what to look at there. Where `where` is false of a run, nothing answers it.
    """

    number: str
    topic: str
    places: tuple[str, ...] = ()
    remark: str = ""
    where: Callable[[FinishedRun], bool] | None = None

    def anchor(self, run: FinishedRun, page: Mapping[str, str]) -> str | None:
        if self.where is not None and not self.where(run):
            return None
        return next((place for place in self.places if place in page), None)


PAPER, TRAINED, METRICS, SUBGROUPS = ("paper",), ("trained",), ("metrics",), ("subgroups",)
POINTS = ("operating_points", "agreement")


def _grouped(run: FinishedRun) -> bool:
    return run.spec.data.group is not None


def _own_test(run: FinishedRun) -> bool:
    return run.spec.data.test is not None


def _inner_test(run: FinishedRun) -> bool:
    return run.split == "test" and not _own_test(run)


def _chances(run: FinishedRun) -> bool:
    return run.task.view in ("classes", "labels")


CLAIM = (
    Item("1–6", "title, abstract, background, aims, design, goal"),
    Item("7", "where the data come from"),
    Item("8", "who or what was included and excluded"),
    Item("9", "preprocessing of the data", TRAINED, "input and pooling"),
    Item("10", "which part of the data was used", TRAINED, "data, columns and rows"),
    Item("11", "de-identification"),
    Item("12", "missing data", TRAINED, "bad samples"),
    Item("13", "how images were acquired"),
    Item("14–18", "reference standard, annotators, annotation of the test set, agreement"),
    Item("19", "how data were assigned to partitions", PAPER),
    Item("20", "the level at which partitions are apart", TRAINED, "what is kept together", _grouped),
    Item("21", "intended sample size"),
    Item("22", "the model in detail", TRAINED),
    Item("23", "software and its versions", TRAINED, "versions and fingerprints"),
    Item("24", "initial weights", TRAINED, "weights to start from"),
    Item("25", "how the model was trained", PAPER),
    Item("26", "how the final model was selected", PAPER),
    Item("27", "ensembles", TRAINED, "one model, no ensemble"),
    Item("28", "metrics of performance", METRICS),
    Item("29", "uncertainty of the results", METRICS, "95% intervals"),
    Item("30", "robustness and sensitivity"),
    Item("31", "explanations of the model", ("explanations",)),
    Item("32", "evaluation on internal data", METRICS, "test rows of the same source", _inner_test),
    Item("33", "test on external data", METRICS, "test files of their own; say where they come from", _own_test),
    Item("34", "registration of a clinical trial"),
    Item("35", "numbers included and excluded", TRAINED, "rows and bad samples"),
    Item("36", "demographics of each partition"),
    Item("37", "performance, with its uncertainty", METRICS),
    Item("38", "diagnostic performance and its precision", POINTS),
    Item("39", "failures", ("examples", "confusions", "details", "agreement")),
    Item("40–41", "limitations, implications for practice"),
    Item("42", "protocol or further technical details", TRAINED, "each setting is in spec.toml"),
    Item("43–44", "availability of software, model and data; funding"),
)
TRIPOD = (
    Item("1–4", "title, abstract, background, aims"),
    Item("5–6", "sources and dates of the data, participants"),
    Item("7", "preparation of the data", TRAINED, "input and pooling"),
    Item("8–9", "the outcome and the predictors"),
    Item("10", "sample size"),
    Item("11", "missing data", TRAINED, "bad samples"),
    Item("12a", "how data were used for development and evaluation", PAPER),
    Item("12b", "how predictors entered the model", PAPER),
    Item("12c", "type of model, tuning, validation within", PAPER),
    Item("12d", "differences between clusters, such as hospitals", SUBGROUPS),
    Item("12e", "measures of performance and their pictures", METRICS),
    Item("12f", "recalibration", ("confidence",), where=_chances),
    Item("12g", "how predictions are computed", ("next",)),
    Item("13", "class imbalance", PAPER, "loss and stratification", _chances),
    Item("14", "fairness", SUBGROUPS),
    Item("15", "output of the model, and its thresholds", ("operating_points", "confidence")),
    Item("16", "differences between training and evaluation data"),
    Item("17–19", "ethics, open science, involvement of patients"),
    Item("20", "participants and their characteristics"),
    Item("21", "rows and outcomes in each analysis", TRAINED, "rows"),
    Item("22", "the full model, so that others can predict", TRAINED, "the weights are in checkpoints/best"),
    Item("23a", "performance with confidence intervals", METRICS),
    Item("23b", "performance in clusters", SUBGROUPS),
    Item("24", "results of recalibration", ("confidence",), where=_chances),
    Item("25–27", "interpretation, limitations, use"),
)
CHECKLISTS = {"CLAIM": CLAIM, "TRIPOD+AI": TRIPOD}


def checklists_section(run: FinishedRun, page: Mapping[str, str]) -> ReportSection:
    """Say which items of the checklists a page answers, and where; `page` has the titles of its parts by anchor."""
    tables, data = [], {}
    for name, items in CHECKLISTS.items():
        answers = [(item, item.anchor(run, page)) for item in items]
        rows = [(item.number, item.topic, *_answered(item, anchor, page)) for item, anchor in answers]
        answered = sum(anchor is not None for _, anchor in answers)
        caption = f"{name}: {answered} of {len(items)} lines are answered here."
        tables.append(Table(("Item", "What", "Here", "Where"), rows, caption, "words"))
        data[name] = [
            {
                "item": item.number,
                "topic": item.topic,
                "where": None if anchor is None else _where(item, anchor, page),
                "anchor": anchor,
            }
            for item, anchor in answers
        ]
    said = (
        "Journals ask for these checklists: CLAIM (Tejani et al. 2024) for medical imaging, TRIPOD+AI (Collins et al. "
        "2024) for prediction models. A tick means that this page has the facts, not that a paper states them."
    )
    return ReportSection("checklists", "Checklists for a paper", [said], tables, data={"checklists": data}, folded=True)


def _answered(item: Item, anchor: str | None, page: Mapping[str, str]) -> tuple[str, str]:
    return ("–", AUTHOR) if anchor is None else ("✓", Link(_where(item, anchor, page), anchor))


def _where(item: Item, anchor: str, page: Mapping[str, str]) -> str:
    return f"{page[anchor]}: {item.remark}" if item.remark else page[anchor]
