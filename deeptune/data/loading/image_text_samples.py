"""Images with texts, as two backbones take them: the samples of both, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor

from deeptune.data.cache.sample_hashes import joined_hashes
from deeptune.data.loading.dataset import Inputs, SampleOptions
from deeptune.data.loading.samples import Samples
from deeptune.data.modalities.base import named_reasons
from deeptune.data.sources.source import Source
from deeptune.spec.modalities import Input, columns_of


class ImagesWithTexts(Samples):
    """The samples of an image column and of a text column. A row can't be used where either can't."""

    def __init__(self, source: Source, input: Input, parts: Mapping[str, Samples]) -> None:
        super().__init__(source, input)
        self._parts = dict(parts)
        images, texts = self._parts.values()
        columns = columns_of(input)
        for row in sorted(images.reasons.keys() | texts.reasons.keys()):
            both = dict(zip(columns, (images.reasons.get(row), texts.reasons.get(row)), strict=True))
            self.reasons[row] = str(named_reasons(both))
        self.deep, self.clipped = images.deep, images.clipped
        self.hashes = joined_hashes([images.hashes, texts.hashes])

    @property
    def parts(self) -> dict[str, Samples]:
        return self._parts

    def blank_in(self, part: str, blank: frozenset[int]) -> frozenset[int]:
        """Return the blank rows of a part. A row that is bad only because of its other part is not blank here."""
        own, bad = self._parts[part], self.reasons.keys() | self.deep.keys()
        return frozenset(row for row in blank if row in own.reasons or row in own.deep or row not in bad)

    def inputs(self, options: SampleOptions) -> Inputs:
        return ImageTextInputs(
            *(
                part.inputs(replace(options, blank=self.blank_in(name, options.blank)))
                for name, part in self._parts.items()
            )
        )

    def remarks(self, rows: np.ndarray) -> list[str]:
        return [remark for part in self._parts.values() for remark in part.remarks(rows)]


class ImageTextInputs(Inputs):
    """The inputs of images and those of texts, together."""

    def __init__(self, images: Inputs, texts: Inputs) -> None:
        self.images, self.texts = images, texts
        self.decodes, self.row_bytes = images.decodes, images.row_bytes

    def batch(self, rows: np.ndarray, epoch: int) -> dict[str, Tensor]:
        return {**self.images.batch(rows, epoch), **self.texts.batch(rows, epoch)}

    def lengths(self, rows: np.ndarray) -> np.ndarray | None:
        return self.texts.lengths(rows)

    def truncated(self, rows: np.ndarray) -> int:
        return self.texts.truncated(rows)

    def padded_width(self, longest: int) -> int:
        return self.texts.padded_width(longest)
