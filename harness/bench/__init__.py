"""Benchmarks: our path beside the limit and beside peers, as ratios taken in one run.

Each `*_bench.py` has `run(quick) -> list[Row]`. `python -m harness.bench` runs them all, prints one
table and writes one JSON file. Nothing here asserts a time.
"""
