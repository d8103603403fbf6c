# SPDX-License-Identifier: Apache-2.0
"""Whether uswitchd can get at a socket, by the kernel's rules, without touching the socket.

A vhost-user socket serves one peer: connecting to it to see whether somebody
listens would be a session.  So permissions are computed (``access.py``), and
listeners are looked up in /proc.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

from vif_uswitch.access import SEARCH, WRITE, Acl, Identity, effective_ids, may, read_acl

LISTENING = 0x00010000  # __SO_ACCEPTCON, the flags of /proc/net/unix


def _user(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


def _group(gid: int) -> str:
    return grp.getgrgid(gid).gr_name


def _name(number: int, look: Callable[[int], str]) -> str:
    try:
        return look(number)
    except KeyError:
        return str(number)


def who_is(pid: int, proc: Path = Path("/proc")) -> Identity | None:
    """The ids of a process; None if it is not to be seen from here."""
    try:
        text = (proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = effective_ids(text)
    if found is None:
        return None
    uid, gids = found
    return Identity(_name(uid, _user), uid, gids)


def whom(who: Identity) -> str:
    """"uswitch (groups kvm, uswitch)"."""
    groups = ", ".join(sorted(_name(gid, _group) for gid in who.gids))
    return f"{who.name} (groups {groups})"


def obstacle(path: str, who: Identity) -> str:
    """Why that process could not connect to the socket; "" if it could.

    Raises PermissionError where we may not look ourselves.
    """
    for directory in reversed(Path(path).parents):
        try:
            found = os.stat(directory)
        except FileNotFoundError:
            return f"{directory} does not exist"
        if not stat.S_ISDIR(found.st_mode):
            return f"{directory} is no directory"
        acl = read_acl(directory)
        if not may(who, found, SEARCH, acl):
            return f"{described(str(directory), found, acl)} does not let {whom(who)} in"
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return f"{path} does not exist"
    if not stat.S_ISSOCK(found.st_mode):
        return f"{path} is no socket"
    acl = read_acl(path)
    if not may(who, found, WRITE, acl):
        return f"{described(path, found, acl)} may not be written by {whom(who)}"
    return ""


def described(path: str, found: os.stat_result, acl: Acl | None = None) -> str:
    """"/run/uswitch/vhost (uswitch:kvm 2770, with an access list)"."""
    owner, group = _name(found.st_uid, _user), _name(found.st_gid, _group)
    also = ", with an access list" if acl is not None else ""
    return f"{path} ({owner}:{group} {stat.S_IMODE(found.st_mode):o}{also})"


def listening(path: str, table: Path = Path("/proc/net/unix")) -> bool | None:
    """Whether a process of this network namespace listens there; None: not to be seen."""
    try:
        text = table.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[7] == path and int(fields[3], 16) & LISTENING:
            return True
    return False
