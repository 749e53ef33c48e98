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
}
