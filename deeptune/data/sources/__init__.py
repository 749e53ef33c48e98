"""Sources of rows: Parquet files, and tables in memory."""
