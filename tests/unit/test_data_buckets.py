"""Batches of texts of like length: little padding, and otherwise the statistics of a plain shuffle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loading import make_loader
from scipy import stats

from deeptune.data.loading.batch_order import (
    POOL,
    WINDOW,
    batch_slices,
    bucketed_order,
    epoch_order,
    padded_share,
    windowed_order,
)
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.preprocessing import TextPreprocessing
from deeptune.data.sources.parquet import open_source
from deeptune.engine.loop import groups_of

BATCH = 16


def log_normal(n: int, seed: int = 0) -> torch.Tensor:
    """Tokens of texts as they are found: 90 at the median, 240 at the 95th percentile, cut at 512."""
    drawn = np.exp(np.random.default_rng(seed).normal(np.log(90), 0.6, n))
    return torch.from_numpy(drawn.clip(3, 512).astype(np.int64))


def batches_of(order: torch.Tensor, batch_size: int = BATCH) -> list[torch.Tensor]:
    return [order[places] for places in batch_slices(len(order), batch_size, training=True)]


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 18, 33, 161, 1600, 1609, 5001])
def test_every_row_comes_once_in_an_epoch(n):
    for epoch in range(3):
        assert sorted(bucketed_order(log_normal(n), BATCH, 1, epoch).tolist()) == list(range(n))


def test_the_order_is_that_of_seed_and_epoch_and_lengths():
    lengths = log_normal(500)

    def order(seed, epoch, of=lengths):
        return bucketed_order(of, BATCH, seed, epoch).tolist()

    assert order(1, 2) == order(1, 2)
    torch.manual_seed(5)  # the generator that dropout uses is neither looked at nor moved
    state = torch.get_rng_state()
    assert order(1, 2) == order(1, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(order(*at)) for at in ((1, 2), (1, 3), (2, 1), (2, 2))}) == 4
    assert order(1, 2, log_normal(500, seed=1)) != order(1, 2)


@pytest.mark.parametrize(("n", "batch_size"), [(1400, 16), (1400, 32), (20_000, 16), (20_000, 64)])
def test_less_than_a_twentieth_is_padding(n, batch_size):
    lengths = log_normal(n)
    bucketed, plain = [], []
    for epoch in range(5):
        for shares, order in (
            (bucketed, bucketed_order(lengths, batch_size, 0, epoch)),
            (plain, epoch_order(n, 0, epoch)),
        ):
            shares.append(padded_share(lengths[order].numpy(), batch_slices(n, batch_size, training=True)))
    small = n // batch_size < POOL
    assert np.mean(bucketed) < (0.12 if small else 0.05)  # a small set is dealt into two pools and not sorted whole
    assert np.mean(plain) > 0.5


@pytest.mark.parametrize("batch_size", [16, 32])
def test_less_than_a_twentieth_of_the_movie_snippets_is_padding(review_bert, batch_size):
    from transformers import AutoTokenizer

    tokens = TextPreprocessing(AutoTokenizer.from_pretrained(review_bert), max_length=512, pad_id=0)
    source = open_source("sample:movie_snippets")
    rows = np.arange(source.num_rows)
    samples = open_samples(source, "text", tokens)
    bucketed, plain = (
        make_loader(samples, rows, batch_size=batch_size, shuffle=True, seed=3, by_length=by_length)
        for by_length in (True, False)
    )
    for epoch in range(3):
        bucketed.set_epoch(epoch)
        masks = [batch.inputs["attention_mask"] for batch in bucketed]
        found = 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)
        assert found == pytest.approx(bucketed.padded_share(epoch))  # what the run's log says
        assert found < 0.05
        assert plain.padded_share(epoch) > 0.35


@pytest.mark.parametrize("n", [7, 33, 200, 201, 217, 400])
def test_accumulation_does_not_change_which_rows_make_an_optimizer_step(review_bert, n):
    from transformers import AutoTokenizer

    tokens = TextPreprocessing(AutoTokenizer.from_pretrained(review_bert), max_length=512, pad_id=0)
    samples = open_samples(open_source("sample:movie_snippets"), "text", tokens)

    def steps(batch_size: int, accumulation: int) -> list[list[set[int]]]:
        loader = make_loader(
            samples, np.arange(n), batch_size=batch_size, accumulation=accumulation, shuffle=True, by_length=True
        )
        return [
            [{int(row) for batch in group for row in batch.rows} for group in groups_of(loader, accumulation)]
            for epoch in range(3)
            if not loader.set_epoch(epoch)
        ]

    assert steps(8, 4) == steps(16, 2) == steps(32, 1)


def test_a_row_may_come_at_any_time():
    """Mean place over many epochs, and the distribution of the places of the shortest and the longest text."""
    n, epochs = 203, 600
    lengths = log_normal(n).sort().values  # row 0 is the shortest
    places = np.stack([bucketed_order(lengths, 8, 0, epoch).argsort().numpy() for epoch in range(epochs)])
    error = n / np.sqrt(12 * epochs)
    deviations = (places.mean(0) - (n - 1) / 2) / error
    assert np.abs(deviations).max() < 4.5  # of 203 rows
    assert np.sqrt((deviations**2).mean()) < 1.3  # 1 for independent rows
    for row in (0, 1, n // 2, n - 1):
        counts = np.bincount(places[:, row] // 8, minlength=26)[:25]  # full batches
        assert stats.chisquare(counts).pvalue > 1e-4, row


def test_the_short_last_batch_holds_rows_of_every_length():
    n, epochs = 203, 2000
    lengths = log_normal(n).sort().values
    last = torch.stack([bucketed_order(lengths, 8, 0, epoch)[200:] for epoch in range(epochs)])
    counts = torch.bincount(last.flatten(), minlength=n).numpy()
    assert stats.chisquare(counts.reshape(7, 29).sum(1)).pvalue > 1e-4  # short to long, in seven parts
    assert counts[0] > 0
    assert counts[-1] > 0
    ranks = last.sort(dim=1).values
    alike = ((ranks[:, 2] - ranks[:, 0]) < n // 4).float().mean()
    assert alike > 0.9  # and its rows are of one length mostly


@pytest.mark.parametrize("n", [64, 200, 3000])
def test_the_same_two_rows_are_not_always_together(n):
    """Also when no two lengths are the same, and in a set that is small."""
    lengths, epochs = torch.arange(n) + 3, 120
    together = np.zeros(n - 1)
    for epoch in range(epochs):
        batch = np.empty(n, int)
        for number, rows in enumerate(batches_of(bucketed_order(lengths, BATCH, 0, epoch))):
            batch[rows] = number
        together += batch[1:] == batch[:-1]
    share = together / epochs
    assert share.max() < 0.75
    assert (share > 0).all()
    assert share.mean() < 0.6


def test_an_epoch_does_not_go_from_short_to_long():
    lengths = log_normal(4000)
    found = []
    for epoch in range(40):
        means = [float(lengths[rows].float().mean()) for rows in batches_of(bucketed_order(lengths, BATCH, 0, epoch))]
        found.append(stats.spearmanr(range(len(means)), means).statistic)
        assert abs(found[-1]) < 4.5 / np.sqrt(len(means))
    assert abs(np.mean(found)) < 4 / np.sqrt(len(means) * len(found))


def test_texts_of_one_length_are_shuffled_as_ever():
    lengths = torch.full((3200,), 7)
    neighbours = [set(batches_of(bucketed_order(lengths, BATCH, 0, epoch))[0].tolist()) for epoch in range(20)]
    assert max(len(one & other) for i, one in enumerate(neighbours) for other in neighbours[:i]) <= 4


@pytest.mark.parametrize("n", [0, 1, 31, WINDOW, WINDOW + 1, 3 * WINDOW - 5])
def test_an_unshuffled_order_is_sorted_within_windows_alone(n):
    lengths = log_normal(n)
    order = windowed_order(lengths)
    assert sorted(order.tolist()) == list(range(n))
    for start in range(0, n, WINDOW):
        some = order[start : start + WINDOW]
        assert set((some // WINDOW).tolist()) == {start // WINDOW}
        assert (lengths[some].diff() >= 0).all()
        assert (some.diff()[lengths[some].diff() == 0] > 0).all()  # equals stay in their order
    if n > WINDOW:
        assert padded_share(lengths[order].numpy(), batch_slices(n, 32, training=False)) < 0.03
