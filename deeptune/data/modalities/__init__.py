"""Each kind of samples as one object: its columns, its check, its stored form and what viewers show of it.

No torch here: what makes stored samples is imported when samples are opened.
"""

from deeptune.data.modalities.base import Finding, Modality, Piece
from deeptune.data.modalities.image import ImageModality
from deeptune.data.modalities.text import TextModality

__all__ = ["MODALITIES", "Finding", "Modality", "Piece"]

MODALITIES: dict[str, Modality] = {one.info.name: one for one in (ImageModality(), TextModality())}
