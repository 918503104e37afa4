"""How many T states a machine's factories give, and how long a program waits for them.

`model.py` answers both in closed form; `queue.py` follows a store that is filled and emptied, which
serves Bell pairs of links as well (`runtime/jit/placing`); `schedule.py` says when a program wants
what. What the model leaves out, and how near it comes to simulated factories: docs/estimate.md.
"""
