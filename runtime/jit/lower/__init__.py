"""Lowering: gates that no error-corrected machine has, by gates that it has.

`synthesis.py` writes one rotation in Clifford and T gates, `clifford_t.py` a whole circuit within
one error budget, `ands.py` the gates with two controls by measurement and correction.
"""
