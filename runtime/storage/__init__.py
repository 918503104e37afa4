"""Databases of unprivileged services: SQLite by default, PostgreSQL by URL, one schema for both.

`database.py` opens one and brings its schema up to date from numbered SQL files that each service
keeps beside its code. Those use what both understand. The daemon's own journal is something else
and stays where it is.
"""
