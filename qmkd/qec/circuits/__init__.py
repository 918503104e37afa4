"""Experiments on codes as noiseless Stim circuits: memories and logical gates. Start here."""

from qmkd.qec.circuits.memories import memory

__all__ = ["memory"]
