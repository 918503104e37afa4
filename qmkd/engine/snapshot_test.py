"""Runs cut at fences go on as if they had not been; snapshots that do not fit are refused."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import random
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import stim

from qmkd.engine import engines, run, snapshot, tableau
from qmkd.engine.noise import IDEAL, NoiseModel, Uniform
from qmkd.engine.prepared import Prepared
from qmkd.engine.snapshot import Unfit, finish, resume, run_to_fence, take
from qvm.program import VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.verify import verify_bytes

SHOTS = 70
NOISE = Uniform(one=0.03, two=0.05, reset=0.1, readout=0.02)
EVERY = "+".join(engines.MAKERS)

CLIFFORD = Shape(qubits_max=6, nodes_max=90, guards=0.3, channels=True)
PAULI_GUARDS = Shape(qubits_max=6, nodes_max=90, guards=0.0)
MAGIC = Shape(qubits_max=5, nodes_max=60, guards=0.3, magic=True, angles=True)


def prepared(seed: int, shape: Shape) -> tuple[bytes, Prepared]:
    """A random program with fences."""
    graph = shaped_program(random.Random(seed), shape)
    rng, nodes = random.Random(seed), graph["program"]["nodes"]
    for number in range(3):
        at = rng.randrange(1, len(nodes))
        nodes.insert(at, {"id": f"fence-{number}", "op": "FENCE_EPOCH"})
        if not isinstance(verify_bytes(json.dumps(graph).encode()), VerifiedProgram):
            del nodes[at]  # A node before it waits for one behind it.
    raw = json.dumps(graph).encode()
    return raw, run.prepare(raw)


def check(seed: int, shape: Shape, engine: str, shots: int, noise: NoiseModel) -> int:
    """At each fence: a run restored from bytes, by a program read anew, has the bits of the run
    that was never cut. Returns how many fences there were."""
    raw, program = prepared(seed, shape)
    undisturbed = finish(snapshot.begin(program, engine, noise, seed, 128, shots))
    cut = snapshot.begin(program, engine, noise, seed, 128, shots)
    fences = len(cut.form.fences)
    for epoch in range(fences):
        run_to_fence(cut, epoch)
        saved = take(program, engine, noise, cut)
        again = resume(run.prepare(raw), noise, saved)
        assert take(program, engine, noise, again) == saved, "a restored run is the same value"
        assert np.array_equal(finish(again), undisturbed), (seed, epoch)
    assert np.array_equal(finish(cut), undisturbed), seed
    return fences


def cases(count: int) -> Iterator[tuple[int, Shape, str, int, NoiseModel]]:
    for seed in range(count):
        noise = NOISE if seed % 2 else IDEAL
        if seed % 3 == 0:
            yield seed, MAGIC, EVERY, SHOTS, noise
        else:
            yield seed, CLIFFORD, EVERY, SHOTS, noise
            yield seed, CLIFFORD, "tableau", 1, noise


def test_a_run_restored_at_any_fence_gives_the_bits_of_the_undisturbed_run() -> None:
    assert sum(check(*case) for case in cases(150)) >= 450


@pytest.mark.slow
def test_runs_restored_at_every_fence_of_500_programs_give_the_undisturbed_bits() -> None:
    assert sum(check(*case) for case in cases(500)) >= 1500


def saved(seed: int = 1) -> tuple[Prepared, bytes]:
    _, program = prepared(seed, CLIFFORD)
    cut = snapshot.begin(program, EVERY, IDEAL, seed, 0, SHOTS)
    run_to_fence(cut, 0)
    return program, take(program, EVERY, IDEAL, cut)


def test_a_damaged_snapshot_is_refused_wherever_the_damage_is() -> None:
    program, data = saved()
    rng = random.Random(5)
    for at in [*range(48), *(rng.randrange(len(data)) for _ in range(100))]:
        damaged = bytearray(data)
        damaged[at] ^= 1 << rng.randrange(8)
        with pytest.raises(Unfit):
            resume(program, IDEAL, bytes(damaged))
    for size in (0, 7, 8, 39, 40, len(data) - 1):
        with pytest.raises(Unfit):
            resume(program, IDEAL, data[:size])


def sealed(packed: bytes) -> bytes:
    return snapshot.MAGIC + hashlib.sha256(packed).digest() + packed


@pytest.mark.parametrize("engine", ["tableau", *engines.MAKERS])
def test_what_somebody_changed_and_sealed_again_is_refused_in_words_or_resumed(engine: str) -> None:
    _, program = prepared(4, PAULI_GUARDS)
    shots = 1 if engine == engines.TABLEAU else SHOTS
    cut = snapshot.begin(program, engine, IDEAL, 4, 0, shots)
    run_to_fence(cut, 0)
    packed = take(program, engine, IDEAL, cut)[40:]
    for damaged, what in ((packed[:-1], "its end is missing"), (packed[1:], "damaged")):
        with pytest.raises(Unfit, match=what):
            resume(program, IDEAL, sealed(damaged))
    whole, rng = zlib.decompress(packed), random.Random(4)
    refused = 0
    for _ in range(400):
        changed = bytearray(whole)
        for _ in range(rng.choice((1, 3))):
            changed[rng.randrange(min(len(changed), 600))] ^= 1 << rng.randrange(8)
        try:
            resume(program, IDEAL, sealed(zlib.compress(bytes(changed))))
        except Unfit:
            refused += 1
    assert refused > 200


def test_a_state_whose_vectors_have_not_norm_one_is_refused_before_it_runs() -> None:
    for seed in itertools.count():
        _, program = prepared(seed, MAGIC)
        cut = snapshot.begin(program, EVERY, IDEAL, seed, 0, SHOTS)
        number = next((at for at, each in enumerate(cut.save()["states"]) if "psi" in each), None)
        if cut.form.fences and number is not None:
            break
    run_to_fence(cut, 0)
    head, body = snapshot.unseal(take(program, EVERY, IDEAL, cut))
    for wrong in (2.0, np.nan):
        changed = copy.deepcopy(body)
        changed["states"][number]["psi"][0, 0] = wrong
        with pytest.raises(Unfit, match="no state of this program"):
            resume(program, IDEAL, snapshot.seal(head, changed))


def test_a_body_that_nests_too_deep_is_refused() -> None:
    _, data = saved()
    head, _ = snapshot.unseal(data)
    deep = msgspec.msgpack.encode({"head": head}) + b"\xa4body\x81\xa1a" + b"\x91" * 5000 + b"\xc0"
    deep = b"\x82" + deep[1:]
    with pytest.raises(Unfit, match="it is of another form"):
        snapshot.unseal(sealed(zlib.compress(deep)))


def test_a_snapshot_of_another_program_or_noise_or_version_is_refused() -> None:
    program, data = saved()
    other, _ = saved(2)
    with pytest.raises(Unfit, match="another program"):
        resume(other, IDEAL, data)
    with pytest.raises(Unfit, match="another noise"):
        resume(program, NOISE, data)
    head, body = snapshot.unseal(data)
    for field, value, what in (
        ("schema", 99, "schema 99"),
        ("versions", {**head.versions, "stim": "0.0"}, r"stim 0\.0"),
        ("versions", {}, "chance None"),
    ):
        changed: dict[str, Any] = {**{each: getattr(head, each) for each in head.__struct_fields__}}
        changed[field] = value
        with pytest.raises(Unfit, match=what):
            resume(program, IDEAL, snapshot.seal(snapshot.Head(**changed), body))


def test_a_proof_is_of_the_state_and_not_of_how_it_is_written() -> None:
    """Two tableaus of one state have one proof; another state has another."""
    _, program = prepared(4, CLIFFORD)
    cut = snapshot.begin(program, "tableau", IDEAL, 4, 0, 1)
    run_to_fence(cut, 0)
    assert isinstance(cut, tableau.Shot)
    before = snapshot.proof(cut)
    moved = resume(program, IDEAL, take(program, "tableau", IDEAL, cut, prove=True))
    assert snapshot.proof(moved) == before
    cut.sim.set_state_from_stabilizers(cut.sim.canonical_stabilizers())
    assert snapshot.proof(cut) == before
    cut.sim.do(stim.Circuit(f"X {' '.join(map(str, range(cut.sim.num_qubits)))}"))
    cut.sim.h(0)
    assert snapshot.proof(cut) != before


@pytest.mark.parametrize(("engine", "shots"), [("tableau", 1), (EVERY, SHOTS)])
def test_a_state_that_was_changed_on_the_way_does_not_pass_its_proof(
    engine: str, shots: int
) -> None:
    _, program = prepared(4, CLIFFORD)
    cut = snapshot.begin(program, engine, IDEAL, 4, 0, shots)
    run_to_fence(cut, 0)
    head, body = snapshot.unseal(take(program, engine, IDEAL, cut, prove=True))
    if engine == "tableau":
        body["z_signs"] = body["z_signs"] ^ np.uint8(1)
    else:
        body["rows"][-1] ^= np.uint64(1)
    with pytest.raises(Unfit, match="the state is another"):
        resume(program, IDEAL, snapshot.seal(head, body))


def test_state_is_a_value_at_fences_only() -> None:
    _, program = prepared(1, CLIFFORD)
    begun = snapshot.begin(program, EVERY, IDEAL, 1, 0, SHOTS)
    with pytest.raises(AssertionError, match="at fences only"):
        take(program, EVERY, IDEAL, begun)
