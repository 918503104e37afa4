"""Slices that are parked, at whatever fences and however often, have the bits of those never were.

First in this process, over engines and noise models; then between real workers.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from qmkd.core.ports import USUAL, SegmentReport, Setting
from qmkd.engine import batch, engines, messages, run, snapshot
from qmkd.engine.choose import EXACT
from qmkd.engine.limits import EXACT_QUBITS_MAX
from qmkd.engine.messages import Done, Failed, Load, Run
from qmkd.engine.noise import IDEAL
from qmkd.engine.slices import Parked, Parking
from qmkd.engine.snapshot import Unfit
from qvm.program import VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.verify import verify_bytes
from syscalls.results import SHOT_BLOCK
from tests.worker import Peer

EVERY = "+".join(engines.MAKERS)
CLIFFORD = Shape(qubits_max=6, nodes_max=90, guards=0.3, channels=True)
MAGIC = Shape(qubits_max=5, nodes_max=60, guards=0.3, magic=True, angles=True)


def with_fences(seed: int, shape: Shape) -> bytes:
    """A random program with fences."""
    graph = shaped_program(random.Random(seed), shape)
    rng, nodes = random.Random(seed), graph["program"]["nodes"]
    for number in range(4):
        at = rng.randrange(1, len(nodes))
        nodes.insert(at, {"id": f"fence-{number}", "op": "FENCE_EPOCH"})
        if not isinstance(verify_bytes(json.dumps(graph).encode()), VerifiedProgram):
            del nodes[at]  # A node before it waits for one behind it.
    return json.dumps(graph).encode()


def coded_memory(profile: str, fences: int = 3) -> bytes:
    """Two qubits of a code, entangled and measured, with fences between."""
    fence: Iterator[dict[str, object]] = iter(
        [{"id": f"f{at}", "op": "FENCE_EPOCH"} for at in range(fences)]
    )
    args = {"n": 2, "profile": profile}
    nodes: list[dict[str, object]] = [
        {"id": "a", "op": "ALLOC_LQ", "vqs": ["p", "q"], "args": args},
        {"id": "h", "op": "APPLY_H", "vqs": ["p"]},
        next(fence),
        {"id": "c", "op": "APPLY_CNOT", "vqs": ["p", "q"]},
        next(fence),
        {"id": "m", "op": "MEASURE_Z", "vqs": ["p"], "produces": ["m"]},
        next(fence),
        {"id": "n", "op": "MEASURE_Z", "vqs": ["q"], "produces": ["n"]},
        {"id": "z", "op": "FREE_LQ", "vqs": ["p", "q"]},
    ]
    resources = {"vqs": ["p", "q"], "chs": [], "events": ["m", "n"]}
    graph = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return json.dumps(graph).encode()


def a_coin() -> bytes:
    """One random bit, and no fence."""
    args = {"n": 1, "profile": "logical:ideal"}
    nodes = [
        {"id": "a", "op": "ALLOC_LQ", "vqs": ["q"], "args": args},
        {"id": "h", "op": "APPLY_H", "vqs": ["q"]},
        {"id": "m", "op": "MEASURE_Z", "vqs": ["q"], "produces": ["m"]},
    ]
    resources = {"vqs": ["q"], "chs": [], "events": ["m"]}
    graph = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return json.dumps(graph).encode()


class Now(Parking):
    """Says at random that it is time to park by itself."""

    def __init__(self, rng: random.Random, chance: float) -> None:
        super().__init__(lambda: False)
        self._rng, self._chance = rng, chance

    def __call__(self) -> bool:
        return self._rng.random() < self._chance


class Told:
    """What came of a slice, in one run or in several: reports in order, rows, decoder data."""

    def __init__(self) -> None:
        self.reports: list[SegmentReport] = []
        self.rows = b""
        self.data = b""
        self.parked = 0
        self.epochs: set[int] = set()

    def summary(self) -> dict[str, Any]:
        """What has to be the same however the slice was cut."""
        counts: dict[str, int] = {}
        sums: dict[str, int] = {}
        weights = [0] * 64
        most: dict[str, int] = {}
        for report in self.reports:
            for key, number in (report.counts or {}).items():
                counts[key] = counts.get(key, 0) + number
            if report.decoder is None:
                continue
            for name, value in msgspec.structs.asdict(report.decoder).items():
                if name == "syndrome_weights":
                    for at, number in enumerate(value):
                        weights[at] += number
                elif name.endswith("_most"):
                    most[name] = max(value, most.get(name, 0))
                else:
                    sums[name] = sums.get(name, 0) + value
        return {
            "shots": sum(report.shots for report in self.reports),
            "counts": counts,
            "first_row": self.reports[0].first_row,
            "leaves": b"".join(report.leaves for report in self.reports),
            "data_leaves": b"".join(report.decoder_leaves for report in self.reports),
            "flipped": sum(report.notes.get("shots_flipped", 0) for report in self.reports),
            "decoder": (sums, weights, most),
            "rows": self.rows,
            "data": self.data,
        }


def told_of(
    graph: bytes,
    engine: str,
    noise: str,
    shots: int,
    setting: Setting,
    chance: float,
    seed: int = 9,
    first: int = 2 * SHOT_BLOCK,
) -> Told:
    """Run a slice that parks with that chance at each fence and between batches; each run goes on
    with the program read anew, as another worker would."""
    rng, told, end = random.Random(f"{seed} {engine}"), Told(), first + shots
    read = [run.prepare(graph), run.prepare(graph)]
    resume: bytes | None = None
    rows: list[bytes] = []
    data: list[bytes] = []
    while True:
        found = run.run_slice(
            read[told.parked % 2], seed, first, end - first, engine, noise, True, lambda: False,
            lambda packed: rows.append(packed.tobytes()), setting,
            lambda known: data.append(known.tobytes()), Now(rng, chance), resume,
        )  # fmt: skip
        if isinstance(found, SegmentReport):
            told.rows, told.data = b"".join(rows), b"".join(data)
            told.reports.append(found)
            return told
        told.parked += 1
        assert told.parked < 20 * shots, "each run gets on by a fence or a batch"
        told.epochs.add(found.epoch)
        resume = found.snapshot or None
        if found.report is not None:
            assert found.report.shots % SHOT_BLOCK == 0
            told.reports.append(found.report)
            first += found.report.shots


def check(
    graph: bytes, engine: str, noise: str, shots: int, setting: Setting = USUAL, chance: float = 0.5
) -> Told:
    """Parked or not, it comes to the same."""
    undisturbed = told_of(graph, engine, noise, shots, setting, 0)
    assert not undisturbed.parked
    parked = told_of(graph, engine, noise, shots, setting, chance)
    assert parked.summary() == undisturbed.summary()
    return parked


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that blocks are torn between batches."""
    always = property(lambda form: 192, lambda form, shots: None)
    monkeypatch.setattr(batch.Form, "batch_shots", always, raising=False)


def check_programs(engine: str, seeds: range) -> tuple[int, set[int]]:
    """Random programs; how often they were parked, and in which epochs."""
    parked, epochs, alone = 0, set[int](), engine == "tableau"
    for seed in seeds:
        magic = not alone and seed % 3 == 0
        shots = random.Random(seed).choice((70, 1024, 1100) if alone else (70, 1024, 1100, 2500))
        graph = with_fences(seed, MAGIC if magic else CLIFFORD)
        told = check(graph, engine, "ideal", shots, chance=0.01 if alone else 0.5)
        parked += told.parked
        epochs |= told.epochs
    return parked, epochs


@pytest.mark.parametrize(("engine", "programs"), [(EVERY, 30), ("tableau", 8)])
@pytest.mark.usefixtures("small_batches")
def test_slices_parked_wherever_have_the_bits_of_undisturbed_ones(
    engine: str, programs: int
) -> None:
    parked, epochs = check_programs(engine, range(programs))
    assert parked > 50
    assert {0, 1, 2, 3} <= epochs, "between batches, and at every fence"


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "programs"), [(EVERY, 400), ("tableau", 80)])
@pytest.mark.usefixtures("small_batches")
def test_slices_of_hundreds_of_programs_have_the_bits_of_undisturbed_ones(
    engine: str, programs: int
) -> None:
    parked, _ = check_programs(engine, range(1000, 1000 + programs))
    assert parked > 10 * programs


@pytest.mark.parametrize("noise", ["calibrated", "decoded", "physical"])
@pytest.mark.parametrize("engine", ["frames", "tableau"])
@pytest.mark.usefixtures("small_batches")
def test_errors_and_what_decoders_knew_and_did_do_not_depend_on_where_a_slice_is_parked(
    engine: str, noise: str
) -> None:
    keeps = noise != "calibrated"
    shots, chance = (1500, 0.5) if engine == "frames" else (300, 0.02)
    graph, setting = coded_memory("logical:Surface(d=3)"), Setting(decoder_data=keeps)
    told = check(graph, engine, f"{noise} uniform 0.003", shots, setting, chance)
    assert told.parked > 5
    assert {1, 2, 3} & told.epochs
    assert bool(told.data) == keeps
    assert len(told.summary()["counts"]) > 2, "errors are seen"


def parked_once(graph: bytes, shots: int = 100, engine: str = EVERY) -> Parked:
    found = run.run_slice(
        run.prepare(graph), 1, 0, shots, engine, "ideal", True, lambda: False, lambda rows: None,
        parking=Parking(lambda: True),
    )  # fmt: skip
    assert isinstance(found, Parked)
    return found


def test_what_is_left_of_another_slice_seed_or_engine_is_unfit() -> None:
    graph = with_fences(3, CLIFFORD)
    left = parked_once(graph).snapshot
    program = run.prepare(graph)
    for seed, first, shots, engine in (
        (2, 0, 100, EVERY), (1, 1024, 100, EVERY), (1, 0, 99, EVERY), (1, 0, 100, "groups"),
    ):  # fmt: skip
        with pytest.raises(Unfit):
            run.run_slice(
                program, seed, first, shots, engine, "ideal", True, lambda: False,
                lambda rows: None, resume=left,
            )  # fmt: skip


def test_a_damaged_rest_is_unfit_wherever_the_damage_is() -> None:
    graph = with_fences(3, CLIFFORD)
    left, program, rng = parked_once(graph).snapshot, run.prepare(graph), random.Random(1)
    for at in (*range(48), *(rng.randrange(len(left)) for _ in range(50))):
        damaged = bytearray(left)
        damaged[at] ^= 1 << rng.randrange(8)
        with pytest.raises(Unfit):
            run.run_slice(
                program, 1, 0, 100, EVERY, "ideal", True, lambda: False, lambda rows: None,
                resume=bytes(damaged),
            )  # fmt: skip


def test_a_rest_whose_sealed_content_somebody_changed_is_unfit_or_gives_rows() -> None:
    graph = with_fences(3, CLIFFORD)
    program = run.prepare(graph)
    head, body = snapshot.unseal(parked_once(graph).snapshot)
    for name, value in (
        ("packed", np.zeros((1, 1), dtype=np.uint8)), ("packed", 3), ("figures", {"a": "b"}),
        ("figures", 3), ("data", np.zeros(3)), ("run", {}), ("run", None),
    ):  # fmt: skip
        changed = snapshot.seal(head, {**body, name: value})
        with pytest.raises(Unfit):
            run.run_slice(
                program, 1, 0, 100, EVERY, "ideal", True, lambda: False, lambda rows: None,
                resume=changed,
            )  # fmt: skip


def test_what_is_too_large_to_keep_goes_on_to_the_end_of_its_block_or_is_given_up_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = with_fences(3, CLIFFORD)
    for batch_shots in (256, 1024):
        monkeypatch.setattr(batch, "BATCH_SHOTS_MAX", batch_shots)
        for asked in (True, False):
            found = run.run_slice(
                run.prepare(graph), 1, 0, 2000, EVERY, "ideal", True, lambda: False,
                lambda rows: None, parking=Parking(lambda: asked, 1, bytes_max=10),  # noqa: B023
            )  # fmt: skip
            assert isinstance(found, Parked)
            assert (found.snapshot, found.epoch) == (b"", 0)
            assert (found.report and found.report.shots) == (None if asked else 1024)


@pytest.mark.usefixtures("small_batches")
def test_a_run_that_parks_always_gets_on_by_a_fence_or_a_batch() -> None:
    graph = with_fences(3, CLIFFORD)
    fences = run.prepare(graph).summary.epochs - 1
    assert fences > 1
    batches = -(-1024 // 192) + -(-(1500 - 1024) // 192)
    for engine, shots, most in ((EVERY, 1500, batches), ("tableau", 5, 5)):
        told = told_of(graph, engine, "ideal", shots, USUAL, 1.0)
        assert most < told.parked <= most * (fences + 1)


@pytest.mark.usefixtures("small_batches")
def test_whole_blocks_are_told_of_when_a_run_parks_and_only_the_torn_one_is_carried_on() -> None:
    asked = iter([False] * 6 + [True])
    found = run.run_slice(
        run.prepare(a_coin()), 1, 0, 3000, "frames", "ideal", True, lambda: False,
        lambda rows: None, parking=Parking(lambda: next(asked)),
    )  # fmt: skip
    assert isinstance(found, Parked)
    assert found.report is not None
    assert found.report.shots == SHOT_BLOCK
    _, body = snapshot.unseal(found.snapshot)
    assert len(body["packed"]) == 192


# --- turning back -----------------------------------------------------------------------------


def rounds(measured: bool) -> bytes:
    """A fence, and many gates behind it, perhaps with a measurement among them."""
    args = {"n": 2, "profile": "logical:ideal"}
    nodes: list[dict[str, object]] = [
        {"id": "a", "op": "ALLOC_LQ", "vqs": ["p", "q"], "args": args},
        {"id": "h", "op": "APPLY_H", "vqs": ["p"]},
        {"id": "m", "op": "MEASURE_Z", "vqs": ["p"], "produces": ["m"]},
        {"id": "f", "op": "FENCE_EPOCH"},
    ]
    for at in range(20):
        guard = {"event": "m", "equals": at % 2}
        nodes += [
            {"id": f"h{at}", "op": "APPLY_H", "vqs": ["q"]},
            {"id": f"s{at}", "op": "APPLY_S", "vqs": ["p"], "guard": guard},
            {"id": f"c{at}", "op": "APPLY_CNOT", "vqs": ["p", "q"]},
        ]
    if measured:
        nodes.append({"id": "k", "op": "MEASURE_X", "vqs": ["p"], "produces": ["k"]})
    nodes += [
        {"id": "g", "op": "FENCE_EPOCH"},
        {"id": "n", "op": "MEASURE_X", "vqs": ["q"], "produces": ["n"]},
        {"id": "z", "op": "FREE_LQ", "vqs": ["p", "q"]},
    ]
    events = ["m", "n", "k"] if measured else ["m", "n"]
    resources = {"vqs": ["p", "q"], "chs": [], "events": events}
    graph = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return json.dumps(graph).encode()


def turned_back(graph: bytes, after: int, shots: int = 3) -> Parked:
    """Asked to turn back once so many actions have been run."""
    run_since = iter(range(1 << 20))
    now = [False]

    def back() -> bool:
        now[0] = now[0] or next(run_since) >= after
        return now[0]

    found = run.run_slice(
        run.prepare(graph), 7, 0, shots, "tableau", "ideal", True, lambda: False,
        lambda rows: None, parking=Parking(lambda: now[0], back=back),
    )  # fmt: skip
    assert isinstance(found, Parked)
    return found


def test_a_shot_that_turns_back_is_what_it_was_at_the_fence_and_goes_on_with_the_same_bits() -> (
    None
):
    graph = rounds(False)
    at_fence = snapshot.begin(run.prepare(graph), "tableau", IDEAL, 7, 0, 1)
    snapshot.run_to_fence(at_fence, 0)
    state = {**at_fence.save()}
    whole, rows = run.run_segment(run.prepare(graph), 7, 0, 3, "tableau")
    for after in (5, 20, 40):
        found = turned_back(graph, after)
        assert found.epoch == 1, "the fence before"
        _, body = snapshot.unseal(found.snapshot)
        for name, value in state.items():
            assert np.array_equal(body["run"][name], value), (after, name)
        parts: list[bytes] = []
        rest = run.run_slice(
            run.prepare(graph), 7, 0, 3, "tableau", "ideal", True, lambda: False,
            lambda packed: parts.append(packed.tobytes()), resume=found.snapshot,  # noqa: B023
        )  # fmt: skip
        assert isinstance(rest, SegmentReport)
        assert (b"".join(parts), rest.counts) == (rows, whole.counts)


def test_what_has_no_inverse_is_not_undone_and_the_run_parks_at_the_next_fence() -> None:
    graph = rounds(True)
    program = run.prepare(graph)
    actions = snapshot.begin(program, "tableau", IDEAL, 7, 0, 1).form.fences
    measured = turned_back(graph, actions[1] - 2)
    assert measured.epoch == 2
    assert turned_back(graph, actions[1] - 4).epoch == 1


def test_before_its_first_fence_a_shot_that_turns_back_has_not_begun() -> None:
    found = turned_back(rounds(False), 1)
    assert found == Parked(None)


# --- between workers --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    found = Peer()
    yield found
    found.close()


def a_run(ticket: int, **changes: Any) -> Run:
    fields: dict[str, Any] = {
        "ticket": ticket, "engine": "frames", "seed": 3, "noise": "ideal", "shot_first": 0,
        "shots": 100, "row_bytes": 2, "counts": True,
    }  # fmt: skip
    return Run(**{**fields, **changes})


def begin(peer: Peer, request: Run, *files: int) -> messages.Answer:
    """Send a run with its descriptors, and hear what becomes of it."""
    encoded = messages.frame(request)
    if files:
        socket.send_fds(peer.socket, [encoded], list(files))
    else:
        peer.socket.sendall(encoded)
    return peer.receive()


def many_fences(fences: int = 6) -> bytes:
    """Each fence after a measurement that all later ones depend on."""
    args = {"n": 2, "profile": "logical:ideal"}
    nodes: list[dict[str, object]] = [
        {"id": "a", "op": "ALLOC_LQ", "vqs": ["p", "q"], "args": args}
    ]
    for at in range(fences):
        nodes += [
            {"id": f"h{at}", "op": "APPLY_H", "vqs": ["p"]},
            {"id": f"c{at}", "op": "APPLY_CNOT", "vqs": ["p", "q"]},
            {"id": f"m{at}", "op": "MEASURE_Z", "vqs": ["q"], "produces": [f"m{at}"]},
            {"id": f"f{at}", "op": "FENCE_EPOCH"},
        ]
    nodes.append({"id": "z", "op": "FREE_LQ", "vqs": ["p", "q"]})
    events = [f"m{at}" for at in range(fences)]
    return json.dumps(
        {
            "version": "0.1",
            "program": {"nodes": nodes},
            "resources": {"vqs": ["p", "q"], "events": events},
        }
    ).encode()


def test_a_run_parks_at_its_first_fence_and_goes_on_in_another_worker(peer: Peer) -> None:
    graph = many_fences()
    plain = a_run(150, program=300, shots=3000)
    whole = peer.ask(Load(300, graph), plain)
    assert isinstance(whole, Done)
    peer.stop[1] = 151
    parked = begin(peer, msgspec.structs.replace(plain, ticket=151))
    peer.stop[1] = 0
    assert isinstance(parked, messages.Parked)
    assert (parked.report, parked.epoch) == (None, 1)
    (snapshot,) = peer.fds
    peer.fds.clear()
    content = os.pread(snapshot, 1 << 20, 0)
    assert (len(content), hashlib.sha256(content).digest()) == (parked.size, parked.digest)
    with pytest.raises(PermissionError):
        os.ftruncate(snapshot, 0)
    other = Peer()
    try:
        other.send(Load(300, graph))
        done = begin(other, msgspec.structs.replace(plain, ticket=152, resume=True), snapshot)
    finally:
        other.close()
        os.close(snapshot)
    assert isinstance(done, Done)
    assert done.rows == whole.rows
    assert done.report.counts == whole.report.counts
    assert done.report.leaves == whole.report.leaves


def test_a_run_that_parks_by_itself_gets_on_a_fence_each_time(peer: Peer) -> None:
    graph = many_fences()
    plain = a_run(160, program=301, shots=2000, park_ns=1)
    whole = peer.ask(Load(301, graph), msgspec.structs.replace(plain, park_ns=0))
    assert isinstance(whole, Done)
    answer = begin(peer, plain)
    epochs = []
    while isinstance(answer, messages.Parked):
        epochs.append(answer.epoch)
        (snapshot,) = peer.fds
        peer.fds.clear()
        again = msgspec.structs.replace(plain, ticket=plain.ticket + len(epochs), resume=True)
        answer = begin(peer, again, snapshot)
        os.close(snapshot)
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert isinstance(answer, Done)
    assert answer.rows == whole.rows


def test_a_snapshot_that_is_none_is_unfit_and_one_that_did_not_come_is_refused(peer: Peer) -> None:
    peer.send(Load(302, many_fences()))
    run = a_run(170, program=302, resume=True)
    file = os.memfd_create("nothing")
    unfit = begin(peer, run, file)
    os.close(file)
    assert isinstance(unfit, Failed)
    assert (unfit.reason, unfit.message) == ("unfit", "it is no snapshot")
    refused = begin(peer, run)
    assert isinstance(refused, Failed)
    assert refused.reason == "refused"


def test_probabilities_that_are_to_park_begin_anew(peer: Peer) -> None:
    peer.stop[1] = 180
    run = a_run(180, program=303, engine=EXACT, shots=1, row_bytes=0)
    qubits = [f"q{at}" for at in range(EXACT_QUBITS_MAX)]
    nodes: list[dict[str, object]] = [
        {"id": "a", "op": "ALLOC_LQ", "vqs": qubits, "args": {"n": 12, "profile": "logical:ideal"}}
    ]
    nodes += [{"id": f"h{at}", "op": "APPLY_H", "vqs": [qubits[at % 12]]} for at in range(4000)]
    graph = {
        "version": "0.1",
        "program": {"nodes": nodes},
        "resources": {"vqs": qubits, "events": []},
    }
    parked = peer.ask(Load(303, json.dumps(graph).encode()), run)
    peer.stop[1] = 0
    assert isinstance(parked, messages.Parked)
    assert (parked.report, parked.size, parked.epoch) == (None, 0, 0)
