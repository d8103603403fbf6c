# SPDX-License-Identifier: Apache-2.0
"""A world of its own for one cloud: nothing in it is seen outside, nothing of it is left behind.

The program starts itself again by unshare(1) in new mount, network, process, IPC and host name
namespaces.  In there it may be as rude as an operating system: default ports on its own loopback,
its own /run, /etc and /var, users that exist nowhere else.  The first process of a process
namespace takes all others with it when it ends, daemons that nobody remembers included; so there is
no clean-up to be forgotten.

``STATE`` is memory (a cloud's databases wait for disks more than for anything), and goes as well.
Only the logs are outside.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from testbed.namespaces import hidden

INSIDE = "USWITCH_E2E_INSIDE"
STATE, RUN = Path("/srv"), Path("/run")
OVERLAID = ("/etc", "/var")
LOCKED = 64 << 20  # bytes, as uswitchd.service has it
KEPT = "/var/tmp"  # where the Makefile keeps logs and caches of a checkout that is closed to others


def inside() -> bool:
    """Whether this process is in there already."""
    return INSIDE in os.environ


def impossible() -> str:
    """Why there can be none here; empty if there can."""
    if os.geteuid() != 0:
        return "namespaces and mounts need root"
    if why := hidden(STATE, RUN):
        return why
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun is missing: load the module tun"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "no overlay file system: load the module overlay"
    return ""


def enter(arguments: Sequence[str], door: Path) -> int:
    """Run this program anew in a world of its own; its exit status.

    ``door``: where to write the number that leads inside, for nsenter(1).  However this process
    ends, the world ends with it.
    """
    command = ["setpriv", "--pdeathsig", "KILL",
               "unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--mount-proc",
               "--kill-child=KILL",
               sys.executable, "-m", "tests.e2e", *arguments]  # fmt: skip
    with subprocess.Popen(command, env={**os.environ, INSIDE: "1"}) as process:
        door.write_text(f"{process.pid}\n")
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # the terminal has told the inside as well


def become_first() -> None:
    """Fork: the caller goes on as a child, the first process waits for it and for orphans."""
    child = os.fork()
    if child == 0:
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) % 256)


def furnish() -> None:
    """Memory for ``STATE``, and directories of the system that may be written to."""
    mount("-t", "tmpfs", "-o", "size=12g,mode=755", "cloud", str(STATE))
    mount("-t", "tmpfs", "-o", "mode=755", "run", str(RUN))
    outside = STATE / "outside"
    outside.mkdir()
    mount("--bind", KEPT, str(outside))
    for path in OVERLAID:
        overlay(path, STATE / "world" / path.strip("/"))
    mount("--bind", str(outside), KEPT)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # AF_XDP uplinks lock some megabytes.  In a container the usual limit has to do, and does.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (LOCKED, LOCKED))


def overlay(path: str, upper: Path) -> None:
    """Make a directory writable without a trace: changes go to ``upper``."""
    work = upper.with_name(upper.name + ".work")
    upper.mkdir(parents=True)
    work.mkdir()
    layers = f"lowerdir={path},upperdir={upper},workdir={work}"
    mount("-t", "overlay", "-o", layers, "overlay", path)


def mount(*words: str) -> None:
    """mount(8)."""
    subprocess.run(["mount", *words], check=True)
