"""What operators see of the daemon: counted where events meet the kernel, served as text.

`counting.py` counts what goes into the kernel and what comes out of it. `families.py` makes series
of these counts and of the kernel's figures (`qmkd/core/figures.py`). `serving.py` answers scrapes.
These two take long to import, and the daemon does so while its first workers start. What the series
mean is in docs/monitoring.md.
"""
