"""The database of the state directory: what outlives the daemon, in one SQLite file.

`schema.py` holds the tables and their migrations, and opens the file. `rows.py` says how the
kernel's rows (`qmkd/core/records.py`) lie in them, `statements.py` how they get there. `writer.py`
is what the daemon uses, with the thread that commits. `reader.py` reads everything back,
`fetcher.py` what is large. `check.py` looks for damage. Why this way: docs/decisions/0016-store.md.
"""

from qmkd.shell.store.reader import stored_sizes
from qmkd.shell.store.schema import DATABASE_NAME, CannotOpen, Damaged, Durability
from qmkd.shell.store.writer import Store

__all__ = ["DATABASE_NAME", "CannotOpen", "Damaged", "Durability", "Store", "stored_sizes"]
