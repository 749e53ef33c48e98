"""Splits: exact shares, classes and quantiles in proportion, groups together, seeds honoured."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.model_selection import StratifiedShuffleSplit

from deeptune.data.splits.stratify import assign_splits
from deeptune.errors import DataError
from deeptune.spec.run_spec import SplitSpec
from deeptune.tasks import task_class


def split(targets, train=0.7, val=0.1, test=0.2, task="classification", groups=None, seed=42):
    proportions = SplitSpec(train=train, val=val, test=test)
    return assign_splits(np.asarray(targets), task=task_class(task), proportions=proportions, groups=groups, seed=seed)


SHARES = [(0.7, 0.1, 0.2), (0.8, 0.1, 0.1), (0.34, 0.33, 0.33), (0.15, 0.05, 0.8), (0.9, 0.0, 0.1), (0.8, 0.2, 0.0)]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("case", range(6))
def test_every_class_is_within_one_row_of_its_exact_share(share, case):
    rng = np.random.default_rng(case)
    sizes = rng.integers(1, 200, rng.integers(2, 40))
    targets = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    codes = split(targets, *share)
    assert codes.dtype == np.int8
    for c, size in enumerate(sizes):
        counts = np.bincount(codes[targets == c], minlength=3)
        assert np.abs(counts - size * np.array(share)).max() < 1 + 1e-9
        assert counts[0] >= 1
    # the whole, too: rounding does not add up over the classes
    assert np.abs(np.bincount(codes, minlength=3) - len(targets) * np.array(share)).max() <= 2


@pytest.mark.parametrize("seed", range(5))
def test_class_counts_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    targets = rng.choice(5, 400, p=[0.5, 0.25, 0.15, 0.07, 0.03])
    ours = np.bincount(targets[split(targets, 0.8, 0.0, 0.2, seed=seed) == 2], minlength=5)
    _, test = next(StratifiedShuffleSplit(1, test_size=0.2, random_state=seed).split(targets, targets))
    theirs = np.bincount(targets[test], minlength=5)
    assert np.abs(ours - theirs).max() <= 1
    assert ours.sum() == theirs.sum()


@pytest.mark.parametrize("seed", range(5))
def test_a_class_that_is_owed_most_of_a_row_is_in_val(seed):
    sizes = [38, 33, 31, 28, 7, 7, 6]  # an eighth of the last three is 0.875, 0.875 and 0.75 of a row
    targets = np.repeat(np.arange(7), sizes)
    ours = np.bincount(targets[split(targets, 0.875, 0.125, 0.0, seed=seed) == 1], minlength=7)
    _, val = next(StratifiedShuffleSplit(1, test_size=19, random_state=seed).split(targets, targets))
    assert ours.tolist() == np.bincount(targets[val], minlength=7).tolist() == [5, 4, 4, 3, 1, 1, 1]


def test_round_proportions_are_met_exactly():
    targets = np.repeat(np.arange(4), 100)
    codes = split(targets)
    assert np.bincount(targets * 3 + codes).tolist() == [70, 10, 20] * 4


def test_a_rare_class_is_trained_on():
    targets = np.array([0] * 50 + [1] * 50 + [2] + [3] * 2)
    for seed in range(20):
        codes = split(targets, 0.2, 0.4, 0.4, seed=seed)
        assert codes[100] == 0
        assert 0 in codes[101:]


def test_a_proportion_of_zero_is_an_empty_split():
    assert set(split([0, 1] * 50, 0.8, 0.0, 0.2)) == {0, 2}
    assert set(split([0, 1] * 50, 1.0, 0.0, 0.0)) == {0}
    assert set(split(np.arange(50.0), 0.8, 0.2, 0.0, task="regression")) == {0, 1}
    assert set(split([0, 1] * 50, 0.8, 0.0, 0.2, groups=np.arange(100) // 5)) == {0, 2}


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_seed_decides_and_nothing_else(task, grouped):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 300) if task == "classification" else rng.normal(size=300)
    groups = rng.integers(0, 60, 300) if grouped else None
    first = split(targets, task=task, groups=groups, seed=1)
    np.random.seed(7)  # the global state is of no concern
    assert np.array_equal(first, split(targets, task=task, groups=groups, seed=1))
    assert not np.array_equal(first, split(targets, task=task, groups=groups, seed=2))


def test_numbers_are_split_by_quantile():
    rng = np.random.default_rng(0)
    targets = rng.lognormal(sigma=2, size=1000)
    codes = split(targets, task="regression")
    assert np.bincount(codes).tolist() == [700, 100, 200]
    decile = np.argsort(np.argsort(targets)) // 100
    for d in range(10):
        assert np.abs(np.bincount(codes[decile == d], minlength=3) - [70, 10, 20]).max() <= 2
    # a random split of these long-tailed numbers does not come so close
    quantiles = [np.quantile(targets[codes == s], [0.1, 0.5, 0.9]) for s in range(3)]
    assert np.allclose(quantiles[0], quantiles[2], rtol=0.1)
    assert np.allclose(quantiles[0], quantiles[1], rtol=0.1)


def test_equal_numbers_are_no_trouble():
    codes = split(np.array([0.0] * 95 + [1.0] * 5), task="regression")
    assert np.bincount(codes).tolist() == [70, 10, 20]


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("seed", range(4))
def test_groups_never_cross_and_shares_are_near(task, seed):
    rng = np.random.default_rng(seed)
    groups = rng.choice(200, 2000, p=rng.dirichlet(np.ones(200)))
    targets = (groups * 7 + rng.integers(0, 2, 2000)) % 4 if task == "classification" else rng.normal(size=2000)
    codes = split(targets, task=task, groups=groups, seed=seed)
    for g in np.unique(groups):
        assert len(set(codes[groups == g])) == 1
    assert np.abs(np.bincount(codes) / 2000 - [0.7, 0.1, 0.2]).max() < 0.02
    if task == "classification":
        for c in range(4):
            here = codes[targets == c]
            assert np.abs(np.bincount(here, minlength=3) / len(here) - [0.7, 0.1, 0.2]).max() < 0.04


@pytest.mark.parametrize(
    ("targets", "task", "shares", "expected"),
    [
        (np.arange(40) ** 2 % 3, "classification", (0.6, 0.2, 0.2), "1100020200011000202000111000202000110002"),
        (np.arange(40) // 9, "classification", (0.7, 0.3, 0.0), "0010011000100100011001000100110001001000"),
        (np.sin(np.arange(40)), "regression", (0.6, 0.2, 0.2), "2102010210000001201020121020102100000012"),
    ],
)
def test_groups_go_where_they_always_went(targets, task, shares, expected):
    """A seed's split is part of a result that someone published: making it faster must not move a row."""
    codes = split(targets, *shares, task=task, groups=np.arange(40) ** 2 % 23, seed=3)
    assert "".join(map(str, codes)) == expected


def test_a_class_of_one_group_is_trained_on():
    targets = np.array([0, 1] * 50 + [2] * 4)
    groups = np.array(list(np.arange(100) // 4) + [99] * 4)
    for seed in range(20):
        codes = split(targets, 0.2, 0.4, 0.4, groups=groups, seed=seed)
        assert set(codes[-4:]) == {0}


def test_as_many_groups_as_splits_is_enough():
    codes = split([0, 1] * 15, groups=np.repeat([4, 9, 2], 10))
    assert sorted(codes[[0, 10, 20]]) == [0, 1, 2]


def test_too_few_rows_or_groups():
    with pytest.raises(DataError) as caught:
        split([0, 1])
    assert caught.value.message == (
        "data.split: 2 rows are too few for the splits asked for (train 0.7, val 0.1, test 0.2): "
        "one of them would be empty"
    )
    assert caught.value.hint == "Bring more rows, or set the proportion of val or test to 0."
    with pytest.raises(DataError, match="2 groups are too few"):
        split([0, 1] * 10, groups=np.arange(20) % 2)


# --- few groups ----------------------------------------------------------------------------------------


def allowed(codes, targets, task) -> bool:
    """Whether each split has a row, and train every class or numbers that vary."""
    learned = targets[codes == 0]
    fits = len(set(learned)) == len(set(targets)) if task == "classification" else len(set(learned)) > 1
    return fits and len(set(codes.tolist())) == 3


def few(case: int, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Targets and groups of 3 to 24 rows in 3 to 6 groups."""
    rng = np.random.default_rng(case)
    groups = int(rng.integers(3, 7))
    rows = int(rng.integers(groups, 25))
    group = np.concatenate([np.arange(groups), rng.integers(0, groups, rows - groups)])
    if task == "classification":
        return rng.integers(0, rng.integers(2, 6), rows), group
    return rng.integers(0, 3, groups).astype(float)[group], group  # one number in all rows of a group


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_few_groups_are_refused_where_and_only_where_no_assignment_is_allowed(task):
    refused = 0
    for case in range(150):
        targets, group = few(case, task)
        if len(set(targets)) < 2:
            continue
        every = itertools.product(range(3), repeat=group.max() + 1)
        possible = any(allowed(np.array(codes)[group], targets, task) for codes in every)
        try:
            codes = split(targets, task=task, groups=group, seed=case)
        except DataError:
            refused += 1
            assert not possible
        else:
            assert allowed(codes, targets, task)
            assert all(len(set(codes[group == one])) == 1 for one in group)
    assert refused


def test_why_few_groups_are_refused():
    with pytest.raises(DataError) as caught:
        split([0, 1, 2, 0], groups=np.arange(4))
    assert caught.value.message == (
        "data.split: 4 groups are too few for the splits asked for (train 0.7, val 0.1, test 0.2): "
        "train holds a row of every class with at least 3 of them, which leaves 1 for the other splits"
    )


def test_few_rows_fill_every_split_where_they_can():
    for seed in range(10):
        assert sorted(split([0, 0, 0, 1], seed=seed)[:3].tolist()) == [0, 1, 2]
        assert set(split([1.0, 2.0, 3.0, 4.0], task="regression", seed=seed).tolist()) == {0, 1, 2}
        assert set(split([0, 1, 0, 1], 0.9, 0.05, 0.05, seed=seed).tolist()) == {0, 1, 2}
        assert set(split(np.arange(5.0), 0.98, 0.01, 0.01, task="regression", seed=seed).tolist()) == {0, 1, 2}
    with pytest.raises(DataError, match="each class needs a training row"):
        split([0, 0, 1, 2])
