# SPDX-License-Identifier: Apache-2.0
"""TCP between namespaces, checked to the byte: what arrives must be what was sent.

``Listener`` takes one connection at a time in its namespace; ``send()`` is the other end.  Both
work in a nested host as well as here, on opposite sides of the switch.
"""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from types import TracebackType

from testbed import TestbedError
from testbed.netns import Namespace

SECONDS = 60.0


class Listener:
    """One address that receives."""

    def __init__(self, namespace: Namespace, address: str, port: int = 0) -> None:
        self._socket = namespace.socket(_family(address), socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        self._socket.listen(1)
        self._socket.settimeout(SECONDS)
        self._digests: list[str] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._thread.start()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Number the kernel chose."""
        return int(self._socket.getsockname()[1])

    def digest(self, timeout: float = SECONDS) -> str:
        """SHA-256 of the next stream that has ended."""
        with self._news:
            if not self._news.wait_for(lambda: self._digests, timeout):
                raise TestbedError(f"no TCP stream ended within {timeout:.0f} s")
            return self._digests.pop(0)

    def close(self) -> None:
        """Stop listening."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            with connection:
                connection.settimeout(SECONDS)
                found = hashlib.sha256()
                try:
                    while data := connection.recv(1 << 20):
                        found.update(data)
                except OSError as error:
                    found.update(str(error).encode())  # a digest that is nobody's
            with self._news:
                self._digests.append(found.hexdigest())
                self._news.notify_all()


def send(namespace: Namespace, address: str, port: int, size: int, seed: int = 1) -> str:
    """Send so many random bytes; returns their SHA-256."""
    data = random.Random(seed).randbytes(size)
    with namespace.socket(_family(address), socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        connection.connect((address, port))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # until the other end has read all and closed
    return hashlib.sha256(data).hexdigest()


def bad_checksums(namespace: Namespace) -> int:
    """TCP segments and UDP datagrams that a namespace's kernel found damaged so far."""
    lines = namespace.run(["cat", "/proc/net/snmp"]).output.splitlines()
    found = 0
    for head, values in zip(lines[::2], lines[1::2], strict=True):
        named = dict(zip(head.split()[1:], values.split()[1:], strict=True))
        found += int(named.get("InCsumErrors", 0))
    return found


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
