"""The section `report` of a spec: what the report says beyond the metrics of all rows."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from deeptune.spec.values import Section

RULE = re.compile(r"\s*(sensitivity|specificity)\s*>=\s*(0?\.\d+|0|1|1\.0*)\s*", re.ASCII)
_NUMBER = re.compile(r"\s*(?:0?\.\d+|0|1|1\.0*|\d(?:\.\d+)?[eE]-\d+)\s*", re.ASCII)


class ReportSpec(Section):
    """Parts of the report beyond the metrics of all rows."""

    by: list[str] = Field(
        default_factory=list,
        description="Columns for whose values the metrics are given apart; `a:b` crosses the columns a and b.",
    )
    unit: str | None = Field(
        None, description="Column whose equal values are scored as one unit, such as a patient, beside the rows."
    )
    unit_rule: Literal["mean", "max", "vote"] = Field(
        "mean",
        description="Prediction of a unit: the mean of its rows, the highest probability (`max`), or the share of its "
        "rows that are predicted so (`vote`).",
    )
    positive: str | None = Field(
        None,
        description="Class that operating points are about: by default the second of two, and each of more than two.",
    )
    operating_point: str | Annotated[float, Field(ge=0, le=1)] = Field(
        "youden",
        description="Threshold of a probability, fixed on val: `youden`, `sensitivity >= X` or `specificity >= X`; or "
        "a number that is the threshold itself.",
    )
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="Share of positives where the model would be used: gives predictive values there as well."
    )

    samples: bool = Field(
        False,
        description="Draw the worst and least certain test samples in the report; left out by default, as a report may "
        "be passed on where its data may not.",
    )

    @field_validator("operating_point", mode="after")
    @classmethod
    def _a_rule(cls, value: str | float) -> str | float:
        if not isinstance(value, str):
            return value
        if _NUMBER.fullmatch(value):
            return float(value)
        if value != "youden" and not RULE.fullmatch(value):
            raise ValueError(
                f'expected "youden", "sensitivity >= X", "specificity >= X" or a number from 0 to 1, got {value!r}'
            )
        return value

    @field_validator("by", mode="after")
    @classmethod
    def _named_once(cls, value: list[str]) -> list[str]:
        for name in value:
            if not all(part.strip() for part in name.split(":")):
                raise ValueError(f"expected names of columns, or several joined by a colon, got {name!r}")
            if value.count(name) > 1:
                raise ValueError(f"{name!r} is named twice")
        return value


def crossed(name: str, columns: list[str] | tuple[str, ...]) -> list[str]:
    """List the columns that an entry of `report.by` crosses; a column whose own name has a colon is itself."""
    return [name] if name in columns else [part.strip() for part in name.split(":")]
