"""The recipes that are compared: each a name and the `--set` values that it consists of.

A change of a default is judged here against the recipe before. What another package offers stands beside them, in
`peers`.
"""

from __future__ import annotations

from collections.abc import Mapping

RECIPES: Mapping[str, tuple[str, ...]] = {
    "head": ("tuning.method=partial",),
    "full": ("tuning.method=full",),
    "lora": ("tuning.method=lora",),
    # As before fine-tuning started from its head; the epoch is chosen as it is today.
    "full-old": ("tuning.method=full", "train.start=random", "train.batch_norm=train"),
    "full-train": ("tuning.method=full", "train.batch_norm=train"),
    "full-frozen": ("tuning.method=full", "train.batch_norm=frozen"),
    "full-decay": ("tuning.method=full", "train.layer_decay=0.8"),
    "full-ema": ("tuning.method=full", "train.average=ema"),
}
