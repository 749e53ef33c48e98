"""Clean data has no findings, and problems that are planted into labels, persons and splits are found."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audits import audit, decoded, image_file, kinds, only, two_files
from planting import NAMES, digits, png, snippets, write

import deeptune
from deeptune.auditing import KINDS
from deeptune.auditing.label_errors import suspects
from deeptune.errors import DataError, SpecError

# Clean data.


def test_clean_images_of_classes_have_no_findings(tmp_path):
    assert audit(image_file(tmp_path / "a.parquet", *digits())).findings == ()


def test_clean_images_in_train_and_test_files_have_no_findings(tmp_path):
    images, labels = digits()
    train = image_file(tmp_path / "train.parquet", images[:200], labels[:200])
    test = image_file(tmp_path / "test.parquet", images[200:], labels[200:])
    assert audit({"train": train, "test": test}).findings == ()


def test_clean_images_of_numbers_have_no_findings(tmp_path):
    images, _ = digits()
    numbers = np.random.default_rng(0).normal(size=len(images)).tolist()
    report = audit(image_file(tmp_path / "a.parquet", images, numbers))
    assert report.findings == ()
    assert report.overview["task"] == "regression"


def test_clean_texts_have_no_findings(tmp_path):
    texts, labels = snippets()
    assert audit(write(tmp_path / "a.parquet", text=texts, labels=labels)).findings == ()


def test_clean_images_with_several_labels_have_no_findings(tmp_path):
    images, names = digits()
    lists = [[name, "odd" if NAMES.index(name) % 2 else "even"] for name in names]
    report = audit(image_file(tmp_path / "a.parquet", images, lists))
    assert report.findings == ()
    assert report.overview["task"] == "multilabel"


def test_ordered_classes_are_audited_as_such(tmp_path):
    images, names = digits()
    path = image_file(tmp_path / "a.parquet", images, [NAMES.index(name) for name in names])
    assert audit(path, task="ordinal").findings == ()


# Planted problems.


def test_a_missing_label_is_found(tmp_path):
    images, labels = digits()
    labels[5] = None
    found = only(audit(image_file(tmp_path / "a.parquet", images, labels)), "missing_label")
    assert (found.severity, found.rows) == ("error", (5,))


def test_a_word_for_a_missing_label_is_found(tmp_path):
    images, labels = digits()
    labels[5] = labels[9] = "N/A"
    report = audit(image_file(tmp_path / "a.parquet", images, labels))
    assert report.of_kind("missing_label")[0].rows == (5, 9)


def test_a_group_in_two_files_is_found(tmp_path):
    images, labels = digits()
    persons = [f"P{at // 2:03}" for at in range(199)] + [f"P{at // 2:03}" for at in range(197, 298)]
    found = only(audit(two_files(tmp_path, images, labels, patient=persons), group="patient"), "group_crosses_splits")
    assert found.severity == "error"
    assert "'P099'" in found.message


def test_a_person_in_two_files_is_found_without_a_group(tmp_path):
    images, labels = digits()
    persons = [f"P{at % 150:03}" for at in range(300)]
    report = audit(two_files(tmp_path, images, labels, PatientID=persons))
    assert kinds(report) == {"id_like_column", "group_crosses_splits"}


@pytest.mark.parametrize("name", ["patient", "PatientID", "subject_id", "code"])
def test_a_column_of_persons_that_is_no_group_is_found(tmp_path, name):
    images, labels = digits()
    path = image_file(tmp_path / "a.parquet", images, labels, **{name: [f"P{at % 100:03}" for at in range(300)]})
    found = only(audit(path), "id_like_column")
    assert found.fix == f'data.group = "{name}"'
    assert audit(path, group=name).findings == ()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("age", [20 + at % 60 for at in range(300)]),
        ("image_id", [f"I{at:04}" for at in range(300)]),
        ("sex", ["f" if at % 2 else "m" for at in range(300)]),
        ("comment", [f"remark of kind {at % 40}" for at in range(300)]),
        ("width", [at % 30 for at in range(300)]),
    ],
)
def test_other_columns_are_no_persons(tmp_path, name, values):
    assert audit(image_file(tmp_path / "a.parquet", *digits(), **{name: values})).findings == ()


@pytest.mark.parametrize("variant", ["Three", "three ", "thre", "threee", "htree"])
def test_a_variant_of_a_label_is_found(tmp_path, variant):
    images, labels = digits()
    row = labels.index("three")
    labels[row] = variant
    report = audit(image_file(tmp_path / "a.parquet", images, labels))
    found = report.of_kind("label_variant")
    assert [one.rows for one in found] == [(row,)]
    assert f"{variant!r} (1) like 'three' (49)" in found[0].message


def test_classes_that_differ_in_a_digit_or_a_letter_are_classes(tmp_path):
    images, _ = digits()
    names = ["grade 1", "grade 2", "cat", "bat", "type a", "type b"]
    labels = [names[at % 6] for at in range(300)]
    assert not audit(image_file(tmp_path / "a.parquet", images, labels)).of_kind("label_variant")


def test_labels_that_are_ids_are_found(tmp_path):
    images, _ = digits()
    report = audit(image_file(tmp_path / "a.parquet", images, [f"case-{at}" for at in range(300)]))
    assert "look like ids" in report.of_kind("label_variant")[0].message


def test_wrong_labels_are_suspected(tmp_path):
    images, labels = digits()
    wrong = [11, 80, 190]
    for row in wrong:
        labels[row] = "five" if labels[row] == "zero" else "zero"
    found = only(audit(image_file(tmp_path / "a.parquet", images, labels)), "suspected_label_error")
    assert len(set(found.rows) & set(wrong)) >= 2
    assert len(set(found.rows) - set(wrong)) <= 1


@pytest.mark.parametrize(("share", "recall", "precision"), [(0.02, 0.8, 0.9), (0.1, 0.7, 0.95)])
def test_most_planted_wrong_labels_are_suspected_and_few_right_ones(share, recall, precision):
    from sklearn.datasets import load_digits

    data, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(1)
    wrong = rng.permutation(len(labels))[: int(share * len(labels))]
    planted = labels.copy()
    planted[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    places, suggested = suspects(data.astype(np.float32), planted)
    hits = np.isin(places, wrong)
    assert hits.sum() >= recall * len(wrong)
    assert hits.mean() >= precision
    assert np.mean(suggested[hits] == labels[places[hits]]) > 0.9
    assert len(suspects(data.astype(np.float32), labels)[0]) <= 3  # a few digits look like others


def test_a_format_that_predicts_the_label_is_a_shortcut(tmp_path):
    images, labels = digits()
    stream = [io.BytesIO() for _ in images]
    for at, (image, label) in enumerate(zip(images, labels, strict=True)):
        decoded(image).save(stream[at], "BMP" if label in NAMES[:3] else "PNG")
    kinds = ["low" if label in NAMES[:3] else "high" for label in labels]
    report = audit(image_file(tmp_path / "a.parquet", [one.getvalue() for one in stream], kinds))
    assert any(one.message.startswith("file format alone predicts 'labels'") for one in report.of_kind("shortcut"))


def test_a_size_that_one_class_has_is_a_shortcut(tmp_path):
    images, labels = digits()
    images = [
        png(decoded(image).resize((48, 48))) if label == "two" else image
        for image, label in zip(images, labels, strict=True)
    ]
    report = audit(image_file(tmp_path / "a.parquet", images, labels))
    assert any("tells class 'two'" in one.message for one in report.of_kind("shortcut"))


def test_a_text_length_that_predicts_the_label_is_a_shortcut(tmp_path):
    texts, labels = snippets()
    texts = [
        text[:30] if label else text + " and " + texts[-at]
        for at, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    report = audit(write(tmp_path / "a.parquet", text=texts, labels=labels))
    assert any("text length alone predicts" in one.message for one in report.of_kind("shortcut"))


def test_a_brightness_that_predicts_a_number_is_a_shortcut(tmp_path):
    images, _ = digits()
    numbers = np.linspace(0, 1, len(images))
    images = [png(decoded(image).point(lambda value, by=by: value // 2 + int(100 * by)))
              for image, by in zip(images, numbers, strict=True)]  # fmt: skip
    report = audit(image_file(tmp_path / "a.parquet", images, numbers.tolist()))
    assert any("mean brightness alone predicts" in one.message for one in report.of_kind("shortcut"))


def test_a_class_with_few_rows_is_imbalance(tmp_path):
    images, labels = digits()
    rows = [at for at in range(300) if labels[at] != "four" or at % 13 == 0]
    found = only(audit(image_file(tmp_path / "a.parquet", [images[at] for at in rows], [labels[at] for at in rows])),
                 "imbalance")  # fmt: skip
    assert {labels[rows[at]] for at in found.rows} == {"four"}


def test_a_rare_label_among_several_is_imbalance(tmp_path):
    images, names = digits()
    lists = [[name, *(["rare"] if at % 100 == 0 else [])] for at, name in enumerate(names)]
    assert "rare 3" in only(audit(image_file(tmp_path / "a.parquet", images, lists)), "imbalance").message


def test_test_images_that_were_made_otherwise_are_drift(tmp_path):
    images, labels = digits()
    images[200:] = [png(decoded(image).point(lambda value: 255 - value)) for image in images[200:]]
    found = only(audit(two_files(tmp_path, images, labels)), "drift")
    assert found.severity == "warning"


def test_one_group_as_test_that_was_made_otherwise_is_drift(tmp_path):
    images, labels = digits()
    images[200:] = [png(decoded(image).point(lambda value: 255 - value)) for image in images[200:]]
    hospitals = [f"hospital {row % 6}" for row in range(200)] + ["another"] * (len(images) - 200)
    report = audit(two_files(tmp_path, images, labels, hospital=hospitals), group="hospital")
    assert [one.severity for one in report.of_kind("drift")] == ["warning"]


def test_test_labels_with_other_shares_are_drift(tmp_path):
    images, labels = digits()
    order = sorted(range(300), key=lambda at: (labels[at] == "one", at % 7))
    report = audit(two_files(tmp_path, [images[at] for at in order], [labels[at] for at in order]))
    assert any("the labels of test differ" in one.message for one in report.of_kind("drift"))


def test_labels_that_the_task_does_not_take_are_found(tmp_path):
    path = image_file(tmp_path / "a.parquet", *digits())
    assert "unfit_label" in kinds(audit(path, task="regression"))


def test_lists_of_words_are_no_numbers(tmp_path):
    images, labels = digits()
    path = image_file(tmp_path / "a.parquet", images, [[label] for label in labels])
    assert "unfit_label" in kinds(audit(path, task="regression"))


@pytest.mark.parametrize(
    ("value", "task"), [("good", "classification"), (True, "classification"), (3, "ordinal"), (2.5, "regression")]
)
def test_the_same_label_in_every_row_is_an_error(tmp_path, value, task):
    images, labels = digits()
    report = audit(image_file(tmp_path / "a.parquet", images, [value] * len(labels)), task=task)
    (found,) = report.of_kind("unfit_label")
    assert found.severity == "error"
    assert "every label in column 'labels' is" in found.message


# Inputs.


def test_a_spec_is_audited_with_its_columns(tmp_path):
    images, labels = digits()
    persons = [f"P{at % 100:03}" for at in range(300)]
    path = image_file(tmp_path / "a.parquet", images, labels, patient=persons)
    spec = tmp_path / "run.toml"
    spec.write_text(f'[data]\npath = "{path}"\ngroup = "patient"\n[backbone]\nname = "resnet18"\n')
    report = audit(spec)
    assert report.findings == ()
    assert report.overview["group"] == "patient"


def test_a_file_without_labels_is_audited(tmp_path):
    images, _ = digits()
    images[20] = images[4]
    report = audit(write(tmp_path / "a.parquet", images=images))
    assert only(report, "exact_duplicate").rows == (4, 20)
    assert report.overview["label"] is None


def test_class_names_of_the_file_are_used(tmp_path):
    images, labels = digits()
    table = pa.table({"images": images, "labels": [NAMES.index(name) for name in labels]})
    table = table.replace_schema_metadata({"label_names": '["zero", "one", "two", "three", "four", "five"]'})
    pq.write_table(table, tmp_path / "a.parquet")
    assert set(audit(tmp_path / "a.parquet").overview["labels"]["classes"]) == set(NAMES)


def test_two_rows_are_enough(tmp_path):
    images, labels = digits()
    assert audit(image_file(tmp_path / "a.parquet", images[:2], labels[:2])).findings == ()


def test_a_label_column_that_the_audited_file_lacks_is_an_error(tmp_path):
    path = image_file(tmp_path / "a.parquet", *digits())
    with pytest.raises(DataError, match="no column 'diagnosis'"):
        audit(path, label="diagnosis")


def test_an_option_that_is_not_there_is_an_error():
    with pytest.raises(SpecError, match="no option 'labels'"):
        audit("sample:openclipart7", labels="x")


def test_each_kind_is_explained_in_the_documentation(tmp_path):
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []


# At the start of a run.


def started(path, **data) -> list[str]:
    from deeptune.auditing.starting import start_warnings
    from deeptune.data.splits.planner import plan_data

    values = {"data": {"path": str(path), **data}, "backbone": {"name": "resnet18"}}
    return start_warnings(plan_data(deeptune.load_spec(values)))


def test_a_run_warns_of_a_variant_of_a_label(tmp_path):
    images, labels = digits()
    labels[labels.index("three")] = "Three"
    labels[len(labels) - 1 - labels[::-1].index("three")] = "Three"
    assert "'Three' like 'three'" in started(image_file(tmp_path / "a.parquet", images, labels))[0]


def test_a_run_warns_of_a_word_for_a_missing_label(tmp_path):
    images, labels = digits()
    labels = [{0: "N/A", 1: "nan"}.get(row % 10, label) for row, label in enumerate(labels)]
    (warning,) = started(image_file(tmp_path / "a.parquet", images, labels))
    assert "60 labels in column 'labels' are 'N/A', 'nan', which is trained as a class" in warning


@pytest.mark.parametrize(("least", "warned"), [(-1, True), (-2, False), (0, False)])
def test_a_run_warns_of_minus_one_before_the_classes(tmp_path, least, warned):
    images, labels = digits()
    numbers = [least + sorted(set(labels)).index(label) for label in labels]
    told = started(image_file(tmp_path / "a.parquet", images, numbers))
    assert [f"{numbers.count(-1):,} labels in column 'labels' are -1, which is trained" in text for text in told] == (
        [True] if warned else []
    )


def test_a_run_warns_of_persons_that_are_no_group(tmp_path):
    persons = [f"P{at % 100:03}" for at in range(300)]
    path = image_file(tmp_path / "a.parquet", *digits(), patient_id=persons)
    assert 'data.group = "patient_id"' in started(path)[0]
    assert started(path, group="patient_id") == []


def test_a_run_on_clean_data_has_no_such_warning(tmp_path):
    assert started(image_file(tmp_path / "a.parquet", *digits(), patient=[f"P{at}" for at in range(300)])) == []
