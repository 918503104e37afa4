"""Our daemon with one rule broken: `python -m tests.conformance.mutants NAME ARGUMENTS OF qmkd`.

A mutant replaces one piece of the source of one module before it is imported, in the daemon and in
its workers. `MUTANTS` says of each which case is meant to catch it. The goal is `GOAL` of them.
`catching.py` tries them.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any, Final

GOAL: Final = 60
WORKER: Final = "qmkd.engine.worker"


@dataclass(frozen=True)
class Mutant:
    """One broken rule. caught_by: the case meant for it."""

    name: str
    module: str
    old: str
    new: str
    caught_by: str


def source_of(module: str) -> str:
    """The text of a module, which is not imported."""
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    with open(found.origin, encoding="utf-8") as file:
        return file.read()


class _Breaking(MetaPathFinder):
    """Finds some modules, and gives them other sources. changes: module -> (old, new)."""

    def __init__(self, changes: dict[str, tuple[str, str]]) -> None:
        self.changes = changes

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.changes:
            return None
        found = PathFinder.find_spec(fullname, path)
        assert found is not None
        assert found.origin is not None
        found.loader = _Broken(fullname, found.origin, *self.changes[fullname])
        return found


class _Broken(SourceFileLoader):
    """Compiles a source with one place changed; nothing of it is cached."""

    def __init__(self, fullname: str, path: str, old: str, new: str) -> None:
        super().__init__(fullname, path)
        self.old, self.new = old, new

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        assert source.count(self.old) == 1, f"{fullname} has no one place {self.old!r}"
        code: Any = compile(source.replace(self.old, self.new), self.path, "exec")
        assert isinstance(code, CodeType)
        return code


def start(mutant: Mutant, program: str, arguments: Sequence[str]) -> None:
    """Run a program of ours as this mutant, and have it start workers that are broken alike."""
    changes = {mutant.module: (mutant.old, mutant.new)}
    if program == "qmkd":
        alike = f'"-m", "tests.conformance.mutants", "{mutant.name}", "{WORKER}"'
        changes["qmkd.shell.workers"] = (f'"-m", "{WORKER}"', alike)
    for module in changes:
        assert module not in sys.modules, f"{module} was imported too early"
    sys.meta_path.insert(0, _Breaking(changes))
    sys.argv = [program, *arguments]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def _rows(text: str, module: str) -> list[Mutant]:
    """Mutants of one module, five lines each: name, case, old, new, and an empty line."""
    found = []
    for block in text.strip("\n").split("\n\n"):
        name, case, old, new = block.split("\n")
        found.append(Mutant(name, module, old, new, case))
    return found


MUTANTS: Final[dict[str, Mutant]] = {}


def _add(module: str, text: str) -> None:
    for mutant in _rows(text, module):
        assert mutant.name not in MUTANTS, mutant.name
        MUTANTS[mutant.name] = mutant


# --- the wire -----------------------------------------------------------------------------------

_add(
    "syscalls.jsonrpc",
    """
takes-version-1
wire/another version is no request
class _Envelope(Struct, gc=False):\\n    jsonrpc: Literal["2.0"]
class _Envelope(Struct, gc=False):\\n    jsonrpc: str

minds-traces
wire/a trace changes no answer
            return Request(answer_to, call, is_notification, _traced(envelope.traceparent))
            return Request(answer_to, decode(envelope.traceparent), is_notification)

shuffles-methods
wire/calls are written as they are
decode = _params.get(envelope.method)
decode = _params.get(envelope.method.lower())

takes-empty-batches
wire/an empty batch is refused
    if not items:
    if False:

answers-notifications
wire/notifications are not answered
is_notification = identity is UNSET
is_notification = False

forgets-the-method
wire/an unknown call
MethodNotFound(method=envelope.method[:ECHO_CHARS_MAX])
MethodNotFound(method="")

breaks-batches
wire/a batch is answered by one array
return b"[" + b",".join(answer.rstrip(b"\\\\n") for answer in answers) + b"]\\\\n"
return b"".join(answers)

says-error-for-params
wire/surplus parameters
path, expected = f"{path}.{surplus['field']}", "no such field"
path, expected = path, "no such field"
""",
)
_add(
    "syscalls.framing",
    """
needs-newlines
wire/an object without newline is answered
        while buffer and buffer[0] in _OPENERS:
        while False:

takes-huge-messages
wire/a message over the bound ends the connection
MESSAGE_BYTES_MAX = 64 * 2**20
MESSAGE_BYTES_MAX = 96 * 2**20
""",
)

# --- sessions, rights and quotas ----------------------------------------------------------------

_add(
    "qmkd.core.sessions",
    """
keeps-closed-sessions
sessions/closed is closed
    del state.sessions[session.id]\\n
    pass\\n

opens-for-anybody
sessions/another's tenant
if named is None or t.rule.name == named]
]

shares-no-families
sessions/families are shared
if not request.op_families or f in request.op_families]
]

leaves-jobs-when-closing
sessions/closing answers waits
            free_key(job)\\n            cancel(state, job)
            free_key(job)

keeps-given-capabilities
capabilities/gone with its giver
    revoke(state, *session.given)
    pass

keeps-held-qubits
quotas/until closed
    for handle in list(session.handles):\\n        holding.close(state, handle)
    session.handles.clear()

miscounts-what-is-closed
sessions/closing cancels and tells
jobs_cancelled=len(session.live),
jobs_cancelled=0,
""",
)
_add(
    "qmkd.core.capabilities",
    """
grants-everything
capabilities/APPLY_T needs CAP_MAGIC
    return InsufficientCaps(required=required, missing=missing) if missing else None
    return None

needs-no-right-for-calls
capabilities/q_alloc needs CAP_ALLOC
    return None if call.NEEDS is None else check_rights(session, [call.NEEDS.value])
    return None

takes-others-capabilities
capabilities/for another
        if each is not None and each.row.tenant == tenant.rule.name
        if each is not None

hides-what-is-denied
sessions/unknown names are denied
    denied = [name for name in names if name not in held]
    denied = []

repeats-names
sessions/rights are shared out
    names = list(dict.fromkeys(requested))
    names = list(requested)

misses-nothing
capabilities/q_delegate needs CAP_DELEGATE
(required=required, missing=missing)
(required=required, missing=[])

lets-jobs-run-on
capabilities/a job that runs
    refusal = check_rights(job.session, job.program.summary.rights, job.lent)
    refusal = None

lends-nothing
capabilities/a delegated right is a right
    return session.granted.union(*(each.row.rights for each in lent))
    return session.granted
""",
)
_add(
    "qmkd.core.delegation",
    """
delegates-what-it-has-not
capabilities/one's own alone
    if fits[parent] != wanted:
    if False:

hands-on-what-was-lent
capabilities/lent is not owned
for each, rights in sources.items() if Right.DELEGATE in rights}
for each, rights in sources.items()}

revokes-only-the-top
capabilities/revoked with all derived
        ended.extend(each.children)
        each.children.clear()

lets-strangers-revoke
capabilities/only who gave may revoke
    if named is None or above is None:
    if named is None:

never-expires
capabilities/until its time
    if state.expiries and state.expiries[0][0] <= state.now_ns:
    if False:
""",
)
_add(
    "qmkd.core.quotas",
    """
counts-one-too-many
quotas/until released
    if in_use + asked <= limit:
    if in_use + asked <= limit + 1:

takes-any-number-of-jobs
quotas/too many jobs
    if in_use + asked <= limit:
    if in_use + asked <= limit or what == "jobs":

always-helps-to-wait
quotas/too wide a program
in_use=in_use, asked=asked, waiting_helps=asked <= limit
in_use=in_use, asked=asked, waiting_helps=True
""",
)
_add(
    "qmkd.core.admission",
    """
forgets-keys
errors/one key, one job
    return None if key is None else submission.session.tenant.keys.get(key)
    return None

gives-the-job-to-anybody
errors/one key, another session
            earlier.session is session\\n            and earlier.policy
            earlier.policy

compares-no-policies
errors/one key, another submission
            and earlier.policy == policy
            and True

ignores-deadlines
errors/a deadline that is too soon
    if policy.deadline_epochs is not None and policy.deadline_epochs < summary.epochs:
    if False:

ignores-advice
fences/a program's own deadline
    deadline = summary.deadline if policy.deadline_epochs is None else policy.deadline_epochs
    deadline = policy.deadline_epochs

checks-no-rights-of-programs
capabilities/a program cannot grant
        or check_rights(session, summary.rights)
        or None

makes-jobs-of-plans
errors/plans are refused alike
    if submission.plan_only:
    if False:
""",
)

# --- jobs and what is said of them --------------------------------------------------------------

_add(
    "qmkd.core.jobs",
    """
shows-others-jobs
isolation/q_status of another session's job
        if job.session is session:
        if job.tenant is session.tenant:

tells-of-other-tenants
isolation/q_status of another tenant's job
        if admin or job.tenant is session.tenant:
        if True:
""",
)
_add(
    "qmkd.core.kernel",
    """
cancels-twice
errors/cancelling what is over
        return AlreadyCompleted(state=job.state.value)
        return job.final

lets-anybody-cancel
isolation/the owner notices nothing
    job = find_job(state, session, request.job_id, reading=False)
    job = state.jobs[request.job_id]

waits-for-ever
errors/a wait in vain
    if request.timeout_ms:
    if False:
""",
)
_add(
    "qmkd.core.reading",
    """
shows-the-machine
capabilities/the machine is the administrator's
    if request.machine:\\n        refusal
    if False:\\n        refusal

always-lists-jobs
telemetry/jobs by name
job_ids=list(session.jobs) if request.list_jobs else None
job_ids=list(session.jobs)

counts-no-held-qubits
telemetry/what is held
logical_qubits_allocated=len(session.handles) + sum(
logical_qubits_allocated=sum(

gives-unfinished-results
errors/results before the end
        return NotCompleted(state=job.state.value)
        return ResultsDropped()

always-counts
semantics/counts and order alone
counts=job.counts if request.format == "counts" else None,
counts=None,
""",
)
_add(
    "qmkd.core.holding",
    """
releases-others-qubits
isolation/handles of another session
        if handle is None or handle.session is not session:
        if handle is None:

holds-without-counting
quotas/as many as asked
"logical qubits", quota.logical_qubits, account.logical, request.n
"logical qubits", quota.logical_qubits, 0, request.n
""",
)
_add(
    "qmkd.core.replaying",
    """
replays-with-another-seed
checkpoints/the same bits
    policy = msgspec.structs.replace(job.policy, seed=job.seed, idempotency_key=None)
    policy = msgspec.structs.replace(job.policy, seed=job.seed ^ 1, idempotency_key=None)
""",
)
_add(
    "qmkd.core.checkpoints",
    """
keeps-dropped-checkpoints
checkpoints/kept, listed, dropped
    del made.session.tenant.checkpoints[made.row.id]
    pass
""",
)
_add(
    "qmkd.core.waiting",
    """
tells-nobody-of-the-end
telemetry/told to the end
        _tell(state, job, _event(state, job, "state"))
        pass

tells-not-where-jobs-are
telemetry/told of what is over
        state.notices.append(Notify(conn, _event(state, about, "state")))
        pass
""",
)

# --- programs -----------------------------------------------------------------------------------

_add(
    "qvm.verify",
    """
uses-after-free
verifier/use after free
                self.qubits[name] = _NAMED\\n            else:
                pass\\n            else:

allocates-twice
verifier/lifetime.double_alloc
            if held & _LIVE:\\n                message = f"{shown(name)} is live already
            if False:\\n                message = f"{shown(name)} is live already

injects-into-anything
verifier/magic.not_fresh
            elif held:\\n                message = f"{shown(vqs[at])} has been touched
            elif False:\\n                message = f"{shown(vqs[at])} has been touched

turns-encoded-qubits
verifier/rotation.not_ideal
            if held and not held & _IDEAL:
            if False:

repeats-operands
verifier/operand.repeated
            if count > 1 and (vqs[0] == vqs[1] if count == 2 else len(set(vqs)) != count):
            if False:

goes-in-rings
verifier/dag.cycle
        if cycle:
        if False:

takes-any-version
verifier/version.unknown
        if graph.version != VERSION:
        if False:

trusts-stated-caps
verifier/caps.missing
        if not lacking:\\n            return
        return

repeats-ids
verifier/node.duplicate_id
        if len(unique) == len(ids):
        if True:

leaves-out-warnings
verifier/lifetime.not_freed
        if left or open_:
        if False:
""",
)
_add(
    "qvm.events",
    """
guards-anything
verifier/guard.forbidden
            if not op.guardable:
            if False:

compares-with-anything
verifier/event.width
        elif not 0 <= wanted <= (3 if wide else 1):
        elif not 0 <= wanted <= 3:
""",
)
_add(
    "qvm.summary",
    """
counts-one-epoch-less
fences/epochs are counted
        epochs=arguments.fences + 1,
        epochs=max(1, arguments.fences),
""",
)
_add(
    "qmkd.engine.primitives",
    """
reads-one-input
guards/parity
            yield Pauli(xs, zs, step.guard, step.xor)
            yield Pauli(xs, zs, step.guard, step.xor[:1])

swaps-bell-bits
semantics/Bell state Phi- in one event
bits = [(step.events[0], 1), (step.events[0], 0)]
bits = [(step.events[0], 0), (step.events[0], 1)]

turns-T-backwards
semantics/T leans to +i
    "APPLY_T": "T",
    "APPLY_T": "T_DAG",

measures-the-wrong-angle
semantics/an angle of -pi/2 is minus X
[Gate("RY", step.qubits, None, -step.angle)],
[Gate("RY", step.qubits, None, step.angle)],

resets-nothing
semantics/reset is zero
    elif step.op in ("RESET", "FREE_LQ"):
    elif step.op == "FREE_LQ":

measures-X-for-Y
semantics/S turns plus to +i
{"X": "H", "Y": "H_YZ"}
{"X": "H", "Y": "H"}
""",
)


def _unescaped(mutant: Mutant) -> Mutant:
    """With the line ends that its text writes as backslash and n."""

    def real(text: str) -> str:
        return text.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")

    return Mutant(mutant.name, mutant.module, real(mutant.old), real(mutant.new), mutant.caught_by)


MUTANTS.update({name: _unescaped(each) for name, each in MUTANTS.items()})


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    if rest[:1] == [WORKER]:
        start(MUTANTS[name], WORKER, rest[1:])
    else:
        start(MUTANTS[name], "qmkd", rest)
