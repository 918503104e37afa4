"""A seeded world around the kernel: clients, workers and a clock, with every invariant checked.

`world.py` is the world, `cast.py` who and what is in it, `outcomes.py` what programs yield there,
`witness.py` what is held against the kernel's answers. Replay a seed with

    python -m tests.simulation --seed N --steps M
"""
