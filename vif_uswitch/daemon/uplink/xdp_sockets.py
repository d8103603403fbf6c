# SPDX-License-Identifier: Apache-2.0
"""Asks root's helper (``uswitch-xdp serve``) for AF_XDP sockets of an interface.

Blocks, for as long as the helper takes: at most ``TIMEOUT_S``.  To be called in
a thread.  Each request gives new sockets; those of a dataplane that has ended
are of no use any more.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from typing import Any

from vif_uswitch.exceptions import USwitchError, rebuild

PATH = "/run/uswitch-xdp.sock"
TIMEOUT_S = 30.0
ANSWER_MAX = 4096
_START = "Start it: systemctl enable --now uswitch-xdp.socket"


def open_xdp_sockets(ifname: str, queues: int, path: str = PATH) -> list[int]:
    """A socket a queue, from queue 0 on, neither set up nor bound; the caller closes them."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as peer:
            peer.settimeout(TIMEOUT_S)
            peer.connect(path)
            peer.send(json.dumps({"ifname": ifname, "queues": queues}).encode())
            data, fds, _flags, _address = socket.recv_fds(peer, ANSWER_MAX, queues)
    except OSError as error:
        raise USwitchError("AF_XDP helper", path, f"does not answer: {error}", _START) from error
    try:
        _check(data, len(fds), queues)
    except BaseException:
        _close(fds)
        raise
    return fds


def _check(data: bytes, n_fds: int, queues: int) -> None:
    try:
        answer: Any = json.loads(data)
        error = answer.get("error")
        refusal = error and rebuild(int(error["code"]), str(error["message"]), error["data"])
    except (ValueError, TypeError, KeyError, AttributeError) as nonsense:
        raise USwitchError("AF_XDP helper", None, "answers nonsense", _START) from nonsense
    if refusal:
        raise refusal
    if n_fds != queues:
        raise USwitchError("AF_XDP helper", None, f"sent {n_fds} sockets, not {queues}", _START)


def _close(fds: list[int]) -> None:
    for fd in fds:
        with suppress(OSError):
            os.close(fd)
