# SPDX-License-Identifier: Apache-2.0
"""Asks root's helper (``uswitch-tap``) for TAP devices in other network namespaces.

uswitchd cannot enter those, and needs to only when nobody holds the device any
more: after both daemons were gone.  ``open()`` blocks for as long as the helper
takes, at most ``TIMEOUT_S``; to be called in a thread, from any.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import suppress
from typing import Any

from vif_uswitch.exceptions import Unavailable, USwitchError, rebuild

PATH = "/run/uswitch-tap.sock"
TIMEOUT_S = 10.0
ANSWER_MAX = 4096
START = "Start it: systemctl enable --now uswitch-tap.socket"


class TapHelper:
    """One connection, as long as the helper keeps it: many ports may be asked for in a row."""

    def __init__(self, path: str = PATH) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._peer: socket.socket | None = None

    def open(self, netns: str, ifname: str) -> int:
        """A file descriptor of the device, which the caller owns; or why there is none."""
        request = json.dumps({"netns": netns, "ifname": ifname}).encode()
        with self._lock:
            try:
                data, fds = self._ask(request)
            except OSError as error:
                self._hang_up()
                raise Unavailable(
                    "TAP helper", self._path, f"does not answer: {error}", START
                ) from error
        try:
            _check(data, len(fds))
        except BaseException:
            _close(fds)
            raise
        return fds[0]

    def _ask(self, request: bytes) -> tuple[bytes, list[int]]:
        """Again, if the helper had ended meanwhile: it does so when nobody asks for a while."""
        if self._peer is not None:
            with suppress(ConnectionError):
                answer = self._exchange(self._peer, request)
                if answer[0]:
                    return answer
            self._hang_up()
        self._peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._peer.settimeout(TIMEOUT_S)
        self._peer.connect(self._path)
        return self._exchange(self._peer, request)

    @staticmethod
    def _exchange(peer: socket.socket, request: bytes) -> tuple[bytes, list[int]]:
        peer.send(request)
        data, fds, _flags, _address = socket.recv_fds(peer, ANSWER_MAX, 1)
        for fd in fds:
            os.set_inheritable(fd, False)  # a received one is none of those that Python made so
        return data, fds

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None


def _check(data: bytes, n_fds: int) -> None:
    try:
        answer: Any = json.loads(data)
        error = answer.get("error")
        refusal = error and rebuild(int(error["code"]), str(error["message"]), error["data"])
    except (ValueError, TypeError, KeyError, AttributeError) as nonsense:
        raise USwitchError("TAP helper", None, "answers nonsense", START) from nonsense
    if refusal:
        raise refusal
    if n_fds != 1:
        raise USwitchError("TAP helper", None, f"sent {n_fds} devices, not one", START)


def _close(fds: list[int]) -> None:
    for fd in fds:
        with suppress(OSError):
            os.close(fd)
