"""The report and its tables: real predictions on real data, checked against scikit-learn."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reports import HOSTILE, Page, classification_run, predict_constant, read, regression_run
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier, DummyRegressor

from deeptune.errors import CheckpointError
from deeptune.formatting import visible
from deeptune.report import tables, write_report
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import write_json
from deeptune.tasks.baselines import classification_baseline, number_baseline
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.metric_functions import classification_metrics

# Stopped early on purpose: the curves need epochs that differ.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Page]:
    directory = tmp_path_factory.mktemp("runs") / "digits-20260101-101500-a1b2c3"
    directory.mkdir()
    return classification_run(directory), *read(directory)


def test_headline_numbers_are_scikit_learns(digits: tuple[dict[str, Any], str, Page]) -> None:
    known, _, page = digits
    truth, prediction, probabilities = known["truth"], known["prediction"], known["probabilities"]
    rows = {row[0]: row for row in page.tables[0]}
    expected = {
        "Accuracy": sk.accuracy_score(truth, prediction),
        "Balanced accuracy": sk.balanced_accuracy_score(truth, prediction),
        "Macro F1": sk.f1_score(truth, prediction, average="macro"),
        "Weighted F1": sk.f1_score(truth, prediction, average="weighted"),
        "ROC AUC": sk.roc_auc_score(truth, probabilities, multi_class="ovr"),
    }
    for title, value in expected.items():
        assert rows[title][1] == f"{value:.3f}"
    assert float(rows["Log loss"][1]) == pytest.approx(sk.log_loss(truth, probabilities), rel=1e-3)
    low, high = map(float, rows["Accuracy"][2].split(" to "))
    assert low < expected["Accuracy"] < high

    dummy = DummyClassifier(strategy="prior").fit(np.zeros((len(known["train"]), 1)), known["train"])
    constant = np.full(len(truth), np.bincount(truth).argmax())
    assert rows["Accuracy"][3] == f"{sk.accuracy_score(truth, constant):.3f}"
    assert rows["Macro F1"][3] == f"{sk.f1_score(truth, constant, average='macro'):.3f}"
    assert float(rows["Log loss"][3]) == pytest.approx(
        sk.log_loss(truth, dummy.predict_proba(np.zeros((len(truth), 1)))), rel=1e-3
    )
    assert "Wilson score intervals" in page.text


def test_classes_are_sorted_worst_first(digits: tuple[dict[str, Any], str, Page]) -> None:
    known, _, page = digits
    precision, recall, f1, support = sk.precision_recall_fscore_support(known["truth"], known["prediction"])
    header, *rows = page.tables[1]
    assert header == list(tables.CLASS_HEADER)
    names = known["labels"].names
    for row, index in zip(rows, np.argsort(f1, kind="stable"), strict=True):
        assert row[0] == f"{index} ({names[index]})"
        assert row[1:4] == [f"{precision[index]:.3f}", f"{recall[index]:.3f}", f"{f1[index]:.3f}"]
        assert row[5] == str(support[index])


def test_confusion_matrix_is_scikit_learns(digits: tuple[dict[str, Any], str, Page]) -> None:
    known, _, page = digits
    matrix = sk.confusion_matrix(known["truth"], known["prediction"])
    shown = [[int(cell) for cell in row[1:]] for row in page.tables[2][1:]]
    assert shown == matrix.tolist()
    shares = [
        float(attributes["style"].removeprefix("--share:"))
        for tag, attributes in page.tags
        if tag == "td" and "style" in attributes
    ]
    assert shares[1:] == pytest.approx((matrix / matrix.sum(axis=1, keepdims=True)).ravel(), abs=6e-4)
    errors = matrix - np.diag(matrix.diagonal())
    assert [int(row[2]) for row in page.tables[3][1:]] == sorted(errors[errors > 0].tolist(), reverse=True)[:10]


def test_report_says_what_was_done_and_what_comes_next(digits: tuple[dict[str, Any], str, Page]) -> None:
    known, _, page = digits
    text = " ".join(page.text.split())
    accuracy = sk.accuracy_score(known["truth"], known["prediction"])
    for expected in (
        "digits-20260101-101500-a1b2c3",
        f"accuracy was {accuracy:.3f} (95% CI",
        "5,130 of 11,181,642 parameters",
        "We trained a resnet18 backbone with pretrained weights to classify images into 10 classes",
        "(DeepTune 0.1.0, PyTorch 2.6.0)",
        "The ring marks the best epoch, 3.",
        "epoch 3 of 4, were kept",
        "3 of 900 images are <b>smaller</b> than 32 pixels",
        "train, row 12: not an image <img src=x>",
        "deeptune predict ",
        "deeptune evaluate ",
        "deeptune embed ",
        "sha256:1234",
        "1 min 15 s",
        r"\begin{tabular}{lrrr}",
        "| Metric | Value | 95% interval | Baseline |",
    ):
        assert expected in text, expected
    assert "secret-host" not in text


def test_report_needs_nothing_from_outside(digits: tuple[dict[str, Any], str, Page]) -> None:
    _, html, page = digits
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "image", "object"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert (value or "").startswith("#"), (tag, name, value)
    assert set(re.findall(r"https?://[^\"'\s<]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_pictures_follow_the_pages_colours(digits: tuple[dict[str, Any], str, Page]) -> None:
    _, html, _ = digits
    pictures = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(pictures) == 3
    for picture in pictures:
        assert "var(--blue)" in picture
        assert "currentColor" in picture
        assert not re.search(r"fill: #|stroke: #|<image|[Nn]a[Nn]", picture)


def test_report_is_the_same_each_time(tmp_path: Path) -> None:
    classification_run(tmp_path)
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


def test_hostile_class_names_stay_text(tmp_path: Path) -> None:
    classification_run(tmp_path, names=HOSTILE)
    html, page = read(tmp_path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [character for character in html if not (character.isprintable() or character == "\n")]
    titles = {row[0] for row in page.tables[1][1:]}
    assert titles == {f"{index} ({visible(name)})" for index, name in enumerate(HOSTILE)}
    assert "2 (\\x1b[31mred\\x1b[0m)" in titles
    assert "5 (\\u202eright to left)" in titles
    # What is pasted elsewhere is escaped for the place where it is pasted.
    assert r"\| pipe \|" in page.text
    assert r"100\% \$x\_1\$ \textbackslash{}frac\{" in page.text
    assert r"a \& b" in page.text


def test_regression_report(tmp_path: Path) -> None:
    known = regression_run(tmp_path)
    _, page = read(tmp_path)
    truth, prediction = known["truth"], known["prediction"]
    rows = {row[0]: row for row in page.tables[0]}
    assert float(rows["MAE"][1]) == pytest.approx(sk.mean_absolute_error(truth, prediction), rel=1e-3)
    assert float(rows["RMSE"][1]) == pytest.approx(sk.root_mean_squared_error(truth, prediction), rel=1e-3)
    assert rows["R²"][1] == f"{sk.r2_score(truth, prediction):.3f}"
    median = predict_constant(DummyRegressor(strategy="median"), known)
    constant = predict_constant(DummyRegressor(), known)
    assert float(rows["MAE"][3]) == pytest.approx(sk.mean_absolute_error(truth, median), rel=1e-3)
    assert rows["R²"][3] == f"{sk.r2_score(truth, constant):.3f}"
    assert rows["Spearman"][3] == "n/a"
    text = " ".join(page.text.split())
    assert "from random initial weights to predict a number from texts" in text
    assert "LoRA of rank 8, alpha 16" in text
    assert "val drawn from the training rows at random; all rows of one author are in one split" in text
    assert "stratified" not in text
    assert "jackknife intervals over 30 groups" in text
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 5
    assert len(page.tables) == 5  # one is of the worst rows, two are checklists


def test_broken_event_lines_and_repeated_epochs_are_no_problem(tmp_path: Path) -> None:
    classification_run(tmp_path)
    files = RunDirectory(tmp_path)
    lines = files.events.read_text(encoding="utf-8").splitlines()
    extra = {"v": 1, "seq": 99, "t": 0, "kind": "epoch", "epoch": 4, "epochs": 4, "train": {"loss": None}, "val": None}
    lines[2:2] = ["{broken", "", "[1, 2]", '{"kind": "epoch"}']
    unknown = {**extra, "seq": 100, "kind": "from the future"}
    lines += [json.dumps(extra), json.dumps(unknown), '{"v":1,"seq":101,"t":1,"kind":"ep']
    files.events.write_text("\n".join(lines), encoding="utf-8")
    _, page = read(tmp_path)
    assert "epoch 3 of 4, were kept" in page.text


def test_rows_with_an_error_are_not_scored(tmp_path: Path) -> None:
    known = classification_run(tmp_path)
    files = RunDirectory(tmp_path)
    table = pq.read_table(files.predictions)
    failed = pa.table(
        {
            name: pa.array([9_999 if name == "row" else 1 if name == "truth" else None], table.schema.field(name).type)
            for name in table.column_names
        }
    )
    joined = pa.concat_tables([failed, table])
    pq.write_table(joined.append_column("error", pa.array(["no image"] + [None] * len(table))), files.predictions)
    _, page = read(tmp_path)
    constant = np.full(len(known["truth"]), np.bincount(known["truth"]).argmax())
    rows = {row[0]: row for row in page.tables[0]}
    assert rows["Accuracy"][3] == f"{sk.accuracy_score(known['truth'], constant):.3f}"


def test_only_spec_labels_and_metrics_are_needed(tmp_path: Path) -> None:
    classification_run(tmp_path)
    files = RunDirectory(tmp_path)
    for path in (files.events, files.predictions, files.splits, files.result, files.run):
        path.unlink()
    html, page = read(tmp_path)
    assert "<svg" not in html
    rows = {row[0]: row for row in page.tables[0]}
    assert rows["Accuracy"][2:] == ["", ""]


def test_without_a_test_split_the_report_says_so(tmp_path: Path) -> None:
    classification_run(tmp_path)
    files = RunDirectory(tmp_path)
    metrics = json.loads(files.metrics.read_text(encoding="utf-8"))
    write_json(files.metrics, {"val": metrics["val"]})
    _, page = read(tmp_path)
    assert "There is no test split." in page.text
    assert {row[0]: row for row in page.tables[0]}["Accuracy"][1] == f"{metrics['val']['accuracy']:.3f}"


def test_without_a_val_split_the_last_epoch_is_what_was_kept(tmp_path: Path) -> None:
    classification_run(tmp_path)
    files = RunDirectory(tmp_path)
    events = [json.loads(line) for line in files.events.read_text(encoding="utf-8").splitlines()]
    for event in events:
        event.pop("val", None)
    files.events.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    html, page = read(tmp_path)
    assert "There was no validation split; the weights after epoch 4 were kept." in page.text
    assert html.count("<svg") == 2


def test_many_classes_have_no_matrix_but_their_worst_confusions(tmp_path: Path) -> None:
    classification_run(tmp_path)
    files = RunDirectory(tmp_path)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 150, size=600)
    probabilities = rng.dirichlet(np.ones(150), size=600)
    labels = ClassificationTask(tuple(f"class {index:03d}" for index in range(150)))
    write_json(files.labels, labels.to_json())
    write_json(files.metrics, {"test": classification_metrics(truth, probabilities, labels)})
    files.predictions.unlink()
    files.splits.unlink()
    html, page = read(tmp_path)
    assert 'class="confusion"' not in html
    assert len(page.tables) == 5
    assert len(page.tables[1]) == 1 + len(np.unique(truth))
    assert page.tables[2][0] == ["True class", "Predicted", "Rows", "Share of the true class"]


def test_a_model_no_better_than_the_baseline_is_called_that(tmp_path: Path) -> None:
    known = classification_run(tmp_path)
    assert "not clearly better" not in read(tmp_path)[1].text
    files = RunDirectory(tmp_path)
    table = pq.read_table(files.predictions)
    wrong = (known["truth"] + np.random.default_rng(0).integers(0, 10, size=len(known["truth"]))) % 10
    pq.write_table(table.set_column(2, "prediction", pa.array(wrong)), files.predictions)
    assert "Accuracy is not clearly better than the baseline" in read(tmp_path)[1].text


@pytest.mark.parametrize("name", ["spec", "labels", "metrics"])
def test_an_unfinished_run_is_one_clear_error(tmp_path: Path, name: str) -> None:
    classification_run(tmp_path)
    missing = getattr(RunDirectory(tmp_path), name)
    missing.unlink()
    with pytest.raises(CheckpointError, match=re.escape(f"{missing} is missing")):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    classification_run(tmp_path)
    predictions = RunDirectory(tmp_path).predictions
    predictions.write_bytes(predictions.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=re.escape(str(predictions))):
        write_report(tmp_path)


def test_baselines_are_scikit_learns_dummies() -> None:
    train, truth = np.array([0, 0, 0, 1, 2, 2]), np.array([2, 1, 0, 0])
    metrics = classification_baseline(truth, train, ClassificationTask(("a", "b", "c"))).to_json()
    dummy = DummyClassifier(strategy="prior").fit(train[:, None], train)
    assert (metrics["class"], metrics["train_class"]) == ("a", "a")
    assert metrics["accuracy"] == sk.accuracy_score(truth, dummy.predict(truth[:, None]))
    assert metrics["log_loss"] == pytest.approx(sk.log_loss(truth, dummy.predict_proba(truth[:, None])))
    assert metrics["roc_auc"] == 0.5


def test_the_baseline_is_the_best_constant_where_trains_most_frequent_class_is_rare_in_test() -> None:
    train, truth = np.array([0] * 60 + [1] * 30 + [2] * 10), np.array([1] * 61 + [2] * 39)
    found = classification_baseline(truth, train, ClassificationTask(("a", "b", "c"))).to_json()
    assert (found["class"], found["train_class"]) == ("b", "a")
    always = np.ones(100, int)
    assert found["accuracy"] == sk.accuracy_score(truth, always) == 0.61
    expected = sk.f1_score(truth, always, labels=[0, 1, 2], average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)
    prior = DummyClassifier(strategy="prior").fit(train[:, None], train).predict_proba(truth[:, None])
    assert found["log_loss"] == pytest.approx(sk.log_loss(truth, prior, labels=[0, 1, 2]))


def test_the_baseline_of_mae_is_the_median_and_of_rmse_the_mean() -> None:
    train, truth = np.array([1.0, 1.0, 1.0, 9.0]), np.array([1.0, 1.5, 12.0])
    found = number_baseline(truth, train).to_json()
    for name, strategy, score in (
        ("mae", "median", sk.mean_absolute_error),
        ("rmse", "mean", sk.root_mean_squared_error),
        ("r2", "mean", sk.r2_score),
    ):
        constant = DummyRegressor(strategy=strategy).fit(train[:, None], train).predict(truth[:, None])
        assert found[name] == pytest.approx(score(truth, constant)), name
    assert (found["median"], found["mean"]) == (1, 3)


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.91449, "0.914"),
        ("accuracy", None, "n/a"),
        ("r2", -0.25, "-0.250"),
        ("mae", 12.3456, "12.35"),
        ("mae", 0.0012345, "0.001234"),
        ("mae", 123456.7, "123,457"),
        ("mae", 0, "0"),
        ("log_loss", 1.23e-9, "1.230e-09"),
        ("rmse", float("nan"), "n/a"),
    ],
)
def test_numbers_are_written_one_way(metric: str, value: float | None, text: str) -> None:
    assert tables.value_text(metric, value) == text


def test_tables_for_the_terminal() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2])
    prediction = np.array([0, 0, 1, 0, 0, 1])
    labels = ClassificationTask((3, 5, 9, 11), ("ant", "bee", "cow", "\x1bdog"))
    metrics = classification_metrics(truth, np.eye(4)[prediction], labels)
    assert tables.metric_rows({"loss": 0.5, **metrics})[:2] == [("Accuracy", "0.500"), ("Balanced accuracy", "0.500")]
    assert tables.metric_rows({"loss": 0.5, **metrics})[-1] == ("Minimised loss", "0.5000")
    assert [row["class"] for row in tables.worst_classes(metrics)] == [9, 5, 3]
    assert tables.class_rows(metrics, 1) == [("9 (cow)", "0.000", "0.000", "0.000", "0.500", "2")]
    assert tables.worst_confusions(metrics, 2) == [("5 (bee)", "3 (ant)", 1, "50%"), ("9 (cow)", "3 (ant)", 1, "50%")]
    assert tables.class_titles(metrics["per_class"])[3] == "11 (\\x1bdog)"
    assert tables.markdown_table(("a", "b"), [("x|y", "1")]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n"
    assert [tables.share_text(28, 1000), tables.share_text(1, 3), tables.share_text(0, 0)] == ["2.8%", "33%", "0%"]


def test_report_imports_no_torch(tmp_path: Path) -> None:
    classification_run(tmp_path)
    code = (
        "import sys; from pathlib import Path; from deeptune.report import tables, write_report\n"
        "assert not {'numpy', 'matplotlib', 'jinja2'} & set(sys.modules), 'the tables should be cheap'\n"
        "write_report(Path(sys.argv[1]))\n"
        "print([name for name in ('torch', 'transformers', 'timm', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
