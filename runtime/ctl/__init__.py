"""`qmkctl`, a client like any other: `__main__.py` is the program, `commands/` what it does."""
