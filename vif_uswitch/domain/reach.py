# SPDX-License-Identifier: Apache-2.0
"""Whether uswitchd can get at a socket, by the kernel's rules, without touching the socket.

A vhost-user socket serves one peer: connecting to it to see whether somebody
listens would be a session.  So permissions are computed, and listeners are
looked up in /proc.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LISTENING = 0x00010000  # __SO_ACCEPTCON, the flags of /proc/net/unix


@dataclass(frozen=True, slots=True)
class Who:
    """The ids of a process that decide what it may open."""

    uid: int
    gids: frozenset[int]

    def __str__(self) -> str:
        groups = ", ".join(sorted(_name(gid, _group) for gid in self.gids))
        return f"{_name(self.uid, _user)} (groups {groups})"


def _user(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


def _group(gid: int) -> str:
    return grp.getgrgid(gid).gr_name


def _name(number: int, look: Callable[[int], str]) -> str:
    try:
        return look(number)
    except KeyError:
        return str(number)


def who_is(pid: int, proc: Path = Path("/proc")) -> Who | None:
    """The ids of a process; None if it is not to be seen from here."""
    try:
        text = (proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        gids = {int(fields["Gid"].split()[3]), *map(int, fields["Groups"].split())}
        return Who(int(fields["Uid"].split()[3]), frozenset(gids))  # the fourth: for files
    except (KeyError, ValueError, IndexError):
        return None


def permitted(found: os.stat_result, who: Who, bits: int) -> bool:
    """``bits``: 4 read, 2 write, 1 search.  The mode alone: access lists are not looked at."""
    if who.uid == 0:
        return True
    shift = 6 if found.st_uid == who.uid else 3 if found.st_gid in who.gids else 0
    return found.st_mode >> shift & bits == bits


def obstacle(path: str, who: Who) -> str:
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
        if not permitted(found, who, 1):
            return f"{described(str(directory), found)} does not let {who} in"
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return f"{path} does not exist"
    if not stat.S_ISSOCK(found.st_mode):
        return f"{path} is no socket"
    if not permitted(found, who, 2):
        return f"{described(path, found)} may not be written by {who}"
    return ""


def described(path: str, found: os.stat_result) -> str:
    owner, group = _name(found.st_uid, _user), _name(found.st_gid, _group)
    return f"{path} ({owner}:{group} {stat.S_IMODE(found.st_mode):o})"


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
