# SPDX-License-Identifier: Apache-2.0
"""A uswitchd of a few lines, for tests of those who talk to one: it says what it is told to say.

Listens on a real socket, so that clients, deadlines and permissions are the real ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from vif_uswitch.exceptions import USwitchError

Answer = Callable[[str, dict[str, Any]], Any]  # method and parameters -> result, or raises


class Scripted:
    """Answers every request by ``answer``, and remembers the requests."""

    def __init__(self, path: str, answer: Answer) -> None:
        self.path = path
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Scripted:
        self._listener.bind(self.path)
        self._listener.listen(8)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, connection.makefile("rb") as stream:
                    for line in stream:
                        connection.sendall(self._reply(json.loads(line)))

    def _reply(self, request: dict[str, Any]) -> bytes:
        method = request["method"].removeprefix("v1.")
        self.asked.append((method, request["params"]))
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            reply["result"] = self._answer(method, request["params"])
        except USwitchError as error:
            reply["error"] = {"code": error.code, "message": str(error), "data": error.data()}
        return json.dumps(reply).encode() + b"\n"
