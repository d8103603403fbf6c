# SPDX-License-Identifier: Apache-2.0
"""Runs a command under the restrictions of a systemd unit, as its file has them, without systemd.

    unshare --mount python unit_sandbox.py UNIT WRITABLE COMMAND ...

Root only.  What it does not know, it does not do: DevicePolicy= (a program of
the control group), and settings that only repeat what the others forbid.
Mounts: all read-only but /dev, /proc and WRITABLE, which stands for the unit's
runtime and state directories; home directories and /tmp are empty.
System calls: by libseccomp, with the groups that ``systemd-analyze`` expands.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, RDONLY = 442, -100, 0x8000, 1
MS_BIND, MS_REC = 4096, 16384
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EQUAL, MASKED = 4, 7  # enum scmp_compare
CLONE_NEW = 0x7E020080  # every kind of namespace
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16, "AF_XDP": 44}
FAMILY_MAX = 46

Unit = dict[str, list[str]]
libc = ctypes.CDLL(None, use_errno=True)


def read_unit(path: Path) -> Unit:
    """Values of each key, in order."""
    found: Unit = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value.strip())
    return found


def check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


# ---- files ----

class MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def set_read_only(path: str, on: bool) -> None:
    attr = MountAttr(set=RDONLY if on else 0, clear=0 if on else RDONLY)
    check(libc.syscall(MOUNT_SETATTR, AT_FDCWD, path.encode(), AT_RECURSIVE, ctypes.byref(attr),
                       ctypes.sizeof(attr)), path)  # fmt: skip


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None) -> None:
    check(libc.mount(source.encode(), target.encode(), kind and kind.encode(), flags,
                     data and data.encode()), target)  # fmt: skip


def restrict_files(unit: Unit, writable: str, needed: Iterable[str]) -> None:
    """``needed``: paths that must stay visible; a home directory with one of them stays."""
    mount(writable, writable, None, MS_BIND | MS_REC, None)
    hidden = []
    if unit.get("PrivateTmp") == ["yes"]:
        hidden += ["/tmp", "/var/tmp"]
    if unit.get("ProtectHome") == ["yes"]:
        hidden += ["/home", "/root", "/run/user"]
    for path in hidden:
        if os.path.isdir(path) and not any(one.startswith(f"{path}/") for one in needed):
            mount("tmpfs", path, "tmpfs", 0, "mode=1777")
    if unit.get("ProtectSystem") == ["strict"]:
        set_read_only("/", True)
        for path in ("/dev", "/proc", writable, *(one for one in hidden if "tmp" in one)):
            set_read_only(path, False)


# ---- system calls ----

class Comparison(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operator", ctypes.c_int),
                ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Filter:
    """One seccomp filter; several are in force at once, the strictest answer wins."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))
        self.rules = 0

    def add(self, action: int, name: str, *comparisons: tuple[int, int, int, int]) -> None:
        """Names that this architecture does not have are left out, as systemd does."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return
        array = (Comparison * len(comparisons))(*(Comparison(*one) for one in comparisons))
        result = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(comparisons), array)
        if result not in (0, -errno.EDOM, -errno.EACCES):  # EACCES: it is the default action
            raise OSError(-result, name)
        self.rules += 1

    def load(self) -> None:
        result = self._library.seccomp_load(self._context)
        if result < 0:
            raise OSError(-result, "seccomp_load")


def expand(words: Iterable[str]) -> set[str]:
    """The system calls of names and @groups."""
    found: set[str] = set()
    for word in words:
        if not word.startswith("@"):
            found.add(word)
            continue
        said = subprocess.run(["systemd-analyze", "syscall-filter", word], check=True, text=True,
                              capture_output=True).stdout  # fmt: skip
        found |= expand(re.findall(r"(?m)^ +([@\w-]+)$", said))
    return found


def filters(unit: Unit) -> list[Filter]:
    made = []
    if "SystemCallFilter" in unit:
        assert unit["SystemCallErrorNumber"] == ["EPERM"]
        allowed = Filter(ERRNO | errno.EPERM)
        for name in sorted(expand(" ".join(unit["SystemCallFilter"]).split())):
            allowed.add(ALLOW, name)
        made.append(allowed)
    denied = Filter(ALLOW)
    if "RestrictAddressFamilies" in unit:
        families = {FAMILIES[word] for word in unit["RestrictAddressFamilies"][0].split()}
        for family in set(range(FAMILY_MAX)) - families:
            denied.add(ERRNO | errno.EAFNOSUPPORT, "socket", (0, EQUAL, family, 0))
    if unit.get("MemoryDenyWriteExecute") == ["yes"]:
        both = mmap.PROT_WRITE | mmap.PROT_EXEC
        denied.add(ERRNO | errno.EPERM, "mmap", (2, MASKED, both, both))
        for name in ("mprotect", "pkey_mprotect"):
            denied.add(ERRNO | errno.EPERM, name, (2, MASKED, mmap.PROT_EXEC, mmap.PROT_EXEC))
    if unit.get("RestrictNamespaces") == ["yes"]:
        for bit in (1 << index for index in range(32) if CLONE_NEW >> index & 1):
            for name in ("unshare", "clone"):
                denied.add(ERRNO | errno.EPERM, name, (0, MASKED, bit, bit))
        denied.add(ERRNO | errno.EPERM, "setns")
    made.append(denied)
    return made


# ---- the rest ----

def limit(name: int, words: list[str]) -> None:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    word = words[-1]
    value = int(word[:-1]) * units[word[-1]] if word[-1] in units else int(word)
    _, most = resource.getrlimit(name)
    if most != resource.RLIM_INFINITY:  # a container may have less to give
        value = min(value, most)
    resource.setrlimit(name, (value, value))


def main(argv: list[str]) -> None:
    path, writable, *command = argv
    unit = read_unit(Path(path))
    loaded = filters(unit)  # while programs can still be asked
    os.umask(int(unit["UMask"][0], 8))
    limit(resource.RLIMIT_NOFILE, unit["LimitNOFILE"])
    limit(resource.RLIMIT_MEMLOCK, unit["LimitMEMLOCK"])
    limit(resource.RLIMIT_CORE, unit["LimitCORE"])
    restrict_files(unit, writable, [sys.prefix + "/", os.path.realpath(__file__)])
    if command[0] == "setpriv":  # the unit's user and group; and what the unit takes from root
        assert unit["CapabilityBoundingSet"] == [""] and unit["NoNewPrivileges"] == ["yes"]
        command[1:1] = ["--bounding-set=-all", "--ambient-caps=-all"]
    for one in loaded:
        one.load()
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
