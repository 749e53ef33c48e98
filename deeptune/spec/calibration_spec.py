"""The section `calibration` of a spec: what val says of how far predictions can be trusted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from deeptune.spec.values import Section

MIN_COVERAGE, MAX_COVERAGE = 0.5, 0.999
Coverage = Annotated[float, Field(ge=MIN_COVERAGE, le=MAX_COVERAGE)]


class CalibrationSpec(Section):
    """Confidence in predictions, as val shows it once the model is trained."""

    method: Literal["auto", "none", "temperature", "platt", "isotonic", "beta"] = Field(
        "auto",
        description="How probabilities are calibrated on val; `auto` is what cross-validation finds best without "
        "other predictions.",
    )
    coverage: Coverage = Field(
        0.9, description="Share of rows whose set or interval should contain the truth, 0.5 to 0.999."
    )
