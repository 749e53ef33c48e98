"""The section `data` of a spec: which rows, which columns, which split."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from deeptune.catalog import Modality
from deeptune.spec.modalities import Input
from deeptune.spec.values import Fraction, Paths, Section

BadSamplePolicy = Literal["error", "skip", "blank"]


class SplitSpec(Section):
    """Proportions of the rows for each split."""

    train: Fraction = Field(0.7, description="Share of the rows to train on.")
    val: Fraction = Field(0.1, description="Share of the rows that choose the best epoch and fit the calibration.")
    test: Fraction = Field(0.2, description="Share of the rows that the final metrics come from.")

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitSpec:
        total = self.train + self.val + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(
                f"train, val and test must sum to 1, but {self.train:g} + {self.val:g} + {self.test:g} = {total:g}"
            )
        if self.train == 0:
            raise ValueError("train must be more than 0: there is nothing to learn from")
        return self


class DataSpec(Section):
    """Rows, columns and splits."""

    path: Paths | None = Field(
        None,
        description="Parquet file, glob, folder or a list of them; split by `split`. `sample:NAME` is one that ships. "
        "A folder of pictures, a CSV and others are imported.",
    )
    train: Paths | None = Field(None, description="Training Parquet, when the splits are files of their own.")
    val: Paths | None = Field(None, description="Validation Parquet; drawn from `train` when left out.")
    test: Paths | None = Field(None, description="Test Parquet; drawn from `train` when left out.")
    modality: Modality | None = Field(
        None,
        description="`image`, `text`, or `image_text` (an image with a text); inferred from the columns when left out.",
    )
    input: Input | None = Field(
        None,
        description="Input column, by default `images` for images and `text` for text; or two columns: of texts that "
        "are read as a pair, or of an image and its text.",
    )
    root: str | None = Field(
        None,
        description="Folder at which the names of image files start; by default that of the Parquet file.",
    )
    value_range: list[float] | Literal["auto", "none"] = Field(
        "auto",
        description="Range [low, high] that is scaled to 0 to 255 in images of more than 8 bits, such as a CT window "
        "[-160, 240]. `auto` is 0 to the most that the fewest bits hold, or the range of the training rows where "
        "values are negative; `none` refuses such images.",
    )
    label: Input = Field(
        "labels",
        description="Label column; or several, of 0 and 1 for `multilabel`, or of numbers for `regression`.",
    )
    label_order: list[str] | None = Field(
        None, description="The classes from the lowest to the highest, for `ordinal`; numbers have their own order."
    )
    many_classes: bool = Field(
        False, description="Accept a label column without class names that has almost as many classes as rows."
    )
    group: str | None = Field(None, description="Column whose equal values stay in one split, such as a patient.")
    duplicates: Literal["keep", "group"] = Field(
        "keep",
        description="Identical samples: leave each where it is drawn (`keep`), or keep them in one split (`group`).",
    )
    split_column: str = Field(
        "auto",
        description="Column that says train, val or test of each row, null to leave it out; `auto` is the one that an "
        "import kept, `none` draws the splits by `split`.",
    )
    split: SplitSpec = Field(default_factory=SplitSpec, description="Proportions of train, val and test.")  # type: ignore[arg-type]
    on_bad_sample: BadSamplePolicy = Field(
        "error",
        description="A sample that cannot be used: stop (`error`), leave it out (`skip`), use an empty one (`blank`).",
    )

    @field_validator("path", "train", "val", "test")
    @classmethod
    def _not_empty(cls, value: Paths | None) -> Paths | None:
        if value is not None and (not value or "" in ([value] if isinstance(value, str) else value)):
            raise ValueError("is empty: give a Parquet file, a glob or a folder")
        return value

    @field_validator("input", "label")
    @classmethod
    def _several_columns(cls, value: Input | None) -> Input | None:
        if isinstance(value, list):
            if not value:
                raise ValueError("is empty: name a column")
            if len(set(value)) < len(value):
                raise ValueError(f"names a column twice: {value!r}")
            return value[0] if len(value) == 1 else value
        return value

    @field_validator("value_range")
    @classmethod
    def _low_and_high(cls, value: list[float] | str) -> list[float] | str:
        if isinstance(value, list) and not (len(value) == 2 and all(map(math.isfinite, value)) and value[0] < value[1]):
            raise ValueError(f"expected two numbers [low, high], the lower first, got {value!r}")
        return value

    @model_validator(mode="after")
    def _one_way_to_name_the_data(self) -> DataSpec:
        apart = self.train or self.val or self.test
        if self.path and apart:
            raise ValueError("give either `path` or `train` (with `val` and `test`), not both")
        if apart and self.split_column not in ("auto", "none"):
            raise ValueError("`split_column` needs `path`: with `train` the splits are files of their own")
        if not self.path and not self.train:
            raise ValueError("no data named: set `path`, or `train` (with `val` and `test` if you have them)")
        return self
