"""The head that is stored learns from the rows of val too; val is scored by the head that has not seen them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from deeptune.engine.history import Best
from deeptune.engine.inference import Outputs
from deeptune.engine.scoring import PassedSplit, pass_splits
from deeptune.engine.setup import Setup, SplitLoaders
from deeptune.engine.verify import save_model, verify
from deeptune.model.build import TunedModel
from deeptune.spec.run_spec import Split

Place = Callable[[TunedModel], None]


@dataclass(frozen=True)
class Refit:
    """A head that is fitted to train, and then to val too.

    `chosen` and `refitted` put the first and the second one into a model. `out_of_fold` are the outputs of training
    rows by heads of the other folds, None where there are none.
    """

    chosen: Place
    refitted: Place
    out_of_fold: Outputs | None


def passed_apart(
    setup: Setup, loaders: SplitLoaders, refit: Refit, best: Best, check_inputs: dict[str, torch.Tensor]
) -> dict[Split, PassedSplit]:
    """Pass val through a head that has not seen it, and test through the same head fitted to val too.

    The second is stored, read back and compared, and is the run's model from then on. Raises CheckpointError where
    another one comes back.
    """
    refit.chosen(setup.model)
    passed = pass_splits(setup, loaders, ("val",))
    passed["val"] = replace(passed["val"], beside=refit.out_of_fold)
    refit.refitted(setup.model)
    setup.logger.keep(lambda: save_model(setup.ready, setup.run.best, best))
    stored, _ = verify(setup, check_inputs)
    plan, val = setup.ready.plan, len(setup.ready.plan.splits["val"])
    note = (
        f"val was scored by the head that was fitted to train alone; with the same penalty the stored one was fitted "
        f"to train and the {val:,} rows of val"
    )
    plan = replace(plan, split_notes={**plan.split_notes, "val": [note]}, learned=("train", "val"))
    setup.ready = replace(setup.ready, plan=plan)
    setup.use_model(stored)
    return passed | pass_splits(setup, loaders, ("test",))
