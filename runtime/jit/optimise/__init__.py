"""Optimisation: the same circuit with fewer T gates, fewer two-qubit gates, less depth.

`portfolio.py` asks several engines and takes the best answer that `equivalence.py` finds equal;
`stretches.py` says what may be handed to an engine at all.
"""
