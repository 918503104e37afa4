"""Experiments on codes as noiseless Stim circuits: memories and logical gates. Start here.

`memories.py`, `gates.py` (transversal), `surgery.py`, `injection.py`, `honeycomb.py`; what they
share is in `writer.py`. Add noise with `qmkd.qec.noise.apply`.
"""

from qmkd.qec.circuits.gates import transversal_cnot, transversal_h, transversal_s
from qmkd.qec.circuits.honeycomb import honeycomb_memory
from qmkd.qec.circuits.injection import injection
from qmkd.qec.circuits.memories import memory
from qmkd.qec.circuits.surgery import joint_measurement, surgery_cnot

__all__ = [
    "honeycomb_memory",
    "injection",
    "joint_measurement",
    "memory",
    "surgery_cnot",
    "transversal_cnot",
    "transversal_h",
    "transversal_s",
]
