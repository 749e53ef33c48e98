"""Batches: the data's own order or the seed's, the same with workers, and errors that name the row."""

from __future__ import annotations

import io
import multiprocessing
import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from loading import loader_of, make_loader, source
from PIL import Image

from deeptune.data.cache.entry import Cache
from deeptune.data.cache.records import MemoryRecords
from deeptune.data.images.decode import decode_quietly
from deeptune.data.images.transforms import Augmentation, resize_crop, to_tensor
from deeptune.data.loading.batch_order import batch_slices, epoch_order
from deeptune.data.loading.dataset import Dataset, FeatureInputs
from deeptune.data.loading.feature_table import FeatureTable
from deeptune.data.loading.features import Features
from deeptune.data.loading.loader import Loader, LoaderOptions
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.preprocessing import ImagePreprocessing, TextPreprocessing
from deeptune.data.modalities.base import Need
from deeptune.data.sources.parquet import open_source
from deeptune.errors import DataError

PIXELS = ImagePreprocessing(image_size=24, resize=28, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
DIGITS = open_source("sample:digits_rotation")


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 30), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


def test_images_in_the_datas_order():
    rows = np.arange(3, 40)
    loader = loader_of(DIGITS, "images", rows, PIXELS, batch_size=8)
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 5]
    assert torch.cat([batch.rows for batch in batches]).tolist() == rows.tolist()
    images = torch.cat([batch.inputs["images"] for batch in batches])
    assert (images.dtype, images.shape) == (torch.uint8, (37, 3, 24, 24))
    assert batches[0].targets is None
    for at in (0, 20, 36):
        alone = resize_crop(decode_quietly(DIGITS.column("images")[int(rows[at])].as_py()), resize=28, image_size=24)
        assert torch.equal(images[at], to_tensor(alone))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("name", "side"), [("light", 72), ("randaugment", 144)])
def test_an_augmentation_gets_a_large_jpeg_with_the_pixels_that_it_needs(tmp_path, name, side, workers, monkeypatch):
    """For 24 pixels light needs 57 of 288, which a quarter has, and randaugment 79."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (300, 288, 3), np.uint8)
    Image.fromarray(noise).save(stream, "JPEG")
    monkeypatch.setattr(Augmentation, "__call__", lambda self, image, **_: Image.new("RGB", (24, 24), (*image.size, 9)))
    loader = loader_of(
        source(tmp_path, images=[stream.getvalue()] * 2),
        "images",
        np.arange(2),
        PIXELS,
        batch_size=2,
        augmentation=name,
        workers=workers,
    )
    assert next(iter(loader)).inputs["images"][1, :, 5, 5].tolist() == [side, side * 300 / 288, 9]


def test_targets_keep_their_rows_and_kinds():
    rows = np.array([5, 9, 11, 30])
    loader = loader_of(DIGITS, "images", rows, PIXELS, targets=np.array([2, 0, 1, 0]), batch_size=3, shuffle=True)
    for epoch in range(3):
        loader.set_epoch(epoch)
        seen = {int(r): int(t) for batch in loader for r, t in zip(batch.rows, batch.targets, strict=True)}
        assert seen == {5: 2, 9: 0, 11: 1, 30: 0}
    assert next(iter(loader)).targets.dtype == torch.int64
    floats = loader_of(DIGITS, "images", rows, PIXELS, targets=np.array([0.1, 0.2, 0.3, 0.4]), batch_size=4)
    targets = next(iter(floats)).targets
    assert targets.dtype == torch.float32
    assert torch.equal(targets, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    with pytest.raises(ValueError, match="3 targets for 4 rows"):
        loader_of(DIGITS, "images", rows, PIXELS, targets=np.zeros(3), batch_size=2)


def test_the_order_is_a_permutation_by_seed_and_epoch():
    rows = np.arange(100, 150)
    loader = loader_of(DIGITS, "images", rows, PIXELS, batch_size=16, shuffle=True, seed=5)
    orders = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        orders.append(torch.cat([batch.rows for batch in loader]))
        assert orders[-1].tolist() == (epoch_order(50, 5, epoch) + 100).tolist() == loader.order(epoch).tolist()
        assert sorted(orders[-1].tolist()) == rows.tolist()
    assert torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(epoch_order(50, 6, 0), epoch_order(50, 5, 0))
    assert not torch.equal(epoch_order(50, 5, 6), epoch_order(50, 6, 5))


def test_a_resumed_epoch_skips_what_it_has_seen():
    loader = loader_of(DIGITS, "images", np.arange(20), PIXELS, batch_size=6, shuffle=True, seed=1)
    loader.set_epoch(3)
    whole = [batch.rows.tolist() for batch in loader]
    loader.set_epoch(3, skip=2)
    assert [batch.rows.tolist() for batch in loader] == whole[2:]
    loader.set_epoch(4)
    assert torch.cat([batch.rows for batch in loader]).tolist() == loader.order(4).tolist()


@pytest.mark.parametrize("augmentation", ["none", "light", "randaugment"])
def test_workers_change_nothing(augmentation):
    made = []
    for workers in (0, 2):
        loader = loader_of(
            DIGITS, "images", np.arange(30), PIXELS, targets=np.arange(30.0), batch_size=7, shuffle=True, seed=2,
            augmentation=augmentation, workers=workers,
        )  # fmt: skip
        epochs = []
        for epoch in (0, 1):  # the workers live on from one epoch to the next
            loader.set_epoch(epoch)
            epochs += list(loader)
        made.append(epochs)
    for one, other in zip(*made, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.inputs["images"], other.inputs["images"])


def test_augmentation_changes_with_the_epoch_and_not_with_the_order():
    def epoch_of(epoch: int, shuffle: bool) -> torch.Tensor:
        loader = loader_of(
            DIGITS, "images", np.arange(12), PIXELS, batch_size=5, shuffle=shuffle, seed=2, augmentation="light"
        )
        loader.set_epoch(epoch)
        batches = list(loader)
        rows, images = (
            torch.cat(parts) for parts in ([b.rows for b in batches], [b.inputs["images"] for b in batches])
        )
        return images[rows.argsort()]

    assert torch.equal(epoch_of(1, shuffle=True), epoch_of(1, shuffle=False))
    assert not torch.equal(epoch_of(1, shuffle=False), epoch_of(2, shuffle=False))


def test_images_are_mirrored_on_request(tmp_path):
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, 16:] = 200
    out = io.BytesIO()
    Image.fromarray(half).save(out, "PNG")
    same = source(tmp_path, images=[out.getvalue()] * 40)

    def mirrored(**options) -> int:
        loader = loader_of(same, "images", np.arange(40), PIXELS, batch_size=40, augmentation="light", **options)
        images = next(iter(loader)).inputs["images"].float()
        return int((images[..., 0].mean((1, 2)) > images[..., -1].mean((1, 2))).sum())

    assert mirrored() == 0
    assert 8 < mirrored(flip=True) < 32


def test_iterating_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    for workers in (0, 1):
        list(loader_of(DIGITS, "images", np.arange(4), PIXELS, batch_size=2, shuffle=True, workers=workers))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_an_error_with_its_row(tmp_path, workers):
    write = [png(10), png(20), b"no image", png(40)]
    loader = loader_of(source(tmp_path, images=write), "images", np.arange(4), PIXELS, batch_size=2, workers=workers)
    with pytest.raises(DataError) as caught:
        list(loader)
    assert caught.value.message == ("data.path: row 2 is not an image but text")
    assert caught.value.hint == 'Repair it, or set on_bad_sample to "skip" or "blank".'
    assert "Traceback" not in str(caught.value)


def test_the_file_is_named_when_there_are_several(tmp_path):
    source(tmp_path, "a.parquet", images=[png(1)])
    source(tmp_path, "b.parquet", images=[png(2), None])
    with pytest.raises(DataError, match=r"row 2 \(file b\.parquet, row 1\) is null"):
        list(loader_of(open_source(str(tmp_path)), "images", np.arange(3), PIXELS, batch_size=3))


def test_blank_rows_are_white_images_and_empty_texts(tmp_path, tokens):
    bad = source(tmp_path, images=[png(10), b"no image", png(30)], text=["a film", None, "good"])
    images = next(iter(loader_of(bad, "images", np.arange(3), PIXELS, batch_size=3, blank={1}))).inputs["images"]
    assert images[1].unique().tolist() == [255]
    assert images[2, 0].unique().tolist() == [30]
    texts = next(iter(loader_of(bad, "text", np.arange(3), tokens, batch_size=3, blank={1}))).inputs
    assert texts["input_ids"].tolist() == [[2, 4, 7, 3], [2, 3, 0, 0], [2, 5, 3, 0]]
    assert texts["attention_mask"][1].tolist() == [1, 1, 0, 0]
    with pytest.raises(DataError, match=r"data\.path: row 1 is null"):
        loader_of(bad, "text", np.arange(3), tokens, batch_size=3)


@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.binary_view(), pa.struct({"bytes": pa.binary(), "path": pa.string()}), None],
    ids=["binary", "large_binary", "binary_view", "struct", "fixed_size_binary"],
)
def test_every_image_column_type(tmp_path, kind):
    images = [png(10), png(20)]
    if kind is None:
        assert len({len(image) for image in images}) == 1
        kind = pa.binary(len(images[0]))
    values = [{"bytes": image, "path": "x.png"} for image in images] if pa.types.is_struct(kind) else images
    loader = loader_of(source(tmp_path, images=pa.array(values, kind)), "images", np.arange(2), PIXELS, batch_size=2)
    assert next(iter(loader)).inputs["images"][:, 0].flatten(1).unique(dim=1).tolist() == [[10], [20]]


def test_images_and_texts_by_choice_keep_the_plain_order(tokenizer):
    """The order of stored features, which have no lengths."""
    snippets = open_source("sample:movie_snippets")
    preprocessing = TextPreprocessing(tokenizer, max_length=64, pad_id=0)
    options = {"batch_size": 8, "shuffle": True, "seed": 1}
    images = loader_of(DIGITS, "images", np.arange(30), PIXELS, by_length=True, **options)
    texts = loader_of(snippets, "text", np.arange(30), preprocessing, **options)
    assert images.order(2).tolist() == texts.order(2).tolist() == epoch_order(30, 1, 2).tolist()
    assert images.padded_share() == 0
    assert texts.padded_share() > 0


def stored_features(count: int, factor: float = 1.0) -> Features:
    features = Features(MemoryRecords(count, 8 * count), np.arange(count), 2)
    features.put(features.rows, np.arange(2.0 * count).reshape(count, 2) * factor)
    return features


ON_DEVICE = pytest.mark.parametrize("kept_on", [None, torch.device("cpu")])


@ON_DEVICE
def test_stored_features_come_in_the_batches_of_their_samples(kept_on):
    options = {"batch_size": 8, "shuffle": True, "seed": 1}
    rows, targets = np.arange(2, 29), np.arange(27)
    images = loader_of(DIGITS, "images", rows, PIXELS, targets=targets, **options)
    stored = Loader(
        Dataset(FeatureInputs([stored_features(30)]), rows, targets), LoaderOptions(kept_on=kept_on, **options)
    )
    assert len(images) == len(stored)
    for epoch, skip in ((0, 0), (3, 1)):
        for loader in (images, stored):
            loader.set_epoch(epoch, skip=skip)
        for one, other in zip(images, stored, strict=True):
            assert torch.equal(one.rows, other.rows)
            assert torch.equal(one.targets, other.targets)
            assert torch.equal(other.inputs["features"], torch.stack([other.rows * 2, other.rows * 2 + 1], 1).float())


@ON_DEVICE
def test_epochs_take_turns_with_views(kept_on):
    views = [stored_features(4, factor) for factor in (1, 10)]
    loader = Loader(Dataset(FeatureInputs(views), np.array([3, 1])), LoaderOptions(2, kept_on=kept_on))
    seen = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        seen += [batch.inputs["features"][:, 0].tolist() for batch in loader]
    assert seen == [[6, 2], [60, 20], [6, 2]]


def test_a_table_takes_a_quarter_of_the_free_memory_at_most(monkeypatch):
    dataset, cpu = Dataset(FeatureInputs([stored_features(30)] * 2), np.arange(20)), torch.device("cpu")
    for free, kept in ((4 * 320, True), (4 * 320 - 1, False)):  # 20 rows of 2 numbers, twice
        monkeypatch.setattr("deeptune.data.loading.feature_table.free_memory", lambda _device, free=free: free)
        assert (FeatureTable.of(dataset, cpu) is not None) == kept
    assert FeatureTable.of(loader_of(DIGITS, "images", np.arange(9), PIXELS, batch_size=3).dataset, cpu) is None


@pytest.mark.parametrize("augmentation", ["none", "light"])
def test_a_dataset_can_be_sent_to_a_process_that_is_spawned(tmp_path, monkeypatch, augmentation):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path))
    with Cache() as cache:
        samples = open_samples(DIGITS, "images", PIXELS, cache=cache, need=Need(augmented=augmentation != "none"))
        dataset = make_loader(samples, np.arange(9), batch_size=3, augmentation=augmentation).dataset
        copy = pickle.loads(pickle.dumps(dataset))
        positions = np.array([4, 2])
        assert torch.equal(copy.batch(positions, 1).inputs["images"], dataset.batch(positions, 1).inputs["images"])


def test_spawned_workers_read_stored_samples_and_leave_them_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr("deeptune.data.loading.worker_pool.START_METHOD", "spawn")  # as on macOS
    monkeypatch.setattr("deeptune.data.loading.image_samples.SMALL", 0)  # encoded images are stored, too
    rows = np.arange(12)
    with Cache() as cache:
        samples = open_samples(DIGITS, "images", PIXELS, cache=cache, need=Need(augmented=True))
        alone, apart = (
            make_loader(samples, rows, batch_size=3, augmentation="light", workers=workers) for workers in (0, 2)
        )
        files = {file: file.read_bytes() for file in tmp_path.rglob("*.bin")}
        assert files
        for one, other in zip(alone, apart, strict=True):
            assert torch.equal(one.inputs["images"], other.inputs["images"])
        names = [type(process).__name__ for process in multiprocessing.active_children()]
        assert names.count("SpawnProcess") == 2
        assert {file: file.read_bytes() for file in tmp_path.rglob("*.bin")} == files


def test_to_moves_what_the_model_needs():
    batch = next(iter(loader_of(DIGITS, "images", np.arange(2), PIXELS, targets=np.arange(2), batch_size=2)))
    moved = batch.to("meta")
    assert (moved.inputs["images"].device.type, moved.targets.device.type, moved.rows.device.type) == (
        "meta",
        "meta",
        "cpu",
    )


def test_an_epoch_that_was_left_early_does_not_leak_into_the_next():
    loader = loader_of(DIGITS, "images", np.arange(40), PIXELS, batch_size=4, shuffle=True, workers=2)
    next(iter(loader))
    loader.set_epoch(1)
    assert torch.cat([batch.rows for batch in loader]).tolist() == loader.order(1).tolist()


def test_workers_stop_at_once_after_an_error(tmp_path):
    bad = source(tmp_path, images=[png(10), b"no image"] * 20)
    loader = loader_of(bad, "images", np.arange(40), PIXELS, batch_size=2, workers=2)
    before = set(multiprocessing.active_children())
    with pytest.raises(DataError) as caught:
        list(loader)
    assert caught.value.__traceback__ is not None  # which holds the frames that knew the workers
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize(("n", "sizes"), [(9, [4, 5]), (8, [4, 4]), (6, [4, 2]), (5, [5]), (1, [1]), (0, [])])
def test_a_training_batch_of_one_goes_with_the_batch_before_it(n: int, sizes: list[int]) -> None:
    slices = batch_slices(n, 4, training=True)
    assert [place.stop - place.start for place in slices] == sizes
    assert [row for place in slices for row in range(n)[place]] == list(range(n))
    assert [p.stop - p.start for p in batch_slices(9, 4, training=False)] == [4, 4, 1]
