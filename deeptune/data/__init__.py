"""From Parquet files to batches.

`source`, `labels`, `splits`, `inputs`, `decode`, `plan` and `cache` import no torch; `images`, `text` and `loader` do.
"""
