"""Programs that were verified before, found again by their bytes (docs/decisions/0005).

Per tenant, so that timing tells nobody what another has submitted. A program that a live job needs
stays; the rest is bounded in number and bytes, and goes least recently used first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from qmkd.core.effects import ForgetProgram
from qmkd.core.limits import KEY_BYTES, PROGRAM_BYTES_CACHED_MAX, PROGRAMS_CACHED_MAX
from qmkd.core.state import Program, ProgramKey, State, Tenant
from qmkd.core.wording import profile_applied
from qvm.isa import OPS, Kind
from qvm.program import Summary
from qvm.raising import raised_summary
from syscalls.findings import Finding
from syscalls.job import PeakResources, RaisedCode
from syscalls.results import EventField, row_bytes, values_bytes

RAISED = "raised, while the machine errs more often than it should"
_UNITARIES = frozenset(op.name for op in OPS.values() if op.kind is Kind.UNITARY)


def key_of(graph: bytes) -> ProgramKey:
    """What a graph is looked up by; whoever finds one compares it whole."""
    return len(graph), graph[:KEY_BYTES], graph[-KEY_BYTES:]


def find(tenant: Tenant, graph: bytes) -> Program | None:
    """The tenant's verified program with exactly these bytes. Changes nothing."""
    program = tenant.programs.get(key_of(graph))
    return program if program is not None and program.graph == graph else None


def describe(tenant: Tenant, graph: bytes, summary: Summary, warnings: list[Finding]) -> Program:
    """A program's record, kept nowhere and numbered by nobody yet."""
    order = [EventField(name=event.name, bits=event.bits) for event in summary.events]
    return Program(
        number=0,
        tenant=tenant,
        key=key_of(graph),
        graph=graph,
        summary=summary,
        warnings=warnings,
        order=order,
        values_bytes=values_bytes(order),
        row_bytes=row_bytes(order),
        gates=sum(count for op, count in summary.ops.items() if op in _UNITARIES),
        profiles=[profile_applied(profile) for profile in summary.profiles],
        peak=PeakResources(
            logical_qubits=summary.peak_logical,
            physical_qubits=summary.peak_physical,
            channels=summary.peak_channels,
        ),
    )


def enlarged(program: Program, raised: Sequence[RaisedCode]) -> Program:
    """The program with larger codes: another one, of the same bytes. It changes nothing."""
    base = program.base or program
    if tuple(raised) == program.raised:
        return program
    if not raised:
        return base
    length, head, tail = base.key
    key = length, head, tail + msgspec.json.encode(raised)
    found = base.tenant.programs.get(key)
    if found is not None and found.graph == base.graph:
        return found
    summary = raised_summary(base.summary, raised)
    made = describe(base.tenant, base.graph, summary, base.warnings)
    profiles = [
        msgspec.structs.replace(now, note=RAISED) if now.applied != then.applied else now
        for now, then in zip(made.profiles, base.profiles, strict=True)
    ]
    return replace(
        made, key=key, digest=base.digest, base=base, raised=tuple(raised), profiles=profiles
    )


def pin(state: State, program: Program) -> None:
    """A live job needs the program: keep it, and find it again by its bytes."""
    tenant = program.tenant
    if not program.number:
        program.number = state.number()
    if not program.uses:
        tenant.held_bytes += len(program.graph)
    program.uses += 1
    other = tenant.programs.pop(program.key, None)
    if other is not None and other is not program:
        _uncache(state, other)
    if not program.cached:
        program.cached = True
        tenant.program_bytes += len(program.graph)
    tenant.programs[program.key] = program  # last: most recently used
    _evict(state, tenant)


def unpin(state: State, program: Program) -> None:
    """One live job less needs the program."""
    assert program.uses > 0
    program.uses -= 1
    if program.uses:
        return
    program.tenant.held_bytes -= len(program.graph)
    if program.cached:
        _evict(state, program.tenant)
    else:
        _forget(state, program)


def drop_unused(state: State, tenant: Tenant) -> None:
    """Nobody will ask for the programs of this tenant any more."""
    for program in [one for one in tenant.programs.values() if not one.uses]:
        del tenant.programs[program.key]
        _uncache(state, program)


def slim(program: Program) -> Program:
    """What a finished job keeps of its program once its results are dropped."""
    summary = msgspec.structs.replace(program.summary, events=())
    return replace(program, graph=b"", order=[], summary=summary)


def _evict(state: State, tenant: Tenant) -> None:
    if not _too_many(tenant):
        return
    for program in [one for one in tenant.programs.values() if not one.uses]:
        del tenant.programs[program.key]
        _uncache(state, program)
        if not _too_many(tenant):
            return


def _too_many(tenant: Tenant) -> bool:
    many = len(tenant.programs) > PROGRAMS_CACHED_MAX
    return many or tenant.program_bytes > PROGRAM_BYTES_CACHED_MAX


def _uncache(state: State, program: Program) -> None:
    program.cached = False
    program.tenant.program_bytes -= len(program.graph)
    if not program.uses:
        _forget(state, program)


def _forget(state: State, program: Program) -> None:
    program.graph = b""  # finished jobs may still refer to the record
    if program.sent:
        state.out.append(ForgetProgram(program.number))
