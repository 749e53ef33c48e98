"""Heads by cross-validation, their folds and scores, and the ranking that is made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from deeptune.data.splits.folds import draw_folds
from deeptune.engine.feature_extraction import spread_order
from deeptune.errors import SpecError, WeightsError
from deeptune.formatting import seconds_of
from deeptune.probing.advice import advise
from deeptune.probing.candidates import Candidate, named_candidates
from deeptune.probing.heads import BoostedTrees, LinearHead, out_of_fold
from deeptune.probing.ranking import (
    HeadScore,
    RankedBackbone,
    Ranking,
    file_stamp,
    sorted_backbones,
    store_ranking,
    stored_ranking,
)
from deeptune.probing.scores import constant_score, score_rows, skill
from deeptune.spec.toml import validate
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.count import CountTask
from deeptune.tasks.multilabel import MultiLabelTask
from deeptune.tasks.multitarget import MultiTargetTask
from deeptune.tasks.ordinal import OrdinalTask
from deeptune.tasks.regression import RegressionTask

N, WIDTH = 150, 12
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(N, WIDTH)).astype(np.float32)
SIGNAL = FEATURES[:, 0] + 0.5 * FEATURES[:, 1] + RNG.normal(0, 0.3, N)
RANKS = np.digitize(SIGNAL, np.quantile(SIGNAL, [0.3, 0.7]))
LABELS = np.stack([SIGNAL > 0, FEATURES[:, 2] > 0], axis=1).astype(np.int8)
COUNTS = RNG.poisson(np.exp(1 + 0.6 * FEATURES[:, 0])).astype(float)
PAIRS = np.stack([SIGNAL, np.where(np.arange(N) % 7, FEATURES[:, 3] * 5 + 2, np.nan)], axis=1)

CLASSES = ClassificationTask(("a", "b", "c"))
TASKS = [
    (CLASSES, RANKS, 0.65),
    (OrdinalTask((0, 1, 2)), RANKS, 0.65),
    (MultiLabelTask(("x", "y"), (0.5, 0.5)), LABELS, 0.85),
    (RegressionTask.fit(SIGNAL), SIGNAL, 0.7),
    (CountTask.fit(COUNTS), COUNTS, 0.4),
    (MultiTargetTask._of(PAIRS, ("p", "q"), "labels"), PAIRS, 0.7),
]
IDS = ["classification", "ordinal", "multilabel", "regression", "count", "targets"]


def backbone(name: str = "resnet18", score: float | None = 0.7, **values) -> RankedBackbone:
    linear = None if score is None else HeadScore(score, (score - 0.05, score + 0.05), 1.0, {"accuracy": score}, 10.0)
    return RankedBackbone(name, values.pop("weights", "pretrained"), 512, 10, 100, linear, **values)


# Folds


@pytest.mark.parametrize(("task", "targets", "least"), TASKS, ids=IDS)
def test_folds_are_of_similar_size(task, targets, least):
    sizes = np.bincount(draw_folds(targets, task, seed=1))
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 5


def test_folds_hold_each_class_in_proportion():
    folds = draw_folds(RANKS, CLASSES, seed=1)
    counts = np.stack([np.bincount(RANKS[folds == fold]) for fold in range(5)])
    assert np.ptp(counts, axis=0).max() <= 1


@pytest.mark.parametrize(("task", "targets", "least"), TASKS, ids=IDS)
def test_rows_of_a_group_are_in_one_fold(task, targets, least):
    groups = np.arange(N) // 4
    folds = draw_folds(targets, task, groups=groups, seed=1)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in np.unique(groups))
    assert len(np.unique(folds)) == 5


def test_identical_samples_are_in_one_fold():
    hashes = (np.arange(N) // 3 + 1).astype(np.uint64)
    folds = draw_folds(RANKS, CLASSES, hashes=hashes, seed=1)
    assert all(len(np.unique(folds[hashes == one])) == 1 for one in np.unique(hashes))


def test_one_group_has_one_fold():
    assert not draw_folds(RANKS, CLASSES, groups=np.zeros(N, np.int64), seed=1).any()


def test_few_rows_of_every_class_still_make_folds():
    assert len(np.unique(draw_folds(np.array([0, 1, 2, 0, 1, 2]), CLASSES, seed=1))) == 5


# Heads


@pytest.mark.parametrize("kind", [LinearHead(), BoostedTrees()], ids=["linear", "trees"])
@pytest.mark.parametrize(("task", "targets", "least"), TASKS, ids=IDS)
def test_a_head_learns_what_the_features_tell(task, targets, least, kind):
    found = out_of_fold(kind, FEATURES, targets, task, draw_folds(targets, task, seed=1))
    score = score_rows(task, found.logits.astype(np.float32), targets, None)
    assert score.value is not None
    assert score.value > least - (0.3 if isinstance(kind, BoostedTrees) else 0)
    assert score.interval is not None
    assert score.interval[0] < score.value < score.interval[1]


@pytest.mark.parametrize(("task", "targets", "least"), TASKS, ids=IDS)
def test_a_head_learns_nothing_of_rows_that_it_is_scored_on(task, targets, least):
    """On noise an honest score is that of a constant, whatever penalty is chosen."""
    noise = np.random.default_rng(5).normal(size=(N, 300)).astype(np.float32)
    found = out_of_fold(LinearHead(), noise, targets, task, draw_folds(targets, task, seed=1))
    value = score_rows(task, found.logits.astype(np.float32), targets, None).value
    baseline = constant_score(task, targets)
    assert value is not None
    assert baseline is not None
    assert value < baseline + 0.12


def test_a_penalty_of_logistic_regression_gives_scikit_learns_probabilities():
    folds = draw_folds(RANKS, CLASSES, seed=1)
    head = LinearHead()
    head.penalties = (10.0,)
    ours = out_of_fold(head, FEATURES, RANKS, CLASSES, folds).logits
    for fold in range(5):
        train, test = FEATURES[folds != fold].astype(float), FEATURES[folds == fold].astype(float)
        scale = np.sqrt(train.var(axis=0) + train.var(axis=0).mean())
        theirs = LogisticRegression(C=0.1).fit((train - train.mean(axis=0)) / scale, RANKS[folds != fold])
        expected = theirs.predict_proba((test - train.mean(axis=0)) / scale)
        np.testing.assert_allclose(np.exp(ours[folds == fold]), expected, atol=1e-3)


def test_the_penalty_is_that_of_a_search_by_hand():
    """Ridge regression with each penalty, on the same folds: the least squared error is found by both."""
    task, folds = TASKS[3][0], draw_folds(SIGNAL, TASKS[3][0], seed=1)
    wide = np.concatenate([FEATURES, np.random.default_rng(6).normal(size=(N, 200))], axis=1).astype(np.float32)
    head = LinearHead()
    errors = []
    for penalty in head.penalties:
        missed = 0.0
        for fold in range(5):
            train, test = head.prepared(wide[folds != fold], wide[folds == fold])
            model = Ridge(alpha=penalty).fit(train, task.standardise(SIGNAL[folds != fold]))
            missed += np.square(model.predict(test) - task.standardise(SIGNAL[folds == fold])).sum()
        errors.append(missed)
    assert out_of_fold(head, wide, SIGNAL, task, folds).penalty == head.penalties[int(np.argmin(errors))]


def test_a_feature_that_hardly_varies_in_training_is_not_blown_up():
    features = FEATURES.copy()
    features[:, 5] = 0
    features[17, 5] = 100  # in one fold only: elsewhere it has no deviation to be divided by
    task = TASKS[3][0]
    found = out_of_fold(LinearHead(), features, SIGNAL, task, draw_folds(SIGNAL, task, seed=1))
    value = score_rows(task, found.logits, SIGNAL, None).value
    assert value is not None
    assert value > 0.6


def test_a_class_that_no_training_fold_holds_has_the_least_chance():
    targets = RANKS.copy()
    targets[targets == 2] = 1
    targets[3] = 2
    found = out_of_fold(LinearHead(), FEATURES, targets, CLASSES, draw_folds(targets, CLASSES, seed=1))
    assert CLASSES.probabilities(found.logits)[3, 2] < 1e-4


def test_skill_is_a_share_of_what_is_to_be_won():
    assert skill("accuracy", 0.8, 0.6) == pytest.approx(0.5)
    assert skill("r2", -3.0, 0.0) == 0.0
    assert skill("accuracy", None, 0.6) is None


def test_groups_widen_the_interval_of_a_score():
    task, targets = TASKS[1][0], RANKS
    groups = np.repeat(np.arange(N // 5), 5)
    sure = np.where(np.random.default_rng(1).random(N // 5)[groups] < 0.7, targets, 2 - targets)
    logits = np.stack([np.where(sure >= 1, 5.0, -5.0), np.where(sure >= 2, 5.0, -5.0)], axis=1)
    narrow, wide = (score_rows(task, logits, targets, each).interval for each in (None, groups))
    assert narrow is not None
    assert wide is not None
    assert wide[1] - wide[0] > 1.3 * (narrow[1] - narrow[0])


# What is passed and who is asked


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_each_beginning_of_the_order_is_spread_over_all_batches(count):
    order = spread_order(count)
    assert sorted(order.tolist()) == list(range(count))
    assert not count or order[-1] == count - 1
    if count == 100:
        assert np.diff(np.sort(order[:10])).max() <= 20


def test_names_of_backbones():
    assert named_candidates(["resnet18", "resnet18=random", "resnet18"], "image") == [
        Candidate("resnet18"),
        Candidate("resnet18", "random"),
    ]
    with pytest.raises(WeightsError, match="Did you mean 'resnet18'"):
        named_candidates(["resnet81"], "image")
    with pytest.raises(SpecError, match="is a backbone for text, but the data is image"):
        named_candidates(["bert"], "image")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5min", 300), ("1.5 h", 5400), ("5", None), ("-1 s", None)]
)
def test_a_budget_is_a_time(text, seconds):
    assert seconds_of(text) == seconds


# Rankings


def test_random_weights_come_after_pretrained_ones_and_failures_last():
    rows = [backbone("failed", None), backbone("noise", 0.9, weights="random"), backbone("b", 0.5), backbone("a", 0.6)]
    assert [one.name for one in sorted_backbones(rows)] == ["a", "b", "noise", "failed"]


def ranking(file: Path, **values) -> Ranking:
    rows = [backbone(boosting=HeadScore(0.6, None, 2.0)), backbone("resnet50", None, reason="no weights")]
    chosen = advise(rows, metric="accuracy", baseline=0.3, rows=500, modality="image")
    seen = file_stamp(file)
    assert seen is not None
    return Ranking(
        data=str(file), task="classification", metric="accuracy", usable_rows=600, test_rows=100, scored_rows=600,
        folds=5, budget=300.0, seconds=3.0, state="complete", baseline=0.3, backbones=rows, advice=chosen, files=[seen],
    )  # fmt: skip


def test_a_ranking_is_the_same_after_a_journey_through_json(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"1")
    one = ranking(tmp_path / "a.parquet")
    assert Ranking.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_a_kept_ranking_is_for_unchanged_files_and_the_same_columns(tmp_path):
    file = tmp_path / "a.parquet"
    file.write_bytes(b"1")
    spec = validate({"data": {"path": str(file)}, "backbone": {"name": "?"}})
    store_ranking(ranking(file), spec, "images")
    assert stored_ranking(spec, "images") == ranking(file)
    assert stored_ranking(spec, "scans") is None
    file.write_bytes(b"12")
    assert stored_ranking(spec, "images") is None


def test_a_damaged_file_is_no_ranking(tmp_path):
    from deeptune.probing.ranking import ranking_file

    file = tmp_path / "a.parquet"
    file.write_bytes(b"1")
    spec = validate({"data": {"path": str(file)}, "backbone": {"name": "?"}})
    store_ranking(ranking(file), spec, "images")
    for text in ("{", "[]", '{"schema": 1, "backbones": [1], "files": []}', '{"schema": 0}'):
        ranking_file(spec, "images").write_text(text)
        assert stored_ranking(spec, "images") is None


@pytest.mark.parametrize(
    ("score", "rows", "modality", "method"),
    [
        (0.8, 700, "image", "partial"),
        (0.8, 6000, "image", "lora"),
        (0.5, 1500, "image", "lora"),
        (0.5, 300, "image", "partial"),
        (0.8, 300, "text", "partial"),
        (0.8, 2000, "text", "full"),
    ],
)
def test_the_method_follows_what_was_measured(score, rows, modality, method):
    found = advise([backbone(score=score)], metric="accuracy", baseline=0.2, rows=rows, modality=modality)
    assert found is not None
    assert found.method == method
    assert f"{rows:,} training rows" in found.why[-1]


def test_advice_names_what_may_be_as_good_and_what_beats_no_constant():
    near = advise([backbone("a", 0.7), backbone("b", 0.68)], metric="accuracy", baseline=0.2, rows=9, modality="image")
    assert near is not None
    assert any(sentence.startswith("b reached a score inside of a's interval") for sentence in near.why)
    poor = advise([backbone("a", 0.7)], metric="accuracy", baseline=0.69, rows=9, modality="image")
    assert poor is not None
    assert any("not clearly above a constant" in sentence for sentence in poor.why)


def test_there_is_no_advice_without_a_score():
    assert advise([backbone(score=None)], metric="accuracy", baseline=0.2, rows=9, modality="image") is None
