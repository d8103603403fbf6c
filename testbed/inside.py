# SPDX-License-Identifier: Apache-2.0
"""Python functions of this checkout, called in a nested host through its third serial port.

In there ``python -m testbed.inside /dev/ttyS2`` reads requests, a line each, ``{"id", "module",
"function", "arguments"}``, and answers ``{"id", "result"}`` or ``{"id", "error"}``.  An interpreter
takes seconds to start on an emulated processor, so one lives as long as the host.  Outside:
``Caller``.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from testbed import TestbedError


class CallError(TestbedError):
    """The function raised; the message is its traceback."""


class Caller:
    """The outer end."""

    def __init__(self, path: Path, alive: Callable[[], None]) -> None:
        """``alive()`` raises with the reason once QEMU has died."""
        self._alive = alive
        self._buffer = b""
        self._last = 0
        self._one = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(1.0)
        self._socket.connect(str(path))

    def call(self, module: str, function: str, arguments: Mapping[str, Any], timeout: float) -> Any:
        """The function's result.  Calls of several threads wait for each other."""
        with self._one:
            return self._call(module, function, arguments, timeout)

    def _call(self, module: str, function: str, arguments: Mapping[str, Any], timeout: float
              ) -> Any:
        self._last += 1
        request = {"id": self._last, "module": module, "function": function,
                   "arguments": dict(arguments)}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        deadline = time.monotonic() + timeout
        while True:
            answer = self._line(deadline, f"{module}.{function}")
            if answer.get("id") == self._last:  # else: the late answer of a call that timed out
                break
        if "error" in answer:
            raise CallError(f"{module}.{function} in the nested host:\n{answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()

    def _line(self, deadline: float, what: str) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._alive()
            if time.monotonic() > deadline:
                raise TestbedError(f"the nested host did not finish {what} in time")
            try:
                self._buffer += self._socket.recv(1 << 20)
            except TimeoutError:
                continue
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def serve(port: io.RawIOBase) -> None:
    """The inner end: until the other one is gone."""
    pending = b""
    while data := port.read(65536):
        pending += data
        *lines, pending = pending.split(b"\n")
        for line in lines:
            answer = json.dumps(_answer(json.loads(line))).encode() + b"\n"
            while answer:
                answer = answer[port.write(answer) or 0:]


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        function = getattr(importlib.import_module(request["module"]), request["function"])
        return {"id": request["id"], "result": function(**request["arguments"])}
    except Exception:  # whatever it is, it is the caller's to see
        return {"id": request["id"], "error": traceback.format_exc()}


if __name__ == "__main__":
    with io.FileIO(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY), "r+") as serial:
        serve(serial)
