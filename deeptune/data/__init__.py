"""From Parquet files to batches.

`source`, `labels`, `splits`, `inputs`, `decode` and `plan` import no torch; `images`, `text` and `loader` do.
"""
