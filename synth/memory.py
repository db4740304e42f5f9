"""Keeps the memory of a process that holds private rows out of files and out of other processes' reach.

A core dump of a crash holds the rows, and outlives the run. Two measures: the limit on core files is zero, and on Linux
the process is marked as not dumpable, because a kernel that pipes dumps into a program does not ask for the limit. The
mark also keeps other processes of the same account from attaching a debugger or reading ``/proc/PID/mem``, ``environ``
and ``fd``; root still can. It holds for this process and what it forks, and ends with ``exec``; the limit is inherited
by all of them. Both stay for the life of the process, because memory that was freed is not wiped.

What it does not cover: swap and hibernation, which belong on an encrypted disk.
"""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def keep_memory_from_dumps() -> None:
    """No core dump of this process, and no debugger of its own account, from here on; again changes nothing."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
