"""The sections `backbone`, `head` and `tuning` of a spec: the model, and which of its weights learn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from deeptune.pooling import Pooling
from deeptune.spec.values import Auto, Dropout, PositiveFloat, PositiveInt, Section

Method = Literal["partial", "full", "lora"]


class TextBackboneSpec(Section):
    """The pretrained feature extractor of the texts, beside that of the images."""

    name: str = Field(
        description="A catalog name (`deeptune backbones`), `timm:NAME`, `hf:NAME_OR_FOLDER`, or the address of a "
        "model's page on the Hugging Face hub."
    )
    weights: str = Field(
        "pretrained", description="`pretrained`, `random`, or a path to .safetensors, .pth or a folder."
    )
    pooling: Pooling = Field("auto", description="How features become one vector; `auto` is the family's usual way.")
    max_length: Annotated[int, Field(ge=2, le=1_000_000)] | Auto = Field(
        "auto",
        description="Tokens kept of a text; `auto` is the longest text, up to the backbone's limit, a sentence "
        "encoder's own length, and 512.",
    )


class BackboneSpec(TextBackboneSpec):
    """The pretrained feature extractor; with `text`, that of the images."""

    image_size: Annotated[int, Field(ge=8, le=4096)] | Auto = Field(
        "auto", description="Pixels on a side; `auto` is what the weights were trained at."
    )
    text: TextBackboneSpec | None = Field(
        None, description="A second backbone, for the text beside each image; their pooled features meet at the head."
    )

    @property
    def members(self) -> dict[str, BackboneSpec | TextBackboneSpec]:
        """This backbone, and that of the text where there is one, each alone, by its section of the spec."""
        if self.text is None:
            return {"backbone": self}
        return {"backbone": self.model_copy(update={"text": None}), "backbone.text": self.text}

    @property
    def names(self) -> str:
        """The name, or both names, in words."""
        return " + ".join(part.name for part in self.members.values())

    @property
    def origins(self) -> str:
        """The origin of the weights, in words."""
        return " + ".join(dict.fromkeys(part.weights for part in self.members.values()))

    @property
    def of_texts(self) -> tuple[str, TextBackboneSpec]:
        """The section of the backbone that takes texts, where one does, and what it says."""
        return list(self.members.items())[-1]


class HeadSpec(Section):
    """The layers added after pooling."""

    layers: Literal[1, 2] = Field(1, description="1: a linear layer. 2: embedding layer, activation, linear layer.")
    embedding_size: PositiveInt = Field(256, description="Width of the embedding when there are two layers.")
    activation: Literal["relu", "gelu", "silu", "tanh"] = Field("relu", description="Between the two layers.")
    dropout: Dropout = Field(0.0, description="Dropout before the last layer, during training.")

    standardise: bool = Field(
        True, description="Learn the first layer in the scale of the features, and fold that into its weights."
    )

    @field_validator("layers", mode="before")
    @classmethod
    def _an_integer(cls, value: object) -> object:
        if type(value) is not int:  # Python says that True == 1, and 1.0 too
            raise ValueError(f"expected 1 or 2, got {value!r}")
        return value


class LoraSpec(Section):
    """Low-rank adapters (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

    rank: PositiveInt | Auto = Field(
        "auto", description="Rank of each adapter; `auto` is 16 for transformers, 4 for CNNs."
    )
    alpha: PositiveFloat | Auto = Field("auto", description="Scale of the adapters; `auto` is twice the rank.")
    dropout: Dropout = Field(0.1, description="Dropout on the adapter's input, during training.")
    targets: list[str] | Auto = Field(
        "auto",
        description="Module name endings to adapt; `auto` is the family's projections, where adapters can learn.",
    )
    variant: Literal["lora", "rslora", "dora"] = Field(
        "lora", description="Plain, rank-stabilised or weight-decomposed LoRA."
    )


class TuningSpec(Section):
    """The method: the weights that learn."""

    method: Method = Field(
        "partial", description="`partial`: the head only. `full`: every weight. `lora`: adapters and head."
    )
    unfreeze: Annotated[int, Field(ge=0)] = Field(
        0, description="Blocks at the backbone's end that learn with the head, when method is `partial`."
    )
    lora: LoraSpec = Field(default_factory=LoraSpec, description="Adapter settings, used when method is `lora`.")  # type: ignore[arg-type]

    @model_validator(mode="after")
    def _blocks_of_a_frozen_backbone(self) -> TuningSpec:
        if self.unfreeze and self.method != "partial":
            trained = "trains every block already" if self.method == "full" else "trains adapters in every block"
            raise ValueError(
                f"unfreeze = {self.unfreeze} is for method = 'partial', and '{self.method}' {trained}: leave it out"
            )
        return self

    @property
    def frozen(self) -> bool:
        """Whether nothing of the backbone learns."""
        return self.method == "partial" and not self.unfreeze
