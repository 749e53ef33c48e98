"""The results of `deeptune probe` for the data of a draft."""

from __future__ import annotations

from deeptune.errors import SpecError
from deeptune.probing.candidates import ANY_BACKBONE
from deeptune.probing.ranking import stored_ranking
from deeptune.report.tables import value_text
from deeptune.spec.toml import set_missing, validate
from tui.draft import Draft


def probed_scores(draft: Draft, columns: list[str]) -> dict[str, str]:
    """Return the score of each backbone of a former probe as text; empty where the data has not been probed.

    `columns` are the input columns. Only pretrained weights count.
    """
    values = draft.values()
    set_missing(values, {"backbone.name": ANY_BACKBONE})
    try:
        spec = validate(values)
    except SpecError:
        return {}
    found = stored_ranking(spec, columns[0] if len(columns) == 1 else columns) if columns else None
    if found is None:
        return {}
    return {
        one.name: value_text(found.metric, one.linear.score)
        for one in found.backbones
        if one.linear is not None and one.pretrained
    }
