"""What an operator watches of the follower, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.attest.errors import NotThere
from runtime.attest.watching import Follower


class Figures(Collector):
    """Made anew at each scrape, from what is on the disk."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def collect(self) -> Iterator[Metric]:
        keeper, health = self._follower.keeper, self._follower.health
        queue = GaugeMetricFamily(
            "qmk_manifests_unsigned", "Manifests that are not signed, by why.", labels=["state"]
        )
        rows = keeper.waiting()
        for state in ("waiting", "offered", "refused"):
            queue.add_metric([state], sum(each.state == state for each in rows))
        yield queue
        signed = CounterMetricFamily("qmk_manifests_signed", "Manifests that were signed.")
        signed.add_metric([], keeper.count())
        yield signed
        yield GaugeMetricFamily("qmk_ledger_leaves", "Leaves of the log.", keeper.log.size)
        try:
            head = keeper.log.signed_size()
        except NotThere:
            head = 0
        yield GaugeMetricFamily("qmk_ledger_signed_leaves", "Leaves of its signed head.", head)
        seen = GaugeMetricFamily(
            "qmk_ledger_witnessed_leaves", "Leaves that a witness has seen.", labels=["witness"]
        )
        for each in self._follower.witnesses:
            name = each.verifier.name
            seen.add_metric([name], keeper.log.witnessed_size(name))
        yield seen
        taken = "Entries of the audit chain that were taken in."
        yield CounterMetricFamily("qmk_attest_audit_entries", taken, keeper.taken)
        failing = GaugeMetricFamily(
            "qmk_attest_failing", "1 while this part does not do its work.", labels=["part"]
        )
        parts = {"chain": health.chain, "signing": health.signing, "ledger": health.ledger}
        for part, why in parts.items():
            failing.add_metric([part], bool(why))
        failing.add_metric(["witnesses"], any(health.witnesses.values()))
        yield failing
