# SPDX-License-Identifier: Apache-2.0
"""What uswitchd gives up before it opens anything: the way to more rights, and being looked into.

Called once by ``main.py``.  The dataplane process has its own, smaller
sandbox in C; the unit file adds what systemd can do.
"""

from __future__ import annotations

import ctypes
import os
import resource

from vif_uswitch.exceptions import InvalidInput, USwitchError

PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
OPEN_FILES = 65536  # a guest with four queue pairs takes about twenty


def refuse_root(allowed: bool) -> None:
    if os.geteuid() == 0 and not allowed:
        raise InvalidInput(
            "user", "root", "uswitchd does not need root, and whoever breaks out of it would have"
            " the whole host",
            "Start it as an unprivileged user that may write to run_dir and state_dir"
            " (for example: setpriv --reuid uswitch --regid uswitch --init-groups uswitchd),"
            " or insist with --allow-root.",
        )  # fmt: skip


def isolate() -> None:
    """no_new_privs: neither we nor a child gains rights by execve().

    Not dumpable: no core file with guest memory in it, and no ptrace by
    another process of the same user, such as a QEMU that was taken over.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value, name in (
        (PR_SET_NO_NEW_PRIVS, 1, "no_new_privs"),
        (PR_SET_DUMPABLE, 0, "non-dumpable"),
    ):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            why = os.strerror(ctypes.get_errno())
            raise USwitchError("process", None, f"cannot become {name}: {why}")


def raise_limits() -> None:
    """Open files, and as much memory for adapters to reach as somebody allowed us; the dataplane
    has the same limits."""
    raise_file_limit()
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))


def raise_file_limit() -> int:
    """As many open files as we may have, up to OPEN_FILES; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
