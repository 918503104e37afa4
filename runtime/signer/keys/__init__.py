"""Keys and their lives: `records.py` what is kept of one, `custody.py` where its private half is,
`audit.py` what was done with it, `store.py` all of it together, which is a signer without a socket.
`statements.py` tells others of rotations and revocations, `certificates.py` makes X.509 ones,
`backup.py` carries sealed keys to another token.
"""
