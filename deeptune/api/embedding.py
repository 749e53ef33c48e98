"""Embeddings of a Python program's samples, from a run's model or from a plain backbone."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from deeptune.api.options import Options, apply_options

if TYPE_CHECKING:
    import numpy as np
    import torch

    from deeptune.data.sources.source import Source
    from deeptune.engine.predict import Embedder


class EmbeddingModel(ABC):
    """A network on a device that embeds samples."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers in an embedding."""

    @property
    def device(self) -> torch.device:
        """The device on which the network computes."""
        return self._embedder.compute.device

    def embed(self, x: Any, *, layer: str | None = None, **options: Unpack[Options]) -> np.ndarray:
        """Embed each row.

        Returns float32 (N, `width`), with NaN in rows that are skipped. The embedding of a run's model is the input of
        its last layer; that of a plain backbone is its pooled features. `layer` names another module, as in
        `torch_module().named_modules()`: the embedding is then the output of that module, averaged over the places of a
        map or the tokens of a text, and has that module's width. Raises SpecError for an unknown `layer`.
        """
        return self._at(layer).embeddings(self._source(x, options), apply_options(options))

    def write_embeddings(
        self,
        x: Any,
        output: str | os.PathLike[str],
        *,
        format: str = "list",
        dtype: str = "float32",
        layer: str | None = None,
        **options: Unpack[Options],
    ) -> dict[int, str]:
        """Write embeddings to a Parquet file, with the label and the other columns of a file beside them.

        Rows are read and written in blocks, so a file may be larger than memory. `format` is "list", one column of
        lists, or "wide", a column for each number (`e0`, `e1`, …); a wide file may be a `.csv`. `dtype` is "float32" or
        "float16". `layer` is as in `embed`. Returns the reason for each row (by its number) that has no embedding.
        Raises CheckpointError where the file can't be written.
        """
        from deeptune.engine.embedding_form import EmbeddingForm

        form = EmbeddingForm(format, dtype)  # type: ignore[arg-type]  # it checks the words itself
        how = replace(apply_options(options), form=form)
        return self._at(layer).write_embeddings(self._source(x, options), Path(output), how)

    def _at(self, layer: str | None) -> Embedder:
        return self._embedder if layer is None else self._embedder.at_layer(layer)

    @abstractmethod
    def _source(self, x: Any, options: Mapping[str, Any]) -> Source:
        """Open samples as a source of rows. Raises DataError."""
