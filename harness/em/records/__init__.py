"""Records: one row for each number, Parquet, and the way back from each to where it came from."""
