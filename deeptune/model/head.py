"""What is added after pooling: one layer, or two with the embedding between them."""

from __future__ import annotations

from torch import Tensor, nn

from deeptune.spec.model import HeadSpec

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Head(nn.Module):
    """`Linear`, or `Linear → activation → dropout → Linear`: (B, width) to logits (B, outputs).

    `embed` gives what the last layer consumes in eval mode: the pooled features themselves with one layer,
    the activated (B, embedding_size) with two. Dropout acts before the last layer, in train mode only.
    """

    def __init__(self, spec: HeadSpec, width: int, outputs: int) -> None:
        super().__init__()
        self.embedding: nn.Module = nn.Identity()
        self.embedding_size = width
        if spec.layers == 2:
            self.embedding = nn.Sequential(nn.Linear(width, spec.embedding_size), _ACTIVATIONS[spec.activation]())
            self.embedding_size = spec.embedding_size
        self.dropout = nn.Dropout(spec.dropout)
        self.last_layer = nn.Linear(self.embedding_size, outputs)

    def embed(self, pooled: Tensor) -> Tensor:
        return self.embedding(pooled)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.last_layer(self.dropout(self.embed(pooled)))
