# SPDX-License-Identifier: Apache-2.0
"""Tells when a network device of the kernel comes, goes, or is set up or down.

The dataplane's sockets say nothing of that until a frame is sent.  The kernel
tells everybody by rtnetlink (rtnetlink(7)), within the network namespace, with
or without udev.  Nothing here blocks; the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator

from vif_uswitch.daemon.uplink.watch import EVENTS_A_TURN, DeviceNews
from vif_uswitch.uplink.tap_device import attributes

LOG = logging.getLogger(__name__)

RTMGRP_LINK, RTM_NEWLINK, RTM_DELLINK = 1, 16, 17
IFLA_IFNAME, IFLA_XDP, IFF_UP = 3, 43, 1
MESSAGE_MAX = 1 << 16
_HEAD = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, number, sender's port
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, which changed

# What matters of a device: its name, whether it is up, its XDP program.
State = tuple[str, bool, bytes]


def messages(data: bytes) -> Iterator[tuple[int, int, State]]:
    """Type, interface index and state, of each link in a datagram of the kernel."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, kind = _HEAD.unpack_from(data, at)[:2]
        body = data[at + _HEAD.size : at + length]
        if length < _HEAD.size or at + length > len(data):
            return
        if kind in (RTM_NEWLINK, RTM_DELLINK) and len(body) >= _LINK.size:
            family, _type, index, flags, _changed = _LINK.unpack_from(body)
            if family == socket.AF_UNSPEC:  # a bridge speaks of its ports, too
                found = attributes(body[_LINK.size :])
                name = os.fsdecode(found.get(IFLA_IFNAME, b"").rstrip(b"\0"))
                yield kind, index, (name, bool(flags & IFF_UP), found.get(IFLA_XDP, b""))
        at += length + 3 & ~3


def open_netlink() -> socket.socket:
    """Every change of a link in this namespace; takes no privilege."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        made.bind((0, RTMGRP_LINK))
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


class LinkWatcher:
    """Owns the socket.  ``changed`` is told the name of a device that is not as it was before, or
    "" if it may be any; ``came``, who may be there again."""

    def __init__(
        self, changed: Callable[[str], None], came: Callable[[DeviceNews], None],
        source: Callable[[], socket.socket] = open_netlink,
    ) -> None:  # fmt: skip
        self._changed, self._came, self._source = changed, came, source
        self._known: dict[int, State] = {}
        self._socket: socket.socket | None = None

    def start(self) -> None:
        try:
            self._socket = self._source()
        except OSError as error:
            LOG.warning("links cannot be watched, their end is noticed late: %s", error)
            return
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._on_readable)

    def stop(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _on_readable(self) -> None:
        assert self._socket is not None
        for _ in range(EVENTS_A_TURN):
            try:
                data, (port, _groups) = self._socket.recvfrom(MESSAGE_MAX)
            except BlockingIOError:
                return
            except OSError as error:  # ENOBUFS: more than the socket could hold
                LOG.warning("news of links were lost: %s", error)
                self._known.clear()
                self._changed("")
                return
            if port == 0:  # the kernel, and nobody who says so
                for kind, index, state in messages(data):
                    self._tell(kind, index, state)

    def _tell(self, kind: int, index: int, state: State) -> None:
        """Carriers and counters change often, and some of it because somebody looks: no news."""
        before = self._known.get(index)
        if kind == RTM_DELLINK:
            self._known.pop(index, None)
        elif state == before:
            return
        else:
            self._known[index] = state
            self._came(DeviceNews("change", "net", state[0]))
        for name in {state[0], before[0] if before else state[0]}:
            self._changed(name)
