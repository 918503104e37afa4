"""The ABI over TLS 1.3, for clients on other hosts; unprivileged on either side.

`server.py` is what `qmkctl serve-remote` runs: it admits clients by their certificates and bridges
each to the daemon's own socket (`bridge.py`). Who a remote client is to the daemon is the business
of `admission.py` and `relay.py`, and of docs/decisions. `stream.py` is the client's end, `tls.py`
the one place that touches OpenSSL, `certificates.py` asks the signer for certificates.
"""
