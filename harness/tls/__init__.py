"""TLS handshakes with libraries that are not ours: `make tls-demo`, and what its tests ask.

`others.py` runs other clients and says what they saw; `__main__.py` has them meet services of each
mode and prints the table. The certificates are of an authority inside this process.
"""
