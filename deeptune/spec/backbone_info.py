"""Facts about the backbone, or the two backbones, that a spec names. No torch here."""

from __future__ import annotations

from deeptune.catalog import BackboneInfo, find, joint
from deeptune.errors import SpecError
from deeptune.spec.modalities import MODALITIES, Input, input_words
from deeptune.spec.model_spec import BackboneSpec, TextBackboneSpec


def backbone_info(spec: BackboneSpec | TextBackboneSpec) -> BackboneInfo:
    """Return the row of a backbone, or of the backbones of image and text as one.

    Raises WeightsError for an unknown name, and SpecError where one of the two is for samples of another kind.
    """
    if not isinstance(spec, BackboneSpec) or spec.text is None:
        return find(spec.name)
    rows = [find(part.name, key=f"{section}.name") for section, part in spec.members.items()]
    for section, row, expected in zip(("backbone", "backbone.text"), rows, ("image", "text"), strict=True):
        if row.modality != expected:
            raise SpecError(
                f"{section}.name: {row.name!r} is a backbone for {MODALITIES[row.modality].plural}, and "
                f"[{section}] is that of the {MODALITIES[expected].plural} where [backbone.text] is set.",
                hint=f"`deeptune backbones --modality {expected}` lists those that fit.",
            )
    return joint(*rows)


def require_fitting(spec: BackboneSpec, info: BackboneInfo, modality: str, input: Input) -> None:
    """Raise SpecError where the backbone is for other samples than those of the data."""
    if info.modality == modality:
        return
    data = f"the data is {MODALITIES[modality].plural} ({input_words(input)})"
    if MODALITIES[modality].parts and spec.text is None:
        raise SpecError(
            f"backbone.text.name: {data}, and a backbone for the texts is not set.",
            hint="Name one beside that of the images, such as backbone.text.name = 'bert'.",
        )
    if info.parts:
        raise SpecError(
            f"backbone.text: {data}, and this is a second backbone, for texts beside images.",
            hint='Name both columns, such as data.input = ["images", "text"], or leave backbone.text out.',
        )
    raise SpecError(
        f"backbone.name: {info.name!r} is a backbone for {info.modality}, but the data is {modality} "
        f"({input_words(input)})",
        hint=f"`deeptune backbones --modality {modality}` lists those that fit.",
    )
