"""A plain backbone, without a run, as a Python program's embedder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deeptune.api.embedding import EmbeddingModel
from deeptune.api.inputs import Columns, source_of
from deeptune.spec.modalities import MODALITIES

if TYPE_CHECKING:
    from torch import nn

    from deeptune.data.sources.source import Source
    from deeptune.engine.predict import Embedder
    from deeptune.spec.run_spec import BackboneSpec


def load_backbone(
    name: str,
    *,
    weights: str = "pretrained",
    settings: Mapping[str, Any] | None = None,
    input: str | Sequence[str] | None = None,
    value_range: tuple[float, float] | None = None,
    device: str = "auto",
) -> PlainBackbone:
    """Load a backbone without any run, to embed samples with it.

    `name` and `weights` ("pretrained", "random" or a path) are those of a spec, and `settings` has other keys of its
    section `backbone`: `pooling`, `image_size`, `max_length`. `input` names the input column of tables and files, or
    two columns for pairs of texts; by default a file's is found, and a table's is `image` or `text`. `value_range` says
    which range is scaled to 0 to 255 in images of more than 8 bits; by default it is found on the samples. `device`
    is "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises SpecError for settings that are wrong, and WeightsError where the weights can't be found.
    """
    from deeptune.engine.predict import Embedder
    from deeptune.spec.toml import validate

    chosen = {"name": name, "weights": weights, **(settings or {})}
    spec = validate({"data": {"path": "."}, "backbone": chosen}).backbone
    embedder = Embedder(spec, device=device)
    if input is not None:
        columns = [input] if isinstance(input, str) else list(input)
        embedder.input = columns[0] if len(columns) == 1 else columns
    embedder.value_range = value_range or "auto"
    return PlainBackbone(embedder, spec)


class PlainBackbone(EmbeddingModel):
    """A backbone on a device, whose embeddings are its pooled features.

    Samples `x` are those that `Model` takes. They are checked, prepared and passed exactly as
    `deeptune embed --backbone` does: the numbers have the same bits. Methods take the keywords of `Options`, and raise
    DataError with the argument, the row and the reason.
    """

    def __init__(self, embedder: Embedder, spec: BackboneSpec) -> None:
        super().__init__(embedder)
        self.spec = spec  # the section `backbone` of a run's spec

    @property
    def modality(self) -> str:
        """The kind of samples: "image" or "text"."""
        return str(self._embedder.modality)

    @property
    def label(self) -> str | list[str]:
        """The column that `write_embeddings` writes as labels, where a file has it; "labels" unless it is set."""
        return self._embedder.label

    @label.setter
    def label(self, column: str | list[str]) -> None:
        self._embedder.label = column

    @property
    def width(self) -> int:
        """Numbers in an embedding."""
        return self._embedder.backbone.width

    def torch_module(self) -> nn.Module:
        """Give the backbone itself, in eval mode on `device`: not a copy.

        Its forward takes a dictionary as that of `Model.torch_module`, and gives the pooled features (N, `width`).
        """
        return self._embedder.backbone.eval()

    def __repr__(self) -> str:
        return f"PlainBackbone({self.spec.name!r}: {self.modality}, width {self.width:,}, on {self.device})"

    def _source(self, x: Any, options: Mapping[str, Any]) -> Source:
        columns = Columns(self.modality, self._embedder.input or MODALITIES[self.modality].input, "labels")
        return source_of(x, columns, root=options.get("root"))
