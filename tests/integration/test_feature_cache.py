"""Runs with a frozen backbone: which rows pass it, when, and that nothing of the result depends on that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from devices import DEVICE, ON_DEVICE
from safetensors.torch import load_file, save_file

from deeptune.backbones import preprocessing, probes
from deeptune.backbones.base import Backbone
from deeptune.data.cache import entry as entry_module
from deeptune.data.cache.entry import EntryInfo, key_of
from deeptune.data.loading.features import Features
from deeptune.data.sources.source import Source
from deeptune.engine import extraction_job, feature_extraction
from deeptune.engine.activations import CutActivations
from deeptune.engine.predict import ApplyOptions, Embedder, Predictor
from deeptune.engine.prepare import prepare, split_loader
from deeptune.engine.run import execute
from deeptune.engine.verify import PROBE_ROWS
from deeptune.errors import RunStopped
from deeptune.runs import RunDirectory, new_run_directory, read_records
from deeptune.spec.run_spec import SPLITS
from deeptune.spec.toml import validate

ROWS = 150  # five blocks, the last one short
BLOCK = extraction_job.rows_at_once(torch.device(DEVICE))


def entries() -> list[EntryInfo]:
    """Those of features: samples are kept in the same cache."""
    return [entry for entry in entry_module.entries() if entry.width is not None]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    """An empty cache for each test; `cache_folder("name")` goes over to another one."""

    def use(name: str) -> Path:
        monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / name))
        return tmp_path / name

    use("cache")
    return use


@pytest.fixture(scope="module")
def image_data(tmp_path_factory):
    """150 clip arts, and weights of a small backbone for them."""
    folder = tmp_path_factory.mktemp("images")
    table = pq.read_table(Source.open("sample:openclipart7").files[0])
    pq.write_table(table.take(list(range(0, table.num_rows, table.num_rows // ROWS))[:ROWS]), folder / "images.parquet")
    for name, seed in (("weights", 1), ("other", 2)):
        spec = validate({"data": {"path": "x"}, "backbone": {"name": "timm:test_resnet", "weights": "random"}})
        from deeptune.backbones import load_backbone

        net = load_backbone(spec.backbone, seed=seed).net
        save_file({key: value.contiguous() for key, value in net.state_dict().items()}, folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def text_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    table = pq.read_table(Source.open("sample:movie_snippets").files[0])
    pq.write_table(table.take(list(range(0, table.num_rows, table.num_rows // ROWS))[:ROWS]), folder / "texts.parquet")
    return folder


@pytest.fixture
def image_spec(image_data):
    return lambda **parts: merged(
        {
            "data": {"path": str(image_data / "images.parquet"), "split": {"train": 0.5, "val": 0.25, "test": 0.25}},
            "backbone": {
                "name": "timm:test_resnet",
                "weights": str(image_data / "weights.safetensors"),
                "image_size": 32,
            },
            "train": {"epochs": 3, "batch_size": 16, **ON_DEVICE, "workers": 0},
        },
        parts,
    )


@pytest.fixture
def text_spec(text_data, review_bert):
    return lambda **parts: merged(
        {
            "data": {"path": str(text_data / "texts.parquet"), "split": {"train": 0.5, "val": 0.25, "test": 0.25}},
            "backbone": {"name": f"hf:{review_bert}", "max_length": 32},
            "train": {"epochs": 3, "batch_size": 16, **ON_DEVICE},
        },
        parts,
    )


def merged(spec, parts):
    return validate({key: {**spec.get(key, {}), **parts.get(key, {})} for key in {**spec, **parts}})


@pytest.fixture
def passed(monkeypatch):
    """How many rows passed the backbone, but for the few by which a stored model is checked."""
    counts = []
    forward = Backbone.forward

    def counting(self, inputs):
        rows = len(next(iter(inputs.values())))
        if rows > PROBE_ROWS:
            counts.append(rows)
        return forward(self, inputs)

    monkeypatch.setattr(Backbone, "forward", counting)

    def since_the_last_time():
        found = sum(counts)
        counts.clear()
        return found

    return since_the_last_time


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("deeptune.engine.run.write_report", lambda path: None)  # half of the time of so small a run

    def do(spec) -> RunDirectory:
        directory = new_run_directory(tmp_path / "runs", "test")
        execute(spec, directory)
        return directory

    return do


def log(run: RunDirectory) -> str:
    return "\n".join(str(event["message"]) for event in read_records(run.events) if "message" in event)


def losses(run: RunDirectory) -> list[float]:
    epochs = [event for event in read_records(run.events) if event["kind"] == "epoch"]
    return [epoch[split]["loss"] for epoch in epochs for split in ("train", "val")]


def same_bits(one: RunDirectory, other: RunDirectory) -> None:
    assert losses(one) == losses(other)
    assert json.loads(one.metrics.read_text()) == json.loads(other.metrics.read_text())
    for name in ("predictions.parquet", *(f"embeddings/{split}.parquet" for split in SPLITS)):
        assert pq.read_table(one.path / name).equals(pq.read_table(other.path / name)), name
    for left, right in zip(*(load_file(run.best / "head.safetensors").values() for run in (one, other)), strict=True):
        assert torch.equal(left, right)


# What passes.


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_second_run_passes_no_row_and_gives_the_same_bits(request, run, passed, modality):
    spec = request.getfixturevalue(f"{modality}_spec")()
    cold = run(spec)
    assert passed() == ROWS
    assert f"{ROWS} rows passed the frozen backbone once; the head trains on their features" in log(cold)
    warm = run(spec)
    assert passed() == 0
    assert f"the features of all {ROWS} rows were in the cache: no row passes the frozen backbone" in log(warm)
    same_bits(cold, warm)


OTHERS = [
    {"train": {"seed": 7}},
    {"train": {"batch_size": 5}},
    {"train": {"learning_rate": 0.5}},
    {"train": {"epochs": 1, "weight_decay": 0.0}},
    {"head": {"layers": 2, "embedding_size": 8, "dropout": 0.5}},
    {"embed": {"splits": []}},
]


@pytest.mark.parametrize("modality", ["image", "text"])
def test_another_head_seed_batch_size_or_learning_rate_needs_no_pass(request, run, passed, modality):
    spec = request.getfixturevalue(f"{modality}_spec")
    run(spec())
    assert passed() == ROWS
    for other in OTHERS:
        assert "no row passes" in log(run(spec(**other))), other
        assert passed() == 0, other
    for split in ({"train": 0.4, "val": 0.2, "test": 0.4}, {"train": 0.8, "val": 0.2, "test": 0.0}):
        run(spec(data={"path": spec().data.path, "split": split}))
        assert passed() == 0


def test_the_bits_do_not_depend_on_the_run_that_filled_the_cache(run, image_spec, cache_folder):
    alone = run(image_spec())
    cache_folder("other")
    run(image_spec(train={"batch_size": 7, "seed": 3, "epochs": 1}))
    after = run(image_spec())
    assert "no row passes" in log(after)
    same_bits(alone, after)


def keys(spec) -> set[str]:
    """The names of the entries that a run of this spec would read."""
    ready = prepare(spec)
    sources = {data.source for data in ready.plan.splits.values()}
    frozen = extraction_job.FrozenBackbone.of(ready)
    jobs = [job for source in sources for job in feature_extraction._jobs_of(ready, source, list(SPLITS), frozen)]
    return {key_of(job.ingredients()) for job in jobs}


def test_whatever_changes_the_features_of_images_changes_the_key(image_spec, image_data, tmp_path, monkeypatch):
    spec, backbone = image_spec(), image_spec().backbone.model_dump()
    first = keys(spec)
    table = pq.read_table(image_data / "images.parquet")
    pq.write_table(table.slice(0, ROWS - 1), tmp_path / "fewer.parquet")
    pq.write_table(table.append_column("scans", table["images"]), tmp_path / "two.parquet")
    two = image_spec(data={"path": str(tmp_path / "two.parquet")})
    others = [
        image_spec(backbone={**backbone, "image_size": 64}),
        image_spec(backbone={**backbone, "pooling": "max"}),
        image_spec(backbone={**backbone, "weights": str(image_data / "other.safetensors")}),
        image_spec(backbone={**backbone, "weights": "random"}),
        image_spec(train={"precision": "bf16"}),
        image_spec(data={"path": str(tmp_path / "fewer.parquet")}),
        two,
        image_spec(data={"path": str(tmp_path / "two.parquet"), "input": "scans", "modality": "image"}),
    ]
    found = [first, *map(keys, others)]
    assert len(set.union(*found)) == len(found)
    assert keys(image_spec(train={"seed": 5, "batch_size": 3}, head={"layers": 2})) == first
    with monkeypatch.context() as patch:
        patch.setattr(preprocessing, "OVERSAMPLING", 3)
        assert keys(spec).isdisjoint(first)
    monkeypatch.setattr(probes, "version", lambda name: "0.0.1")
    assert keys(spec).isdisjoint(first)


def test_whatever_changes_the_features_of_texts_changes_the_key(text_spec, review_bert, tmp_path):
    import shutil

    backbone = text_spec().backbone.model_dump()
    first = keys(text_spec())

    def changed(name, edit):
        folder = shutil.copytree(review_bert, tmp_path / name)
        edit(folder)
        return text_spec(backbone={**backbone, "name": f"hf:{folder}"})

    def words(folder):
        content = json.loads((folder / "tokenizer.json").read_text())
        vocabulary = content["model"]["vocab"]
        one, two = [word for word in vocabulary if word.isalpha()][:2]
        vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
        (folder / "tokenizer.json").write_text(json.dumps(content))

    def architecture(folder):
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, "num_attention_heads": 4}))

    def weights(folder):
        state = load_file(folder / "model.safetensors")
        next(iter(state.values())).view(-1)[0] += 1
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    others = [
        text_spec(backbone={**backbone, "max_length": 16}),
        text_spec(backbone={**backbone, "pooling": "cls"}),
        changed("words", words),
        changed("architecture", architecture),
        changed("weights", weights),
    ]
    found = [first, *map(keys, others)]
    assert len(set.union(*found)) == len(found)
    assert keys(changed("elsewhere", lambda folder: None)) == first
    used = prepare(text_spec())
    used.backbone.preprocessing.tokenizer(["a text"], truncation=True, max_length=5, padding=True)
    frozen = extraction_job.FrozenBackbone.of(used)
    (again,) = feature_extraction._jobs_of(used, used.plan.splits["train"].source, list(SPLITS), frozen)
    assert {key_of(again.ingredients())} == first


@pytest.fixture
def spoiled(image_data, tmp_path):
    """The clip arts, of which rows 3 and 70 are no images."""
    table = pq.read_table(image_data / "images.parquet")
    images = table["images"].to_pylist()
    for row in (3, 70):
        images[row] = b"no image"
    column = pa.array(images, table["images"].type)
    file = tmp_path / "spoiled.parquet"
    pq.write_table(table.set_column(table.column_names.index("images"), table.schema.field("images"), column), file)
    return str(file)


def test_bad_samples_left_out_or_replaced_share_their_features(run, image_spec, spoiled, passed):
    run(image_spec(data={"path": spoiled, "on_bad_sample": "skip"}))
    assert passed() == ROWS
    blank = run(image_spec(data={"path": spoiled, "on_bad_sample": "blank"}))
    assert passed() == 0
    vectors = {}
    for split in SPLITS:
        for row in pq.read_table(blank.embeddings(split)).to_pylist():
            vectors[row["row"]] = row["embedding"]
    assert vectors[3] == vectors[70]
    assert vectors[3] != vectors[4]


def test_many_rows_without_a_label_do_not_pass(run, image_spec, image_data, passed, tmp_path):
    table = pq.read_table(image_data / "images.parquet")
    labels = [label if row % 2 else None for row, label in enumerate(table["labels"].to_pylist())]
    table = table.set_column(table.column_names.index("labels"), "labels", pa.array(labels, table["labels"].type))
    pq.write_table(table, tmp_path / "half.parquet")
    run(image_spec(data={"path": str(tmp_path / "half.parquet"), "on_bad_sample": "skip"}))
    assert passed() == ROWS // 2


def test_files_apart_have_an_entry_each(run, image_spec, image_data, passed, tmp_path):
    table = pq.read_table(image_data / "images.parquet")
    for name, part in (("train", table.slice(0, 90)), ("test", table.slice(90))):
        pq.write_table(part, tmp_path / f"{name}.parquet")
    data = {"path": None, "train": str(tmp_path / "train.parquet"), "test": str(tmp_path / "test.parquet")}
    first, second = (run(image_spec(data=data)) for _ in range(2))
    assert passed() == ROWS
    assert sorted(entry.rows for entry in entries()) == [60, 90]
    same_bits(first, second)


# Equal to the run that stores nothing.


def online(monkeypatch, cache_folder):
    cache_folder("none")
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", "0")
    monkeypatch.setattr(feature_extraction, "MEMORY_SHARE", 0.0)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_each_epoch_has_the_loss_of_the_run_that_stores_nothing(
    request, run, monkeypatch, cache_folder, passed, modality
):
    spec = request.getfixturevalue(f"{modality}_spec")()
    stored = run(spec)
    passed()
    online(monkeypatch, cache_folder)
    recomputed = run(spec)
    assert passed() > 2 * ROWS
    assert "features are not stored, and the frozen backbone passes each epoch, because" in log(recomputed)
    assert losses(stored) == pytest.approx(losses(recomputed), abs=1e-5)


def test_views_are_the_augmentations_of_the_first_epochs(run, image_spec, monkeypatch, passed):
    spec = image_spec(train={"epochs": 4, "augmentation": "light", "views": 2})
    train = len(prepare(spec).plan.splits["train"].rows)
    two = run(spec)
    assert passed() == ROWS + 2 * train
    assert "epochs take turns with 2 augmented views of the training rows (train.views)" in log(two)
    again = run(spec)
    assert passed() == 0
    same_bits(two, again)
    three = run(image_spec(train={"epochs": 4, "augmentation": "light", "views": 3}))
    assert passed() == train  # the first two are there
    drawn = run(image_spec(train={"epochs": 4, "augmentation": "light"}))
    assert "each epoch passes the training rows through the frozen backbone" in log(drawn)
    assert passed() >= 4 * train
    plain = losses(run(image_spec(train={"epochs": 4})))
    per_epoch = 2
    assert losses(two)[: 2 * per_epoch] == pytest.approx(losses(drawn)[: 2 * per_epoch], abs=1e-5)
    assert losses(three)[: 3 * per_epoch] == pytest.approx(losses(drawn)[: 3 * per_epoch], abs=1e-5)
    assert losses(two)[4] != pytest.approx(losses(drawn)[4], abs=1e-5)
    assert plain[0] != pytest.approx(losses(two)[0], abs=1e-5)


@pytest.mark.parametrize("other", [{"seed": 4}, {"augmentation": "randaugment"}])
def test_views_of_another_seed_or_augmentation_are_others(run, image_spec, passed, other):
    spec = {"epochs": 1, "augmentation": "light", "views": 1}
    run(image_spec(train=spec))
    passed()
    run(image_spec(train={**spec, **other}))
    assert 0 < passed() < ROWS


# When something is in the way.


def test_a_cache_that_cannot_be_written_costs_memory_and_no_run(run, image_spec, tmp_path, monkeypatch, passed):
    usual = run(image_spec())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "file"))
    passed()
    hindered = run(image_spec())
    assert passed() == ROWS
    assert "features are kept in memory, and not for later runs, because" in log(hindered)
    assert "Not a directory" in log(hindered)
    same_bits(usual, hindered)


def test_a_disk_that_fills_up_midway_costs_no_row_twice(run, image_spec, cache_folder, monkeypatch, passed):
    usual = run(image_spec())
    folder = cache_folder("other")
    pwrite, left = os.pwrite, [1]

    def filling_up(handle, content, place):
        if len(content) >= 4096:  # a block
            if not left:
                raise OSError(28, "No space left on device")
            left.pop()
        return pwrite(handle, content, place)

    monkeypatch.setattr(os, "pwrite", filling_up)
    passed()
    hindered = run(image_spec())
    assert passed() <= ROWS + BLOCK  # but the block that found it full
    assert "No space left on device" in log(hindered)
    assert not any((folder / "features").iterdir())
    same_bits(usual, hindered)


def test_a_limit_that_is_no_size_is_said_and_costs_no_run(run, image_spec, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", "much")
    assert "DEEPTUNE_CACHE_LIMIT is 'much'" in log(run(image_spec()))


def test_a_damaged_entry_is_computed_again_and_that_is_said(run, image_spec, passed):
    usual = run(image_spec())
    (entry,) = entries()
    stored = bytearray((entry.folder / "data.bin").read_bytes())
    stored[-3] ^= 4
    (entry.folder / "data.bin").write_bytes(stored)
    passed()
    repaired = run(image_spec())
    assert passed() == ROWS % BLOCK
    assert f"1 of {ROWS} rows of the stored features" in log(repaired)
    assert f"{ROWS % BLOCK} rows passed the frozen backbone once ({4 * BLOCK} more were in the cache)" in log(repaired)
    same_bits(usual, repaired)


def test_a_pass_that_was_stopped_goes_on_where_it_was(run, image_spec, passed, monkeypatch, tmp_path):
    spec = image_spec()
    usual_put = Features.put
    directory = new_run_directory(tmp_path / "runs", "stopped")

    def put(self, *arguments):
        usual_put(self, *arguments)
        if self.records.done.sum() == 2 * BLOCK:
            raise RunStopped("stopped by a test")

    with monkeypatch.context() as patch:
        patch.setattr(Features, "put", put)
        with pytest.raises(RunStopped):
            execute(spec, directory)
    assert passed() == 2 * BLOCK
    execute(spec, directory)
    assert passed() == ROWS - 2 * BLOCK
    same_bits(directory, run(spec))


# On other files, and on those of a run.


def applied(folder, directory, data, **options) -> tuple[pa.Table, pa.Table, dict]:
    """What predict, embed and evaluate give."""
    predictor, source, how = Predictor(directory, device=DEVICE), Source.open(data), ApplyOptions(**options)
    predictor.write_predictions(source, folder / "predictions.parquet", how)
    predictor.write_embeddings(source, folder / "embeddings.parquet", how)
    metrics, _ = predictor.evaluate(source, how)
    return pq.read_table(folder / "predictions.parquet"), pq.read_table(folder / "embeddings.parquet"), metrics


def same_outputs(one: tuple[pa.Table, pa.Table, dict], other: tuple[pa.Table, pa.Table, dict]) -> None:
    for left, right, numbers in zip(one[:2], other[:2], ("probabilities", "embedding"), strict=True):
        rounded = [name for name in (numbers, "confidence", "expected_error") if name in left.column_names]
        assert left.drop_columns(rounded).equals(right.drop_columns(rounded))
        assert left[numbers].is_null().equals(right[numbers].is_null())
        values = [np.array(table[numbers].drop_null().to_pylist()) for table in (left, right)]
        assert np.abs(values[0] - values[1]).max() < 1e-5
    assert one[2]["loss"] == pytest.approx(other[2]["loss"], abs=1e-5)
    assert one[2]["confusion_matrix"] == other[2]["confusion_matrix"]


@pytest.mark.parametrize("modality", ["image", "text"])
def test_commands_on_the_data_of_a_run_pass_no_row_and_give_its_numbers(
    request, run, monkeypatch, cache_folder, passed, tmp_path, modality
):
    spec = request.getfixturevalue(f"{modality}_spec")(head={"layers": 2, "embedding_size": 8})
    directory = run(spec)
    assert passed() == ROWS
    told: list[str] = []
    stored = applied(tmp_path, directory, spec.data.path, notify=told.append)
    assert passed() == 0
    assert f"the features of all {ROWS} rows were in the cache: no row passes the frozen backbone" in told
    written = pq.read_table(directory.predictions)
    mine = np.array(stored[0].take(written["row"])["probabilities"].to_pylist())
    assert np.abs(mine - np.array(written["probabilities"].to_pylist())).max() < 1e-5

    plain = Embedder(spec.backbone, device=DEVICE)
    plain.write_embeddings(Source.open(spec.data.path), tmp_path / "plain.parquet", ApplyOptions())
    assert passed() == 0
    online(monkeypatch, cache_folder)
    recomputed = applied(tmp_path, directory, spec.data.path, notify=told.append, batch_size=BLOCK)
    assert passed() == 3 * ROWS
    assert "features are not stored for next time, because" in told[-1]
    same_outputs(stored, recomputed)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_features_of_another_file_are_stored_for_the_next_command(
    request, run, monkeypatch, cache_folder, passed, tmp_path, modality
):
    spec = request.getfixturevalue(f"{modality}_spec")()
    directory = run(spec)
    passed()
    table = pq.read_table(spec.data.path).slice(10, 105)
    column = "images" if modality == "image" else "text"
    values = table[column].to_pylist()
    values[7] = b"no image" if modality == "image" else ""
    table = table.set_column(table.column_names.index(column), column, pa.array(values, table[column].type))
    pq.write_table(table, tmp_path / "new.parquet")
    cold = applied(tmp_path, directory, str(tmp_path / "new.parquet"))
    assert passed() == 105
    assert np.flatnonzero(cold[1]["embedding"].is_null()).tolist() == [7]
    assert cold[2]["n"] == 104
    warm = applied(tmp_path, directory, str(tmp_path / "new.parquet"))
    assert passed() == 0
    for one, other in zip(cold, warm, strict=True):
        assert one == other
    online(monkeypatch, cache_folder)
    same_outputs(cold, applied(tmp_path, directory, str(tmp_path / "new.parquet")))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_backbone_that_was_trained_shares_no_features(run, image_spec, passed, tmp_path, method):
    directory = run(image_spec(tuning={"method": method}, train={"epochs": 1, "start": "random"}))
    passed()
    applied(tmp_path, directory, image_spec().data.path, batch_size=BLOCK)
    assert passed() == 3 * ROWS
    assert entries() == []


# The commands of the cache.


def test_the_commands_list_and_clear(run, image_spec, command, monkeypatch, tmp_path):
    empty = command("cache", "list")
    assert empty.code == 0
    assert "is empty" in empty.stdout
    run(image_spec())
    run(image_spec(backbone={**image_spec().backbone.model_dump(), "image_size": 64}))
    listed = json.loads(command("cache", "list", "--json").stdout)
    kinds = sorted((entry["rows"], entry["width"] or 0, entry["complete"]) for entry in listed["entries"])
    assert kinds == [(ROWS, 0, True)] * 2 + [(ROWS, 96, True)] * 2  # samples, features
    assert listed["bytes"] == sum(entry["bytes"] for entry in listed["entries"])
    assert listed["limit"] == 20 * 10**9
    first, second = (entry["key"] for entry in listed["entries"] if entry["width"])
    shown = command("cache", "list").stdout
    assert first[:12] in shown
    assert "test_resnet, 64 px" in shown
    assert "decoded images, 64 px: images.parquet (images)" in shown
    assert "of at most 20.0 GB" in shown
    assert command("cache", "clear", "nokey").code == 2
    assert "removed 0 entries" in command("cache", "clear", "--older-than", "1").stdout
    assert "removed 1 entry" in command("cache", "clear", second[:8]).stdout
    assert [entry.key for entry in entries()] == [first]
    os.utime(entries()[0].folder / "entry.json", (1e9, 1e9))
    assert "removed 1 entry" in command("cache", "clear", "--older-than", "1").stdout
    assert entries() == []


def test_the_commands_load_no_pytorch(environment):
    code = (
        "import sys\nfrom deeptune.cli.app import run_command\n"
        "for command in ('list', 'clear'):\n"
        "    sys.argv = ['deeptune', 'cache', command]\n    assert run_command() == 0\n"
        "heavy = {'torch', 'pandas', 'pyarrow', 'transformers'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={**environment, "DEEPTUNE_CACHE": os.environ["DEEPTUNE_CACHE"]}, check=True
    )


# Blocks that learn, behind others that are frozen.


@pytest.fixture(scope="module")
def gpt2(review_bert, tmp_path_factory):
    """Three layers of GPT-2, random weights, with the tokenizer of the small BERT."""
    return text_folder(
        tmp_path_factory.mktemp("gpt2"),
        review_bert,
        lambda words: transformers.GPT2Config(
            vocab_size=words, n_embd=32, n_layer=3, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0
        ),
    )


@pytest.fixture(scope="module")
def t5(review_bert, tmp_path_factory):
    return text_folder(
        tmp_path_factory.mktemp("t5"),
        review_bert,
        lambda words: transformers.T5Config(
            vocab_size=words, d_model=32, d_kv=16, d_ff=48, num_layers=3, num_heads=2, decoder_start_token_id=0
        ),
    )


def text_folder(folder, tokenizer_of, config):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_of)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        transformers.AutoModel.from_config(config(len(tokenizer))).save_pretrained(folder)
    return folder


@pytest.fixture
def partly(image_spec, text_spec, image_data, review_bert, gpt2):
    """`partly(kind, ...)` is a spec whose last block learns."""
    backbones = {
        "cnn": {"name": "timm:test_resnet", "weights": str(image_data / "weights.safetensors"), "image_size": 32},
        "vit": {"name": "timm:test_vit", "weights": "random", "image_size": 32},
        "bert": {"name": f"hf:{review_bert}", "max_length": 32},
        "gpt2": {"name": f"hf:{gpt2}", "max_length": 32},
    }

    def make(kind, **parts):
        spec = image_spec if kind in ("cnn", "vit") else text_spec
        parts["train"] = {"start": "random"} | parts.get("train", {})  # a head fitted first has features of its own
        return spec(**{"tuning": {"unfreeze": 1}, "backbone": backbones[kind], **parts})

    return make


@pytest.fixture
def blocks_passed(monkeypatch):
    """How many rows passed the frozen blocks to be stored."""
    counts = []
    flat = CutActivations.flat

    def counting(self, inputs):
        counts.append(len(next(iter(inputs.values()))))
        return flat(self, inputs)

    monkeypatch.setattr(CutActivations, "flat", counting)

    def since_the_last_time():
        found = sum(counts)
        counts.clear()
        return found

    return since_the_last_time


@pytest.mark.parametrize("kind", ["cnn", "vit", "bert", "gpt2"])
def test_stored_blocks_give_each_epoch_the_loss_of_the_run_that_stores_nothing(
    run, partly, monkeypatch, cache_folder, blocks_passed, passed, kind
):
    spec = partly(kind)
    stored = run(spec)
    assert (blocks_passed(), passed()) == (ROWS, 0)
    assert f"{ROWS} rows passed the frozen blocks once; the others train on what these gave" in log(stored)
    online(monkeypatch, cache_folder)
    recomputed = run(spec)
    assert passed() > 2 * ROWS
    assert "not stored, and the frozen blocks pass each epoch, because" in log(recomputed)
    assert losses(stored) == pytest.approx(losses(recomputed), abs=1e-5)
    assert losses(stored)[0] != pytest.approx(losses(stored)[-2], abs=1e-3)
    for name in ("predictions.parquet", "embeddings/train.parquet"):
        ours, theirs = (pq.read_table(one.path / name) for one in (stored, recomputed))
        column = ours.column_names[-1] if "predictions" not in name else "probabilities"
        assert ours["row"].equals(theirs["row"])
        pairs = zip(ours[column].to_pylist(), theirs[column].to_pylist(), strict=True)
        assert all(one == pytest.approx(other, abs=1e-4) for one, other in pairs)


@pytest.mark.parametrize("kind", ["cnn", "bert"])
def test_a_second_run_with_blocks_that_learn_passes_no_row_through_the_frozen_ones(run, partly, blocks_passed, kind):
    cold = run(partly(kind))
    assert blocks_passed() == ROWS
    warm = run(partly(kind))
    assert f"the features of all {ROWS} rows were in the cache: no row passes the frozen blocks" in log(warm)
    assert losses(cold) == losses(warm)
    assert json.loads(cold.metrics.read_text()) == json.loads(warm.metrics.read_text())
    for part in ("head", "blocks"):
        ours, theirs = (load_file(one.best / f"{part}.safetensors") for one in (cold, warm))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    run(partly(kind, train={"epochs": 1, "batch_size": 7, "seed": 3, "learning_rate": 1e-3}, head={"layers": 2}))
    assert blocks_passed() == 0
    run(partly(kind, tuning={"unfreeze": 2}))
    assert blocks_passed() == ROWS


def test_the_entry_of_texts_holds_a_vector_for_each_token_and_none_for_padding(run, partly):
    spec = partly("bert")
    run(spec)
    (entry,) = entries()
    ready = prepare(spec)
    tokens = sum(int(split_loader(ready, split, shuffle=False).lengths.sum()) for split in SPLITS)
    assert (entry.folder / "data.bin").stat().st_size == tokens * 32 * 4
    assert (entry.rows, entry.width, entry.complete) == (ROWS, 32, True)
    assert "before encoder.layer.1" in entry.what


def test_damaged_blocks_of_texts_are_computed_again(run, partly, blocks_passed):
    first = run(partly("bert"))
    blocks_passed()
    (entry,) = entries()
    with (entry.folder / "data.bin").open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"\1" * 8)
    again = run(partly("bert"))
    assert 0 < blocks_passed() < ROWS
    assert f"1 of {ROWS} rows of the stored features" in log(again)
    assert losses(first) == losses(again)


def test_views_of_images_are_stored_before_the_blocks_that_learn(run, partly, monkeypatch, cache_folder, blocks_passed):
    train = {"epochs": 2, "augmentation": "light", "views": 2, "batch_size": 16, **ON_DEVICE}
    two = run(partly("cnn", train=train))
    rows = len(prepare(partly("cnn")).plan.splits["train"].rows)
    assert blocks_passed() == ROWS + 2 * rows
    online(monkeypatch, cache_folder)
    drawn = run(partly("cnn", train={**train, "views": 0}))
    assert losses(two) == pytest.approx(losses(drawn), abs=1e-5)


def test_a_backbone_that_cannot_be_cut_trains_all_the_same(run, text_spec, t5, passed):
    tuning, train = {"unfreeze": 1}, {"start": "random"}
    spec = text_spec(backbone={"name": f"hf:{t5}", "max_length": 32}, tuning=tuning, train=train)
    done = run(spec)
    assert "as their outputs can't be stored, because the layers of hf:" in log(done)
    assert passed() > 2 * ROWS
    assert not entries()


@pytest.mark.parametrize("kind", ["cnn", "gpt2"])
def test_what_is_stored_of_a_partly_frozen_backbone_is_what_learned_and_makes_the_same_model(run, partly, kind):
    spec = partly(kind, train={"batch_norm": "train"} if kind == "cnn" else {})
    done = run(spec)
    stored = load_file(done.best / "blocks.safetensors")
    start = {"cnn": "backbone.net.layer4.", "gpt2": ("backbone.net.h.2.", "backbone.net.ln_f.")}[kind]
    assert stored
    assert all(name.startswith(start) for name in stored)
    told = next(event for event in read_records(done.events) if event["kind"] == "start")
    learned = sum(t.numel() for name, t in stored.items() if "running" not in name and "num_batches" not in name)
    head = sum(tensor.numel() for tensor in load_file(done.best / "head.safetensors").values())
    assert told["parameters"]["trainable"] == learned + head
    model = Predictor(done, device=DEVICE).trained.model
    assert {name: t.tolist() for name, t in model.tuned_state().items() if "net" in name} == {
        name: t.tolist() for name, t in stored.items()
    }
    frozen = prepare(spec).backbone.net.state_dict()
    for name, tensor in model.backbone.net.state_dict().items():
        assert torch.equal(tensor, frozen[name]) == (f"backbone.net.{name}" not in stored), name
