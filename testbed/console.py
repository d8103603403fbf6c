# SPDX-License-Identifier: Apache-2.0
"""Commands in a guest, through its second serial port.

The other end is testbed/guest/guest-commands: one line ``TOKEN COMMAND`` goes in, its output
comes back between ``@@TOKEN begin`` and ``@@TOKEN STATUS``.  A fresh token for each command means
that the late output of one that timed out is never taken for the answer of the next.
"""

from __future__ import annotations

import re
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbed import TestbedError


@dataclass(frozen=True, slots=True)
class Result:
    """What a command printed and the status it ended with."""

    output: str
    rc: int


class CommandPort:
    """The command loop of one guest."""

    def __init__(self, path: Path, alive: Callable[[], None]) -> None:
        """``alive()`` raises with the reason once QEMU has died."""
        self.path = path
        self._alive = alive
        self._socket: socket.socket | None = None
        self._buffer = b""

    def run(self, command: str, timeout: float) -> Result:
        """Run one shell command line; a status other than 0 is the caller's to judge."""
        if "\n" in command:
            raise ValueError("a guest command is one line")
        token = secrets.token_hex(4)
        deadline = time.monotonic() + timeout
        connection = self._connection(deadline)
        self._buffer = b""
        connection.sendall(f"{token} {command}\n".encode())
        mark = b"@@" + token.encode()
        pattern = re.compile(mark + rb" begin\n(.*)\n" + mark + rb" (\d+)\n", re.DOTALL)
        while (found := pattern.search(self._buffer)) is None:
            self._receive(connection, command, deadline)
        return Result(found[1].decode(errors="replace"), int(found[2]))

    def close(self) -> None:
        """Drop the connection; the guest's loop goes on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connection(self, deadline: float) -> socket.socket:
        while self._socket is None:
            self._alive()
            attempt = socket.socket(socket.AF_UNIX)
            try:
                attempt.connect(str(self.path))
                self._socket = attempt
            except OSError as error:
                attempt.close()
                if time.monotonic() > deadline:
                    raise TestbedError(f"no command port {self.path}: {error}") from error
                time.sleep(0.02)
        return self._socket

    def _receive(self, connection: socket.socket, command: str, deadline: float) -> None:
        self._alive()
        left = deadline - time.monotonic()
        if left <= 0:
            tail = self._buffer[-400:].decode(errors="replace")
            raise TestbedError(f"the guest did not finish in time: {command}\n{tail}")
        connection.settimeout(min(left, 1.0))
        try:
            data = connection.recv(65536)
        except TimeoutError:
            return
        if not data:
            self.close()
            raise TestbedError(f"the guest's command port closed during: {command}")
        self._buffer += data
