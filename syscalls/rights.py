"""The one list of capabilities a session may hold.

Gates and measurements on qubits one owns need none. Which call needs which right stands with the
call (`NEEDS`); which opcode needs which stands in `qvm.isa`. Nothing here decides anything.
"""

from enum import StrEnum


class Right(StrEnum):
    """A named authority. A session's rights only ever shrink."""

    ALLOC = "CAP_ALLOC"
    LINK = "CAP_LINK"
    TELEPORT = "CAP_TELEPORT"
    MAGIC = "CAP_MAGIC"
    CHECKPOINT = "CAP_CHECKPOINT"
    MIGRATE = "CAP_MIGRATE"
    DELEGATE = "CAP_DELEGATE"
    DEBUG = "CAP_DEBUG"
    ADMIN = "CAP_ADMIN"

    @property
    def help(self) -> str:
        """One line: what holding this right allows."""
        return HELP[self]


HELP: dict[Right, str] = {
    Right.ALLOC: "allocate logical qubits",
    Right.LINK: "open, use and close entangled channels",
    Right.TELEPORT: "run teleported gates, which consume entanglement",
    Right.MAGIC: "prepare and consume magic states",
    Right.CHECKPOINT: "checkpoint and restore one's own jobs",
    Right.MIGRATE: "move one's own jobs to another placement at a fence",
    Right.DELEGATE: "hand a subset of one's rights to another tenant, and take it back",
    Right.DEBUG: "see how virtual qubits map to physical ones",
    Right.ADMIN: "see every tenant's jobs and the whole machine's telemetry",
}

assert set(HELP) == set(Right), "every right has its line of help"
assert all(right.value == f"CAP_{right.name}" for right in Right)
