# SPDX-License-Identifier: Apache-2.0
"""``python -m testbed.shell g0``: log in to a guest that ``make demo KEEP=1`` left running.

Connects this terminal to the guest's third serial port.  Ctrl-] leaves; the guest does not notice.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

from testbed import TestbedError
from testbed.kept import Kept

LEAVE = b"\x1d"


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m testbed.shell", description=__doc__)
    parser.add_argument("guest", help="name of the guest: g0 or g1")
    options = parser.parse_args(arguments)
    try:
        connect(Kept.load().directory / f"{options.guest}.tty")
    except TestbedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def connect(path: Path) -> None:
    """Join standard input and output with a guest's serial port until Ctrl-] or end of file."""
    with socket.socket(socket.AF_UNIX) as port:
        try:
            port.connect(str(path))
        except OSError as error:
            raise TestbedError(f"no guest answers at {path}: {error.strerror}") from error
        print("Connected; Ctrl-] leaves, the guest goes on.")
        port.sendall(b"\n")
        with _raw_terminal(), selectors.DefaultSelector() as selector:
            selector.register(port, selectors.EVENT_READ)
            selector.register(sys.stdin, selectors.EVENT_READ)
            while _pump(port, [key.fileobj for key, _ in selector.select()]):
                pass
    print()


def _pump(port: socket.socket, ready: list[object]) -> bool:
    """Move what is there; False when either side is done."""
    if port in ready:
        data = port.recv(4096)
        if not data:
            return False
        os.write(sys.stdout.fileno(), data)
    if sys.stdin in ready:
        typed = os.read(sys.stdin.fileno(), 4096)
        before, leave, _ = typed.partition(LEAVE)
        port.sendall(before)
        return bool(typed) and not leave
    return True


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    if not sys.stdin.isatty():
        yield
        return
    saved = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)


if __name__ == "__main__":
    sys.exit(main())
