"""Runs compared: their differences as counted by hand, and runs that can't be compared."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reports import change_json, classification_run, regression_run
from scipy import stats
from sklearn import metrics as sk
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from deeptune.cli.app import app
from deeptune.errors import DataError, SpecError
from deeptune.report.comparing import (
    compare_runs,
    compare_scored,
    decision_of,
    methods_of,
    sentence_of,
    table_of,
)
from deeptune.report.finished_run import FinishedRun, Predictions, read_run
from deeptune.runs.directory import RunDirectory
from deeptune.spec.toml import dump_spec, load_spec, validate
from deeptune.tasks.multitarget import MultiTargetTask
from deeptune.tasks.regression import RegressionTask


def other_run(directory: Path, name: str, spoiled: int = 9) -> Path:
    """A copy of a run that predicts another class for some of the rows."""
    copy = directory.parent / name
    shutil.copytree(directory, copy)
    path = RunDirectory(copy).predictions
    table = pq.read_table(path)
    chances = np.array(table["probabilities"].to_pylist())
    chances[:spoiled] = np.roll(chances[:spoiled], 1, axis=1)
    table = table.set_column(2, "prediction", pa.array(chances.argmax(axis=1)))
    pq.write_table(table.set_column(3, "probabilities", pa.array(list(chances))), path)
    return copy


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    one = tmp_path / "runs" / "one"
    one.mkdir(parents=True)
    classification_run(one)
    return [one, other_run(one, "two")]


def test_values_and_flipped_rows_are_those_counted_by_hand(two: list[Path]) -> None:
    found = compare_runs(two).to_json()
    tables = [pq.read_table(RunDirectory(run).predictions) for run in two]
    truth = tables[0]["truth"].to_numpy()
    guesses = [table["prediction"].to_numpy() for table in tables]
    accuracy = [sk.accuracy_score(truth, guess) for guess in guesses]
    assert found["metrics"]["accuracy"]["values"] == pytest.approx(accuracy)
    assert found["metrics"]["accuracy"]["difference"] == pytest.approx(accuracy[1] - accuracy[0])
    changed = (guesses[0] == truth) != (guesses[1] == truth)
    assert found["flipped"] == tables[0]["row"].to_numpy()[changed].tolist()
    assert found["n"] == len(truth)
    chances = [np.array(table["probabilities"].to_pylist()) for table in tables]
    areas = [sk.roc_auc_score(truth, chance, multi_class="ovr") for chance in chances]
    assert found["metrics"]["roc_auc"]["values"] == pytest.approx(areas)


def test_the_json_has_these_keys_alone(two: list[Path]) -> None:
    found = compare_runs(two).to_json()
    assert set(found) == {"metrics", "n", "flipped"}
    assert all(set(one) == {"values", "difference", "interval", "p"} for one in found["metrics"].values())


def test_three_runs_have_all_pairs_and_the_keys_of_the_first(two: list[Path]) -> None:
    three = [*two, other_run(two[0], "three", 20)]
    found = compare_runs(three).to_json()
    assert found["metrics"] == found["pairs"][0]["metrics"]
    assert [pair["runs"] for pair in found["pairs"]] == [["one", "two"], ["one", "three"], ["two", "three"]]


def test_holm_corrects_over_all_pairs(two: list[Path]) -> None:
    pair = compare_runs(two).pairs[0].metrics["accuracy"]
    more = compare_runs([*two, other_run(two[0], "three", 20)]).pairs[0].metrics["accuracy"]
    assert pair.p == more.p
    assert pair.p is not None
    assert pair.p_holm is not None
    assert more.p_holm is not None
    assert pair.p < pair.p_holm <= more.p_holm


def test_groups_replace_mcnemars_test(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    regression_run(one)
    copy = tmp_path / "two"
    shutil.copytree(one, copy)
    table = pq.read_table(RunDirectory(copy).predictions)
    worse = table["prediction"].to_numpy() + np.random.default_rng(0).normal(0, 30, len(table))
    pq.write_table(table.set_column(2, "prediction", pa.array(worse)), RunDirectory(copy).predictions)
    found = compare_runs([one, copy])
    assert found.groups == 30
    assert found.pairs[0].flipped == []
    error = found.pairs[0].metrics["mae"]
    assert error.difference > 0
    assert error.test == "t"
    sentence = sentence_of(found, found.pairs[0])
    assert "MAE was" in sentence
    assert "and R² was" in sentence


def test_other_rows_are_refused_with_the_rows(two: list[Path]) -> None:
    path = RunDirectory(two[1]).predictions
    table = pq.read_table(path)
    pq.write_table(table.slice(2), path)
    with pytest.raises(DataError, match=rf"2 only in one: rows {table['row'][0]}"):
        compare_runs(two)


def test_other_labels_of_the_rows_are_refused(two: list[Path]) -> None:
    path = RunDirectory(two[1]).predictions
    table = pq.read_table(path)
    truth = (table["truth"].to_numpy() + (np.arange(len(table)) == 3)) % 10
    pq.write_table(table.set_column(1, "truth", pa.array(truth)), path)
    with pytest.raises(DataError, match="different labels in 1 row:"):
        compare_runs(two)


def test_other_data_are_refused_with_the_fingerprints(two: list[Path]) -> None:
    change_json(RunDirectory(two[1]).run, fingerprints={"data": "sha256:other"})
    with pytest.raises(DataError, match=r"not scored on the same data.*sha256:1234 and sha256:other"):
        compare_runs(two)


def test_runs_on_other_training_files_are_compared_on_the_same_test_file(two: list[Path]) -> None:
    for place, run in enumerate(two):
        change_json(RunDirectory(run).run, fingerprints={"data": f"sha256:{place}", "test": "sha256:same"})
    assert compare_runs(two).n > 0


def test_a_run_without_test_rows_is_named_before_its_other_data(two: list[Path]) -> None:
    files = RunDirectory(two[1])
    files.predictions.unlink()
    change_json(files.run, fingerprints={"data": "sha256:other"})
    with pytest.raises(DataError, match="the run two has no scored test rows") as raised:
        compare_runs(two)
    assert "--data FILE" in str(raised.value.hint)


def test_another_task_is_refused(two: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "numbers"
    other.mkdir()
    regression_run(other)
    with pytest.raises(DataError, match=r"different tasks: classification and regression"):
        compare_runs([two[0], other])


def test_few_rows_have_mcnemars_test_alone(two: list[Path]) -> None:
    for run in two:
        path = RunDirectory(run).predictions
        pq.write_table(pq.read_table(path).slice(0, 8), path)
    found = compare_runs(two).to_json()["metrics"]
    assert found["accuracy"]["interval"] is None
    assert found["accuracy"]["p"] is not None
    assert found["macro_f1"]["p"] is None


def test_the_command_prints_table_sentence_and_rows(two: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(two[0].parent.parent)
    shown = CliRunner().invoke(app, ["compare", "one", "two"], catch_exceptions=False)
    assert shown.exit_code == 0
    for words in ("Accuracy", "right only in A", "p (Holm)", "test rows, two was compared with one", "truth"):
        assert words in shown.output
    found = CliRunner().invoke(app, ["compare", "one", "two", "--json"], catch_exceptions=False)
    assert json.loads(found.output)["n"] > 0
    table = CliRunner().invoke(app, ["compare", "one", "two", "--table", "latex"], catch_exceptions=False).output
    assert r"\toprule" in table
    assert "Metric & one & two & Difference" in table
    assert "$-$" in table
    assert "−" not in table  # pdflatex stops at it


def test_a_run_that_is_named_twice_is_refused(two: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair of it with itself would make Holm's correction harder on the others."""
    monkeypatch.chdir(two[0].parent.parent)
    found = CliRunner().invoke(app, ["compare", "one", "two", "runs/one"])
    assert isinstance(found.exception, SpecError)
    assert "the run one is named twice" in str(found.exception)


def test_another_label_column_is_refused(two: list[Path]) -> None:
    path = RunDirectory(two[1]).spec
    values = load_spec(path).model_dump(mode="json", exclude_none=True)
    values["data"]["label"] = "severity"
    path.write_text(dump_spec(validate(values)), encoding="utf-8")
    with pytest.raises(DataError, match=r"different label columns: 'labels' and 'severity'"):
        compare_runs(two)


def test_the_decision_is_mcnemars_of_accuracy_and_names_the_better_run(two: list[Path]) -> None:
    better, worse = two[0], other_run(two[0], "spoiled", 60)
    found = compare_runs([better, worse])
    pair = found.pairs[0]
    counts = [[0, pair.only_first], [pair.only_second, 0]]
    p = contingency_tables.mcnemar(counts, exact=False, correction=True).pvalue
    assert p < 0.001
    assert decision_of(found, pair).startswith(
        "Judged by accuracy alone, one is better than spoiled on these rows (difference −"
    )
    assert decision_of(found, pair).endswith("p < 0.001).")
    other = compare_runs([worse, better])
    assert "one is better than spoiled on these rows (difference +" in decision_of(other, other.pairs[0])


def test_a_lower_error_is_better_and_few_rows_decide_nothing(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    regression_run(one)
    two = tmp_path / "two"
    shutil.copytree(one, two)
    path = RunDirectory(two).predictions
    table = pq.read_table(path)
    truth, said = table["truth"].to_numpy(), table["prediction"].to_numpy()
    pq.write_table(table.set_column(2, "prediction", pa.array(truth + (said - truth) / 3)), path)
    found = compare_runs([one, two])
    assert decision_of(found, found.pairs[0]).startswith(
        "Judged by MAE alone, two is better than one on these rows (difference −"
    )
    for run in (one, two):
        path = RunDirectory(run).predictions
        pq.write_table(pq.read_table(path).slice(0, 5), path)
    found = compare_runs([one, two])
    assert "can't be judged: there are too few test rows" in decision_of(found, found.pairs[0])


def test_no_difference_is_not_called_equality_and_pairs_are_corrected(two: list[Path]) -> None:
    third = other_run(two[0], "three", 12)
    found = compare_runs([*two, third])
    said = decision_of(found, found.pairs[2])
    assert said.startswith("Judged by accuracy alone, neither two nor three is shown to be better (difference ")
    assert "by Holm's correction for 3 pairs); that does not show them to be equal." in said
    p = [pair.metrics["accuracy"].p for pair in found.pairs]
    assert f"p = {multipletests(p, method='holm')[1][2]:.3f} by Holm" in said


def test_a_tie_has_no_winner(two: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """One run again, one whose probabilities alone are others, and one that errs in as many other rows."""
    copy, scaled, swapped = (other_run(two[0], name, 0) for name in ("copy", "scaled", "swapped"))
    table = pq.read_table(RunDirectory(copy).predictions)
    chances = np.array(table["probabilities"].to_pylist())
    truth, guess = table["truth"].to_numpy(), table["prediction"].to_numpy()
    sharper = chances**1.3 / (chances**1.3).sum(axis=1, keepdims=True)
    right, wrong = np.flatnonzero(truth == guess)[:4], np.flatnonzero(truth != guess)[:4]
    other = guess.copy()
    other[right], other[wrong] = (truth[right] + 1) % 10, truth[wrong]
    for run, said, probabilities in ((scaled, guess, sharper), (swapped, other, chances)):
        values = table.set_column(2, "prediction", pa.array(said))
        pq.write_table(
            values.set_column(3, "probabilities", pa.array(list(probabilities))), RunDirectory(run).predictions
        )

    found = compare_runs([two[0], copy, scaled, swapped])
    said = [decision_of(found, pair) for pair in found.pairs]
    assert said[0] == "one and copy predict the same for each of these rows: no metric tells them apart."
    assert said[1].endswith("they predict the same for each of these rows, with other probabilities.")
    assert "neither one nor swapped is shown to be better (difference 0.000" in said[2]
    assert said[2].endswith("that does not show them to be equal.")
    assert not any("is better than" in each for each in said)
    pairs = found.to_json()["pairs"]
    p = [one["p"] for pair in pairs for one in pair["metrics"].values()]
    held = [one["p_holm"] for pair in pairs for one in pair["metrics"].values()]
    assert held == pytest.approx(multipletests(p, method="holm")[1])

    monkeypatch.chdir(two[0].parent.parent)
    printed = CliRunner().invoke(app, ["compare", "one", "copy", "swapped", "--rows", "0"]).output
    assert "A  one\nC  swapped\n" in printed
    assert "difference: C − B" in printed
    assert "4 rows are right only in B, 4 only in C" in printed


def test_errors_that_differ_by_the_same_in_every_row_are_told_apart(tmp_path: Path) -> None:
    directories = [tmp_path / name for name in ("one", "two")]
    for off, directory in enumerate(directories, 1):
        directory.mkdir()
        regression_run(directory)
        path = RunDirectory(directory).predictions
        table = pq.read_table(path)
        truth = pa.array(np.arange(float(len(table))))
        table = table.set_column(1, "truth", truth)
        pq.write_table(table.set_column(2, "prediction", pa.array(truth.to_numpy() + off)), path)
    found = compare_runs(directories)
    assert "one is better than two on these rows" in decision_of(found, found.pairs[0])


def several_targets(directory: Path, factor: float) -> tuple[FinishedRun, Predictions]:
    """A finished run of millimetres and kilograms, some of them unknown, and its predictions."""
    regression_run(directory)
    rng = np.random.default_rng(0)
    truth = rng.normal((1000, 3), (200, 0.5), (60, 2))
    truth[:20, 1] = np.nan
    prediction = truth + factor * rng.normal(0, (50, 0.1), truth.shape)
    prediction[:20, 1] = 3
    task = MultiTargetTask(0.0, 1.0, ("mm", "kg"), (RegressionTask(1000, 200), RegressionTask(3, 0.5)))
    scored = Predictions(np.arange(60), truth, prediction, None)
    return replace(read_run(directory), task=task, predictions=scored), scored


def test_several_targets_are_compared_each_in_its_unit(tmp_path: Path) -> None:
    both = []
    for name, factor in (("one", 1.0), ("two", 1.2)):
        (tmp_path / name).mkdir()
        both.append(several_targets(tmp_path / name, factor))
    runs, scored = (list(each) for each in zip(*both, strict=True))
    found = compare_scored(runs, scored)
    pair = found.pairs[0]
    assert list(pair.metrics) == ["r2", "spearman"]  # the mean of millimetres and kilograms is not a number
    errors = {}
    for at, name in enumerate(("mm", "kg")):
        known = np.isfinite(scored[0].truth[:, at])
        truth = scored[0].truth[known, at]
        one, two = (each.prediction[known, at] for each in scored)
        errors[name] = pair.targets[name]["mae"]
        assert errors[name].values == pytest.approx(
            (sk.mean_absolute_error(truth, one), sk.mean_absolute_error(truth, two))
        )
        expected = stats.ttest_rel(abs(two - truth), abs(one - truth))
        assert errors[name].p == pytest.approx(expected.pvalue)
        assert errors[name].interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
        assert pair.targets[name]["r2"].values == pytest.approx([sk.r2_score(truth, each) for each in (one, two)])
    mean = [np.mean([pair.targets[name]["r2"].values[at] for name in ("mm", "kg")]) for at in range(2)]
    assert pair.metrics["r2"].values == pytest.approx(mean)
    assert list(found.to_json()) == ["metrics", "per_target", "n", "flipped"]
    assert found.to_json()["per_target"]["kg"]["mae"]["difference"] == pytest.approx(errors["kg"].difference)
    every = [one for *_, one in pair.lines()]
    assert [one.p_holm for one in every] == pytest.approx(multipletests([one.p for one in every], method="holm")[1])
    assert decision_of(found, pair).startswith("Judged by mean R² over the targets alone, one is better than two")
    assert "mean R² over the targets was" in sentence_of(found, pair)
    assert "MAE" not in sentence_of(found, pair)
    titles = [line[0] for line in table_of(found, pair)[1]]
    assert titles[:3] == ["Mean R²", "Mean Spearman", "mm: MAE"]
    assert "over 10 comparisons" in methods_of(found)


def test_a_target_that_few_rows_have_is_compared_without_an_interval(tmp_path: Path) -> None:
    both = []
    for name, factor in (("one", 1.0), ("two", 1.2)):
        (tmp_path / name).mkdir()
        run, scored = several_targets(tmp_path / name, factor)
        scored.truth[:54, 1] = np.nan
        both.append((run, scored))
    runs, scored = (list(each) for each in zip(*both, strict=True))
    found = compare_scored(runs, scored)
    pair = found.pairs[0]
    assert pair.targets["kg"]["mae"].interval is None
    assert pair.targets["mm"]["mae"].interval is not None
    assert (pair.metrics["r2"].interval, pair.metrics["r2"].p) == (None, None)  # no mean is known better than its parts
    assert "of one target are too few" in found.notes[0]
    assert "Of the means: no interval is given: 6 rows of one target are too few" in methods_of(found)
    assert decision_of(found, pair).endswith("can't be judged: there are too few test rows.")


def test_a_pair_the_other_way_round_is_that_of_the_runs_in_this_order(two: list[Path]) -> None:
    found, turned = compare_runs(two), compare_runs(two[::-1])
    ours, theirs = found.pairs[0].reversed(), turned.pairs[0]
    assert (ours.only_first, ours.only_second) == (theirs.only_first, theirs.only_second)
    for name, one in ours.metrics.items():
        assert one.values == theirs.metrics[name].values
        assert one.difference == pytest.approx(theirs.metrics[name].difference)
        assert one.interval == pytest.approx(theirs.metrics[name].interval)
        assert one.p == pytest.approx(theirs.metrics[name].p)
    assert (ours.first, ours.second) == (1, 0)
    assert decision_of(found, ours) == decision_of(turned, theirs)
