"""What the signer tells Prometheus: what it did, how old its keys are, what protects them.

It serves no HTTP: the text goes to a file for node_exporter's textfile collector, and to whoever
asks by `qmkctl keys metrics`. `qmk_signer_key_rotation_due_timestamp_seconds` is the reminder.
"""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta

from runtime.signer.protocol import Listing

Series = tuple[tuple[tuple[str, str], ...], float]


class Counters:
    """Requests by method and result, `ok` or the name of the error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._uses: Counter[tuple[str, str]] = Counter()

    def count(self, method: str, result: str) -> None:
        with self._lock:
            self._requests[method, result] += 1

    def used(self, key: str, algorithm: str) -> None:
        with self._lock:
            self._uses[key, algorithm] += 1

    def requests(self) -> list[Series]:
        with self._lock:
            return [
                ((("method", method), ("result", result)), count)
                for (method, result), count in sorted(self._requests.items())
            ]

    def uses(self) -> list[Series]:
        with self._lock:
            return [
                ((("key", key), ("algorithm", algorithm)), count)
                for (key, algorithm), count in sorted(self._uses.items())
            ]


def render(counters: Counters, listing: Listing, token_up: bool | None, audit_seq: int) -> str:
    """The text. token_up: None where there is no token."""
    families: list[tuple[str, str, str, list[Series]]] = [
        (
            "qmk_signer_requests_total",
            "counter",
            "Requests answered, by what came of them.",
            counters.requests(),
        ),
        (
            "qmk_signer_signatures_total",
            "counter",
            "Signatures given out since the start.",
            counters.uses(),
        ),
        (
            "qmk_signer_key_created_timestamp_seconds",
            "gauge",
            "When the version in use was made.",
            [(_labels(each), _seconds(each.created_at)) for each in listing.keys],
        ),
        (
            "qmk_signer_key_rotation_due_timestamp_seconds",
            "gauge",
            "When an active key is to be rotated.",
            [
                (_labels(each), _seconds(each.due_at))
                for each in listing.keys
                if each.state == "active"
            ],
        ),
        (
            "qmk_signer_damaged_records",
            "gauge",
            "Keys whose records are not what was written.",
            [((), len(listing.damaged))],
        ),
        ("qmk_signer_audit_entries", "gauge", "Entries of the audit log.", [((), audit_seq)]),
    ]
    if token_up is not None:
        families.append(
            ("qmk_signer_token_up", "gauge", "Whether the token answers.", [((), int(token_up))])
        )
    return "".join(_family(*family) for family in families)


def _labels(each: object) -> tuple[tuple[str, str], ...]:
    names = ("name", "algorithm", "protection", "version")
    shown = {"name": "key"}
    return tuple((shown.get(name, name), str(getattr(each, name))) for name in names)


def _family(name: str, kind: str, text: str, series: list[Series]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in series:
        # Names of keys, methods and errors have nothing that would need escaping.
        inside = ",".join(f'{label}="{content}"' for label, content in labels)
        lines.append(f"{name}{{{inside}}} {value!r}" if inside else f"{name} {value!r}")
    return "\n".join(lines) + "\n"


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def due(created_at: str, days: int) -> datetime:
    """When a key made then is to be rotated."""
    return datetime.fromisoformat(created_at) + timedelta(days=days)
