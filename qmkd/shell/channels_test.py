"""A real daemon with two tenants: one links to the other's qubit by consent, and not without."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon import Line, running_daemon, short_folder

MACHINE = """\
name = "two"
module = [{ name = "left", qubits = 100 }, { name = "right", qubits = 100 }]
link = [{ between = ["left", "right"], cycles = 5, fidelity = 0.8, lifetime = 60 }]
"""
TENANTS = "".join(
    f'[[tenant]]\nname = "{name}"\nuids = [{os.getuid()}]\n' for name in ("alice", "bob")
)
RIGHTS = ["CAP_ALLOC", "CAP_LINK", "CAP_DELEGATE"]
SHOTS = 40_000


@pytest.fixture
def line() -> Iterator[Line]:
    with short_folder() as folder:
        (folder / "two.toml").write_text(MACHINE)
        flags = ("--machine", str(folder / "two.toml"))
        with running_daemon(folder, *flags, config=TENANTS) as daemon, Line(daemon.socket) as one:
            yield one


def session(line: Line, tenant: str, *more: str) -> str:
    asked = {"requested": [*RIGHTS, *more], "tenant_id": tenant}
    name = line.call("q_negotiate_caps", **asked)["session_id"]
    assert isinstance(name, str)
    return name


def qubit(line: Line, session: str, module: str) -> str:
    asked = {"n": 1, "profile": "logical:ideal", "module": module}
    (handle,) = line.call("q_alloc", session_id=session, **asked)["handles"]
    assert isinstance(handle, str)
    return handle


def sent(near: str, far: str, channel: str) -> dict[str, Any]:
    """A program that teleports |0> and measures it there."""
    ends = {"vqs": [near, far], "chs": [channel]}
    nodes: list[dict[str, Any]] = [
        {"op": "ALLOC_LQ", "args": {"n": 2, "profile": "logical:ideal"}, "vqs": [near, far]},
        {"op": "OPEN_CHAN", "args": {"fidelity": 0.5}, **ends},
        {"op": "USE_CHAN", "args": {"semantic": "teleport_state"}, **ends},
        {"op": "MEASURE_Z", "vqs": [far], "produces": ["m"]},
        {"op": "FREE_LQ", "vqs": [near, far]},
    ]
    nodes = [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]
    resources = {"vqs": [near, far], "chs": [channel], "events": ["m"]}
    return {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}


def test_what_crosses_to_another_tenant_errs_as_is_accounted_and_only_by_consent(
    line: Line,
) -> None:
    alice = session(line, "alice")
    hers = qubit(line, alice, "right")
    lend = {"rights": ["CAP_LINK"], "tenant_id": "bob"}
    consent = line.call("q_delegate", session_id=alice, **lend)["capability_id"]
    bob = session(line, "bob", consent)
    his = qubit(line, bob, "left")
    opened = line.call(
        "q_open_chan", session_id=bob, vq_a=his, vq_b=hers, options={"fidelity": 0.85}
    )
    assert opened["actual_fidelity"] >= 0.85
    graph = sent(his, hers, opened["channel_id"])
    asked = {"session_id": bob, "graph": graph, "policy": {"shots": SHOTS, "seed": 5}}
    job = line.call("q_submit", **asked)["job_id"]
    status = line.call("q_wait", session_id=bob, job_id=job)
    assert status["state"] == "COMPLETED", status
    (pairs,) = status["execution_context"]["pairs"]
    terms = pairs["terms"]
    assert terms["rounds"] == opened["purification_rounds"] > 0
    assert terms["fidelity"] >= 0.85
    chance = terms["x"] + terms["y"]
    flipped = status["counts"].get("1", 0)
    assert abs(flipped - SHOTS * chance) <= 5 * math.sqrt(SHOTS * chance * (1 - chance))
    told = line.call("q_chan_status", session_id=bob, channel_id=opened["channel_id"])
    assert told["uses"] == SHOTS

    line.call("q_revoke", session_id=alice, capability_id=consent)
    answers = [
        line.ask("q_submit", **asked),
        line.ask("q_chan_status", session_id=bob, channel_id=opened["channel_id"]),
        line.ask("q_open_chan", session_id=bob, vq_a=his, vq_b=hers),
    ]
    refused = [answer["error"]["data"]["type"] for answer in answers]
    assert refused == ["NOT_BROKERED", "CHANNEL_NOT_FOUND", "NOT_BROKERED"]
    held = line.call("q_get_telemetry", session_id=alice)["qubits"]
    assert [(each["handle"], each["channels"]) for each in held] == [(hers, 0)]


def test_handles_and_channels_outlive_the_daemon() -> None:
    with short_folder() as folder:
        (folder / "two.toml").write_text(MACHINE)
        flags = ("--machine", str(folder / "two.toml"))
        with running_daemon(folder, *flags, config=TENANTS) as daemon, Line(daemon.socket) as line:
            alice = session(line, "alice")
            ends = qubit(line, alice, "left"), qubit(line, alice, "right")
            asked = {"session_id": alice, "vq_a": ends[0], "vq_b": ends[1]}
            channel = line.call("q_open_chan", **asked)["channel_id"]
        with running_daemon(folder, *flags, config=TENANTS) as daemon, Line(daemon.socket) as line:
            told = line.call("q_chan_status", session_id=alice, channel_id=channel)
            assert (told["vq_a"], told["vq_b"]) == ends
            graph = sent(*ends, channel)
            job = line.call("q_submit", session_id=alice, graph=graph)["job_id"]
            done = line.call("q_wait", session_id=alice, job_id=job)
            assert done["state"] == "COMPLETED"
            line.call("q_release", session_id=alice, handles=list(ends))
            usage = line.call("q_get_telemetry", session_id=alice)["resource_usage"]
            assert (usage["logical_qubits_allocated"], usage["channels_open"]) == (0, 0)
