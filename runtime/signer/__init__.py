"""The signer: holds the installation's private keys, and uses them for others.

A process of its own, under its own user, that others reach by JSON-RPC over a Unix socket. It is
the only process that loads PyKCS11, and no call of it returns a private key. `api.py` is what
others are handed, `errors.py` what may go wrong; both load no cryptography. `client.py` is the way
to a running signer, `providers/` does the arithmetic, `keys/` keeps records and lives of keys,
`service.py` serves, and `python -m runtime.signer` is the program (docs/signer.md).
"""
