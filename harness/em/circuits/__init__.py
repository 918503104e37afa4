"""Circuits to mitigate: families made from seeds, observables, and exact expectation values."""
