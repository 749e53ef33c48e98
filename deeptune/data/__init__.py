"""Reads rows from a source and makes batches of them.

`sources`, `images`, `splits`, `modalities` and `cache` import no torch, except `images.transforms`; `loading` and the
stored samples of a modality do.
"""
