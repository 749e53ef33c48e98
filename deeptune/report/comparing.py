"""Compare finished runs on their common test rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from deeptune.errors import DataError, listed
from deeptune.formatting import counted, visible
from deeptune.progress import Progress
from deeptune.report.examples import target_text
from deeptune.report.finished_run import FinishedRun, Predictions, read_run
from deeptune.report.influence import number_estimates
from deeptune.report.intervals import too_few, too_few_of_targets
from deeptune.report.paired_tests import DELONG, EXACT, MCNEMAR, Difference, delong, differences, holm, mcnemar
from deeptune.report.run_pair import Pair, alike
from deeptune.report.tables import markdown_table, sentence_title, value_text
from deeptune.report.task_views import view_of
from deeptune.spec.metrics import METRICS, lower_is_better, shown_metrics
from deeptune.tasks.confidence.held_out import units_of

ALPHA = 0.05  # a p value below this decides


@dataclass(frozen=True)
class Comparison:
    """Runs compared on the same n test rows, and all pairs of them, the first pair being that of the first two runs.

    `groups` is the number of groups of rows that depend on one another, None where rows are independent. `scored` are
    the predictions of each run, in the order of the rows. `notes` say why there is no interval. `source` is the file of
    the rows where they are not the runs' own test rows. Then `learned` counts by run those in its train or val.
    """

    runs: list[FinishedRun]
    n: int
    groups: int | None
    pairs: list[Pair]
    scored: list[Predictions]
    notes: list[str] = field(default_factory=list)
    source: str = ""
    learned: dict[str, int | None] = field(default_factory=dict)

    @property
    def rows(self) -> str:
        """What was compared, in words: `126 test rows`."""
        return f"{counted(self.n, 'row')} of {self.source}" if self.source else counted(self.n, "test row")

    @property
    def ids(self) -> list[str]:
        return [run.files.id for run in self.runs]

    def __repr__(self) -> str:
        return "\n\n".join(f"{table}\n{text}" for table, text in self._parts())

    def _repr_markdown_(self) -> str:
        return repr(self)

    def _parts(self) -> Iterator[tuple[str, str]]:
        """Yield the table of each pair in Markdown, with its sentences."""
        for pair in self.pairs:
            yield markdown_table(*table_of(self, pair)), f"{sentence_of(self, pair)} {decision_of(self, pair)}"

    def to_json(self) -> dict[str, Any]:
        """Return `metrics`, `n` and `flipped` of the first pair; of more than two runs also `pairs`, with Holm's p."""
        each = [pair.to_json(corrected=len(self.runs) > 2) for pair in self.pairs]
        first = {**each[0], "n": self.n}
        record: dict[str, Any] = {
            name: first[name] for name in ("metrics", "per_target", "n", "flipped") if name in first
        }
        if self.learned:
            record["rows_learnt"] = self.learned
        if len(self.runs) == 2:
            return record
        pairs = [
            {"runs": [self.ids[pair.first], self.ids[pair.second]], **one}
            for pair, one in zip(self.pairs, each, strict=True)
        ]
        return {**record, "pairs": pairs}


def compare_runs(directories: Sequence[Path], progress: Progress | None = None) -> Comparison:
    """Compare two or more finished runs. `progress` gets the number of pairs that are done, and of all.

    Raises DataError where they were not scored on the same rows of the same data, and CheckpointError where one of them
    has no scores yet.
    """
    if len(directories) < 2:
        raise DataError("there is nothing to compare: give two runs or more")
    runs = [read_run(directory) for directory in directories]
    scored = [_scored(run) for run in runs]
    for run in runs[1:]:
        _require_same(runs[0], run)
        _require_same_data(runs[0], run)
    return compare_scored(runs, scored, progress)


def compare_scored(
    runs: list[FinishedRun],
    scored: list[Predictions],
    progress: Progress | None = None,
    source: str = "",
) -> Comparison:
    """Compare what runs say of the same rows: each its predictions, in the order of the rows.

    Raises DataError where runs, rows or truths are not the same.
    """
    for run, found in zip(runs[1:], scored[1:], strict=True):
        _require_same(runs[0], run)
        _require_same_rows(runs[0], scored[0], run, found)
    groups = next((one.groups for one in scored if one.groups is not None), None)
    unit = units_of(groups, len(scored[0].truth))
    reason = too_few(len(unit), groups)
    means = "" if reason or runs[0].task.view != "targets" else too_few_of_targets(scored[0].truth, groups)
    places = list(combinations(range(len(runs)), 2))
    pairs = []
    for done, at in enumerate(places):
        if progress is not None:
            progress(done, len(places))
        pairs.append(_pair(runs, scored, at, unit, grouped=groups is not None))
    if reason:
        pairs = [pair.mapped(_without_interval) for pair in pairs]
    elif means:  # a mean over targets is known no better than the target that few rows or groups have
        pairs = [replace(pair, metrics={k: _without_interval(v) for k, v in pair.metrics.items()}) for pair in pairs]
    return Comparison(
        runs,
        len(unit),
        None if groups is None else int(unit.max()) + 1,
        _corrected(pairs),
        scored,
        [one for one in (reason, means) if one],
        visible(source),
    )


def _scored(run: FinishedRun) -> Predictions:
    """Return the predictions of a run in the order of their rows."""
    predictions = run.predictions
    if predictions is None or not len(predictions.row):
        raise DataError(
            f"the run {run.files.id} has no scored test rows",
            hint="Compare runs that have a test split and are done, or score all on one labelled file: --data FILE.",
        )
    order = np.argsort(predictions.row, kind="stable")
    return predictions.at(order)


def _require_same(first: FinishedRun, other: FinishedRun) -> None:
    """Raise DataError where the runs have different tasks, label columns or classes."""
    names = f"{first.files.id} and {other.files.id}"
    if first.spec.task != other.spec.task:
        raise DataError(
            f"{names} have different tasks: {first.spec.task} and {other.spec.task}", hint="Compare runs of one task."
        )
    if first.spec.data.label != other.spec.data.label:
        raise DataError(
            f"{names} have different label columns: {first.spec.data.label!r} and {other.spec.data.label!r}",
            hint="Compare runs that were trained with the same data.label.",
        )
    if _classes(first) != _classes(other):
        raise DataError(
            f"{names} have different classes",
            hint="Compare runs that were trained on the same classes; labels.json of each run lists them.",
        )


def _require_same_data(first: FinishedRun, other: FinishedRun) -> None:
    names = f"{first.files.id} and {other.files.id}"
    one, two = (run.run.get("fingerprints") or {} for run in (first, other))
    key = "test" if "test" in one and "test" in two else "data"
    if one.get(key) != two.get(key):
        raise DataError(
            f"{names} were not scored on the same data: their {key} fingerprints are {one.get(key)} and {two.get(key)}",
            hint="Score both on one labelled file: --data FILE. Or train both on the same files, or one data.test.",
        )


def _classes(run: FinishedRun) -> Any:
    described = run.task.to_json()
    return described.get("values"), described.get("names")


def _require_same_rows(first: FinishedRun, left: Predictions, other: FinishedRun, right: Predictions) -> None:
    """Raise DataError where rows are not the same, or have different truths."""
    names = f"{first.files.id} and {other.files.id}"
    if not np.array_equal(left.row, right.row):
        parts = [
            f"{len(only):,} only in {run.files.id}: rows {listed(only)}"
            for run, only in (
                (first, np.setdiff1d(left.row, right.row)),
                (other, np.setdiff1d(right.row, left.row)),
            )
            if len(only)
        ]
        raise DataError(
            f"{names} were not scored on the same test rows ({'; '.join(parts)})",
            hint="Score both on one labelled file: --data FILE. Or train both with the same train.seed, data.split and "
            "data.group, or one file as data.test.",
        )
    differ = ~np.isclose(left.truth, right.truth, equal_nan=True).reshape(len(left.truth), -1).all(axis=1)
    if differ.any():
        rows = counted(int(differ.sum()), "row")
        raise DataError(
            f"{names} have different labels in {rows}: {listed(left.row[differ])}",
            hint="The label column changed between the runs. Score both on one labelled file: --data FILE.",
        )


def _pair(
    runs: list[FinishedRun], scored: list[Predictions], at: tuple[int, int], unit: np.ndarray, *, grouped: bool
) -> Pair:
    run, (left, right) = runs[at[0]], (scored[place] for place in at)
    view = view_of(run.task)
    found = _shown(differences(view.estimates(run, left), view.estimates(run, right), unit))
    one, two = view.right(left), view.right(right)
    if one is None or two is None:
        targets = _of_targets(run, left, right, unit, grouped=grouped)
        without_unit = {name: each for name, each in found.items() if not targets or METRICS[name].unit != "label"}
        return Pair(*at, without_unit, [], targets=targets, alike=alike(left, right))
    only_first, only_second = int((one & ~two).sum()), int((two & ~one).sum())
    if not grouped and "accuracy" in found:
        found["accuracy"] = replace(found["accuracy"], p=mcnemar(only_first, only_second), test=MCNEMAR)
    if not grouped and "roc_auc" in found and run.task.classes == 2:
        assert left.probabilities is not None
        assert right.probabilities is not None
        p = delong(left.truth == 1, left.probabilities[:, 1], right.probabilities[:, 1])
        found["roc_auc"] = replace(found["roc_auc"], p=p, test=DELONG)
    flipped = left.row[one != two].tolist()
    return Pair(*at, found, flipped, only_first, only_second, alike=alike(left, right))


def _shown(found: dict[str, Difference]) -> dict[str, Difference]:
    return {name: found[name] for name in shown_metrics({name: one.values for name, one in found.items()})}


def _of_targets(
    run: FinishedRun, left: Predictions, right: Predictions, unit: np.ndarray, *, grouped: bool
) -> dict[str, dict[str, Difference]]:
    """Compare each of several predicted numbers on the rows that have it; {} for a single number."""
    by_target: dict[str, dict[str, Difference]] = {}
    for at, name in enumerate(run.task.target_names):
        known = np.isfinite(left.truth[:, at])
        if not known.any():
            continue
        of_rows = np.unique(unit[known], return_inverse=True)[1]
        first, second = (number_estimates(left.truth[known, at], one.prediction[known, at]) for one in (left, right))
        each = _shown(differences(first, second, of_rows))
        few = too_few(int(known.sum()), of_rows if grouped else None)
        by_target[name] = {metric: _without_interval(one) if few else one for metric, one in each.items()}
    return by_target


def _without_interval(one: Difference) -> Difference:
    """Leave out what few rows can't tell; McNemar's exact test holds for any number."""
    return replace(one, interval=None, p=one.p if one.test == MCNEMAR else None)


def _corrected(pairs: list[Pair]) -> list[Pair]:
    """Correct the p values of all metrics of all pairs together."""
    values = iter(holm([one.p for pair in pairs for *_, one in pair.lines() if one.p is not None]))
    return [pair.mapped(lambda one: one if one.p is None else replace(one, p_holm=next(values))) for pair in pairs]


# In words.


def p_text(p: float | None) -> str:
    """Write a p value: `0.031`, `< 0.001`, or nothing."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(name: str, value: float) -> str:
    """Write a difference with its sign: `+0.012`."""
    text = value_text(name, abs(value))
    sign = "" if not float(text.replace(",", "")) else "+" if value > 0 else "−"
    return f"{sign}{text}"


def interval_of(name: str, one: Difference) -> str:
    """Write the interval of a difference: `−0.010 to +0.034`."""
    return "" if one.interval is None else " to ".join(signed(name, end) for end in one.interval)


def table_of(comparison: Comparison, pair: Pair) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of a table of one pair, as text."""
    header = (
        "Metric",
        comparison.ids[pair.first],
        comparison.ids[pair.second],
        "Difference",
        "95% interval",
        "p",
        "p (Holm)",
    )
    rows = [
        (
            title,
            *(value_text(name, value) for value in one.values),
            signed(name, one.difference),
            interval_of(name, one),
            p_text(one.p),
            p_text(one.p_holm),
        )
        for title, name, one in pair.lines()
    ]
    return header, rows


def row_text(comparison: Comparison, pair: Pair, row: int) -> tuple[str, list[str]]:
    """Return the label of a test row, and the predictions of the two runs, as text."""
    left, right = comparison.scored[pair.first], comparison.scored[pair.second]
    place = int(np.searchsorted(left.row, row))
    task = comparison.runs[0].task
    texts = [target_text(task, part[place]) for part in (left.truth, left.prediction, right.prediction)]
    return texts[0], texts[1:]


def methods_of(comparison: Comparison) -> str:
    """Say how intervals and p values were computed."""
    if comparison.notes and not any(one.interval for pair in comparison.pairs for *_, one in pair.lines()):
        return comparison.notes[0]
    over = "rows" if comparison.groups is None else f"{comparison.groups:,} groups"
    every = [one for pair in comparison.pairs for *_, one in pair.lines()]
    tests = {one.test for one in every}
    words = []
    if MCNEMAR in tests:
        exact = {pair.only_first + pair.only_second < EXACT for pair in comparison.pairs}
        where = f" (exact where fewer than {EXACT} rows differ)" if len(exact) == 2 else ""
        words.append(f"McNemar's {'exact ' if exact == {True} else ''}test for accuracy{where}")
    if DELONG in tests:
        words.append("DeLong's test for ROC AUC")
    words.append("t tests of the linearised difference" + (" for the other metrics" if words else ""))
    count = sum(one.p is not None for one in every)
    return (
        f"Intervals are 95% intervals of paired differences over {over}; p values are those of {', '.join(words)}; "
        f"Holm's correction is over {count} comparisons."
        + "".join(f" Of the means: {note[0].lower()}{note[1:]}" for note in comparison.notes)
    )


def decision_of(comparison: Comparison, pair: Pair) -> str:
    """Say in a sentence whether one of two runs is better by the first headline metric.

    That one metric decides, so that nobody picks it by its result; of several predicted numbers it is the first
    without a unit. Holm's correction is over its pairs alone.
    """
    headline = comparison.runs[0].task.info.headline
    name = next((one for one in headline if not pair.targets or METRICS[one].unit != "label"), headline[0])
    first, second = comparison.ids[pair.first], comparison.ids[pair.second]
    if pair.alike == "outputs":
        return f"{first} and {second} predict the same for each of these rows: no metric tells them apart."
    title = _title(pair, name)
    one = pair.metrics.get(name)
    if one is None or one.p is None:
        why = f"{title} is not defined on these rows" if one is None else "there are too few test rows"
        return f"Whether {second} is better than {first} can't be judged: {why}."
    pairs = [other for other in comparison.pairs if name in other.metrics]
    corrected = holm([other.metrics[name].p or 0.0 for other in pairs])
    runs = {pair.first, pair.second}
    p = corrected[next(at for at, other in enumerate(pairs) if {other.first, other.second} == runs)]
    known = f"p {p_text(p)}" if p < 0.001 else f"p = {p_text(p)}"
    if len(pairs) > 1:
        known += f" by Holm's correction for {len(pairs)} pairs"
    apart = f"difference {signed(name, one.difference)}"
    if one.interval is not None:
        apart += f", 95% CI {interval_of(name, one)}"
    if p < ALPHA:
        better, worse = (second, first) if (one.difference > 0) != lower_is_better(name) else (first, second)
        return f"Judged by {title} alone, {better} is better than {worse} on these rows ({apart}; {known})."
    warned = "that does not show them to be equal"
    if pair.alike:
        warned = "they predict the same for each of these rows, with other probabilities"
    return f"Judged by {title} alone, neither {first} nor {second} is shown to be better ({apart}; {known}); {warned}."


def sentence_of(comparison: Comparison, pair: Pair) -> str:
    """Write the comparison of two runs as a sentence for a paper, with the headline metrics."""
    names = [name for name in comparison.runs[0].task.info.headline if name in pair.metrics]
    parts = []
    for name in names or list(pair.metrics)[:1]:
        one = pair.metrics[name]
        inside = [f"95% CI {interval_of(name, one)}"] if one.interval else []
        if one.p is not None:
            p = p_text(one.p)
            inside.append(f"p {p}" if p.startswith("<") else f"p = {p}")
        said = f"{_title(pair, name)} was {value_text(name, one.values[1])} against {value_text(name, one.values[0])}"
        parts.append(f"{said} (difference {signed(name, one.difference)}{''.join('; ' + each for each in inside)})")
    over = "" if comparison.groups is None else f" in {comparison.groups:,} groups"
    first, second = comparison.ids[pair.first], comparison.ids[pair.second]
    return f"On the same {comparison.rows}{over}, {second} was compared with {first}: {' and '.join(parts)}."


def _title(pair: Pair, name: str) -> str:
    return f"mean {sentence_title(name)} over the targets" if pair.targets else sentence_title(name)
