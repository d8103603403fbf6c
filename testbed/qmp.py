# SPDX-License-Identifier: Apache-2.0
"""A small QMP client: one command, one answer, events kept aside.

QEMU greets only when its main loop runs: with a vhost-user chardev whose backend has not connected
that is never, so the connection is made at the first command and not before.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from testbed import TestbedError


class QmpError(TestbedError):
    """QEMU refused a command."""


class Qmp:
    """A QMP connection to one QEMU."""

    def __init__(self, path: Path, timeout: float = 30) -> None:
        self.path = path
        self.timeout = timeout
        self.events: list[dict[str, Any]] = []
        self._socket: socket.socket | None = None
        self._buffer = b""

    def command(self, name: str, /, **arguments: Any) -> Any:
        """Execute a command and return its result."""
        connection = self._connection()
        dashed = {key.replace("_", "-"): value for key, value in arguments.items()}
        request = {"execute": name, "arguments": dashed}
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = self._message()
        if "error" in answer:
            raise QmpError(f"QEMU refused {name}: {answer['error'].get('desc')}")
        return answer["return"]

    def monitor(self, line: str) -> str:
        """Run a line of the human monitor, whose option syntax is that of the command line."""
        output = self.command("human-monitor-command", command_line=line)
        return str(output).strip()

    def wait_event(self, name: str, timeout: float) -> dict[str, Any]:
        """The next event of that name."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            if time.monotonic() > deadline:
                raise TestbedError(f"QEMU sent no {name} in {timeout:.0f} s")
            self.command("query-name")  # events arrive ahead of the answer
            time.sleep(0.05)

    def close(self) -> None:
        """Drop the connection; QEMU accepts another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._buffer = b""

    def _connection(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(self.timeout)
            try:
                self._socket.connect(str(self.path))
                self._line()  # greeting
                self._socket.sendall(b'{"execute": "qmp_capabilities"}\n')
                self._message()
            except (TestbedError, OSError) as error:
                self.close()
                raise TestbedError(f"no QMP on {self.path}: {error}") from error
        return self._socket

    def _message(self) -> dict[str, Any]:
        while True:
            message = self._line()
            if "event" not in message:
                return message
            self.events.append(message)

    def _line(self) -> dict[str, Any]:
        assert self._socket is not None
        while b"\n" not in self._buffer:
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise TestbedError(f"QEMU gave no answer in {self.timeout:.0f} s") from error
            if not data:
                raise TestbedError("QEMU closed its QMP socket")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        parsed: dict[str, Any] = json.loads(line)
        return parsed
