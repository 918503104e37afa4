"""The scheduler across machines: which backend a job goes to, with which mitigation, and why.

User mode: the kernel of one machine knows nothing of it, and it holds nothing of theirs. The pure
part is `calibrations.py` (what is known of machines), `jobs.py` (what is wanted), `scoring.py` and
`deciding.py`; the same inputs give the same decision, bit for bit. `records.py` is what is kept of
a decision and how it is replayed; `catalogue.py` and `book.py` keep it in a database
(`runtime/storage`), `ibm.py` reads the snapshots of qiskit-ibm-runtime. The command line is `qmkctl
schedule` (docs/scheduling.md).
"""
