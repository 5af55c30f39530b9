"""From one file to rows with positions, lazily, one in memory: JSON, JSON lines, CSV, Parquet, and gzip of these."""
