"""What the process asks of the kernel so that memory with keys in it goes nowhere else.

No core dump (RLIMIT_CORE), no reading of its memory by other processes of its user
(PR_SET_DUMPABLE), no page of it in swap (mlockall). What could not be had is said, not passed over.
"""

from __future__ import annotations

import ctypes
import os
import resource

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 3, 4, 38
# With ONFAULT, stacks of threads take what they use and not what they might.
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def harden() -> dict[str, str]:
    """Ask for all of it. Returns what came of each, `yes` where it was given."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    said = {"core_dumps": "none" if resource.getrlimit(resource.RLIMIT_CORE) == (0, 0) else "on"}
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    said["readable_by_others"] = "no" if libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 else "yes"
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0:
        said["swap"] = "never"
    else:
        why = os.strerror(ctypes.get_errno())
        said["swap"] = f"possible: mlockall: {why} (LimitMEMLOCK=infinity allows it)"
    return said
