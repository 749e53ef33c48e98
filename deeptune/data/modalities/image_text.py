"""An image with a text: made of the two modalities, each with its own column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa

from deeptune.data.images.bit_depth import Range
from deeptune.data.modalities.base import (
    ColumnModality,
    Modality,
    Piece,
    SampleCheck,
    named_reasons,
)
from deeptune.data.shown import ShownSample
from deeptune.errors import DataError
from deeptune.spec.modalities import MODALITIES, Input, columns_of

if TYPE_CHECKING:
    from deeptune.data.sources.source import Source


class ImageTextModality(Modality):
    """The first input column holds images, the second texts."""

    info = MODALITIES["image_text"]

    def __init__(self, image: ColumnModality, text: ColumnModality) -> None:
        self.image, self.text = image, text

    def parts(self, input: Input) -> dict[str, tuple[ColumnModality, Input]]:
        image, text = columns_of(input)
        return {"image": (self.image, image), "text": (self.text, text)}

    def piece(self, source: Source, columns: Mapping[str, pa.Array], first: int, threads: ThreadPoolExecutor) -> Piece:
        (image, images), (text, texts) = columns.items()
        found = self.image.piece(source, {image: images}, first, threads)
        others = self.text.piece(source, {text: texts}, first, threads)
        return Piece({**found.columns, **others.columns}, found.unread)

    def findings(
        self, piece: Piece, threads: ThreadPoolExecutor, value_range: Range | None = None
    ) -> Sequence[SampleCheck]:
        """Check image and text of each row. A reason names its column; a range or clipped values are the image's."""
        (image, images), (text, texts) = piece.columns.items()
        found = self.image.findings(Piece({image: images}, piece.unread), threads, value_range)
        others = self.text.findings(Piece({text: texts}), threads)
        together = zip(found, others, strict=True)
        return [named_reasons({image: one, text: other}) or one for one, other in together]

    def shown(
        self,
        source: Source,
        columns: Mapping[str, pa.Array],
        row: int,
        *,
        value_range: Range | None,
        pixels: int | None = None,
    ) -> ShownSample:
        found = {}
        for name, modality in zip(columns, (self.image, self.text), strict=True):
            try:
                found[name] = modality.shown(source, {name: columns[name]}, row, value_range=value_range, pixels=pixels)
            except DataError as error:
                raise DataError(str(named_reasons({name: error.message})), hint=error.hint) from None
        image, text = found.values()
        return ShownSample(image.image, text.text)

    def preview_range(self, source: Source, input: Input) -> Range | None:
        return self.image.preview_range(source, columns_of(input)[0])

    def lengths(self, source: Source, input: Input) -> tuple[int, int, int] | None:
        return self.text.lengths(source, columns_of(input)[1])
