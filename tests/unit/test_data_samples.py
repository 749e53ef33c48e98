"""Samples that are made once and kept: the same bits as without, whatever was in the way."""

from __future__ import annotations

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from loading import make_loader
from pictures import png
from PIL import Image

from deeptune.data.cache.entry import Cache, entries
from deeptune.data.cache.records import RECORD
from deeptune.data.columns.input_columns import check_samples
from deeptune.data.images.decode import decode_quietly
from deeptune.data.images.transforms import resize_crop, to_tensor
from deeptune.data.loading import image_samples, text_samples
from deeptune.data.loading import samples as module
from deeptune.data.loading.image_samples import Images, Pixels
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.preprocessing import ImagePreprocessing, TextPreprocessing
from deeptune.data.loading.text_samples import Texts
from deeptune.data.modalities.base import Need
from deeptune.data.sources.parquet import ParquetSource, open_source
from deeptune.data.sources.source import Source
from deeptune.errors import DataError

PIXELS = ImagePreprocessing(image_size=24, resize=28, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
ROWS = 150


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "samples"


def photo(row: int) -> bytes:
    """JPEG and PNG of 40 pixels; every sixth has four times as many, so a JPEG of these is not decoded whole."""
    noise = np.random.default_rng(row).integers(0, 255, (30 + row % 9, 40, 3), np.uint8)
    noise = noise if row % 6 else noise.repeat(4, 0).repeat(4, 1)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, ("JPEG", "PNG")[row % 2])
    return stream.getvalue()


@pytest.fixture
def images(tmp_path) -> Source:
    """150 small pictures in two files; rows 3 and 101 can't be used."""
    made = [photo(row) for row in range(ROWS)]
    made[3], made[101] = None, made[100][:-300]
    pq.write_table(pa.table({"images": pa.array(made[:90], pa.binary())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"images": pa.array(made[90:], pa.binary())}), tmp_path / "b.parquet")
    return open_source([str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")])


def decoded_each_time(source: Source, row: int) -> torch.Tensor:
    picture = decode_quietly(source.column("images")[row].as_py(), least=2 * 28)
    assert picture.scale == (1 if row % 6 else 2)
    return to_tensor(resize_crop(picture, resize=28, image_size=24))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", ["pixels", "encoded", "memory"])
def test_what_is_kept_gives_the_bits_of_decoding_each_time(images, kept, workers, monkeypatch):
    monkeypatch.setattr(image_samples, "SMALL", 0)
    rows = np.setdiff1d(np.arange(ROWS), [3, 101])
    for _ in range(2):  # made, then found
        with Cache() as cache:
            samples = open_samples(
                images,
                "images",
                PIXELS,
                cache=None if kept == "memory" else cache,
                need=Need(augmented=kept == "encoded"),
            )
            assert type(samples) is (Pixels if kept == "pixels" else Images)
            assert samples.reasons == check_samples(images, "images", "image").reasons
            loader = make_loader(samples, rows, batch_size=16, shuffle=True, seed=4, workers=workers)
            loader.set_epoch(2)
            for batch in loader:
                for row, image in zip(batch.rows.tolist(), batch.inputs["images"], strict=True):
                    assert torch.equal(image, decoded_each_time(images, row))
            with pytest.raises(DataError, match=r"row 101 \(file b\.parquet, row 11\) is cut off"):
                list(make_loader(samples, np.array([100, 101]), batch_size=2))


def test_a_later_run_decodes_nothing_and_does_not_read_the_samples(images, monkeypatch):
    told = []
    with Cache(told.append) as cache:
        first = open_samples(images, "images", PIXELS, cache=cache)
    assert f"{ROWS} samples were decoded once and are kept: decoded images, 24 px" in told[0]
    monkeypatch.setattr(image_samples, "decode_quietly", None)
    monkeypatch.setattr("deeptune.data.sources.parquet.stream_columns", None)
    again = open_source([str(file) for file in images.files])
    with Cache(told.append) as cache:
        samples = open_samples(again, "images", PIXELS, cache=cache)
        assert samples.reasons == first.reasons
        assert len(list(make_loader(samples, np.arange(3), batch_size=1))) == 3
    assert f"all {ROWS} samples were in the cache" in told[1]


@pytest.mark.parametrize("kept", ["pixels", "encoded", "memory"])
def test_samples_of_the_same_bytes_have_the_same_hash(tmp_path, kept):
    made = [photo(1), photo(2), photo(1), None, photo(1) + b"x", None]
    struct = pa.array([{"bytes": one, "path": str(row)} for row, one in enumerate(made)])
    pq.write_table(pa.table({"images": struct}), tmp_path / "a.parquet")
    for _ in range(2):  # made, then found
        with Cache() as cache:
            samples = open_samples(
                open_source(str(tmp_path / "a.parquet")), "images", PIXELS,
                cache=None if kept == "memory" else cache, need=Need(augmented=kept == "encoded"),
            )  # fmt: skip
            hashes = samples.records.hashes.tolist()
        assert hashes[0] == hashes[2]
        assert len(set(hashes)) == 4
        assert hashes[3] == hashes[5] == 0


def test_texts_of_the_same_letters_have_the_same_hash(tmp_path, tokenizer):
    pq.write_table(
        pa.table({"text": pa.array(["bad", "Bad", "bad", None]).dictionary_encode()}), tmp_path / "a.parquet"
    )
    source, preprocessing = open_source(str(tmp_path / "a.parquet")), TextPreprocessing(tokenizer, 8, pad_id=0)
    with Cache() as cache:
        hashes = open_samples(source, "text", preprocessing, cache=cache).records.hashes.tolist()
    assert hashes[0] == hashes[2] != hashes[1]
    assert hashes[3] == 0


@pytest.mark.parametrize("change", [{"image_size": 20}, {"resize": 30}, {"interpolation": "bicubic"}])
def test_another_preprocessing_is_another_entry(images, change):
    with Cache() as cache:
        open_samples(images, "images", PIXELS, cache=cache)
        open_samples(
            images, "images", ImagePreprocessing(**{**vars(PIXELS), "mean": (0.1,) * 3}), cache=cache
        )  # normalised later
        assert len(entries()) == 1
        open_samples(images, "images", ImagePreprocessing(**{**vars(PIXELS), **change}), cache=cache)
        assert len(entries()) == 2


def test_another_rule_of_decoding_is_another_entry(images, monkeypatch):
    with Cache() as cache:
        open_samples(images, "images", PIXELS, cache=cache)
        monkeypatch.setattr(image_samples, "OVERSAMPLING", 3)
        open_samples(images, "images", PIXELS, cache=cache)
        assert len(entries()) == 2


def test_other_data_are_another_entry(images, tmp_path):
    with Cache() as cache:
        open_samples(images, "images", PIXELS, cache=cache)
        open_samples(open_source(str(tmp_path / "a.parquet")), "images", PIXELS, cache=cache)
        assert len(entries()) == 2


def test_what_was_made_stays_when_it_ends_midway(images, monkeypatch):
    def progress(done: int, total: int) -> None:
        assert total == ROWS
        if done >= 90:
            raise KeyboardInterrupt

    with Cache() as cache, pytest.raises(KeyboardInterrupt):
        open_samples(images, "images", PIXELS, cache=cache, progress=progress)
    seen = []
    stream = ParquetSource.stream_table

    def watched(self, names, *, start=0, rows):
        for first, values in stream(self, names, start=start, rows=rows):
            seen.extend(range(first, first + len(values)))
            yield first, values

    monkeypatch.setattr(ParquetSource, "stream_table", watched)
    with Cache() as cache:
        samples = open_samples(images, "images", PIXELS, cache=cache)
        assert seen == list(range(90, ROWS))
        batch = next(iter(make_loader(samples, np.arange(120, 140), batch_size=20)))
        for row, image in zip(batch.rows.tolist(), batch.inputs["images"], strict=True):
            assert torch.equal(image, decoded_each_time(images, row))


def test_a_damaged_sample_is_made_again_from_the_file(images, folder):
    with Cache() as cache:
        open_samples(images, "images", PIXELS, cache=cache)
    (file,) = folder.glob("*/data.bin")
    content = bytearray(file.read_bytes())
    content[100] ^= 255
    file.write_bytes(content)
    with Cache() as cache:
        samples = open_samples(images, "images", PIXELS, cache=cache)
        first = next(iter(make_loader(samples, np.arange(3), batch_size=3)))
        assert torch.equal(first.inputs["images"][0], decoded_each_time(images, 0))


def test_only_a_damaged_sample_is_made_again_by_the_next_run(images, folder):
    with Cache() as cache:
        open_samples(images, "images", PIXELS, cache=cache)
    (file,) = folder.glob("*/data.bin")
    content = bytearray(file.read_bytes())
    content[100] ^= 255
    file.write_bytes(content)
    told: list[str] = []
    for _ in range(2):  # the first finds the damage, the second makes up for it
        with Cache(told.append) as cache:
            samples = open_samples(images, "images", PIXELS, cache=cache)
            for row in range(3):
                assert torch.equal(pixels_of(samples, row), decoded_each_time(images, row))
    assert f"all {ROWS} samples were in the cache" in told[0]
    assert f"1 sample was decoded once ({ROWS - 1} more were in the cache)" in told[1]


def pixels_of(samples, row: int) -> torch.Tensor:
    into = np.empty((3, 24, 24), np.uint8)
    samples.pixels(row, into)
    return torch.from_numpy(into)


def test_pixels_that_would_take_too_much_of_the_cache_are_not_kept(images, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", f"{2 * ROWS * 3 * 24**2 - 2} B")
    with Cache() as cache:
        assert type(open_samples(images, "images", PIXELS, cache=cache)) is Images
        assert entries() == []  # a small file stays in memory
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", f"{2 * ROWS * 3 * 24**2} B")
    with Cache() as cache:
        assert type(open_samples(images, "images", PIXELS, cache=cache)) is Pixels


def test_without_room_on_disk_and_in_memory_the_settings_are_named(images, monkeypatch):
    monkeypatch.setattr(image_samples, "SMALL", 0)
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", "10 kB")
    with Cache() as cache:
        samples = open_samples(images, "images", PIXELS, cache=cache)
        batch = next(iter(make_loader(samples, np.arange(3), batch_size=3)))
        assert torch.equal(batch.inputs["images"][1], decoded_each_time(images, 1))
        monkeypatch.setattr(module, "room", lambda: 20_000)
        with pytest.raises(DataError) as caught:
            open_samples(images, "images", PIXELS, cache=cache)
    assert "column 'images' do not fit in memory: they take more than 10.0 kB, half of what is free" in str(
        caught.value
    )
    assert "the cache may hold 10.0 kB (DEEPTUNE_CACHE_LIMIT)" in caught.value.message
    assert "DEEPTUNE_CACHE" in caught.value.hint


def test_a_disk_that_fills_up_midway_costs_no_sample(images, monkeypatch, folder):
    pwrite, left = os.pwrite, 100_000

    def full(handle, content, place):
        nonlocal left
        left -= len(content)
        if left < 0:
            raise OSError(28, "No space left on device")
        return pwrite(handle, content, place)

    monkeypatch.setattr(os, "pwrite", full)
    with Cache() as cache:
        samples = open_samples(images, "images", PIXELS, cache=cache)
        assert type(samples) is Images
        assert list(folder.iterdir()) == []
        batch = next(iter(make_loader(samples, np.arange(4, 60), batch_size=56)))
        assert torch.equal(batch.inputs["images"][50], decoded_each_time(images, 54))


@pytest.mark.parametrize("kept", [True, False])
def test_token_ids_are_those_of_the_tokenizer(tmp_path, tokenizer, kept, monkeypatch):
    monkeypatch.setattr(Texts, "at_once", 17)
    monkeypatch.setattr(text_samples, "LETTERS_AT_ONCE", 50)
    words = np.array(["a", "good", "bad", "film", "plot", "", " "])
    texts = [" ".join(words[np.random.default_rng(row).integers(0, 7, row % 11)]) for row in range(60)]
    texts[5] = None
    pq.write_table(pa.table({"text": texts}), tmp_path / "t.parquet")
    source, preprocessing = open_source(str(tmp_path / "t.parquet")), TextPreprocessing(tokenizer, 8, pad_id=0)
    expected = tokenizer([text or "" for text in texts], truncation=True, max_length=8)["input_ids"]
    for _ in range(2):
        with Cache() as cache:
            samples = open_samples(source, "text", preprocessing, cache=cache if kept else None)
            assert [samples.ids(row).tolist() for row in range(60)] == expected
            assert samples.lengths(np.array([7, 5, 59])).tolist() == [len(expected[row]) for row in (7, 5, 59)]
            whole = tokenizer([text or "" for text in texts])["input_ids"]
            assert samples.cut(np.arange(60)) == sum(len(ids) > 8 for ids in whole)
            assert samples.reasons[5] == "is null"
            assert samples.reasons == check_samples(source, "text", "text").reasons
        assert len(entries()) == kept
        monkeypatch.setattr(text_samples, "text_flags", text_samples.text_flags if not kept else None)


def test_another_tokenizer_or_length_is_another_entry(tmp_path, tokenizer, bare_tokenizer):
    pq.write_table(pa.table({"text": ["a film"] * 3}), tmp_path / "t.parquet")
    source = open_source(str(tmp_path / "t.parquet"))
    with Cache() as cache:
        for one, length in ((tokenizer, 8), (tokenizer, 9), (bare_tokenizer, 8), (tokenizer, 8)):
            open_samples(source, "text", TextPreprocessing(one, length, pad_id=0), cache=cache)
    assert len(entries()) == 3


def test_a_file_that_is_replaced_midway_leaves_nothing_of_the_other_under_its_name(images, tmp_path):
    """What is kept is known by the contents that were hashed before."""

    def progress(done: int, total: int) -> None:
        if done == 64:
            other = [png(colour=(row, 0, 0)) for row in range(90)]
            pq.write_table(pa.table({"images": pa.array(other, pa.binary())}), tmp_path / "a.parquet")

    with Cache() as cache, pytest.raises(DataError, match="has changed since the run opened it"):
        open_samples(images, "images", PIXELS, cache=cache, progress=progress)
    (entry,) = entries()
    assert os.path.getsize(entry.folder / "index.bin") == 64 * RECORD.itemsize
