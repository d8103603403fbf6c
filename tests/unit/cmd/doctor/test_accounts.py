# SPDX-License-Identifier: Apache-2.0
"""Users whom the C library knows by name and number, and does not list: LDAP, SSSD."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vif_uswitch.cmd.doctor.accounts import Accounts

ROOT = Path("/")
USER = pwd.struct_passwd(("qemu-ldap", "x", 70001, 70002, "", "/", "/bin/false"))
GROUP = grp.struct_group(("kvm-ldap", "x", 70002, []))


def answers(entry: Any, *known: object) -> Callable[[object], Any]:
    def ask(key: object) -> Any:
        if key not in known:
            raise KeyError(key)
        return entry

    return ask


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Accounts:
    """A C library with one user and one group, of a directory that does not list them."""
    monkeypatch.setattr(pwd, "getpwall", list)
    monkeypatch.setattr(grp, "getgrall", list)
    monkeypatch.setattr(pwd, "getpwnam", answers(USER, "qemu-ldap"))
    monkeypatch.setattr(pwd, "getpwuid", answers(USER, 70001))
    monkeypatch.setattr(grp, "getgrnam", answers(GROUP, "kvm-ldap"))
    monkeypatch.setattr(grp, "getgrgid", answers(GROUP, 70002))
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 36])
    return Accounts(ROOT)


@pytest.mark.parametrize("name", ["qemu-ldap", "70001", "+70001"])
def test_a_user_who_is_not_listed(directory: Accounts, name: str) -> None:
    found = directory.user(name)
    assert found is not None
    assert (found.name, found.uid) == ("qemu-ldap", 70001) and found.gids == {70002, 36}


def test_names_and_numbers(directory: Accounts) -> None:
    assert directory.user_name(70001) == "qemu-ldap" and directory.group_name(70002) == "kvm-ldap"
    assert directory.group("kvm-ldap") == 70002
    assert directory.user_name(5) == "5" and directory.group_name(5) == "5"
    assert directory.user("nobody-here") is None and directory.group("nobody-here") is None


@pytest.mark.parametrize("name", ["", "a\0b", "9" * 30, "+" + "9" * 30, "+", "\udcff"])
def test_what_cannot_be_a_name(name: str) -> None:
    """The C library itself is asked."""
    assert Accounts(ROOT).user(name) is None
    assert Accounts(ROOT).group(name) is None


def test_root_is_root() -> None:
    found = Accounts(ROOT).user("root")
    assert found is not None and found.uid == 0 and 0 in found.gids
    assert Accounts(ROOT).user("+0") == found
