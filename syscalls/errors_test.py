"""Codes and names are fixed for ever, so they are written out here once more."""

from typing import Any

import msgspec
import pytest

from syscalls.derive.samples import sample_value
from syscalls.errors import ERRORS, QuotaExceeded, ResourceExhausted
from syscalls.job import JobError

CODES = {
    "PARSE_ERROR": -32700,
    "INVALID_REQUEST": -32600,
    "METHOD_NOT_FOUND": -32601,
    "INVALID_PARAMS": -32602,
    "INTERNAL_ERROR": -32603,
    "INSUFFICIENT_CAPS": -32001,
    "NOT_AVAILABLE": -32010,
    "BUSY": -32011,
    "AUTH_FAILED": -32100,
    "TENANT_SUSPENDED": -32101,
    "SESSION_EXPIRED": -32102,
    "INVALID_GRAPH": -32200,
    "QUOTA_EXCEEDED": -32201,
    "RESOURCE_EXHAUSTED": -32202,
    "PROGRAM_TOO_WIDE": -32204,
    "DEADLINE_UNREACHABLE": -32206,
    "WORKER_LOST": -32207,
    "CAPABILITY_NOT_FOUND": -32002,
    "FAULT_NOT_FOUND": -32003,
    "JOB_NOT_FOUND": -32300,
    "ACCESS_DENIED": -32301,
    "TIMEOUT": -32302,
    "ALREADY_COMPLETED": -32303,
    "NOT_COMPLETED": -32304,
    "IDEMPOTENCY_CONFLICT": -32305,
    "RESULTS_TOO_LARGE": -32306,
    "RESULTS_DROPPED": -32307,
    "NO_FENCE": -32400,
    "CHECKPOINT_INCOMPATIBLE": -32401,
    "CHECKPOINT_NOT_FOUND": -32402,
    "FIDELITY_UNAVAILABLE": -32500,
    "NOT_BROKERED": -32501,
    "CHANNEL_NOT_FOUND": -32502,
    "HANDLE_NOT_FOUND": -32503,
}


def test_codes_and_names_are_those_clients_know() -> None:
    assert {error.NAME: error.CODE for error in ERRORS} == CODES


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.NAME)
@pytest.mark.parametrize("full", [False, True])
def test_every_error_says_a_sentence_and_carries_its_name(error: Any, full: bool) -> None:
    made = sample_value(error, full=full)
    assert made.sentence().endswith(".")
    assert "  " not in made.sentence()
    data = msgspec.to_builtins(made)
    assert data.pop("type") == made.name == error.NAME
    assert data.keys() == set(error.__struct_fields__)
    assert (made.code, made.message) == (error.CODE, made.sentence())
    reported = JobError.of(made)
    assert (reported.code, reported.type, reported.message) == (
        error.CODE,
        error.NAME,
        made.sentence(),
    )


@pytest.mark.parametrize("error", [QuotaExceeded, ResourceExhausted])
@pytest.mark.parametrize("waiting_helps", [False, True])
def test_exhaustion_is_retryable_just_when_waiting_helps(error: Any, waiting_helps: bool) -> None:
    made = error(what="jobs", limit=4, in_use=4, asked=1, waiting_helps=waiting_helps)
    assert made.retryable is waiting_helps
