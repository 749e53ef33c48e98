"""Planted problems of images and texts are found: unreadable ones, duplicates, odd ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from audits import audit, decoded, image_file, kinds, only, two_files
from PIL import Image
from planting import NAMES, digits, png, snippets, write

from deeptune.data.images.decode import decode_image
from deeptune.data.sources.parquet import open_source


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


@pytest.mark.parametrize("lists", [False, True])
def test_identical_texts_with_other_labels_are_an_error_among_many_classes(tmp_path, lists):
    texts = [f"a text of number {row}" for row in range(1_100)]
    texts[20] = texts[4]
    labels = [f"class {row}" for row in range(1_100)]
    path = write(tmp_path / "a.parquet", text=texts, labels=[[label] for label in labels] if lists else labels)
    (found,) = audit(path, task="multilabel" if lists else "classification").of_kind("exact_duplicate")
    assert (found.severity, found.rows) == ("error", (4, 20))


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
    table = open_source("sample:openclipart7").head(["images", "labels"], 60).to_pydict()
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
