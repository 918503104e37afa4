"""Methods: each a plan of circuits and shots, counted exactly, and a pure reducer of what came out.

`plan.py` has the forms, `registry.py` the list; nothing here runs anything or draws from a clock.
"""
