"""The base class of the sections of a spec, and the types of their values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
_SPLIT_WORDS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
Auto = Literal["auto"]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Paths = str | list[str]


def split_named(word: str) -> Split | None:
    """Return the split that a word in a file stands for: train; val, valid, validation or dev; test.

    None for another word.
    """
    return _SPLIT_WORDS.get(word.strip().lower())


class Section(BaseModel):
    """A section of the spec: frozen, without unknown keys, without conversion between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @field_validator("*")
    @classmethod
    def _of_32_bits(cls, value: object) -> object:
        if type(value) is int and value >= 2**32:  # libraries count in 32 or 64 bits
            raise ValueError("is too large: expected an integer below 4,294,967,296")
        return value
