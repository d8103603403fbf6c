# SPDX-License-Identifier: Apache-2.0
"""PROC-01..02, SAND-01, UNIT-01: the two processes are as small as they are meant to be."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from pathlib import Path

from vif_uswitch.access import Identity
from vif_uswitch.cmd.doctor import own, procs
from vif_uswitch.cmd.doctor.model import Check, Finding, Scene, fail, passed, skip, warn
from vif_uswitch.exceptions import shown

UNIT = "uswitchd.service"
UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
                    "/usr/lib/systemd/system", "/lib/systemd/system")  # fmt: skip
SHIPPED = "share/vif-uswitch/systemd"
# landlock_create_ruleset(2) is number 444 everywhere but on Alpha.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION = 1
LANDLOCK_WANTED = 4  # from there on it also denies TCP


def daemon(scene: Scene) -> Finding:
    """PROC-01"""
    return _unprivileged(scene, "uswitchd", scene.switch.daemon().get("pid"), filtered=False)


def dataplane(scene: Scene) -> Finding:
    """PROC-02"""
    answer = scene.switch.dataplane()
    if answer and not answer.get("running"):
        return fail("the dataplane does not run: no packet moves", "See uswitchd's log.")
    return _unprivileged(scene, "uswitch-dataplane", answer.get("pid"), filtered=True)


def _unprivileged(scene: Scene, name: str, pid: object, *, filtered: bool) -> Finding:
    process = procs.running(scene.host, name, pid)
    if process is None:
        return skip(f"{name} is not to be seen from here",
                    "See CTL-01. If it runs in a container, run this on the host.")
    pid = process.pid
    lines = procs.status(scene.host, pid)
    who = procs.identity(scene.host, pid)
    if who is None:
        return skip(f"{name}, pid {pid}, has just ended", "See CTL-01.")
    restart = ("Start it as an ordinary user (uswitchd.service does: uswitch), without"
               " --allow-root.")  # fmt: skip
    if who.uid == 0:
        return fail(f"{name} runs as root: a hole in it opens the whole host", restart)
    if _bits(lines.get("CapEff")) or _bits(lines.get("CapPrm")):
        return fail(f"{name} has capabilities ({shown(lines.get('CapPrm', ''))}), and needs none",
                    restart)
    if lines.get("NoNewPrivs") != "1":
        return fail(f"{name} could gain rights by execve(): no_new_privs is not set", restart)
    if filtered and lines.get("Seccomp") != "2":
        return fail(f"{name} runs without its system call filter",
                    "It was started with --no-sandbox; end it, uswitchd starts another.")
    more = ", system calls filtered" if filtered else ""
    return passed(f"{name}, pid {pid}, runs as {who.name}, no capabilities{more}")


def _bits(word: str | None) -> int:
    try:
        return int(word or "0", 16)
    except ValueError:
        return 0


def landlock_abi() -> int:
    """Version of the kernel's Landlock; 0: there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(ctypes.c_long(_LANDLOCK_CREATE_RULESET), None, ctypes.c_size_t(0),
                          ctypes.c_uint32(_LANDLOCK_VERSION))  # fmt: skip
    if answer < 0 and ctypes.get_errno() not in (errno.ENOSYS, errno.EOPNOTSUPP):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return max(0, int(answer))


def sandbox(scene: Scene) -> Finding:
    """SAND-01"""
    if scene.host.root != Path("/"):
        abi: int | None = scene.host.number("/landlock-abi")  # a test's kernel
    else:
        abi = landlock_abi()
    actions = scene.host.line("/proc/sys/kernel/seccomp/actions_avail").split()
    if "kill_process" not in actions:
        return fail("the kernel has no seccomp filters: the dataplane refuses to start",
                    "Use a kernel with CONFIG_SECCOMP_FILTER (every distribution's has it).")
    if not abi:
        return warn("the kernel has no Landlock: the system call filter alone keeps files away",
                    "lsm=landlock,... on the kernel's command line; Linux 5.13 or later.")
    if abi < LANDLOCK_WANTED:
        return warn(f"Landlock ABI {abi}: files are denied, TCP is left to the system call filter",
                    f"ABI {LANDLOCK_WANTED} comes with Linux 6.7; {platform.release()} runs here.")
    return passed(f"seccomp filters, Landlock ABI {abi}")


def unit(scene: Scene) -> Finding:
    """UNIT-01"""
    host = scene.host
    if host.stat("/run/systemd/system") is None:
        return skip("systemd does not run this host: something else has to start uswitchd",
                    "After a restart of the host, see that uswitchd is back.")
    if mine := own.owner(scene):
        return _own_unit(scene, mine)
    found = [f"{directory}/{UNIT}" for directory in UNIT_DIRECTORIES
             if host.stat(f"{directory}/{UNIT}") is not None]
    if not found:
        return fail(f"{UNIT} is not installed: after a restart of the host nothing switches",
                    f"Copy the units of {SHIPPED} to /etc/systemd/system, then systemctl enable"
                    " --now uswitchd")
    wants = [f"{directory}/multi-user.target.wants/{UNIT}" for directory in UNIT_DIRECTORIES]
    if not any(os.path.lexists(host.at(path)) for path in wants):
        return warn(f"{found[0]} is not enabled: after a restart of the host nothing switches",
                    "systemctl enable uswitchd")
    kill = host.text(found[0]) or ""
    if "KillMode=process" not in kill.splitlines():
        return warn(f"{found[0]} has no KillMode=process: a restart of uswitchd ends the dataplane",
                    f"Take it from {SHIPPED}/{UNIT}.")
    return passed(f"{found[0]}, enabled")


def _own_unit(scene: Scene, who: Identity) -> Finding:
    """Of a user's own switch; only that user's home is known."""
    if who.uid != scene.host.me.uid:
        return skip(f"it is {who.name}'s own switch", f"Ask as {who.name}.")
    directories = own.unit_directories()
    found = [f"{directory}/{UNIT}" for directory in directories
             if scene.host.stat(f"{directory}/{UNIT}") is not None]
    if not found:
        return warn(f"no user unit {UNIT}: somebody has to start uswitchd --user",
                    f"Copy {SHIPPED}/user/{UNIT} to {directories[0]}, then systemctl --user enable"
                    " --now uswitchd")  # fmt: skip
    wants = [f"{directory}/default.target.wants/{UNIT}" for directory in directories]
    if not any(os.path.lexists(scene.host.at(path)) for path in wants):
        return warn(f"{found[0]} is not enabled", "systemctl --user enable uswitchd")
    if not own.lingers(scene, who):
        return warn(f"{found[0]} ends with {who.name}'s last login, and guests' links with it",
                    f"loginctl enable-linger {who.name}, if guests shall go on")
    return passed(f"{found[0]}, enabled, {who.name} lingers")


CHECKS = (
    Check("PROC-01", "uswitchd has no rights", daemon),
    Check("PROC-02", "the dataplane has no rights and is confined", dataplane),
    Check("SAND-01", "what the kernel has to confine it", sandbox),
    Check("UNIT-01", "systemd starts uswitchd", unit),
)
