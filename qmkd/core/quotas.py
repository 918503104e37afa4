"""What counts against a quota, and whether more fits: refused with numbers, or held and given back.

A job counts against its tenant's account and against that of every capability it uses. Qubits are
shared by placed jobs, so a job that fits alone waits its turn (`mapping.room`); the rest is
refused at submission. Meters leak with the kernel's time, so nothing has to be reset.
"""

from __future__ import annotations

from typing import Final

from qmkd.core.limits import MS, SECOND
from qmkd.core.ports import Plan, Quota
from qmkd.core.state import Account, Capability, Job, Meter, Tenant
from qvm.program import Summary
from syscalls.errors import QuotaExceeded, ResourceExhausted

MINUTE: Final = 60 * SECOND


def over(what: str, limit: int, in_use: int, asked: int) -> QuotaExceeded | None:
    """The refusal where this does not fit."""
    if in_use + asked <= limit:
        return None
    return QuotaExceeded(
        what=what, limit=limit, in_use=in_use, asked=asked, waiting_helps=asked <= limit
    )


def lacking(
    what: str, limit: int, asked: int, in_use: int = 0, *, waiting_helps: bool = False
) -> ResourceExhausted:
    """The refusal of what the machine does not have, as a rule ever."""
    return ResourceExhausted(
        what=what, limit=limit, in_use=in_use, asked=asked, waiting_helps=waiting_helps
    )


def level(meter: Meter, now_ns: int) -> int:
    """Units that still count, rounded up."""
    return -(-max(0, meter.level - (now_ns - meter.at_ns) * meter.rate) // MINUTE)


def _add(meter: Meter, now_ns: int, units: int) -> None:
    left = meter.level - (now_ns - meter.at_ns) * meter.rate
    meter.level = max(0, max(0, left) + units * MINUTE)
    meter.at_ns = now_ns


def _metered(summary: Summary, plan: Plan, shots: int) -> tuple[int, int]:
    """(T states, milliseconds of CPU time) of so many shots of a program."""
    cpu_ns = plan.ns_fixed + shots * plan.ns_per_shot if shots else 0
    return shots * summary.t_states, -(-cpu_ns // MS)


def check(
    account: Account, now_ns: int, summary: Summary, plan: Plan, shots: int
) -> QuotaExceeded | None:
    """Whether a job may be taken up as far as this account goes."""
    quota = account.quota
    t_states, cpu_ms = _metered(summary, plan, shots)
    meters = account.t_states, account.cpu
    return (
        _too_large(quota, summary)
        or over("jobs", quota.jobs, account.live, 1)
        or over("T states per minute", meters[0].rate, level(meters[0], now_ns), t_states)
        or over("ms of CPU time per minute", meters[1].rate, level(meters[1], now_ns), cpu_ms)
    )


def outgrown(job: Job) -> QuotaExceeded | None:
    """The refusal of an accepted job that is larger than all its tenant may have by now."""
    return _too_large(job.tenant.rule.quota, job.program.summary)


def _too_large(quota: Quota, need: Summary) -> QuotaExceeded | None:
    return (
        over("logical qubits", quota.logical_qubits, 0, need.asked_logical)
        or over("physical qubits", quota.physical_qubits, 0, need.peak_physical)
        or over("channels", quota.channels, 0, need.peak_channels)
    )


def check_change(tenant: Tenant, now_ns: int) -> QuotaExceeded | None:
    """Whether the tenant may have one more thing written down for ever."""
    return over("changes per minute", tenant.changes.rate, level(tenant.changes, now_ns), 1)


def change(tenant: Tenant, now_ns: int) -> None:
    """It has been."""
    _add(tenant.changes, now_ns, 1)


def set_quota(account: Account, now_ns: int, quota: Quota) -> None:
    """Another quota from now on; what was metered so far leaked at the rate it had."""
    account.quota = quota
    meters = [
        (account.t_states, quota.t_states_per_minute),
        (account.cpu, quota.cpu_ms_per_minute),
    ]
    if isinstance(account, Tenant):
        meters.append((account.changes, quota.changes_per_minute))
    for meter, rate in meters:
        _add(meter, now_ns, 0)
        meter.rate = rate


def accounts_of(tenant: Tenant, lent: tuple[Capability, ...]) -> tuple[Account, ...]:
    """What a job counts against: its tenant, and its capabilities with all that they came from."""
    found: dict[Account, None] = {tenant: None}
    for used in lent:
        each: Capability | None = used
        while each is not None:
            found[each] = None
            each = each.parent
    return tuple(found)


def hold(job: Job) -> None:
    """A job is taken up, be it for the first time or after a restart."""
    job.accounts = accounts_of(job.tenant, job.lent)
    for account in job.accounts:
        account.live += 1


def meter(job: Job, now_ns: int, shots: int) -> None:
    """So many shots of the job count, instead of as many as before."""
    before = _metered(job.program.summary, job.plan, job.metered)
    after = _metered(job.program.summary, job.plan, shots)
    job.metered = shots
    for account in job.accounts:
        _add(account.t_states, now_ns, after[0] - before[0])
        _add(account.cpu, now_ns, after[1] - before[1])


def hold_qubits(job: Job, sign: int = 1) -> None:
    """A job is placed on the machine; with sign -1, it leaves it."""
    need = job.program.summary
    for account in job.accounts:
        account.logical += sign * need.asked_logical
        account.channels += sign * need.peak_channels
        account.physical += sign * need.peak_physical
        assert min(account.logical, account.physical) >= 0, "qubits were given back twice"


def give_back(job: Job, now_ns: int) -> None:
    """A job is over. Shots that no worker was given were never run, so they do not count."""
    given = job.shots_given - job.inherited if job.started_ns else 0
    meter(job, now_ns, min(job.metered, given))
    for account in job.accounts:
        account.live -= 1
