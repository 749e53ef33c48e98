"""The model's input of a row, read again from the data that the run's spec names."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from deeptune.data.shown import ShownSample
from deeptune.errors import CheckpointError, DataError, DeepTuneError
from deeptune.runs import RunDirectory
from deeptune.runs.files import read_json

if TYPE_CHECKING:
    from deeptune.data.sources.parquet import ParquetSource
    from deeptune.spec import RunSpec

Sample = ShownSample | DeepTuneError


class RunSamples:
    """Reads the inputs of a run's rows; with `pixels` an image has at most as many on a side.

    It opens the files at the first row, and again after an error. That takes long, so threads use it.
    """

    def __init__(self, run: RunDirectory, *, pixels: int | None = None) -> None:
        self.run = run
        self.pixels = pixels

    @cached_property
    def _spec(self) -> RunSpec:
        from deeptune.spec.toml import load_spec

        return load_spec(self.run.spec)

    @cached_property
    def _sources(self) -> dict[str, ParquetSource]:
        from deeptune.data.splits.split_files import open_sources

        return open_sources(self._spec)

    @classmethod
    def of_file(cls, run: RunDirectory, data: str) -> RunSamples:
        """Read rows of another file as the run reads its own. Raises DataError where it can't be opened."""
        from deeptune.data.sources.parquet import open_source

        samples = cls(run)
        source = open_source(data, key="--data", root=samples._spec.data.root)
        samples.__dict__["_sources"] = {"test": source, "train": source}
        return samples

    def read(self, split: str, row: int) -> Sample:
        """Return an encoded image, a text, or both.

        Or why there is neither: it is null, or the data has gone or changed.
        """
        try:
            return self._read(split, row)
        except DeepTuneError as error:
            found = error
        except Exception as error:  # the data may have been changed in any way since the run
            found = DataError(f"row {row:,} can't be read: {error}")
        self.__dict__.pop("_sources", None)  # the former file may be put back
        return found

    def _read(self, split: str, row: int) -> ShownSample:
        from deeptune.data.columns.input_columns import resolve_columns
        from deeptune.data.images.bit_depth import stored_range
        from deeptune.data.modalities import MODALITIES
        from deeptune.spec.modalities import columns_of

        data, sources = self._spec.data, self._sources
        source = sources.get(split, sources["train"])
        modality, input = resolve_columns(source, data.modality, data.input)
        columns = columns_of(input)
        batch: Any = next((batch for _, batch in source.stream_table(columns, start=row, rows=1)), None)
        if batch is None:
            raise DataError(f"{source.describe()} has no row {row:,}: it is not the file that the run was made from")
        values = {name: batch.column(name).slice(0, 1) for name in columns}
        try:
            range = stored_range(data.value_range)
            return MODALITIES[modality].shown(source, values, row, value_range=range, pixels=self.pixels)
        except DataError as error:
            raise DataError(f"row {row:,} {error.message}", hint=error.hint) from error

    def changed_since(self, time: float) -> str:
        """Say the same as `changed`, but read the data only where a file was written after `time`."""
        try:
            files = [file for source in self._sources.values() for file in source.files]
            if all(os.stat(file).st_mtime <= time for file in files):
                return ""
        except DeepTuneError as error:
            return error.message
        except OSError as error:
            return f"the data can't be read: {error.strerror}"
        return self.changed()

    def changed(self) -> str:
        """Say how the data differ from the run's, or return nothing. Reads all of the data."""
        from deeptune.data.splits.split_files import sources_fingerprint

        try:
            began = read_json(self.run.run)["fingerprints"]["data"]
            same = sources_fingerprint(self._sources) == began
        except (CheckpointError, KeyError, TypeError):
            return ""  # the run does not say
        except DeepTuneError as error:
            return error.message
        return "" if same else "the data has changed since the run: its rows may be others"
