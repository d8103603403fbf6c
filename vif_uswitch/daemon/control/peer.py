# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a control connection, and may they be there?

The kernel vouches for both answers: SO_PEERCRED and SO_PEERGROUPS tell what
the peer was when it connected, so neither a reused process id nor a changed
group file can lend somebody else's rights.  Called by ``server.py``.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass

from vif_uswitch.exceptions import InvalidInput

SO_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)  # Linux 4.13, not in every Python
_UCRED = struct.Struct("iII")
_GROUPS_BYTES = 1024  # what Python's getsockopt() can fetch: 256 groups


@dataclass(frozen=True, slots=True)
class Peer:
    pid: int
    uid: int
    groups: frozenset[int]

    def __str__(self) -> str:
        return f"pid {self.pid}, uid {self.uid}"


def peer_of(connection: socket.socket) -> Peer:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _GROUPS_BYTES)
        others: tuple[int, ...] = struct.unpack(f"{len(raw) // 4}I", raw[: len(raw) // 4 * 4])
    except OSError:
        others = _groups_of_user(uid, gid)  # more than 256 groups, or an older kernel
    return Peer(pid, uid, frozenset({gid, *others}))


def _groups_of_user(uid: int, gid: int) -> tuple[int, ...]:
    try:
        return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:
        return ()


def may_control(peer: Peer, control_gid: int | None) -> bool:
    """root, our own user, and the members of the control group."""
    return peer.uid in (0, os.geteuid()) or control_gid in peer.groups


def group_id(name: str, option: str) -> int | None:
    """The id of a group from the configuration; None for ""."""
    if not name:
        return None
    try:
        gid = int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise InvalidInput(
            f"option {option}", name, "there is no such group", f"Create it: groupadd {name}"
        ) from None
    if gid not in {os.getegid(), *os.getgroups()} and os.geteuid() != 0:
        user = _user_name()
        raise InvalidInput(
            f"option {option}", name, f"the user of uswitchd ({user}) is not in this group",
            f"Add it (usermod -aG {name} {user}) and start uswitchd again.",
        )  # fmt: skip
    return gid


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
