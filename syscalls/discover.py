"""`rpc.discover`: the ABI describing itself.

The document is generated from the types in this package (`syscalls.derive`) and shipped as
`syscalls/schemas/openrpc.json`; reading it is the shell's business.
"""

from typing import Any, ClassVar

from syscalls.syscall import Reply, Syscall


class OpenrpcDocument(Reply, frozen=True, kw_only=True):
    """An OpenRPC 1.3 document: every call, its parameters, its result, its errors."""

    openrpc: str
    info: dict[str, Any]
    methods: list[dict[str, Any]]
    components: dict[str, Any]


class Discover(Syscall, frozen=True, kw_only=True):
    """Describe every call this ABI has, as an OpenRPC document. Needs no session."""

    METHOD: ClassVar[str] = "rpc.discover"
    REPLY: ClassVar[type[Reply]] = OpenrpcDocument
