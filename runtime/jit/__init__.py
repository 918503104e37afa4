"""The compiler of user mode: circuits of other formats in, QVM graphs out. No privilege anywhere.

`circuit.py` is the one form in between; `frontends/` read into it, `emit.py` and `backends/` write
from it.
"""
