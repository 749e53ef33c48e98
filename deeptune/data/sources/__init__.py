"""Where rows come from: Parquet files, and tables in memory."""
