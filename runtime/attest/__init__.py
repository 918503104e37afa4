"""Signed records of what ran: run manifests, and the ledger that they and others are logged in.

User mode: a client of the daemon and of the signer like any other. Formats (`dsse.py`,
`statement.py`, `manifest.py`, `bundle.py`, `ledger/`) are pure but for SHA-256 and verification;
whoever needs signatures is handed a `runtime.signer.api.Sign`. `watching.py` follows the daemon,
`python -m runtime.attest` runs it. Read on in docs/manifests.md and docs/ledger.md.
"""
