"""Each kind of samples as one object: its columns, its check and what viewers show of it.

No torch here: `data/loading/` makes the stored form.
"""

from deeptune.data.modalities.base import ColumnModality, Modality, Piece, SampleCheck
from deeptune.data.modalities.image import ImageModality
from deeptune.data.modalities.image_text import ImageTextModality
from deeptune.data.modalities.text import TextModality

__all__ = ["COLUMN_MODALITIES", "MODALITIES", "ColumnModality", "Modality", "Piece", "SampleCheck"]

_IMAGE, _TEXT = ImageModality(), TextModality()
COLUMN_MODALITIES: dict[str, ColumnModality] = {one.info.name: one for one in (_IMAGE, _TEXT)}
MODALITIES: dict[str, Modality] = {**COLUMN_MODALITIES, "image_text": ImageTextModality(_IMAGE, _TEXT)}
