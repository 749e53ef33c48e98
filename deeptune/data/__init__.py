"""From rows of a source to batches.

`sources`, `images`, `splits`, `modalities` and `cache` import no torch, except `images.transforms`; `loading` and the
stored samples of a modality do.
"""
