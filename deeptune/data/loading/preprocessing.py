"""Preprocessing of samples before the backbone, as a part of the model: a run stores it and reads it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError

from deeptune.data.cache.entry import CacheRefused
from deeptune.data.images.transforms import OVERSAMPLING
from deeptune.data.loading.tokenise import tokenizer_identity
from deeptune.errors import CheckpointError, SpecError
from deeptune.spec.modalities import Input, columns_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
CropMode = Literal["center", "squash", "border"]
RGB = tuple[float, float, float]
Positive = Annotated[int, Field(gt=0)]

# What decided the pixels of runs whose record has no preprocessing, where that differs from today.
BEFORE_RECORDS: Mapping[str, Any] = {"crop_mode": "center"}
# Texts that tokenizers cut in different ways: case, accents, numbers, scripts, spaces.
_TOKENIZER_SAMPLES = ("The quick brown fox, déjà vu: 3.14 × 10⁻²!", "Straße ÄÖÜ  東京 привет\tनमस्ते 🙂 don't re-use_it")


def stored_preprocessing(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the preprocessing from a manifest or a run's record. Raises CheckpointError when that is damaged."""
    found = holder.get("preprocessing", BEFORE_RECORDS)
    if not isinstance(found, Mapping):
        raise CheckpointError(f"the stored preprocessing is damaged: {found!r:.60}")
    return found


@dataclass(frozen=True)
class ImagePreprocessing:
    """The steps from an image to the backbone's input: resize, centre crop, scale to 0 … 1, normalise.

    The crop is a square of `image_size` pixels. `resize` is the length before the crop of the shorter side (`center`),
    of both sides, whatever the image's shape (`squash`), or of the longer side, with borders of the mean colour
    (`border`). These are the crop modes of timm's evaluation transform.
    """

    modality: ClassVar[str] = "image"
    image_size: Positive
    resize: Positive
    interpolation: Interpolation
    mean: RGB
    std: RGB
    crop_mode: CropMode = "center"

    @property
    def fill(self) -> tuple[int, int, int]:
        """The colour (0 … 255) around a picture that is smaller than the crop."""
        red, green, blue = (round(255 * value) if self.crop_mode == "border" else 0 for value in self.mean)
        return red, green, blue

    def at(self, image_size: int) -> ImagePreprocessing:
        """Return the same at another size: the crop keeps its share of the image."""
        return replace(self, image_size=image_size, resize=round(self.resize * image_size / self.image_size))

    def ingredients(self) -> dict[str, Any]:
        """Return everything that decides the pixels, for the names of cache entries."""
        return {**asdict(self), "least": OVERSAMPLING}

    def notes_on(self, input: Input) -> list[str]:
        """Return notes on the input columns for a person: none."""
        return []

    def record(self) -> dict[str, Any]:
        """Return the record that a run stores, as JSON: enough to repeat the preprocessing without DeepTune."""
        return {"modality": self.modality, **asdict(self), "fill": self.fill, "range": [0.0, 1.0], "antialias": True}

    def restored(self, record: Mapping[str, Any]) -> Self:
        """Return the preprocessing that a run stored; what the record does not say stays. Raises CheckpointError."""
        known = {field.name for field in fields(self)}
        return _checked(self, asdict(self) | {key: value for key, value in record.items() if key in known})


@dataclass(frozen=True)
class TextPreprocessing:
    """The backbone's own tokenizer, the most tokens that are kept of a text, and the id that fills up a batch.

    `token_types` says whether the backbone reads which text of a pair a token is of.
    """

    modality: ClassVar[str] = "text"
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    pad_id: int
    token_types: bool = False

    def ingredients(self) -> dict[str, Any]:
        """Return everything that decides the ids, for the names of cache entries.

        Raises CacheRefused where it is unknown.
        """
        known = {"max_length": self.max_length, "pad": self.pad_id, "token_types": self.token_types}
        return {**tokenizer_identity(self.tokenizer), **known}

    def require_room_for_pairs(self) -> None:
        """Raise SpecError where `max_length` leaves no token for one of the texts of a pair."""
        fewest = self.tokenizer.num_special_tokens_to_add(pair=True) + 2
        if self.max_length < fewest:
            raise SpecError(
                f"backbone.max_length: {self.max_length} tokens are too few for a pair of texts.",
                hint=f"Set it to {fewest} or more: the tokenizer adds {fewest - 2} tokens of its own.",
            )

    def notes_on(self, input: Input) -> list[str]:
        """Return notes on the input columns for a person. Raises SpecError where `max_length` has no room for them."""
        if len(columns_of(input)) == 1:
            return []
        self.require_room_for_pairs()
        alone, together = (self.tokenizer.num_special_tokens_to_add(pair=pair) for pair in (False, True))
        if together > alone or self.token_types:
            return []
        return [
            f"{type(self.tokenizer).__name__} puts nothing between the two texts of a pair: the backbone cannot tell "
            "where the second begins, unless the texts say so"
        ]

    def record(self) -> dict[str, Any]:
        """Return the record that a run stores, as JSON; the tokenizer itself is in the run's `backbone/`."""
        tokenizer = self.tokenizer
        return {
            "modality": self.modality,
            "tokenizer": type(tokenizer).__name__,
            "tokenizer_sha256": _sha256(tokenizer),
            "probe_ids": _sample_ids(tokenizer),
            "max_length": self.max_length,
            "truncation_side": tokenizer.truncation_side,
            "padding_side": "right",
            "pad_id": self.pad_id,
            "token_types": self.token_types,
        }

    def restored(self, record: Mapping[str, Any]) -> Self:
        """Return the preprocessing that a run stored; what the record does not say stays.

        Raises CheckpointError when the tokenizer gives other ids than it gave in that run.
        """
        side = record.get("truncation_side", self.tokenizer.truncation_side)
        if side not in ("left", "right"):
            raise CheckpointError(f"the stored preprocessing is damaged: truncation_side: {side!r:.60}")
        self.tokenizer.truncation_side = side
        # Not the SHA-256: a newer library may write the same tokenizer in other words. What counts is what it gives.
        found = _sample_ids(self.tokenizer)
        if record.get("probe_ids", found) != found:
            raise CheckpointError(
                "the tokenizer is not the one that this run was trained with: it gives other token ids",
                hint="Put the former tokenizer files back into the run's folder `backbone`, or install the "
                "versions of transformers and tokenizers that run.json names.",
            )
        values = {key: record.get(key, getattr(self, key)) for key in ("max_length", "pad_id", "token_types")}
        if not all(isinstance(value, int) and value >= 0 for value in values.values()):
            raise CheckpointError(f"the stored preprocessing is damaged: {values}")
        return replace(self, **values)


@dataclass(frozen=True)
class ImageTextPreprocessing:
    """The preprocessing of an image and of its text, each for its own backbone."""

    modality: ClassVar[str] = "image_text"
    image: ImagePreprocessing
    text: TextPreprocessing

    def ingredients(self) -> dict[str, Any]:
        """Return everything that decides the pixels and the ids. Raises CacheRefused where it is unknown."""
        return {"image": self.image.ingredients(), "text": self.text.ingredients()}

    def notes_on(self, input: Input) -> list[str]:
        """List what a person should know of the input columns."""
        image, text = columns_of(input)
        return [*self.image.notes_on(image), *self.text.notes_on(text)]

    def record(self) -> dict[str, Any]:
        """Return the record that a run stores, as JSON: that of each part."""
        return {"modality": self.modality, "image": self.image.record(), "text": self.text.record()}

    def restored(self, record: Mapping[str, Any]) -> Self:
        """Return the preprocessing that a run stored; what the record does not say stays. Raises CheckpointError."""
        image, text = (record.get(part, {}) for part in ("image", "text"))
        if not isinstance(image, Mapping) or not isinstance(text, Mapping):
            raise CheckpointError(f"the stored preprocessing is damaged: {dict(record)!r:.60}")
        return replace(self, image=self.image.restored(image), text=self.text.restored(text))


Preprocessing = ImagePreprocessing | TextPreprocessing | ImageTextPreprocessing


def _checked(like: ImagePreprocessing, values: Mapping[str, Any]) -> Any:
    try:
        return TypeAdapter(type(like)).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"the stored preprocessing is damaged: {place}: {first['msg']}") from error


def _sample_ids(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    return [tokenizer(text, verbose=False)["input_ids"] for text in _TOKENIZER_SAMPLES]


def _sha256(tokenizer: PreTrainedTokenizerBase) -> str | None:
    try:
        return str(tokenizer_identity(tokenizer)["tokenizer"])
    except CacheRefused:  # a tokenizer in Python: nothing distinguishes it from others of its class
        return None
