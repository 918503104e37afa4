"""The client library: `Client` blocks, `AsyncClient` is for trio, `errors` is what they raise.

Read `sync.py` for the surface, `exchange.py` for what is sent again and when, `results.py` for what
a result holds.
"""

from typing import TYPE_CHECKING

from runtime.client import errors
from runtime.client.errors import QmkError
from runtime.client.sync import Client, Job

if TYPE_CHECKING:
    from runtime.client.trio_client import AsyncClient, AsyncJob

__all__ = ["AsyncClient", "AsyncJob", "Client", "Job", "QmkError", "errors"]


def __getattr__(name: str) -> object:
    # Programs that block need not load trio.
    if name in ("AsyncClient", "AsyncJob"):
        from runtime.client import trio_client

        return getattr(trio_client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
