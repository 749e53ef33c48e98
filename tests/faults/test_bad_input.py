"""Bad data, weights and places to write: one clear message, the right exit code, no run that seems done."""

from __future__ import annotations

import ctypes
import json
import os
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults.one_message import DATA, SPEC, STORAGE, TRAINING, WEIGHTS, check
from pictures import png, png_that_claims

TINY = (
    "--set", "backbone.name=resnet18", "--set", "backbone.weights=random", "--set", "backbone.image_size=32",
    "--set", "train.epochs=1", "--set", "train.batch_size=8", "--set", "train.device=cpu", "--output", "out",
    "--foreground",
)  # fmt: skip
PIXELS = [png(colour=[(200, 30, 30), (30, 30, 200)][row % 2]) for row in range(24)]
LABELS = [("red", "blue")[row % 2] for row in range(24)]


def replaced(values: list, row: int, value: object) -> list:
    return [*values[:row], value, *values[row + 1 :]]


# The data.
def not_parquet(file: Path) -> None:
    file.write_text("images,labels\n1,2\n")


def truncated(file: Path) -> None:
    pq.write_table(pa.table({"images": PIXELS, "labels": LABELS}), file)
    file.write_bytes(file.read_bytes()[:-20])


def damaged_inside(file: Path) -> None:
    """The footer is whole, a page is not."""
    pq.write_table(
        pa.table({"images": [os.urandom(500) for _ in range(24)], "labels": LABELS}), file, compression="zstd"
    )
    content = bytearray(file.read_bytes())
    content[4:60] = bytes(56)
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "parts"),
    [
        (None, ["data.path: there is no file or folder", "data.parquet. Did you mean 'dat.parquet'?"]),
        (not_parquet, ["data.path: ", "data.parquet is not a Parquet file", "deeptune import"]),
        (truncated, ["data.path: ", "data.parquet is cut off"]),
        (damaged_inside, ["data.path: column 'images' of", "data.parquet cannot be read"]),
        (lambda file: file.write_bytes(b""), ["data.path: ", "data.parquet is empty (0 bytes)"]),
        (lambda file: file.mkdir(), ["data.path: the folder", "is empty"]),
        (
            lambda file: pq.write_table(pa.table({"images": PIXELS, "lables": LABELS}), file),
            ["data.label: there is no column 'labels' in", "Did you mean 'lables'?", "images (binary)"],
        ),
        (
            lambda file: pq.write_table(pa.table({"image": PIXELS, "labels": LABELS}), file),
            ["data.input", "neither a column 'images' nor a column 'text'", "image (binary)"],
        ),
        (
            lambda file: pq.write_table(pa.table({"images": LABELS, "labels": LABELS}), file),
            ["data.input: 24 of 24 samples in column 'images'", "row 0 names the file red, which does not exist"],
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used(command, write, parts):
    Path("dat.parquet").write_text("")
    if write:
        write(Path("data.parquet"))
    check(command("run", *TINY, "--data", "data.parquet"), DATA, *parts)


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"images": replaced(PIXELS, 17, b"no picture")}, ["1 of 24", "row 17 is not an image", "on_bad_sample"]),
        ({"images": replaced(PIXELS, 17, PIXELS[0][:-30])}, ["1 of 24 samples", "row 17 is cut off"]),
        ({"images": replaced(PIXELS, 17, None)}, ["row 17 is null"]),
        (
            {"images": replaced(PIXELS, 3, png_that_claims(10_000, 10_000))},
            ["row 3 claims 10,000 × 10,000 pixels; the limit is 64 megapixels"],
        ),
        ({"labels": replaced(LABELS, 5, None)}, ["data.label: 1 of 24 labels in column 'labels' are missing", "row 5"]),
        ({"labels": np.linspace(0, 1, 24)}, ["'labels' holds decimal numbers", "integers, strings", "regression"]),
        ({"labels": np.arange(24) % 3 * 1.0}, ["cast the column to integers"]),
        ({"labels": ["same"] * 24}, ["only one class, 'same'", "two or more"]),
        ({"labels": [None] * 24}, ["'labels' is null"]),
        ({"labels": [str(row) for row in range(24)]}, ["24 distinct values in 24 rows"]),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_used(command, image_file, columns, parts):
    check(command("run", *TINY, "--data", str(image_file(**columns))), DATA, *parts)


@pytest.mark.parametrize("empty", ["", "  \n", None])
def test_an_empty_text(command, text_file, tiny_bert, empty):
    texts = pq.read_table(text_file())["text"].to_pylist()
    file = text_file(text=replaced(texts, 7, empty))
    answer = command(
        "run", "--data", str(file), "--set", f"backbone.name=hf:{tiny_bert}", "--output", "out", "--foreground"
    )
    check(
        answer,
        DATA,
        "data.input: 1 of 24 samples in column 'text'",
        f"row 7 is {'blank' if empty is not None else 'null'}",
    )


def test_numbers_that_do_not_vary(command, image_file):
    file = image_file(labels=[1.5] * 24)
    answer = command("run", *TINY, "--data", str(file), "--set", "task=regression")
    check(answer, DATA, "every training value of column 'labels' is 1.5")


def test_a_backbone_of_the_other_modality(command, text_file):
    check(
        command("run", *TINY, "--data", str(text_file())),
        SPEC,
        "'resnet18' is a backbone for image, but the data is text",
    )


def test_settings_of_the_other_modality(command, image_file, text_file, tiny_bert):
    answer = command("run", *TINY, "--data", str(image_file()), "--set", "train.token_budget=100")
    check(answer, SPEC, "train.token_budget: images have no tokens")
    texts = ["--data", str(text_file()), "--set", f"backbone.name=hf:{tiny_bert}", "--output", "out", "--foreground"]
    answer = command("run", *texts, "--set", "train.memory_format=channels_last")
    check(answer, SPEC, "train.memory_format: 'channels_last' is for images")


def test_the_same_errors_in_a_dry_run(command, image_file):
    check(command("run", *TINY, "--dry-run", "--data", str(image_file(labels=["same"] * 24))), DATA, "only one class")
    assert not Path("out").exists()


def test_bad_samples_are_skipped_counted_and_listed(command, image_file):
    images = replaced(replaced(PIXELS, 17, b"no picture"), 3, png_that_claims(10_000, 10_000))
    file = image_file(images=images)
    answer = command("run", *TINY, "--json", "--data", str(file), "--set", "data.on_bad_sample=skip")
    assert answer.code == 0, answer.stderr
    run = Path(json.loads(answer.stdout)["run"])
    result = json.loads((run / "result.json").read_text())
    assert sum(result["rows"].values()) == 22
    assert [(bad["row"], bad["reason"].split(" ")[0]) for bad in result["skipped"]] == [(3, "claims"), (17, "is")]
    assert "warning: 2 of 24 samples cannot be used: 2 left out" in answer.stderr
    told = command("run", *TINY, "--data", str(file), "--set", "data.on_bad_sample=skip").stdout
    summary = told.partition("done in ")[2]
    assert "warning: 2 of 24 samples cannot be used" in summary
    assert "2 bad samples were left out: see `skipped` in out/" in summary
    assert not {3, 17} & set(pq.read_table(run / "splits.parquet")["row"].to_pylist())


# Weights.
def test_weights_that_do_not_fit(command, image_file):
    import torchvision
    from safetensors.torch import save_file

    state = torchvision.models.resnet18().state_dict()
    state["layer4.1.conv3.weight"] = state.pop("layer4.1.conv2.weight")
    state["conv1.weight"] = state["conv1.weight"][:, :1].contiguous()
    save_file(state, "w.safetensors")
    answer = command("run", *TINY, "--data", str(image_file()), "--set", "backbone.weights=w.safetensors")
    check(answer, WEIGHTS, "w.safetensors", "layer4.1.conv2.weight", "layer4.1.conv3.weight", "conv1.weight")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["backbone.weights: there is no file or folder", "w.pth"]),
        (b"PK\x03\x04 no zip", ["w.pth"]),
        (b"cposix\nsystem\n(S'touch pwned'\ntR.", ["w.pth", "refused", "Python objects"]),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_read(command, image_file, content, parts):
    if content is not None:
        Path("w.pth").write_bytes(content)
    answer = command("run", *TINY, "--data", str(image_file()), "--set", "backbone.weights=w.pth")
    check(answer, WEIGHTS, *parts)
    assert not Path("pwned").exists()


def test_pretrained_weights_that_are_not_here(cli, image_file, environment, tmp_path):
    home = {
        **environment,
        "TORCH_HOME": str(tmp_path / "torch"),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    answer = cli("run", *TINY, "--data", str(image_file()), "--set", "backbone.weights=pretrained", env=home)
    check(answer, WEIGHTS, "resnet18-f37072fd.pth", str(tmp_path / "torch"), root=tmp_path / "out")


# Training.
def test_a_loss_that_is_not_finite(cli, image_file, tmp_path):
    settings = (
        "tuning.method=full", "train.learning_rate=1e30", "train.head_learning_rate=1e30", "train.optimizer=sgd",
        "train.clip_norm=0", "train.warmup=0", "train.epochs=3", "head.standardise=false",
    )  # fmt: skip
    arguments = [word for setting in settings for word in ("--set", setting)]
    answer = cli("run", *TINY, *arguments, "--json", "--data", str(image_file()))
    check(answer, TRAINING, "the loss is", "learning_rate", root=tmp_path / "out")
    told = json.loads(answer.stdout)
    assert told["state"] == "failed"
    assert json.loads((Path(told["run"]) / "result.json").read_text())["state"] == "failed"


def test_a_batch_of_one_under_batch_normalisation(command, image_file):
    """At 32 pixels ResNet's last map is one pixel: the spread of one value is none."""
    arguments = ["--set", "tuning.method=full", "--set", "train.batch_size=1"]
    answer = command("run", *TINY, *arguments, "--data", str(image_file()))
    check(answer, TRAINING, "batch normalisation", "a batch of 1", "train.batch_size")


# Storage.
def test_a_file_where_the_output_folder_should_be(command, image_file):
    Path("out").write_text("mine")
    answer = command("run", *TINY, "--data", str(image_file()))
    check(answer, STORAGE, "cannot write", "out", "Not a directory", "another folder")
    assert Path("out").read_text() == "mine"


def without_the_right_to_write_anywhere() -> None:
    """Root may write everywhere: take that capability from this process and what it starts."""
    prctl, drop_from_bounding_set, dac_override = ctypes.CDLL(None).prctl, 24, 1
    if os.geteuid() == 0 and prctl(drop_from_bounding_set, dac_override, 0, 0, 0) != 0:
        os._exit(99)


def test_no_right_to_write_the_output(cli, image_file, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    arguments = ["--data", str(image_file()), "--output", str(closed)]
    answer = cli("run", *TINY, *arguments, preexec_fn=without_the_right_to_write_anywhere)
    check(answer, STORAGE, "cannot write", str(closed), "Permission denied", root=closed)
    assert list(closed.iterdir()) == []
    arguments = ["--backbone", "resnet18", "--weights", "random", "--output", str(closed / "e.parquet"), "--data", "x"]
    answer = cli("embed", *arguments, preexec_fn=without_the_right_to_write_anywhere)
    check(answer, STORAGE, "cannot write", str(closed), "no right to write", root=closed)


def test_no_space_for_the_checkpoint(cli, image_file, tmp_path):
    """A limit on the size of a file is refused at the same call as a full disk."""
    limit = 2_000_000  # the head alone needs 512 × 4,096 × 4 bytes
    arguments = ["--set", "head.layers=2", "--set", "head.embedding_size=4096", "--data", str(image_file())]
    answer = cli("run", *TINY, *arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    check(answer, STORAGE, "cannot write", "checkpoints", "File too large", "Free some space", root=tmp_path / "out")
    (run,) = (tmp_path / "out").iterdir()
    assert not list(run.glob("checkpoints/*/*")), "no part of a checkpoint is left"
    assert not (run / "metrics.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full, a disk that is always full")
def test_no_space_for_what_is_printed(cli, tmp_path):
    with open("/dev/full", "wb") as full:
        for arguments in (["presets"], ["backbones", "--json"], ["spec", "schema"]):
            check(cli(*arguments, stdout=full), STORAGE, "cannot write the output: No space left on device")


# Using a run.
@pytest.mark.parametrize("reference", ["nothing", "../..", "/", "latest", ""])
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_a_run_that_is_not_there(command, verb, reference, image_file):
    output = ["--output", "p.parquet"] if verb == "predict" else []
    answer = command(verb, reference, "--data", str(image_file()), *output)
    check(answer, SPEC, f"there is no run {reference!r}", "deeptune run")
    assert not Path("p.parquet").exists()


def test_neither_or_both_of_run_and_backbone(command, image_file):
    for arguments in ([], ["latest", "--backbone", "resnet18"]):
        answer = command("embed", *arguments, "--data", str(image_file()), "--output", "e.parquet")
        check(answer, SPEC, "either a RUN or --backbone")
    answer = command("embed", "--backbone", "resnet18", "--data", str(image_file()), "--output", ".")
    check(answer, STORAGE, "it is a folder")
