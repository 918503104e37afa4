"""What clients of other libraries see of `qmkctl serve-remote`; `make tls-demo` shows more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.tls import others
from harness.tls.__main__ import CLIENTS, meetings, table
from runtime.client.address import TlsMode


def has(program: Callable[[], str]) -> bool:
    try:
        program()
    except others.Missing:
        return False
    return True


@pytest.mark.skipif(
    not has(others.openssl_program),
    reason="no OpenSSL 3.5: `python -m tests.tools.fetch openssl` fetches it",
)
def test_openssl_reports_the_hybrid_group_and_verifies_the_ml_dsa_chain() -> None:
    (met,) = meetings(["openssl s_client 3.5"], [TlsMode.HYBRID])
    assert met.seen is not None
    assert met.seen.group == "X25519MLKEM768"
    assert met.seen.certificate == "mldsa65"
    assert met.as_wanted


@pytest.mark.skipif(
    not has(others.node_program),
    reason="no Node.js 24: `python -m tests.tools.fetch node` fetches it",
)
def test_node_reports_the_hybrid_group_and_verifies_the_ml_dsa_chain() -> None:
    (met,) = meetings(["Node 24"], [TlsMode.HYBRID])
    assert met.seen is not None
    assert met.seen.group == "X25519MLKEM768"
    assert met.seen.certificate == "ml-dsa-65"
    assert met.seen.chain
    assert met.seen.answered
    assert met.as_wanted


def test_libraries_without_post_quantum_groups_fall_back_or_are_refused() -> None:
    clients = ["Python ssl", "openssl s_client, X25519 alone"]
    found = meetings(clients, [TlsMode.HYBRID, TlsMode.PQC_REQUIRED])
    assert [each.wanted for each in found] == ["fallback"] * 2 + ["refused"] * 2
    assert all(each.as_wanted for each in found), found
    assert table(found).row_count == 4


def test_every_client_of_the_demonstration_has_an_outcome_for_every_mode() -> None:
    for _, wanted in CLIENTS.values():
        assert set(wanted) == set(TlsMode)
