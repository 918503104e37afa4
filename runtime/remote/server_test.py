from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.client import AsyncClient, Client, errors
from runtime.client.address import Remote, TlsMode
from runtime.client.conftest import DONE, FakeKernel, Parts, usual
from runtime.client.conftest import kernel as kernel
from runtime.client.results import results_digest
from runtime.ctl.exits import Trouble
from runtime.ctl.options import needs
from runtime.remote import certificates, relay
from runtime.remote.authority import Authority
from runtime.remote.conftest import HOST, Hosts, Service
from runtime.remote.credentials import load
from runtime.remote.errors import BadSettings, HandshakeFailed
from runtime.remote.metrics import Metrics
from runtime.remote.settings import Limits
from runtime.remote.tls import Context
from syscalls.results import EventField, Results, ResultsReply
from syscalls.syscall import Syscall

NEGOTIATE = b'{"jsonrpc":"2.0","id":1,"method":"q_negotiate_caps","params":{"requested":[]}}\n'
Serving = Callable[..., Service]
CLASSICAL, HYBRID, PQC = TlsMode.CLASSICAL, TlsMode.HYBRID, TlsMode.PQC_REQUIRED
X25519, X25519MLKEM768 = "X25519", "X25519MLKEM768"


def outcome(service: Service, credentials: Path, mode: TlsMode = HYBRID) -> tuple[str, str, str]:
    """Group and certificates of a connection, as the client sees them."""
    with Client(service.remote(credentials, mode)) as client:
        assert client.session_id
        facts = client.remote_facts()
    assert facts is not None
    return facts.group, facts.peer_certificate, facts.own_certificate


def refused(service: Service, credentials: Path, mode: TlsMode = HYBRID) -> str:
    """What a client is told that does not come in."""
    with (
        pytest.raises(errors.Unreachable) as caught,
        Client(service.remote(credentials, mode)) as c,
    ):
        assert c.session_id
    return str(caught.value)


def plain_context(credentials: Path) -> ssl.SSLContext:
    """A client of another library: Python's own, with the host's OpenSSL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for path in credentials.glob("trust-es256*.pem"):
        context.load_verify_locations(path)
    for path in credentials.glob("own-es256.pem"):
        context.load_cert_chain(path)
    return context


def test_a_program_is_run_over_the_network_as_it_is_on_the_host(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    service = serving(kernel.path)
    alice = hosts.make("alice")
    with Client(remote=service.remote(alice)) as client:
        assert client.session_id
        assert client.job(DONE.job_id).wait().counts == DONE.counts

    async def from_trio() -> None:
        async with AsyncClient(remote=service.remote(alice)) as client:
            assert (await client.job(DONE.job_id).wait()).counts == DONE.counts
            facts = client.remote_facts()
            assert facts is not None
            assert facts.group == X25519MLKEM768

    trio.run(from_trio)
    assert service.counted("bytes_total", way="up") > 0


@pytest.mark.parametrize(
    ("served", "asked", "agreed"),
    [
        (HYBRID, HYBRID, (X25519MLKEM768, "ML-DSA-65", "ML-DSA-65")),
        (HYBRID, CLASSICAL, (X25519, "ES256", "ES256")),
        (HYBRID, PQC, (X25519MLKEM768, "ML-DSA-65", "ML-DSA-65")),
        (CLASSICAL, HYBRID, (X25519, "ES256", "ES256")),
        (CLASSICAL, CLASSICAL, (X25519, "ES256", "ES256")),
        (CLASSICAL, PQC, None),
        (PQC, HYBRID, (X25519MLKEM768, "ML-DSA-65", "ML-DSA-65")),
        (PQC, CLASSICAL, None),
        (PQC, PQC, (X25519MLKEM768, "ML-DSA-65", "ML-DSA-65")),
    ],
)
def test_modes_meet_or_the_connection_is_refused(
    serving: Serving,
    hosts: Hosts,
    kernel: FakeKernel,
    served: TlsMode,
    asked: TlsMode,
    agreed: tuple[str, str, str] | None,
) -> None:
    service = serving(kernel.path, served)
    alice = hosts.make("alice")
    if agreed is None:
        assert "modes of cryptography" in refused(service, alice, asked)
        return
    assert outcome(service, alice, asked) == agreed
    group, certificate, own = agreed
    labels = {"group": group, "certificate": certificate, "client_certificate": own}
    assert service.counted("handshakes_total", **labels) == 1


def test_a_client_that_trusts_one_kind_of_authority_is_shown_that_kind(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    service = serving(kernel.path)
    alice = hosts.make("alice", kinds=("ES256",))
    assert outcome(service, alice) == (X25519MLKEM768, "ES256", "ES256")


def test_a_client_without_a_pqc_certificate_is_refused_where_that_is_required(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    service = serving(kernel.path, PQC)
    alice = hosts.make("alice")
    (alice / "own-ml-dsa-65.pem").unlink()
    assert "certificate" in refused(service, alice)


def test_a_library_without_post_quantum_groups_falls_back_and_resumes_nothing(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    service = serving(kernel.path)
    context = plain_context(hosts.make("alice"))
    session = None
    for _ in range(2):
        with (
            socket.create_connection((HOST, service.port), 10) as tcp,
            context.wrap_socket(tcp, server_hostname=HOST, session=session) as tls,
        ):
            assert tls.version() == "TLSv1.3"
            assert not tls.session_reused
            tls.sendall(NEGOTIATE)
            assert b'"id":1' in tls.recv(4096)
            session = tls.session
    labels = {"group": X25519, "certificate": "ES256", "client_certificate": "ES256"}
    assert service.counted("handshakes_total", **labels) == 2


def test_tls_1_2_is_refused(serving: Serving, hosts: Hosts, kernel: FakeKernel) -> None:
    service = serving(kernel.path)
    context = plain_context(hosts.make("alice"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((HOST, service.port), 10) as tcp,
        pytest.raises(ssl.SSLError, match="version"),
    ):
        context.wrap_socket(tcp, server_hostname=HOST)
    service.wait_counted(1, "refused_total", reason="old protocol")


def moved(authority: Authority, by: timedelta, make: Callable[[], Path]) -> Path:
    authority.shift = by
    try:
        return make()
    finally:
        authority.shift = timedelta(0)


def test_certificates_that_do_not_hold_are_refused_with_the_reason(
    serving: Serving, hosts: Hosts, kernel: FakeKernel, authority: Authority
) -> None:
    service = serving(kernel.path)
    strangers = Hosts(hosts.folder / "elsewhere", Authority("another authority"))
    stranger = strangers.make("alice")
    for path in stranger.glob("trust-*"):
        path.unlink()
    for path in hosts.make("bob").glob("trust-*"):
        (stranger / path.name).write_bytes(path.read_bytes())
    past = moved(authority, timedelta(days=-9), lambda: hosts.make("past"))
    future = moved(authority, timedelta(days=9), lambda: hosts.make("future"))
    assert "expired" in refused(service, past)
    assert "certificate" in refused(service, future)
    assert "authority" in refused(service, stranger)
    assert "certificate" in refused(service, hosts.make("purpose", server=True))
    nobody = hosts.make("none")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(nobody / "trust-es256-1.pem")
    with (
        socket.create_connection((HOST, service.port), 10) as tcp,
        context.wrap_socket(tcp, server_hostname=HOST) as tls,
        pytest.raises(ssl.SSLError, match="certificate required"),
    ):
        tls.recv(1)
    for reason in ("expired", "not yet valid", "unknown authority", "wrong purpose",
                   "no certificate"):  # fmt: skip
        service.wait_counted(1, "refused_total", reason=reason)
    assert not kernel.seen


def test_a_name_that_is_not_admitted_is_told_so(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    service = serving(kernel.path)
    with (
        pytest.raises(errors.Refused, match="'carol' has a certificate, and is not admitted"),
        Client(service.remote(hosts.make("carol"))) as client,
    ):
        assert client.session_id
    service.wait_counted(1, "refused_total", reason="not admitted")
    assert not kernel.seen


@pytest.mark.parametrize("name", ["alice\nINFO admitted", "ali\0ce", "Alice", "alice "])
def test_a_name_is_the_same_to_the_letter_or_another(
    serving: Serving, hosts: Hosts, kernel: FakeKernel, name: str
) -> None:
    service = serving(kernel.path)
    folder = hosts.folder / "odd"
    certificates.obtain(hosts.authority, folder, "ES256", usage="client", name=name)
    with (
        pytest.raises(errors.Refused, match="is not admitted"),
        Client(service.remote(folder)) as client,
    ):
        assert client.session_id


def test_a_client_believes_no_server_but_the_one_it_asked_for(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    service = serving(kernel.path)
    alice = hosts.make("alice")
    other = Hosts(hosts.folder / "elsewhere", Authority("another authority"))
    said = refused(service, other.make("alice"))
    assert "unable to get local issuer" in said
    client_only = serving(kernel.path, credentials=hosts.make("imposter"))
    assert "purpose" in refused(client_only, alice)


@pytest.mark.parametrize("how", ["serial", "list"])
def test_a_revoked_certificate_is_refused_and_cut_off(
    serving: Serving, hosts: Hosts, kernel: FakeKernel, authority: Authority, how: str
) -> None:
    service = serving(kernel.path)
    alice = hosts.make("alice", kinds=("ES256",))
    serial = load(alice).own[0].certificate.serial_number
    folder = Path(service.server.settings.credentials)
    with Client(service.remote(alice)) as client:
        assert client.session_id
        if how == "serial":
            (folder / "revoked.txt").write_text(f"# left us\n{serial:X}\n")
        else:
            listed = authority.revocation_list("tls-ca", 1, serial)
            (folder / "revoked-ca.pem").write_bytes(listed)
        assert service.do(service.server.look)
        while client.listen(1.0):
            pass
    with (
        pytest.raises(errors.Refused, match="The certificate of 'alice' is revoked"),
        Client(service.remote(alice)) as client,
    ):
        assert client.session_id
    assert service.counted("refused_total", reason="revoked") >= 1


def test_an_authority_that_is_trusted_no_more_loses_its_connections(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    service = serving(kernel.path)
    alice, bob = hosts.make("alice", kinds=("ES256",)), hosts.make("bob")
    folder = Path(service.server.settings.credentials)
    with Client(service.remote(alice)) as one, Client(service.remote(bob)) as other:
        assert one.session_id
        assert other.session_id
        for path in folder.glob("trust-es256*"):
            path.unlink()
        assert service.do(service.server.look)
        while one.listen(1.0):
            pass
        assert other.job(DONE.job_id).wait().counts == DONE.counts
        facts = other.remote_facts()
        assert facts is not None
        assert facts.own_certificate == "ML-DSA-65", "over the connection that it had"


def test_a_connection_ends_with_its_certificate(
    serving: Serving, hosts: Hosts, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.remote.server.left_s", lambda certificate: 0.5)
    service = serving(kernel.path)
    with Client(service.remote(hosts.make("alice", kinds=("ES256",)))) as client:
        assert client.session_id
        until = time.monotonic() + 20
        while client.listen(1.0):
            assert time.monotonic() < until, "it is cut off"


def test_certificates_are_renewed_while_connections_go_on(
    serving: Serving, hosts: Hosts, kernel: FakeKernel, authority: Authority
) -> None:
    old = moved(authority, timedelta(days=-3), lambda: hosts.make("service", server=True, days=4))
    service = serving(kernel.path, credentials=old, renew=None)
    renew = certificates.renewal(authority)
    serials = [each.certificate.serial_number for each in load(old).own]
    alice = hosts.make("alice")
    with Client(service.remote(alice)) as client:
        assert client.session_id
        before = client.remote_facts()
        trio.from_thread.run(service.server.renew_due, renew, trio_token=service._token)
        assert client.job(DONE.job_id).wait().counts == DONE.counts
        assert client.remote_facts() == before, "the connection is the old one"
        with Client(service.remote(alice)) as later:
            assert later.session_id
            after = later.remote_facts()
    assert before is not None
    assert after is not None
    assert before.peer_serial != after.peer_serial
    fresh = [each.certificate.serial_number for each in load(old).own]
    assert not set(fresh) & set(serials)
    assert service.counted("renewals_total", outcome="done") == 2


def test_a_renewal_that_fails_is_counted_and_changes_nothing(
    serving: Serving, hosts: Hosts, kernel: FakeKernel, authority: Authority
) -> None:
    old = moved(authority, timedelta(days=-3), lambda: hosts.make("service", server=True, days=4))
    service = serving(kernel.path, credentials=old)

    def away(own: object) -> Any:
        raise ConnectionRefusedError("no signer")

    trio.from_thread.run(service.server.renew_due, away, trio_token=service._token)
    assert service.counted("renewals_total", outcome="failed") == 2
    assert outcome(service, hosts.make("alice"))[0] == X25519MLKEM768


def test_credentials_that_do_not_hold_together_change_nothing_that_runs(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    service = serving(kernel.path)
    folder = Path(service.server.settings.credentials)
    (folder / "own-es256.pem").write_text("no certificate")
    assert not service.do(service.server.look)
    assert service.counted("reloads_total", outcome="failed") == 1
    assert outcome(service, hosts.make("alice"))[0] == X25519MLKEM768


def test_rows_that_come_as_a_memory_file_arrive_inside_the_answer(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    rows = os.urandom(200_001) + b"\x00"
    rows = bytes(byte & 1 for byte in rows)
    shots = len(rows) // 2
    raw = b"".join(bytes([row & 1, 1]) for row in rows[:shots])
    reply = ResultsReply(
        job_id=DONE.job_id,
        shots=shots,
        order=[EventField(name="a", bits=1)],
        values_bytes=1,
        row_bytes=2,
        fd=True,
        digest=results_digest(raw, 2),
    )

    def handler(number: int, call: Syscall) -> Any:
        if isinstance(call, Results):
            fd = os.memfd_create("rows")
            os.write(fd, raw)
            line = {"jsonrpc": "2.0", "result": reply, "id": number + 1}
            return Parts([msgspec.json.encode(line) + b"\n"], [fd])
        if call.METHOD == "q_wait":
            return msgspec.structs.replace(DONE, counts=None)
        return usual(number, call)

    kernel.handler = handler
    service = serving(kernel.path)
    with Client(service.remote(hosts.make("alice"))) as client:
        assert client.session_id
        packed = client.job(DONE.job_id).wait().packed
    assert packed.rows.tobytes() == raw


def test_a_daemon_that_is_away_is_waited_for_until_the_deadline(
    serving: Serving, hosts: Hosts
) -> None:
    service = serving()
    with (
        pytest.raises(errors.Busy, match="the daemon does not answer"),
        Client(service.remote(hosts.make("alice")), timeout=3.0) as client,
    ):
        assert client.session_id


def test_who_does_not_get_on_with_the_handshake_is_let_go(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    limits = Limits(handshake_s=2.0, handshakes_per_host=3)
    service = serving(kernel.path, limits=limits)
    idle = [socket.create_connection((HOST, service.port), 20) for _ in range(6)]
    for each in idle:
        assert each.recv(1) == b""
        each.close()
    service.wait_until(lambda: not service.server.handshakes)
    slow = service.counted("refused_total", reason="slow handshake")
    many = service.counted("refused_total", reason="too many handshakes")
    assert slow >= 3
    assert slow + many == 6
    assert outcome(service, hosts.make("alice"))[0] == X25519MLKEM768


def test_a_client_has_only_so_many_connections(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    service = serving(kernel.path, limits=Limits(connections_per_client=1))
    alice, bob = hosts.make("alice"), hosts.make("bob")
    with Client(service.remote(alice)) as client:
        assert client.session_id
        with (
            pytest.raises(errors.Busy, match="too many connections of alice"),
            Client(service.remote(alice), timeout=3.0) as more,
        ):
            assert more.session_id
        assert outcome(service, bob)[0] == X25519MLKEM768


def test_a_client_that_does_not_read_is_let_go_and_others_are_served(
    serving: Serving, hosts: Hosts, tmp_path: Path
) -> None:
    """Behind the service is one who never stops talking."""
    path = tmp_path / "talker"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def talk() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                while True:
                    connection.sendall(b" " * (1 << 16))

        thread = threading.Thread(target=talk)
        thread.start()
        service = serving(path, limits=Limits(stalled_s=0.5))
        context = plain_context(hosts.make("alice"))
        with (
            socket.create_connection((HOST, service.port), 10) as tcp,
            context.wrap_socket(tcp, server_hostname=HOST),
        ):
            thread.join(20)
            assert not thread.is_alive(), "it is let go"
    service.wait_until(lambda: not service.server.clients)
    assert service.counted("bytes_total", way="down") < 32 << 20, "what waits is in sockets alone"


def test_a_client_that_is_gone_leaves_no_connection_that_waits(
    serving: Serving, hosts: Hosts, tmp_path: Path
) -> None:
    """Behind the service is one who never answers, as a daemon does while a job runs."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        service = serving(tmp_path / "s")
        context = plain_context(hosts.make("alice"))
        tcp = socket.create_connection((HOST, service.port), 10)
        with context.wrap_socket(tcp, server_hostname=HOST) as tls:
            silent, _ = listener.accept()
            with silent:
                tls.shutdown(socket.SHUT_WR)  # It may still want its answer.
                assert silent.recv(1) == b""
                assert service.server.clients
                # Closed with a reset, as a host does for one that has ended long ago.
                tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                tls.close()
                service.wait_until(lambda: not service.server.clients)


def test_without_its_libraries_a_remote_connection_says_what_to_install(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = hosts.make("alice")
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    for name in ("runtime.remote.tls", "runtime.remote.stream"):
        monkeypatch.delitem(sys.modules, name)
    remote = Remote(host=HOST, port=1, credentials=alice)
    with (
        pytest.raises(errors.Unreachable, match=r"install `qmkd\[remote\]`"),
        Client(remote) as client,
    ):
        assert client.session_id
    with pytest.raises(Trouble, match="This needs OpenSSL"):
        needs("OpenSSL", extra="remote")


def test_what_does_not_speak_tls_is_refused(
    serving: Serving, hosts: Hosts, kernel: FakeKernel
) -> None:
    service = serving(kernel.path)
    for text in (b"GET / HTTP/1.1\r\n\r\n", b'{"jsonrpc":"2.0"}\n', bytes(64)):
        with socket.create_connection((HOST, service.port), 20) as tcp:
            tcp.sendall(text)
            tcp.settimeout(20)
            while tcp.recv(100):
                pass
    service.wait_counted(3, "refused_total", reason="not TLS")


def test_something_that_is_no_tls_server_is_said_at_once(hosts: Hosts) -> None:
    with socket.create_server((HOST, 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 welcome\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=answer)
        thread.start()
        remote = Remote(host=HOST, port=listener.getsockname()[1], credentials=hosts.make("alice"))
        with (
            pytest.raises(errors.Unreachable, match="does not speak TLS"),
            Client(remote) as client,
        ):
            assert client.session_id
        thread.join()


def test_a_host_without_a_service_and_a_folder_without_credentials_are_said(
    hosts: Hosts, tmp_path: Path
) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    alice = hosts.make("alice")
    for remote, said in (
        (Remote(host=HOST, port=port, credentials=alice), "No daemon answers at .*refused"),
        (Remote(host="no.such.host.invalid", port=1, credentials=alice), "not known here"),
        (Remote(host=HOST, port=port, credentials=tmp_path / "none"), "own-"),
    ):
        with pytest.raises(errors.Unreachable, match=said), Client(remote) as client:
            assert client.session_id


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        (HOST, True), ("localhost", True), ("LOCALHOST.", True), ("127.0.0.2", False),
        ("elsewhere.example", False), ("x.localhost", False), ("::1", False),
    ],
)  # fmt: skip
def test_a_server_is_believed_for_the_names_in_its_certificate_alone(
    hosts: Hosts, host: str, fine: bool
) -> None:
    server = Context(load(hosts.make("service", server=True)), HYBRID, server=True).connection()
    client = Context(load(hosts.make("alice")), HYBRID, server=False).connection(host)
    client.start()
    server.take(client.outgoing())
    if fine:
        client.take(server.outgoing())
        assert client.done
        return
    with pytest.raises(HandshakeFailed, match="mismatch") as caught:
        client.take(server.outgoing())
    assert caught.value.reason == "wrong name"
    with pytest.raises(HandshakeFailed):
        server.take(client.outgoing())


def test_a_server_whose_certificate_is_revoked_is_told_nothing(hosts: Hosts) -> None:
    served, alice = hosts.make("service", server=True), hosts.make("alice")
    serials = [f"{each.certificate.serial_number:x}" for each in load(served).own]
    (alice / "revoked.txt").write_text("\n".join(serials))
    server = Context(load(served), HYBRID, server=True).connection()
    client = Context(load(alice), HYBRID, server=False).connection(HOST)
    client.start()
    server.take(client.outgoing())
    with pytest.raises(HandshakeFailed, match="the certificate of service is revoked"):
        client.take(server.outgoing())
    assert not client.done


def test_any_change_of_bytes_on_the_way_ends_the_connection(hosts: Hosts) -> None:
    made = Context(load(hosts.make("service", server=True)), HYBRID, server=True)
    theirs = Context(load(hosts.make("alice")), HYBRID, server=False)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10**6), st.integers(1, 255))
    def check(at: int, mask: int) -> None:
        server, client = made.connection(), theirs.connection(HOST)
        client.start()
        server.take(client.outgoing())
        client.take(server.outgoing())
        server.take(client.outgoing())
        client.give(b"q" * 100)
        sealed = bytearray(client.outgoing())
        sealed[at % len(sealed)] ^= mask
        try:
            plain = server.take(bytes(sealed))
        except HandshakeFailed:
            return
        assert plain == b"", "a longer length leaves a record unfinished; nothing comes of it"

    check()


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_break_a_handshake_otherwise_than_by_refusing(data: bytes) -> None:
    server = _context().connection()
    with contextlib.suppress(HandshakeFailed):
        server.take(data)
    assert not server.done


_made: list[Context] = []


def _context() -> Context:
    if not _made:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            hosts = Hosts(Path(folder), Authority())
            _made.append(Context(load(hosts.make("s", server=True)), HYBRID, server=True))
    return _made[0]


def test_alerts_and_the_page_name_the_series_that_there_are() -> None:
    offered = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in Metrics().registry.collect()
    }
    root = Path(__file__).parents[2]
    rules = (root / "monitoring" / "remote-rules.yml").read_text()
    assert set(re.findall(r"qmk_remote_\w+", rules)) <= offered
    page = (root / "docs" / "remote.md").read_text()
    assert set(re.findall(r"qmk_remote_\w+", page)) == offered


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on this host")
def test_promtool_accepts_the_alerts() -> None:
    rules = Path(__file__).parents[2] / "monitoring" / "remote-rules.yml"
    subprocess.run(["promtool", "check", "rules", rules], check=True, capture_output=True)


def test_a_relay_removes_no_file_that_is_not_a_socket(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("precious")

    async def listens() -> None:
        relay.listen(file)

    with pytest.raises(BadSettings, match="in use"):
        trio.run(listens)
    assert file.read_text() == "precious"
