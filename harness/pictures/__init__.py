"""Pictures of logical error rates, thresholds, patches and decoders: see `__main__.py`."""
