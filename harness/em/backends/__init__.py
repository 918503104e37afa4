"""Backends: what circuits are run on, behind one interface (`backend.py`)."""
