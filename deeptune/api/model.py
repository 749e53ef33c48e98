"""A finished run's model, applied to whatever a Python program has at hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from deeptune.api.embedding import EmbeddingModel
from deeptune.api.inputs import Columns, source_of
from deeptune.api.options import Options, apply_options
from deeptune.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn

    from deeptune.api.run import Run
    from deeptune.data.sources.source import Source
    from deeptune.spec.run_spec import RunSpec


class Model(EmbeddingModel):
    """The best model of a run on a device, with the run's own columns, preprocessing and labels.

    Samples `x` are a path (a Parquet file, glob, folder or `sample:NAME`), a pandas, polars or pyarrow table, a
    dictionary of columns, or a list with a sample for each row. Of a table the run's own columns are read. A sample is
    a string for a model of texts. For a model of images it is the name of a file, encoded bytes, a PIL image, or a
    NumPy array of uint8 (H, W), (H, W, 3) or (H, W, 4) or of uint16 (H, W); arrays of equal size may be one array
    (N, H, W) or (N, H, W, 3). For a model of several columns it is a tuple, such as (image, text). Rows are numbered
    from 0, and come back in their order.

    Samples are checked, prepared and passed exactly as `deeptune predict` does: the numbers have the same bits. All
    methods take the keywords of `Options`, and raise DataError with the argument, the row and the reason.
    """

    def __init__(self, run: Run, *, device: str = "auto") -> None:
        from deeptune.engine.predict import Predictor

        self.run = run
        self._predictor = Predictor(run.directory, device=device)
        super().__init__(self._predictor)

    @property
    def differences(self) -> list[str]:
        """Differences from when the model was trained (versions, precision), in sentences; usually none."""
        return self._predictor.trained.differences(self._predictor.compute)

    @property
    def spec(self) -> RunSpec:
        """The run's spec, with every choice made."""
        return self._predictor.spec

    @property
    def task(self) -> str:
        return self.spec.task

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The classes, in the order of `probabilities`; None where the task has none."""
        return getattr(self._predictor.task, "values", None)

    @property
    def width(self) -> int:
        """Numbers in an embedding."""
        return self._predictor.model.last_layer.in_features

    def predict(self, x: Any, **options: Unpack[Options]) -> pa.Table:
        """Return a prediction for each row.

        Returns a table with `row` (int64), `prediction` (the label's own value; a number in the label's own unit) and,
        for classes, `probabilities` (list of float64, in the order of `classes`) and `confidence` (float64, the largest
        of them). Where val has shown it, `expected_error` (float64) is the share of predictions of that confidence that
        are wrong, or the usual error of a number; `prediction_set` (list) holds the true class or all labels, and the
        interval from `lower` to `upper` (float64) the true number, in a share `coverage` of rows. With `abstain_below`
        a column `abstained` says which predictions are null for it. With on_bad_sample = "skip" a column `error` has
        the reasons beside nulls.
        """
        return self._predictor.predictions(self._source(x, options), apply_options(options))

    def evaluate(self, x: Any, y: Any = None, **options: Unpack[Options]) -> dict[str, Any]:
        """Return the metrics of a run, on labelled rows that can be scored.

        `y` are the labels, one for each row; a table or file has them in its own label column where `y` is left out.
        Classes are compared by name where both sides have names. Returns what `metrics.json` has for a split.
        """
        source = self._source(x, options, y=y, labelled=True)
        if source.num_rows == 0:
            raise DataError(f"{source.key}: there are no rows to score")
        metrics, _ = self._predictor.evaluate(source, apply_options(options))
        return metrics

    def write_predictions(self, x: Any, output: str | os.PathLike[str], **options: Unpack[Options]) -> dict[int, str]:
        """Write what `predict` gives to a Parquet file, some rows at a time, whatever their number.

        Returns, by row, why a row has no prediction. Raises CheckpointError where the file can't be written.
        """
        return self._predictor.write_predictions(self._source(x, options), Path(output), apply_options(options))

    def torch_module(self) -> nn.Module:
        """Return the model itself, in eval mode on `device`: not a copy.

        Its forward takes a dictionary and gives logits, float32 (N, outputs): `{"images": uint8 (N, 3, S, S)}`, which
        it normalises itself, or `{"input_ids": int64 (N, L), "attention_mask": int64 (N, L)}`, or both.
        `.embed(inputs)` gives the embeddings, float32 (N, `width`).
        """
        return self._predictor.trained.model

    def __repr__(self) -> str:
        spec, classes = self.spec, self.classes
        what = spec.task if classes is None else f"{spec.task}, {len(classes):,} classes"
        return f"Model({str(self.run.path)!r}: {spec.backbone.names}, {spec.tuning.method}, {what}, on {self.device})"

    def _source(self, x: Any, options: Mapping[str, Any], *, y: Any = None, labelled: bool = False) -> Source:
        data = self.spec.data
        columns = Columns(str(data.modality), data.input or "", data.label)
        path = isinstance(x, (str, os.PathLike))
        root = options.get("root") or (data.root if path else None)
        return source_of(x, columns, y=y, labelled=labelled, root=root)
