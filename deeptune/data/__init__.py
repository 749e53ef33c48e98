"""From Parquet files to batches.

`source`, `labels`, `splits`, `inputs`, `modalities`, `decode`, `plan` and `cache` import no torch; `images`, `text`,
`loader` and the stored samples of a modality do.
"""
