"""Which code, distance and way of compiling a program is run with, under its user's wishes.

`rates.py` asks how often codes err, `timeline.py` says where that strikes, `exact.py` and
`cones.py` what comes of it. `machine.py` is what is known of the machine. `variants.py` makes the
choices, `predict.py` weighs them, `choose.py` takes one, `cache.py` remembers it. `batches.py` runs
by it, and `profile.py` reads of each job how it went.
"""
