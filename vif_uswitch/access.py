# SPDX-License-Identifier: Apache-2.0
"""What a process may do with a file, by the kernel's rules: owner, group, mode, POSIX access list.

Computed, for somebody else and without touching the file: a vhost-user socket
serves one peer, and connecting to it to see whether that works would be a
session.  ``uswitchctl doctor`` and ``domain check`` ask.  What a security
module forbids is not seen, nor what a read-only file system does.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass, field

READ, WRITE, SEARCH = 4, 2, 1

# struct posix_acl_xattr_header and _entry of linux/posix_acl_xattr.h
_ACL_VERSION = 2
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP, _ACL_MASK = 0x02, 0x04, 0x08, 0x10


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and all groups, the primary one included."""

    name: str
    uid: int
    gids: frozenset[int] = field(default_factory=frozenset)


def effective_ids(status: str) -> tuple[int, frozenset[int]] | None:
    """User and groups from the text of /proc/PID/status; None if it does not say.

    Those for files are the same, but in the few file servers that call setfsuid().
    """
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    try:  # real, effective, saved, for files
        gids = {int(fields["Gid"].split()[1]), *map(int, fields["Groups"].split())}
        return int(fields["Uid"].split()[1]), frozenset(gids)
    except (KeyError, ValueError, IndexError):
        return None


@dataclass(frozen=True, slots=True)
class Acl:
    """Entries for named users and groups, and what the mask leaves of them."""

    users: dict[int, int]
    groups: dict[int, int]
    mask: int
    owning_group: int


def read_acl(path: str | os.PathLike[str], kind: str = "access") -> Acl | None:
    """``kind``: "access" or "default".  None: there is none, or we cannot tell."""
    try:
        return parse_acl(os.getxattr(path, f"system.posix_acl_{kind}"))
    except OSError:
        return None


def parse_acl(data: bytes) -> Acl | None:
    if len(data) < 4 or int.from_bytes(data[:4], "little") != _ACL_VERSION or len(data) % 8 != 4:
        return None
    users: dict[int, int] = {}
    groups: dict[int, int] = {}
    mask, owning = 7, 0
    for tag, rights, number in _ACL_ENTRY.iter_unpack(data[4:]):
        if tag == _ACL_USER:
            users[number] = rights
        elif tag == _ACL_GROUP:
            groups[number] = rights
        elif tag == _ACL_MASK:
            mask = rights
        elif tag == _ACL_GROUP_OBJ:
            owning = rights
    return Acl(users, groups, mask, owning)


def may(who: Identity, info: os.stat_result, wanted: int, acl: Acl | None = None) -> bool:
    """Whether ``who`` has all rights in ``wanted`` (READ | WRITE | SEARCH) on that file.

    Root may everything here.  Beside an access list the mode's group bits are
    its mask, and the kernel passes over a list whose mask leaves nothing: then
    those it names count as others.
    """
    if who.uid == 0:
        return True
    if who.uid == info.st_uid:
        return info.st_mode >> 6 & wanted == wanted
    if acl is not None and info.st_mode & stat.S_IRWXG:
        if who.uid in acl.users:
            return acl.users[who.uid] & acl.mask & wanted == wanted
        named = [rights for gid, rights in acl.groups.items() if gid in who.gids]
        if info.st_gid in who.gids:
            named.append(acl.owning_group)
        if named:
            return any(rights & acl.mask & wanted == wanted for rights in named)
    elif info.st_gid in who.gids:
        return info.st_mode >> 3 & wanted == wanted
    return info.st_mode & wanted == wanted
