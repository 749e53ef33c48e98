"""Pairs of texts: encoded as the tokenizer itself encodes them, checked column by column."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loading import make_loader
from transformers import AutoTokenizer

from deeptune.data.cache.entry import Cache
from deeptune.data.columns.input_columns import check_samples, resolve_columns
from deeptune.data.loading import text_samples
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.preprocessing import TextPreprocessing
from deeptune.data.sources.parquet import open_source
from deeptune.errors import DataError, SpecError
from deeptune.spec.toml import validate

PAIR = ["premise", "hypothesis"]
ROWS = 70


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def bert(review_bert):
    return AutoTokenizer.from_pretrained(review_bert)


@pytest.fixture
def pairs(tmp_path) -> SimpleNamespace:
    """70 pairs of 0 to 30 words each; row 4 has no premise, row 5 no hypothesis, row 6 a blank one."""
    numbers = np.random.default_rng(0)
    words = ["a", "film", "moves", "the", "plot", "along", "without", "single", "good", "bad", "joke", "heart"]
    first, second = ([" ".join(numbers.choice(words, numbers.integers(1, 30))) for _ in range(ROWS)] for _ in PAIR)
    first[4], second[5], second[6] = None, None, " "
    pq.write_table(pa.table(dict(zip(PAIR, (first, second), strict=True))), tmp_path / "pairs.parquet")
    return SimpleNamespace(source=open_source(str(tmp_path / "pairs.parquet")), first=first, second=second)


@pytest.mark.parametrize("kept", [True, False])
def test_a_batch_of_pairs_is_what_the_tokenizer_makes_of_them(pairs, bert, kept, monkeypatch):
    monkeypatch.setattr(text_samples, "LETTERS_AT_ONCE", 300)
    monkeypatch.setattr(text_samples.Texts, "at_once", 17)
    preprocessing = TextPreprocessing(bert, 32, bert.pad_token_id, token_types=True)
    rows = np.setdiff1d(np.arange(ROWS), [4, 5])
    for _ in range(2):  # made, then found
        with Cache() as cache:
            samples = open_samples(pairs.source, PAIR, preprocessing, cache=cache if kept else None)
            for batch in make_loader(samples, rows, batch_size=16):
                given = [[texts[row] for row in batch.rows.tolist()] for texts in (pairs.first, pairs.second)]
                expected = bert(*given, truncation=True, max_length=32, padding=True, return_tensors="pt")
                assert batch.inputs.keys() == expected.keys()
                for name, values in expected.items():
                    assert batch.inputs[name].equal(values), name


def test_a_pair_that_is_cut_loses_tokens_of_the_longer_text_first(pairs, bert):
    samples = open_samples(pairs.source, PAIR, TextPreprocessing(bert, 32, 0, token_types=True))
    rows = np.setdiff1d(np.arange(ROWS), [4, 5])
    given = [[texts[row] for row in rows] for texts in (pairs.first, pairs.second)]
    assert samples.lengths(rows).tolist() == [
        len(ids) for ids in bert(*given, truncation="longest_first", max_length=32)["input_ids"]
    ]
    longer = sum(len(ids) > 32 for ids in bert(*given)["input_ids"])
    assert 0 < longer < len(rows)
    assert samples.remarks(rows) == [f"{longer} of 68 pairs of texts are longer than 32 tokens and were cut"]


def test_token_types_are_left_out_where_the_backbone_reads_none(pairs, bert):
    samples = open_samples(pairs.source, PAIR, TextPreprocessing(bert, 32, 0))
    (batch,) = make_loader(samples, np.array([0, 1]), batch_size=2)
    assert batch.inputs.keys() == {"input_ids", "attention_mask"}
    assert batch.inputs["input_ids"][0].count_nonzero() == samples.lengths(np.array([0]))[0]


def test_a_pair_that_can_not_be_used_says_in_which_column(pairs, bert):
    expected = {
        4: "is null in column 'premise'",
        5: "is null in column 'hypothesis'",
        6: "is blank in column 'hypothesis'",
    }
    for _ in range(2):  # made, then found
        with Cache() as cache:
            assert open_samples(pairs.source, PAIR, TextPreprocessing(bert, 32, 0), cache=cache).reasons == expected
    assert check_samples(pairs.source, PAIR, "text").reasons == expected


def test_a_blank_pair_is_two_empty_texts(pairs, bert):
    samples = open_samples(pairs.source, PAIR, TextPreprocessing(bert, 32, 0, token_types=True))
    (batch,) = make_loader(samples, np.array([4]), batch_size=1, blank={4})
    assert batch.inputs["input_ids"].tolist() == bert([""], [""])["input_ids"]
    assert batch.inputs["token_type_ids"].tolist() == bert([""], [""])["token_type_ids"]


def test_only_pairs_of_the_same_two_texts_have_the_same_hash(tmp_path):
    table = {"a": ["x", "x", "y", "x", None], "b": ["y", "z", "x", "y", "y"]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    hashes = check_samples(open_source(str(tmp_path / "t.parquet")), ["a", "b"], "text").hashes.tolist()
    assert hashes[0] == hashes[3]
    assert len(set(hashes[:3])) == 3
    assert hashes[4] == 0


def test_the_second_column_decides_what_is_kept(pairs, bert, tmp_path):
    told = []
    preprocessing = TextPreprocessing(bert, 32, 0)
    with Cache(told.append) as cache:
        for input in (PAIR, PAIR[::-1], "premise", PAIR):
            open_samples(pairs.source, input, preprocessing, cache=cache)
    assert ["in the cache" in sentence for sentence in told] == [False, False, False, True]
    assert "token ids of pairs" in told[0]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["text", "hypothesis"], "data.input: there is no column 'hypothesis' in "),
        (["text", "number"], "data.input: column 'number' of .* holds int64, and text needs strings, or bytes"),
        (["text", "other", "third"], "data.input: 3 columns are named, and texts come from at most 2"),
        (["picture", "picture_too"], "data.input: 2 columns are named, and images come from one column"),
    ],
)
def test_columns_that_make_no_pair_get_one_clear_message(tmp_path, columns, said):
    names, png = ["a text", "another"], [b"\x89PNG\r\n\x1a\n\0"] * 2
    table = {"text": names, "other": names, "third": names, "number": [1, 2], "picture": png, "picture_too": png}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=said):
        resolve_columns(open_source(str(tmp_path / "t.parquet")), None, columns)


def test_too_few_tokens_for_a_pair_are_refused(pairs, bert):
    with pytest.raises(SpecError, match="4 tokens are too few for a pair") as error:
        open_samples(pairs.source, PAIR, TextPreprocessing(bert, 4, 0))
    assert error.value.hint == "Set it to 5 or more: the tokenizer adds 3 tokens of its own."


def test_a_tokenizer_that_does_not_part_the_texts_is_told_of(bert, bare_tokenizer):
    assert TextPreprocessing(bert, 32, 0, token_types=True).notes_on(PAIR) == []
    assert TextPreprocessing(bare_tokenizer, 32, 0).notes_on("premise") == []
    (note,) = TextPreprocessing(bare_tokenizer, 32, 0).notes_on(PAIR)
    assert "puts nothing between the two texts" in note


def spec_with(input):
    return validate({"data": {"path": "a.parquet", "input": input}, "backbone": {"name": "bert-base-uncased"}})


def test_the_spec_takes_a_column_or_several():
    assert spec_with("text").data.input == spec_with(["text"]).data.input == "text"
    assert spec_with(PAIR).data.input == PAIR
    for wrong, said in (([], "is empty"), (["a", "a"], "names a column twice")):
        with pytest.raises(SpecError, match=said):
            spec_with(wrong)
