"""What operators see of the daemon: counted where events meet the kernel, served as text.

`counting.py` counts what goes into the kernel and what comes out of it. `families.py` makes series
of these counts and of the kernel's figures (`qmkd/core/figures.py`). `serving.py` answers scrapes.
What the series mean is in docs/monitoring.md.
"""

from qmkd.shell.metrics.counting import Counts
from qmkd.shell.metrics.families import Outside, families
from qmkd.shell.metrics.serving import Scrapes, listeners

__all__ = ["Counts", "Outside", "Scrapes", "families", "listeners"]
