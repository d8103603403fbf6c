# SPDX-License-Identifier: Apache-2.0
"""Tells systemd how we are, in the protocol of sd_notify(3): one datagram, or nothing."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(message: str) -> None:
    """Sends for example ``READY=1``; without systemd nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with contextlib.suppress(OSError):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(message.encode(), address)


def watchdog_interval_s() -> float | None:
    """How often ``WATCHDOG=1`` is due: twice as often as systemd asks for."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not usec.isdecimal() or int(usec) == 0 or pid != str(os.getpid()):
        return None
    return int(usec) / 2e6
