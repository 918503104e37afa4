"""Kills a real daemon under load, again and again, and looks whether anything acknowledged is lost.

`python -m tests.durability --kills 500`. Clients submit, wait, cancel and read results; at a random
instant the daemon is killed with SIGKILL and started anew on the same state directory. Every job
whose submission was answered must be there, every job that was told to be over must be as it was
told, and every job must end with the bits that its program, seed and shots give where nothing
happens.
"""
