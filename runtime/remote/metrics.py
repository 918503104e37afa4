"""What `qmkctl serve-remote` counts, for Prometheus. Serves scrapes from a thread, on 127.0.0.1.

Names of clients are no labels: anybody with a certificate could make many of them.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from runtime.client.stream import Facts
from runtime.remote.credentials import Own

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 10)


class Metrics:
    """One service's figures."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.handshakes = Counter(
            "qmk_remote_handshakes",
            "Handshakes that were agreed, by key exchange and kinds of certificate.",
            ["group", "certificate", "client_certificate"],
            registry=registry,
        )
        self.refused = Counter(
            "qmk_remote_refused",
            "Connections that were refused, by reason.",
            ["reason"],
            registry=registry,
        )
        self.seconds = Histogram(
            "qmk_remote_handshake_seconds",
            "From a connection's beginning to the end of its handshake.",
            buckets=SECONDS,
            registry=registry,
        )
        self.connections = Gauge(
            "qmk_remote_connections", "Clients that are connected.", registry=registry
        )
        self.bytes = Counter(
            "qmk_remote_bytes",
            "Plain bytes carried, up to the daemon and down to clients.",
            ["way"],
            registry=registry,
        )
        self.expires = Gauge(
            "qmk_remote_certificate_expires_seconds",
            "When a certificate of this service expires, in seconds since 1970.",
            ["certificate"],
            registry=registry,
        )
        self.renewals = Counter(
            "qmk_remote_renewals",
            "Certificates that were to be renewed, by what came of it.",
            ["outcome"],
            registry=registry,
        )
        self.reloads = Counter(
            "qmk_remote_reloads",
            "Times that credentials were read again, by what came of it.",
            ["outcome"],
            registry=registry,
        )

    def agreed(self, facts: Facts, seconds: float) -> None:
        self.handshakes.labels(facts.group, facts.own_certificate, facts.peer_certificate).inc()
        self.seconds.observe(seconds)

    def hold(self, own: tuple[Own, ...]) -> None:
        """These are the certificates now."""
        self.expires.clear()
        for each in own:
            until = each.certificate.not_valid_after_utc.timestamp()
            self.expires.labels(each.kind).set(until)

    def serve(self, port: int) -> None:
        """Raises OSError."""
        start_http_server(port, addr="127.0.0.1", registry=self.registry)
