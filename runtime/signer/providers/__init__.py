"""Who does the arithmetic: `software.py` by cryptography, `oqs.py` by liboqs, `token.py` a token.

`base.py` says what a provider of either library is, `chain.py` which one does which algorithm here,
and what to install where none does. A provider holds no key: it makes one, or is handed one for the
length of a call, in a buffer that its caller wipes.
"""
