"""A real daemon on a machine of two modules: what is sent over its link errs as its job says."""

from __future__ import annotations

import math
from typing import Any

import pytest

from qvm.assemble import assemble
from qvm.program import Graph
from syscalls.job import Noise
from tests.daemon import Line, running_daemon, short_folder

MACHINE = """\
name = "two"
module = [{ name = "left", qubits = 100 }, { name = "right", qubits = 100 }]
link = [{ between = ["left", "right"], cycles = 5, fidelity = 0.8, lifetime = 60 }]
"""
PROGRAM = """\
ALLOC_LQ n=6, profile=logical:ideal, a, b, c, d, e, f
APPLY_H c
APPLY_H e
APPLY_S e
OPEN_CHAN fidelity=0.75, a, b -> ab
OPEN_CHAN fidelity=0.75, c, d -> cd
OPEN_CHAN fidelity=0.75, e, f -> ef
APPLY_X a
APPLY_X a
APPLY_X c
APPLY_X c
APPLY_Y e
APPLY_Y e
USE_CHAN semantic=teleport_state, a, b, ab
USE_CHAN semantic=teleport_state, c, d, cd
USE_CHAN semantic=teleport_state, e, f, ef
CLOSE_CHAN ab
CLOSE_CHAN cd
CLOSE_CHAN ef
MEASURE_Z b -> z
MEASURE_X d -> x
MEASURE_Y f -> y
FREE_LQ a, b, c, d, e, f
"""
SHOTS = 40_000
SEEN_BY = {"z": "xy", "x": "yz", "y": "xz"}
"""Event -> errors that flip it."""


@pytest.fixture(scope="module")
def done() -> dict[str, Any]:
    """Statuses of the job under each noise, after it is done."""
    graph = assemble(PROGRAM)
    assert isinstance(graph, Graph)
    with short_folder() as folder:
        (folder / "two.toml").write_text(MACHINE)
        with (
            running_daemon(folder, "--machine", str(folder / "two.toml")) as daemon,
            Line(daemon.socket) as line,
        ):
            rights = {"requested": ["CAP_ALLOC", "CAP_LINK"]}
            session = line.call("q_negotiate_caps", **rights)["session_id"]
            found = {}
            for noise in ("profile", "ideal"):
                policy = {"shots": SHOTS, "seed": 11, "noise": noise}
                asked = {"session_id": session, "graph": graph, "policy": policy}
                job = line.call("q_submit", **asked)["job_id"]
                found[noise] = line.call("q_wait", session_id=session, job_id=job)
    return found


def flips(status: dict[str, Any]) -> dict[str, int]:
    """How often each event is 1, which without errors is never."""
    assert status["state"] == "COMPLETED", status
    counts, names = status["counts"], ["z", "x", "y"]
    return {
        name: sum(number for key, number in counts.items() if key[at] == "1")
        for at, name in enumerate(names)
    }


def test_what_is_sent_errs_as_often_as_the_job_says(done: dict[str, Any]) -> None:
    status = done["profile"]
    (pairs,) = status["execution_context"]["pairs"]
    terms = pairs["terms"]
    assert (len(pairs["nodes"]), terms["protocol"], terms["age"]) == (3, "raw", 2)
    assert terms["fidelity"] == pytest.approx(0.25 + 0.55 * math.exp(-2 / 60))
    for event, number in flips(status).items():
        chance = sum(terms[error] for error in SEEN_BY[event])
        bound = 5 * math.sqrt(SHOTS * chance * (1 - chance))
        assert abs(number - SHOTS * chance) <= bound, event


def test_pairs_are_counted(done: dict[str, Any]) -> None:
    telemetry = done["profile"]["telemetry"]
    assert telemetry["pairs"] == 3 * SHOTS
    assert telemetry["raw_pairs"] == pytest.approx(3 * SHOTS)
    assert telemetry["slowed_by"] == "links"
    assert telemetry["machine_cycles"] == 15 * SHOTS


def test_without_noise_nothing_errs(done: dict[str, Any]) -> None:
    assert flips(done[Noise.IDEAL.value]) == {"z": 0, "x": 0, "y": 0}
