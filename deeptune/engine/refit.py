"""The head that is stored learns from the rows of val too; val is scored by the head that has not seen them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from deeptune.engine.history import Best
from deeptune.engine.scoring import PassedSplit, pass_splits
from deeptune.engine.setup import Setup, SplitLoaders
from deeptune.engine.verify import save_model, verify
from deeptune.model.build import TunedModel
from deeptune.spec.run_spec import Split

Place = Callable[[TunedModel], None]


def passed_apart(
    setup: Setup, loaders: SplitLoaders, places: tuple[Place, Place], best: Best, probe: dict[str, torch.Tensor]
) -> dict[Split, PassedSplit]:
    """Pass val through a head that has not seen it, and test through the same head fitted to val too.

    `places` put the first and the second one into a model. The second is stored, read back and compared, and is the
    run's model from then on. Raises CheckpointError where another one comes back.
    """
    seen_train, seen_all = places
    seen_train(setup.model)
    passed = pass_splits(setup, loaders, ("val",))
    seen_all(setup.model)
    setup.logger.keep(lambda: save_model(setup.ready, setup.run.best, best))
    stored, _ = verify(setup, probe)
    plan, val = setup.ready.plan, len(setup.ready.plan.splits["val"])
    note = (
        f"val was scored by the head that was fitted to train alone; with the same penalty the stored one was fitted "
        f"to train and the {val:,} rows of val"
    )
    plan = replace(plan, limits={**plan.limits, "val": [note]}, learnt=("train", "val"))
    setup.ready = replace(setup.ready, plan=plan)
    setup.use_model(stored)
    return passed | pass_splits(setup, loaders, ("test",))
