"""Everything that is generated from the ABI: where it lies, and what it says."""

from syscalls.derive import openrpc, pages, schema, stubs

SCHEMAS = "syscalls/schemas"
PAGES = "docs/abi"
OPENRPC = f"{SCHEMAS}/openrpc.json"
STUBS = "runtime/client/stubs.py"
WHOLLY_GENERATED = (SCHEMAS, PAGES)  # folders that hold nothing else


def generated() -> dict[str, str]:
    """Path from the repository's root to text."""
    files = {f"{SCHEMAS}/{name}": text for name, text in schema.documents().items()}
    files[OPENRPC] = schema.as_text(openrpc.document())
    files |= {f"{PAGES}/{name}": text for name, text in pages.pages().items()}
    files[STUBS] = stubs.stubs()
    return files
