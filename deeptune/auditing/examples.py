"""The first rows of a finding, as a viewer shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeptune.auditing.data import AuditData
from deeptune.auditing.findings import Finding
from deeptune.data.images.bit_depth import Range
from deeptune.data.modalities import MODALITIES, Modality
from deeptune.errors import DataError
from deeptune.spec.modalities import Input, columns_of


@dataclass(frozen=True)
class Example:
    """A row: where it is and its label, then an encoded `image`, a `text` or both, or the `reason` why neither."""

    where: str
    label: str
    image: bytes | None = None
    text: str | None = None
    reason: str | None = None


class Examples:
    """Reads samples again for the rows that are shown."""

    def __init__(self, data: AuditData) -> None:
        self.data = data
        self.modality: Modality = MODALITIES[data.modality]
        self.input: Input = data.input
        self.value_range: Range | None = self.modality.preview_range(data.sources[0], data.input)
        self._firsts = np.cumsum([0, *(source.num_rows for source in data.sources)])

    def of(self, finding: Finding, most: int, *, pixels: int) -> list[Example]:
        """Read the first rows of a finding; an image has at most `pixels` on its longer side."""
        return [self._example(at, pixels) for at in self.places(finding)[:most]]

    def places(self, finding: Finding) -> list[int]:
        """Find the places of a finding's rows in the data."""
        if len(self.data.sources) == 1:
            return list(finding.rows)
        splits = finding.splits or ()
        firsts = dict(zip(self.data.split_names, self._firsts.tolist(), strict=False))
        return [firsts[split] + row for split, row in zip(splits, finding.rows, strict=True)]

    def _example(self, at: int, pixels: int) -> Example:
        data = self.data
        source, row = data.sources[int(data.part[at])], int(data.row[at])
        label = "" if data.labels is None else data.labels.text(at)
        columns = columns_of(self.input)
        _, batch = next(source.stream_table(columns, start=row, rows=1))
        values = {name: batch.column(name).slice(0, 1) for name in columns}
        try:
            found = self.modality.shown(source, values, row, value_range=self.value_range, pixels=pixels)
        except DataError as error:
            return Example(data.where(at), label, reason=error.message)
        return Example(data.where(at), label, image=found.image, text=found.text)
