"""`python -m harness.demo`: every example on a daemon of its own, held against theory.

`judge.py` decides, `picture.py` draws, `host.py` starts and stops the daemon, `__main__.py` ties
them together.
"""
