"""Planted problems of every kind are found, and none in clean data."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from planting import NAMES, digits, png, snippets, write

import deeptune
from deeptune.auditing import KINDS
from deeptune.auditing.label_errors import suspects
from deeptune.data.images.decode import decode_image
from deeptune.data.sources.source import Source
from deeptune.errors import DataError, SpecError


def audit(data, **options):
    return deeptune.audit(data, features=False, **options)


def kinds(report) -> set[str]:
    return {finding.kind for finding in report.findings}


def only(report, kind):
    """The one finding of a kind, where there is no other finding."""
    assert kinds(report) == {kind}, [finding.message for finding in report.findings]
    assert len(report.findings) == 1
    return report.findings[0]


def image_file(path, images, labels, **columns):
    return write(path, images=images, labels=labels, **columns)


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


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


def test_an_image_that_is_cut_off_is_undecodable(tmp_path):
    images, labels = digits()
    images[7] = images[7][:60]
    found = only(audit(image_file(tmp_path / "a.parquet", images, labels)), "undecodable")
    assert (found.severity, found.rows) == ("error", (7,))
    assert "row 7 is cut off" in found.message


def test_a_blank_text_is_undecodable(tmp_path):
    texts, labels = snippets()
    texts[3] = "  "
    assert only(audit(write(tmp_path / "a.parquet", text=texts, labels=labels)), "undecodable").rows == (3,)


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


def test_identical_images_of_one_class_are_found(tmp_path):
    images, labels = digits()
    images[20], labels[20] = images[4], labels[4]
    found = only(audit(image_file(tmp_path / "a.parquet", images, labels)), "exact_duplicate")
    assert (found.severity, found.rows) == ("warning", (4, 20))


def test_identical_images_with_other_labels_are_an_error(tmp_path):
    images, labels = digits()
    images[20], labels[20] = images[4], next(name for name in NAMES if name != labels[4])
    report = audit(image_file(tmp_path / "a.parquet", images, labels))
    (found,) = report.of_kind("exact_duplicate")
    assert (found.severity, found.rows) == ("error", (4, 20))
    assert kinds(report) <= {"exact_duplicate", "suspected_label_error"}  # one of the two labels is wrong


def jpeg(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return Image.open(io.BytesIO(stream.getvalue())).convert("L")


@pytest.mark.parametrize(
    "change",
    [
        jpeg,
        lambda image: image.resize((96, 96), Image.Resampling.BICUBIC),
        lambda image: image.point(lambda value: value * 0.8 + 20),
    ],
    ids=["saved as JPEG", "enlarged", "brightened"],
)
def test_a_copy_of_an_image_is_a_near_duplicate(tmp_path, change):
    images, labels = digits()
    images[20], labels[20] = png(change(decoded(images[4]))), labels[4]
    report = audit(image_file(tmp_path / "a.parquet", images, labels))
    assert [finding.rows for finding in report.of_kind("near_duplicate")] == [(4, 20)]


def test_cropped_and_brightened_drawings_are_near_duplicates(tmp_path):
    """Copies that differ more than a file that was saved again: a hundredth cut off each side, or white that clips."""
    table = Source.open("sample:openclipart7").head(["images", "labels"], 60).to_pydict()
    originals = [decode_image(data) for data in table["images"]]
    for at in range(0, 20, 2):
        picture = originals[at]
        width, height = picture.size
        x, y = round(width / 100), round(height / 100)
        cropped = picture.crop((x, y, width - x, height - y)).resize((width, height))
        for copy in (cropped, picture.point(lambda value: min(255, value * 1.15))):
            table["images"].append(png(copy))
            table["labels"].append(table["labels"][at])
    report = audit(image_file(tmp_path / "a.parquet", table["images"], table["labels"]))
    found = {row for finding in report.of_kind("near_duplicate") for row in finding.rows}
    assert len(found & set(range(60, 80))) >= 17
    assert found <= set(range(0, 20, 2)) | set(range(60, 80))


def test_a_text_with_a_word_changed_is_a_near_duplicate(tmp_path):
    texts, labels = snippets()
    long = max(range(len(texts)), key=lambda at: len(texts[at]))
    words = texts[long].split()
    words[2] = "somewhat"
    texts[1], labels[1] = " ".join(words), labels[long]
    report = audit(write(tmp_path / "a.parquet", text=texts, labels=labels))
    assert [set(finding.rows) for finding in report.of_kind("near_duplicate")] == [{1, long}]


def test_a_text_with_other_punctuation_is_a_near_duplicate(tmp_path):
    texts, labels = snippets()
    texts[1], labels[1] = texts[9].upper() + "!!", labels[9]
    report = audit(write(tmp_path / "a.parquet", text=texts, labels=labels))
    assert [finding.rows for finding in report.of_kind("near_duplicate")] == [(1, 9)]


def two_files(tmp_path, images, labels, **columns):
    def part(rows):
        return {name: values[rows] for name, values in columns.items()}

    train = image_file(tmp_path / "train.parquet", images[:200], labels[:200], **part(slice(0, 200)))
    test = image_file(tmp_path / "test.parquet", images[200:], labels[200:], **part(slice(200, None)))
    return {"train": train, "test": test}


def test_an_image_in_two_files_is_a_cross_split_duplicate(tmp_path):
    images, labels = digits()
    images[210], labels[210] = images[4], labels[4]
    found = only(audit(two_files(tmp_path, images, labels)), "cross_split_duplicate")
    assert (found.severity, found.rows, found.splits) == ("error", (4, 10), ("train", "test"))


def test_a_copy_of_an_image_in_another_file_is_a_cross_split_duplicate(tmp_path):
    images, labels = digits()
    images[210], labels[210] = png(jpeg(decoded(images[4]))), labels[4]
    found = only(audit(two_files(tmp_path, images, labels)), "cross_split_duplicate")
    assert (found.severity, found.rows) == ("warning", (4, 10))


def test_a_split_column_tells_the_splits(tmp_path):
    images, labels = digits()
    images[210], labels[210] = images[4], labels[4]
    split = ["train"] * 200 + ["test"] * 100
    path = image_file(tmp_path / "a.parquet", images, labels, split=split)
    found = only(audit(path, split_column="split"), "cross_split_duplicate")
    assert (found.rows, found.splits) == ((4, 210), ("train", "test"))


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


def test_test_labels_with_other_shares_are_drift(tmp_path):
    images, labels = digits()
    order = sorted(range(300), key=lambda at: (labels[at] == "one", at % 7))
    report = audit(two_files(tmp_path, [images[at] for at in order], [labels[at] for at in order]))
    assert any("the labels of test differ" in one.message for one in report.of_kind("drift"))


def odd(tmp_path, image):
    images, labels = digits()
    images[30] = image
    return only(audit(image_file(tmp_path / "a.parquet", images, labels)), "odd_image")


def test_an_image_of_one_colour_is_odd(tmp_path):
    found = odd(tmp_path, png(np.full((32, 32), 17, np.uint8)))
    assert (found.severity, found.rows) == ("warning", (30,))


def test_a_long_image_is_odd(tmp_path):
    strip = np.random.default_rng(0).integers(0, 255, (8, 400), np.uint8)
    images, labels = digits()
    images[30] = png(strip)
    found = audit(image_file(tmp_path / "a.parquet", images, labels)).of_kind("odd_image")
    assert any("times as long as wide" in one.message and one.rows == (30,) for one in found)


def test_an_image_of_several_frames_is_odd(tmp_path):
    frames = [Image.fromarray(np.random.default_rng(at).integers(0, 255, (32, 32), np.uint8)) for at in range(2)]
    stream = io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    assert "several frames" in odd(tmp_path, stream.getvalue()).message


def test_an_image_in_colour_among_grey_ones_is_odd(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    assert "differ in colour" in odd(tmp_path, png(image)).message


def test_an_image_with_opacity_is_odd(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 2), np.uint8), "LA")
    assert "differ in opacity" in odd(tmp_path, png(image)).message


def test_an_image_of_16_bits_is_odd(tmp_path):
    image = np.random.default_rng(0).integers(0, 60_000, (32, 32)).astype(np.uint16)
    assert "of more than 8 bits" in odd(tmp_path, png(image)).message


def test_an_image_turned_by_exif_is_odd(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8))
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    image.save(stream, "PNG", exif=exif)
    assert "EXIF" in odd(tmp_path, stream.getvalue()).message


def test_a_text_with_more_words_than_tokens_fit_is_truncated(tmp_path):
    texts, labels = snippets()
    texts[8] = " ".join(f"word{at}" for at in range(600))
    report = audit(write(tmp_path / "a.parquet", text=texts, labels=labels))
    assert [one.rows for one in report.of_kind("truncated_text")] == [(8,)]


def test_a_text_that_was_decoded_wrongly_is_found(tmp_path):
    texts, labels = snippets()
    texts[8] = "a film about a naïve café owner in Zürich".encode().decode("cp1252")
    found = only(audit(write(tmp_path / "a.parquet", text=texts, labels=labels)), "encoding")
    assert found.rows == (8,)


def test_a_text_with_accents_is_not_wrong(tmp_path):
    texts, labels = snippets()
    texts[8] = "a film about a naïve “café” owner in Zürich – at 30 °C, for £5"
    assert audit(write(tmp_path / "a.parquet", text=texts, labels=labels)).findings == ()


def test_a_text_in_another_script_is_found(tmp_path):
    texts, labels = snippets()
    texts[8] = "очень хороший и трогательный фильм"
    assert only(audit(write(tmp_path / "a.parquet", text=texts, labels=labels)), "mixed_script").rows == (8,)


def test_labels_that_the_task_does_not_take_are_found(tmp_path):
    path = image_file(tmp_path / "a.parquet", *digits())
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


def test_a_run_warns_of_persons_that_are_no_group(tmp_path):
    persons = [f"P{at % 100:03}" for at in range(300)]
    path = image_file(tmp_path / "a.parquet", *digits(), patient_id=persons)
    assert 'data.group = "patient_id"' in started(path)[0]
    assert started(path, group="patient_id") == []


def test_a_run_on_clean_data_has_no_such_warning(tmp_path):
    assert started(image_file(tmp_path / "a.parquet", *digits(), patient=[f"P{at}" for at in range(300)])) == []
