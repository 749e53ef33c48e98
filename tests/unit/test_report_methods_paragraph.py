"""What the report says of its numbers: no sentence that misleads, and what speaks against them first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reports import change_json, change_spec, classification_run, read, regression_run
from sklearn import metrics as sk

from deeptune.cli.summary import metrics_table, print_summary
from deeptune.report import methods_paragraph
from deeptune.report.doubts import doubts
from deeptune.report.finished_run import read_run
from deeptune.report.methods_paragraph import sentence_title
from deeptune.runs.directory import RunDirectory
from deeptune.spec.toml import dump_spec, load_spec, validate
from deeptune.tasks.baselines import classification_baseline, number_baseline
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.metric_functions import classification_metrics
from deeptune.tasks.number_metrics import number_metrics

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def digits(tmp_path: Path) -> RunDirectory:
    classification_run(tmp_path)
    return RunDirectory(tmp_path)


def text_of(run: RunDirectory) -> str:
    return " ".join(read(run.path)[1].text.split())


def keep_rows(run: RunDirectory, count: int) -> None:
    """Leave the first rows of the test split, with their metrics."""
    table = pq.read_table(run.predictions).slice(0, count)
    pq.write_table(table, run.predictions)
    truth = table["truth"].to_numpy()
    probabilities = np.stack(table["probabilities"].to_numpy())
    change_json(run.metrics, test=classification_metrics(truth, probabilities, ClassificationTask(tuple(range(10)))))


def change_data(run: RunDirectory, **data: object) -> None:
    values = load_spec(run.spec).model_dump(mode="json", exclude_none=True)
    run.spec.write_text(dump_spec(validate({**values, "data": {**values["data"], **data}})), encoding="utf-8")


# What comes first.


def test_a_run_worse_than_its_baseline_says_so_before_its_numbers(digits: RunDirectory) -> None:
    metrics = json.loads(digits.metrics.read_text())["test"]
    baseline = {"accuracy": 0.995, "log_loss": 99.0, "class": 3, "train_class": 3}
    change_json(digits.metrics, test={**metrics, "baseline": baseline})
    text = text_of(digits)
    said = f"Worse than a constant prediction: Accuracy {metrics['accuracy']:.3f} (baseline 0.995)."
    assert text.index(said) < text.index("Accuracy, test")


@pytest.mark.parametrize(
    ("value", "bar", "worse"),
    [
        ({"accuracy": 0.4}, {"accuracy": 0.5}, True),
        ({"accuracy": 0.5}, {"accuracy": 0.5}, False),
        ({"log_loss": 4.7e10}, {"log_loss": 0.7}, True),
        ({"mae": 2.0}, {"mae": 1.9}, True),
        ({"rmse": 1.0, "mae": 0.5}, {"rmse": 1.1, "mae": 0.6}, False),
        ({"accuracy": None}, {"accuracy": 0.5}, False),
    ],
)
def test_worse_is_more_error_or_less_accuracy_than_the_baseline(value, bar, worse) -> None:
    assert bool(doubts("test", {**value, "n": 100, "baseline": bar}, {})) == worse


def test_without_a_test_split_the_headline_says_that_val_chose_the_epoch(digits: RunDirectory) -> None:
    val = json.loads(digits.metrics.read_text())["val"]
    digits.metrics.write_text(json.dumps({"val": val}))
    text = text_of(digits)
    assert "Accuracy, val (val chose the epoch)" in text
    assert "No interval is given: val chose the epoch" in text
    best = json.loads(digits.result.read_text())["best"]
    change_json(digits.result, best={**best, "metric": "val/out_of_fold_loss"})  # of an exact head
    exact = text_of(digits)
    assert "Accuracy, val (the calibration was fitted to val)" in exact
    assert "chose the epoch" not in exact
    assert "val chose the epoch, so these values are optimistic" in text  # in the paragraph for a paper


def test_few_rows_are_told_before_the_numbers(digits: RunDirectory) -> None:
    keep_rows(digits, 2)
    text = text_of(digits)
    assert text.index("The test split has 2 rows, too few to tell a good model from a bad one.") < text.index(
        "Accuracy, test"
    )
    assert text.count("No interval is given: 2 rows are too few (at least 10).") == 2  # also in the words for a paper
    assert "95% interval" not in text.partition("Metrics on test")[0]


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ([], "as column fold of the data gives them."),
        (["val"], "as column fold of the data gives them, with val drawn from the training rows at random, stratified"),
    ],
)
def test_a_split_that_the_data_bring_is_not_called_random(digits: RunDirectory, drawn, said) -> None:
    change_data(digits, path="digits.parquet", split_column="fold", train=None, test=None)
    change_json(digits.result, drawn=drawn)
    assert said in text_of(digits)


def test_rows_that_are_all_in_training_are_not_called_files_of_their_own(digits: RunDirectory) -> None:
    change_data(digits, path="digits.parquet", train=None, test=None)
    change_json(digits.result, drawn=[])
    assert "given as files of their own" not in text_of(digits)


def test_a_head_that_learned_from_val_says_so(digits: RunDirectory) -> None:
    again = "the head was then fitted to the rows of the training and validation splits together"
    assert again not in text_of(digits)
    change_json(digits.result, learned=["train", "val"])
    assert again in text_of(digits)


def test_groups_that_cross_given_splits_are_not_called_kept_together(tmp_path: Path) -> None:
    regression_run(tmp_path)
    run = RunDirectory(tmp_path)
    assert "all rows of one author" in text_of(run)
    table = pq.read_table(run.splits)
    same = pa.array(["one"] * len(table))
    pq.write_table(table.set_column(table.column_names.index("group"), "group", same), run.splits)
    assert "all rows of one author" not in text_of(run)


# Groups.


def test_rows_of_one_group_are_the_unit_of_the_intervals(tmp_path: Path) -> None:
    regression_run(tmp_path)
    run = read_run(tmp_path)
    assert run.predictions is not None
    expected = pq.read_table(RunDirectory(tmp_path).splits).to_pydict()
    group = {
        row: name
        for row, split, name in zip(expected["row"], expected["split"], expected["group"], strict=True)
        if split == "test"
    }
    named = [group[row] for row in run.predictions.row]
    assert run.predictions.groups is not None
    pairs = set(zip(named, run.predictions.groups.tolist(), strict=True))
    assert len(pairs) == len(set(named)) == 30


def test_without_the_group_of_each_row_there_is_no_interval(tmp_path: Path) -> None:
    regression_run(tmp_path)
    run = RunDirectory(tmp_path)
    pq.write_table(pq.read_table(run.splits).drop_columns("group"), run.splits)
    text = text_of(run)
    assert "No interval is given: the author of each row is not in splits.parquet." in text
    assert "95% CI" not in text


def test_splits_by_group_are_not_called_stratified(tmp_path: Path) -> None:
    regression_run(tmp_path)
    text = text_of(RunDirectory(tmp_path))
    assert "all rows of one author are in one split" in text
    assert "stratified" not in text


# Words and numbers.


def test_macro_f1_of_a_split_without_a_class_says_its_rule_and_shows_scikit_learns(digits: RunDirectory) -> None:
    keep_rows(digits, 12)
    table = pq.read_table(digits.predictions)
    truth, prediction = table["truth"].to_numpy(), table["prediction"].to_numpy()
    absent = 10 - len(np.unique(truth))
    _, page = read(digits.path)
    rows = {row[0]: row for row in page.tables[0]}
    everywhere = sk.f1_score(truth, prediction, labels=range(10), average="macro", zero_division=0)
    assert rows["Macro F1"][1] == f"{everywhere:.3f}"
    assert rows["Macro F1 (scikit-learn)"][1] == f"{sk.f1_score(truth, prediction, average='macro'):.3f}"
    assert (
        f"{absent} of 10 classes {'has' if absent == 1 else 'have'} no row here. Macro F1 is the mean over all classes"
        in page.text
    )


def test_macro_f1_stands_alone_where_every_class_occurs(digits: RunDirectory) -> None:
    assert "Macro F1 (scikit-learn)" not in text_of(digits)


def test_the_methods_state_no_more_rows_in_a_step_than_there_are(digits: RunDirectory) -> None:
    change_spec(digits.path, batch_size=1024, accumulation=2)
    rows = read_run(digits.path).rows["train"]
    text = text_of(digits)
    assert f"effective batch size {rows:,}, all training rows" in text
    assert "2,048" not in text


def test_the_log_of_a_measured_batch_size_says_that_there_are_fewer_rows() -> None:
    from deeptune.engine.batch_tuning import batch_size_text

    spec = validate(
        {
            "task": "classification",
            "data": {"path": "a.parquet"},
            "backbone": {"name": "resnet18"},
            "train": {"batch_size": 32, "accumulation": 2, "token_budget": 0, "learning_rate": 1e-3},
        }
    )
    assert batch_size_text(spec, 7).endswith("; a step has all 7 training rows")
    assert batch_size_text(spec, 64).endswith("learning rate 0.001 is for 64")


def test_the_effective_batch_size_counts_accumulation(digits: RunDirectory) -> None:
    change_spec(digits.path, batch_size=8, accumulation=4)
    assert "effective batch size 32;" in text_of(digits)
    assert "8 × 4 accumulated; rows of a step: 32" in text_of(digits)


def test_the_loss_beside_log_loss_says_that_it_is_weighted_and_smoothed(digits: RunDirectory) -> None:
    change_spec(digits.path, class_weights="balanced", label_smoothing=0.1)
    metrics = json.loads(digits.metrics.read_text())["test"]
    change_json(digits.metrics, test={"loss": 0.7, **metrics})
    title = "Minimised loss (cross entropy (classes weighted by inverse frequency, label smoothing 0.1))"
    assert title in {row[0] for row in read(digits.path)[1].tables[0]}


def test_the_score_without_duplicates_stands_beside_the_score(digits: RunDirectory) -> None:
    metrics = json.loads(digits.metrics.read_text())["test"]
    without = {"left_out": 33, "n": 7, "accuracy": 0.571, "macro_f1": 0.5}
    change_json(digits.metrics, test={**metrics, "without_duplicates": without})
    _, page = read(digits.path)
    assert page.tables[0][0][-1] == "Without duplicates"
    assert {row[0]: row for row in page.tables[0]}["Accuracy"][-1] == "0.571"
    assert "without duplicates 0.571 (n = 7)" in page.text.partition("Metrics on test")[0]


def test_a_run_that_looked_for_twins_says_that_it_found_none(digits: RunDirectory) -> None:
    none = "None of these rows is an exact duplicate of a row that the model was trained on."
    assert none not in text_of(digits)  # nobody looked
    digits.learnt_hashes.touch()
    assert none in text_of(digits)
    metrics = json.loads(digits.metrics.read_text())["test"]
    change_json(digits.metrics, test={**metrics, "without_duplicates": {"left_out": 1, "n": metrics["n"] - 1}})
    assert none not in text_of(digits)
    assert "1 of these rows is an exact duplicate of a row" in text_of(digits)


def test_the_end_of_a_run_has_its_doubts_before_and_its_notes_after_the_numbers(digits: RunDirectory, capsys) -> None:
    metrics = json.loads(digits.metrics.read_text())["test"]
    notes = ["33 of 40 rows are identical to a training row"]
    change_json(digits.metrics, test={**metrics, "notes": notes, "baseline": {"accuracy": 0.995}})
    change_json(digits.result, epochs=4, on_bad_sample="skip")
    print_summary(digits)
    shown = capsys.readouterr().out
    places = [shown.index(text) for text in ("Worse than a constant prediction", "Test metrics", f"note: {notes[0]}")]
    assert places == sorted(places)


def test_the_end_of_a_run_without_a_test_split_shows_val_and_says_so(digits: RunDirectory, capsys) -> None:
    val = json.loads(digits.metrics.read_text())["val"]
    digits.metrics.write_text(json.dumps({"val": val}))
    change_json(digits.result, epochs=4, on_bad_sample="skip")
    print_summary(digits)
    shown = " ".join(capsys.readouterr().out.split())
    assert "warning: There is no test split." in shown
    assert "Val metrics (val chose the epoch)" in shown
    assert f"Accuracy {val['accuracy']:.3f}" in shown


def test_splits_that_keep_identical_samples_together_are_not_called_stratified(digits: RunDirectory) -> None:
    digits.spec.write_text(digits.spec.read_text().replace('duplicates = "keep"', 'duplicates = "group"'))
    text = text_of(digits)
    assert "; identical samples are in one split" in text
    assert "stratified" not in text


def test_no_score_is_shown_where_every_row_is_a_duplicate(digits: RunDirectory) -> None:
    metrics = json.loads(digits.metrics.read_text())["test"]
    change_json(digits.metrics, test={**metrics, "without_duplicates": {"left_out": 40, "n": 0, "accuracy": None}})
    assert "Without duplicates" not in text_of(digits)


def test_a_warning_that_comes_first_is_not_repeated(digits: RunDirectory) -> None:
    change_json(digits.result, worse_than_constant="3 of 900 images are <b>smaller</b> than 32 pixels")
    text = text_of(digits)
    assert text.count("of 900 images are <b>smaller</b> than 32 pixels") == 1


def test_a_backbone_in_a_folder_is_called_by_its_name_and_architecture(tmp_path: Path) -> None:
    regression_run(tmp_path)
    run = RunDirectory(tmp_path)
    spec = run.spec.read_text().replace('"gpt2"', '"hf:/home/someone/models/bert-tiny"')
    run.spec.write_text(spec)
    run.backbone.mkdir()
    (run.backbone / "config.json").write_text('{"architectures": ["BertModel"]}')
    text = text_of(run)
    assert "We trained a bert-tiny (Hugging Face, BertModel) backbone" in text
    assert methods_paragraph.backbone_name(read_run(tmp_path)) == "bert-tiny (Hugging Face, BertModel)"
    assert "/home/someone/models" not in text


def test_the_baseline_of_the_run_says_which_class_it_is(digits: RunDirectory) -> None:
    metrics = json.loads(digits.metrics.read_text())["test"]
    baseline = {"accuracy": 0.61, "macro_f1": 0.1, "class": 3, "train_class": 7}
    change_json(digits.metrics, test={**metrics, "baseline": baseline})
    _, page = read(digits.path)
    assert {row[0]: row for row in page.tables[0]}["Accuracy"][3] == "0.610"
    assert "always class 3 (three), the most frequent in test (in train it is class 7 (seven))" in page.text


def test_one_row_with_most_of_the_squared_error_is_named(tmp_path: Path) -> None:
    regression_run(tmp_path)
    run = RunDirectory(tmp_path)
    assert "of all squared errors" not in text_of(run)
    table = pq.read_table(run.predictions)
    prediction = table["prediction"].to_numpy().copy()
    prediction[4] = 1e6
    pq.write_table(table.set_column(2, "prediction", pa.array(prediction)), run.predictions)
    assert f"One row, {table['row'][4].as_py()}, makes up 100% of all squared errors" in text_of(run)


def test_titles_are_whole_in_a_narrow_terminal() -> None:
    from rich.console import Console

    truth, probabilities = np.array([0, 1] * 10), np.tile([0.6, 0.4], (20, 1))
    metrics = classification_metrics(truth, probabilities, ["a", "b"])
    metrics["baseline"] = classification_baseline(truth, truth, ClassificationTask(("a", "b"))).to_json()
    for width in (40, 60, 80, 160):
        console = Console(width=width, no_color=True)
        with console.capture() as capture:
            console.print(metrics_table(metrics, title="Test metrics"))
        shown = " ".join(capture.get().split())
        assert "…" not in shown
        assert all(word in shown for word in ("Expected", "calibration", "error", "baseline 0.500"))


def test_the_run_stores_single_numbers_of_its_baseline() -> None:
    found = number_baseline(np.array([1.0, 5.0]), np.array([0.0, 1.0, 8.0])).to_json()
    assert found == {
        "mae": 2.0,
        "rmse": number_metrics(np.array([1.0, 5.0]), np.array([3.0, 3.0]))["rmse"],
        "r2": 0.0,
        "spearman": None,
        "median": 1.0,
        "mean": 3.0,
    }


@pytest.mark.parametrize(
    ("metric", "title"),
    [("poisson_deviance", "Poisson deviance"), ("r2", "R²"), ("mae", "MAE"), ("accuracy", "accuracy")],
)
def test_a_title_in_a_sentence_keeps_the_capital_of_a_name(metric, title):
    assert sentence_title(metric) == title
