# SPDX-License-Identifier: Apache-2.0
"""``uswitch-tap``: opens TAP devices for the switch that are in other network namespaces.

systemd starts it as root for a connection at uswitch-tap.socket.  For each
request it forks a child that enters the namespace, becomes who asked, and only
then opens the device (``tap_device.py``): so the kernel decides, by the
device's owner, as it does for devices that uswitchd opens itself.  It reads
nothing that a guest or the network could have written, and ends when nobody
asks any more.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import socket
import stat
import struct
import sys
from contextlib import suppress
from typing import Any

from vif_uswitch.exceptions import Forbidden, InvalidInput, NotFound, USwitchError
from vif_uswitch.uplink import tap_device

NAMESPACES = "/run/netns"
REQUEST_MAX = 256
IDLE_S = 5.0
CLONE_NEWNET, NS_GET_NSTYPE = 0x40000000, 0xB703
SO_PEERGROUPS, GROUPS_BYTES = 59, 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_USAGE = """\
usage: uswitch-tap [--help]

Answers requests on standard input, a socket, for systemd (uswitch-tap.socket). uswitchd asks it
for TAP devices in other network namespaces, for example those of Neutron's DHCP and L3 agents,
when it was started anew. A device is handed over only to the user or group that owns it.
"""


def read_request(data: bytes) -> tuple[str, str]:
    """{"netns": "qdhcp-1", "ifname": "tap1"}"""
    try:
        request: Any = json.loads(data) if len(data) <= REQUEST_MAX else None
        names = (request["netns"], request["ifname"])
        good = len(request) == len(names) and all(_NAME.fullmatch(name) for name in names)
    except (ValueError, TypeError, KeyError, RecursionError):
        good = False
    if not good or len(names[1]) > tap_device.NAME_MAX:
        raise InvalidInput(
            "request", ascii(data[:60]), 'is not {"netns": NAME, "ifname": NAME}, both plain names'
        )
    return names


def enter(netns: str) -> None:
    """Changes this process's network namespace."""
    what, path = "network namespace", f"{NAMESPACES}/{netns}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(what, netns, "does not exist", "See: ip netns list") from None
    except OSError as error:
        raise InvalidInput(what, path, f"cannot be opened: {error.strerror}") from error
    try:
        kind = 0
        with suppress(OSError):  # no file of the kernel's namespaces
            if stat.S_ISREG(os.fstat(fd).st_mode):
                kind = fcntl.ioctl(fd, NS_GET_NSTYPE)
        if kind != CLONE_NEWNET:
            raise InvalidInput(what, path, "is no network namespace", "See: ip netns list")
        if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
            why = os.strerror(ctypes.get_errno())
            raise Forbidden(what, netns, f"cannot be entered: {why}")
    finally:
        os.close(fd)


def become_asker(peer: socket.socket) -> None:
    """For good: who this process is from here on has no more rights than who asked."""
    sizes = struct.Struct("3i")  # struct ucred: pid, uid, gid
    found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, sizes.size)
    _pid, uid, gid = sizes.unpack(found)
    if uid == 0:
        raise Forbidden("user", "root", "gets no devices: every one would be its own")
    groups = b""
    with suppress(OSError):  # of more than GROUPS_BYTES: none
        groups = peer.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES)
    os.setgroups([one for (one,) in struct.iter_unpack("I", groups)])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def answer(peer: socket.socket, data: bytes) -> None:
    """In a process of its own: it changes who and where that is."""
    try:
        netns, ifname = read_request(data)
        enter(netns)
        become_asker(peer)
        fds = [tap_device.open_owned(ifname)]
        said: dict[str, object] = {}
    except (USwitchError, OSError) as error:
        refused = (error if isinstance(error, USwitchError)
                   else USwitchError("uswitch-tap", why=str(error)))  # fmt: skip
        fds = []
        said = {"error": {"code": refused.code, "message": str(refused), "data": refused.data()}}
        print(f"uswitch-tap: {refused}", file=sys.stderr, flush=True)
    socket.send_fds(peer, [json.dumps(said).encode()], fds)


def serve(peer: socket.socket) -> None:
    peer.settimeout(IDLE_S)
    with suppress(TimeoutError, ConnectionError):
        while data := peer.recv(REQUEST_MAX + 1):
            child = os.fork()
            if child == 0:
                try:
                    answer(peer, data)
                finally:
                    os._exit(0)
            os.waitpid(child, 0)


def main() -> int:
    if len(sys.argv) > 1 or os.geteuid() != 0 or not stat.S_ISSOCK(os.fstat(0).st_mode):
        asked = sys.argv[1:] in (["--help"], ["-h"])
        print(_USAGE, end="", file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    serve(socket.socket(fileno=0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
