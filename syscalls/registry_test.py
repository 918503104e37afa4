"""The table of calls, held against the ABI as its clients know it."""

import msgspec
import pytest

from syscalls.errors import PRECEDENCE, AuthFailed, InsufficientCaps, NotAvailable
from syscalls.ids import CHECKPOINT_PREFIX, ID_BYTES, job_id, session_id
from syscalls.registry import CALLS, METHODS
from syscalls.results import EventField, row_bytes, values_bytes
from syscalls.rights import Right
from syscalls.syscall import SessionCall
from syscalls.version import schema_digest

KNOWN = {
    "rpc.discover": "",
    "q_negotiate_caps": "requested op_families tenant_id",
    "q_close_session": "",
    "q_submit": "graph policy",
    "q_status": "job_id",
    "q_wait": "job_id timeout_ms",
    "q_plan": "graph policy",
    "q_cancel": "job_id",
    "q_results": "job_id format transport",
    "q_subscribe": "job_id",
    "q_checkpoint": "job_id how",
    "q_restore": "checkpoint_id",
    "q_list_checkpoints": "",
    "q_drop_checkpoint": "checkpoint_id",
    "q_migrate": "job_id target",
    "q_replay": "job_id",
    "q_alloc": "n profile module",
    "q_release": "handles",
    "q_open_chan": "vq_a vq_b options",
    "q_close_chan": "channel_id",
    "q_chan_status": "channel_id",
    "q_delegate": "rights tenant_id share expires_after_ms",
    "q_revoke": "capability_id",
    "q_get_mapping": "job_id",
    "q_get_telemetry": "job_id machine list_jobs list_capabilities",
    "q_inject_fault": "kind what strength after_cycles for_cycles",
    "q_clear_fault": "fault_id",
}
NEEDS = {
    "q_checkpoint": Right.CHECKPOINT,
    "q_restore": Right.CHECKPOINT,
    "q_list_checkpoints": Right.CHECKPOINT,
    "q_drop_checkpoint": Right.CHECKPOINT,
    "q_migrate": Right.MIGRATE,
    "q_alloc": Right.ALLOC,
    "q_open_chan": Right.LINK,
    "q_delegate": Right.DELEGATE,
    "q_revoke": Right.DELEGATE,
    "q_get_mapping": Right.DEBUG,
    "q_inject_fault": Right.ADMIN,
    "q_clear_fault": Right.ADMIN,
}


def test_calls_and_their_parameters_are_those_clients_know() -> None:
    parameters = {
        name: " ".join(field for field in call.__struct_fields__ if field != "session_id")
        for name, call in METHODS.items()
    }
    assert parameters == KNOWN


def test_calls_need_the_rights_the_abi_names() -> None:
    assert {call.METHOD: call.NEEDS for call in CALLS if call.NEEDS} == NEEDS


def test_fresh_bytes_are_needed_where_an_id_or_seed_is_made() -> None:
    made = {"q_negotiate_caps", "q_submit", "q_replay", "q_delegate", "q_alloc", "q_open_chan"}
    made |= {"q_checkpoint", "q_restore"}
    assert {call.METHOD for call in CALLS if call.CHANCE} == made


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.METHOD)
def test_errors_of_a_call_follow_from_what_it_is_and_stand_in_order(
    call: type[SessionCall],
) -> None:
    ranks = [PRECEDENCE[error] for error in call.ERRORS]
    assert ranks == sorted(ranks)
    assert not issubclass(call, SessionCall) or AuthFailed in call.ERRORS
    assert call.AVAILABLE or NotAvailable in call.ERRORS
    assert call.NEEDS is None or InsufficientCaps in call.ERRORS
    assert msgspec.structs.fields(call.REPLY)


def test_ids_are_their_prefix_and_32_hex_digits() -> None:
    fresh = bytes(range(ID_BYTES))
    assert session_id(fresh) == "sess_000102030405060708090a0b0c0d0e0f"
    assert job_id(fresh) == "job_000102030405060708090a0b0c0d0e0f"
    assert CHECKPOINT_PREFIX == "ckpt_"
    with pytest.raises(AssertionError):
        job_id(fresh[1:])


def test_there_are_nine_capabilities_each_with_a_line_of_help() -> None:
    assert len(Right) == 9
    assert Right("CAP_MAGIC") is Right.MAGIC
    assert all(right.help for right in Right)


@pytest.mark.parametrize(
    ("bits", "values", "row"),
    [([], 0, 0), ([1], 1, 2), ([1] * 8, 1, 2), ([1] * 9, 2, 4), ([2, 1, 2, 2, 1], 1, 2)],
)
def test_a_packed_row_is_its_values_then_its_validity(
    bits: list[int], values: int, row: int
) -> None:
    order = [EventField(name=f"e{at}", bits=width) for at, width in enumerate(bits)]
    assert (values_bytes(order), row_bytes(order)) == (values, row)


def test_a_schema_is_named_by_its_contents() -> None:
    assert schema_digest(b"abc") == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
