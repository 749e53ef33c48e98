"""Batches of texts: every column type, padding, tokens that are shared, and epochs that go on."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from loading import loader_of, make_loader, source

from deeptune.data.loading.loader import Loader
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.preprocessing import TextPreprocessing
from deeptune.data.sources.parquet import open_source


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_every_text_column_type(tmp_path, tokens, kind):
    texts = pa.array(["a good film", "bad", "a bad bad bad film"]).cast(kind)
    loader = loader_of(
        source(tmp_path, text=texts), "text", np.arange(3), tokens, targets=np.array([1, 0, 0]), batch_size=2, workers=2
    )
    first, second = loader
    assert first.inputs["input_ids"].tolist() == [[2, 4, 5, 7, 3], [2, 6, 3, 0, 0]]
    assert second.inputs["input_ids"].tolist() == [[2, 4, 6, 6, 3]]
    assert (loader.truncated, loader.lengths.tolist()) == (1, [5, 3, 5])
    assert first.targets.tolist() == [1, 0]


def test_texts_of_some_rows_in_more_than_one_bulk(tokenizer):
    snippets = open_source("sample:movie_snippets")
    rows = np.random.default_rng(0).choice(2000, 1500, replace=False)
    rows = np.sort(np.concatenate([rows, rows]))  # 3,000: more than are tokenised at once
    preprocessing = TextPreprocessing(tokenizer, max_length=512, pad_id=0)
    loader = loader_of(snippets, "text", rows, preprocessing, batch_size=500)
    seen = [ids[mask.bool()].tolist() for b in loader for ids, mask in zip(*b.inputs.values(), strict=True)]
    texts = snippets.column("text").to_pylist()
    assert seen == tokenizer([texts[row] for row in rows])["input_ids"]
    assert loader.truncated == 0


def test_batches_are_padded_to_a_multiple(tmp_path, tokenizer):
    texts = source(tmp_path, text=["a", "a good film", "bad " * 9, "a film " * 20])
    preprocessing = TextPreprocessing(tokenizer, max_length=20, pad_id=0)

    def widths(**options) -> list[int]:
        loader = loader_of(texts, "text", np.arange(4), preprocessing, batch_size=1, **options)
        assert loader.padded_share() == pytest.approx(1 - 39 / sum(b.inputs["input_ids"].shape[1] for b in loader))
        return [batch.inputs["input_ids"].shape[1] for batch in loader]

    assert widths() == [3, 5, 11, 20]
    assert widths(pad_multiple=8) == [8, 8, 16, 20]


def test_loaders_share_what_was_tokenised_once(tmp_path, tokens, monkeypatch):
    texts = source(tmp_path, text=["a good film", "bad", None, "a bad bad bad film", "film"])
    made = open_samples(texts, "text", tokens)
    monkeypatch.setattr("deeptune.data.loading.text_samples.tokenise", None)  # nobody does it again
    rows = np.array([1, 3, 4])
    loader = make_loader(made, rows, targets=rows, batch_size=2, shuffle=True)
    seen = {
        int(row): ids[mask.bool()].tolist()
        for b in loader
        for row, ids, mask in zip(b.rows, *b.inputs.values(), strict=True)
    }
    assert seen == {1: [2, 6, 3], 3: [2, 4, 6, 6, 3], 4: [2, 7, 3]}
    assert (loader.truncated, loader.lengths.tolist()) == (1, [3, 5, 3])
    empty = make_loader(made, np.array([2, 3]), batch_size=1, blank={2, 3})
    assert [batch.inputs["input_ids"].tolist() for batch in empty] == [[[2, 3]]] * 2
    assert (empty.truncated, empty.lengths.tolist()) == (0, [2, 2])


@pytest.mark.parametrize("n", [40, 41, 46])
def test_a_resumed_epoch_of_like_lengths_skips_what_it_has_seen(tokenizer, n):
    snippets = open_source("sample:movie_snippets")
    preprocessing = TextPreprocessing(tokenizer, max_length=64, pad_id=0)

    def loader() -> Loader:
        return loader_of(
            snippets, "text", np.arange(n), preprocessing, batch_size=8, shuffle=True, seed=1, by_length=True
        )

    whole = loader()
    for epoch in (0, 3):
        whole.set_epoch(epoch)
        batches = [batch.rows.tolist() for batch in whole]
        assert [len(rows) for rows in batches] == {40: [8] * 5, 41: [8] * 4 + [9], 46: [8] * 5 + [6]}[n]
        assert list(itertools.chain(*batches)) == whole.order(epoch).tolist()
        again = loader()
        again.set_epoch(epoch, skip=2)
        assert [batch.rows.tolist() for batch in again] == batches[2:]
    assert sorted(itertools.chain(*batches)) == list(range(n))
