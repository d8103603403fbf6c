# SPDX-License-Identifier: Apache-2.0
"""Users and groups, and what file modes and POSIX ACLs let them do.

On the host itself the C library is asked for each name and number: LDAP and
SSSD answer that, and leave themselves out of lists.  Below another root the
two files are read.
"""

from __future__ import annotations

import grp
import os
import pwd
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from vif_uswitch.cmd.doctor import files

READ, WRITE, SEARCH = 4, 2, 1
_Key = TypeVar("_Key")
_Entry = TypeVar("_Entry")

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


class Accounts:
    def __init__(self, root: Path) -> None:
        self._root = root

    def me(self) -> Identity:
        uid = os.geteuid()
        return Identity(self.user_name(uid), uid, frozenset({os.getegid(), *os.getgroups()}))

    def user(self, name: str) -> Identity | None:
        """With a name, or a number such as ``user = "+107"`` of libvirt's qemu.conf."""
        number = int(name) if name.lstrip("+").isdecimal() else None
        for entry in self._users(name, number):
            if entry[0] == name or entry[1] == number:
                return Identity(entry[0], entry[1], frozenset(self._groups_of(entry[0], entry[2])))
        return None

    def user_name(self, uid: int) -> str:
        found = (name for name, number, _ in self._users(None, uid) if number == uid)
        return next(found, str(uid))

    def group(self, name: str) -> int | None:
        return next((gid for one, gid, _ in self._groups(name, None) if one == name), None)

    def group_name(self, gid: int) -> str:
        found = (name for name, number, _ in self._groups(None, gid) if number == gid)
        return next(found, str(gid))

    def _real(self) -> bool:
        return self._root == Path("/")

    def _users(self, name: str | None, number: int | None) -> Iterator[tuple[str, int, int]]:
        """Name, number, primary group: those asked for; below another root, all."""
        if self._real():
            for user in (_asked(pwd.getpwnam, name), _asked(pwd.getpwuid, number)):
                if user is not None:
                    yield user.pw_name, user.pw_uid, user.pw_gid
            return
        for fields in self._file("etc/passwd"):
            with suppress(ValueError, IndexError):
                yield fields[0], int(fields[2]), int(fields[3])

    def _groups(
        self, name: str | None = None, number: int | None = None
    ) -> Iterator[tuple[str, int, list[str]]]:
        """Name, number, members: those asked for; below another root, all."""
        if self._real():
            for group in (_asked(grp.getgrnam, name), _asked(grp.getgrgid, number)):
                if group is not None:
                    yield group.gr_name, group.gr_gid, group.gr_mem
            return
        for fields in self._file("etc/group"):
            with suppress(ValueError, IndexError):
                yield fields[0], int(fields[2]), fields[3].split(",")

    def _groups_of(self, name: str, primary: int) -> list[int]:
        if self._real():
            return os.getgrouplist(name, primary)
        return [primary, *(gid for _, gid, members in self._groups() if name in members)]

    def _file(self, path: str) -> Iterator[list[str]]:
        for line in (files.read_if_allowed(self._root / path) or "").splitlines():
            yield line.split(":")


def _asked(question: Callable[[_Key], _Entry], key: _Key | None) -> _Entry | None:
    """None: nobody has that name or number, or it cannot be one."""
    if key is None:
        return None
    try:
        return question(key)
    except (KeyError, ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Acl:
    """Entries for named users and groups, and what the mask leaves of them."""

    users: dict[int, int]
    groups: dict[int, int]
    mask: int
    owning_group: int


def read_acl(path: Path, kind: str) -> Acl | None:
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

    Root may everything here; what a security module forbids is not seen.
    """
    if who.uid == 0:
        return True
    if who.uid == info.st_uid:
        return info.st_mode >> 6 & wanted == wanted
    if acl is not None:
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
