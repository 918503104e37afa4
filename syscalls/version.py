"""The versions a client negotiates against, and the digest by which two schemas compare.

Nothing here reads files: whoever holds the generated document passes its bytes in.
"""

from hashlib import sha256

ABI_VERSION = "0.1"  # the calls: names, parameters, replies, errors
QVM_VERSION = "0.1"  # the program format: the graph's `version` field


def schema_digest(document: bytes) -> str:
    """Name a generated OpenRPC document by its contents: `sha256:` and 64 hex digits."""
    return "sha256:" + sha256(document).hexdigest()
