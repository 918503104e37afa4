"""Error-correcting codes: where their qubits are, what is measured of them, and in which order."""
