# SPDX-License-Identifier: Apache-2.0
"""Users and groups, by name and number.

On the host itself the C library is asked for each name and number: LDAP and
SSSD answer that, and leave themselves out of lists.  Below another root the
two files are read.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from vif_uswitch.access import Identity
from vif_uswitch.cmd.doctor import files

_Key = TypeVar("_Key")
_Entry = TypeVar("_Entry")


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
