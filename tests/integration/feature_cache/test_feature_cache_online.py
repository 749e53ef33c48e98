"""Runs on stored features and augmented views have the losses of the run that stores nothing."""

from __future__ import annotations

import pytest
from feature_runs import ROWS, log, losses, online, same_bits

from deeptune.engine.prepare import prepare


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
