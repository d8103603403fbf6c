# SPDX-License-Identifier: Apache-2.0
"""Start programs the way a production host does: as nobody in particular.

Root gives up its identity for the user ``uswitch`` where it exists, else ``nobody``; anybody else
stays who they are.  Nobody here gains anything: every child has no_new_privs set and dies with its
parent unless it is meant to outlive it.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from testbed import TestbedError

CANDIDATES = ("uswitch", "nobody")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a child runs as; ``switch`` is False when that is who we are already."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    switch: bool


def identity() -> Identity:
    """The unprivileged user of this run."""
    if os.geteuid() != 0:
        try:
            name = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:  # a container started with a bare number
            name = str(os.geteuid())
        return Identity(name, os.geteuid(), os.getegid(), tuple(os.getgroups()), False)
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        groups = tuple(g for g in os.getgrouplist(name, entry.pw_gid) if g != entry.pw_gid)
        return Identity(name, entry.pw_uid, entry.pw_gid, groups, True)
    raise TestbedError("neither a user 'uswitch' nor 'nobody' exists to run as")


def guest_identity() -> Identity:
    """Who QEMU runs as: the same user and, where root may say so, the group that owns /dev/kvm.

    It is what a distribution does for its own virtual machines.  The daemons do not get it.
    """
    who = identity()
    try:
        device = os.stat("/dev/kvm")
    except OSError:
        return who
    if not who.switch or device.st_gid == 0 or device.st_mode & 0o060 != 0o060:
        return who
    return replace(who, groups=(*who.groups, device.st_gid))


def argv(command: Sequence[str | Path], who: Identity, *, outlive: bool = False) -> list[str]:
    """The command line that runs ``command`` as ``who``, dying with us unless ``outlive``."""
    words = ["setpriv", "--no-new-privs"]
    if not outlive:
        words += ["--pdeathsig", "KILL"]
    if who.switch:
        groups = ",".join(str(group) for group in who.groups)
        words += ["--reuid", str(who.uid), "--regid", str(who.gid), "--inh-caps=-all",
                  f"--groups={groups}" if groups else "--clear-groups"]
    return [*words, *(str(word) for word in command)]


def own(path: Path, who: Identity) -> Path:
    """Give a run directory to the unprivileged user."""
    if who.switch:
        os.chown(path, who.uid, who.gid)
    return path


def readable(path: Path, who: Identity, test: str = "-r") -> bool:
    """Whether ``who`` gets at ``path`` as things are (a directory above may be closed)."""
    return subprocess.run(argv(["test", test, path], who), check=False).returncode == 0


def require_readable(path: Path, who: Identity, test: str = "-r") -> None:
    """Raise with advice when ``who`` cannot get at ``path``."""
    if not readable(path, who, test):
        raise TestbedError(f"user {who.name} cannot use {path}: a directory above it is closed to "
                           "others; move the checkout (or the virtual environment) elsewhere")
