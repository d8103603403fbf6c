# SPDX-License-Identifier: Apache-2.0
"""What an init system does with our .socket units: listen, and start a program for each connection.

    python -m tests.e2e.cloud.activation UNIT PROGRAM

The socket, its owner and mode are read from the unit, and so are the arguments of the service's
ExecStart; PROGRAM stands for the path in it.
"""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path


def unit(path: Path) -> configparser.ConfigParser:
    """A unit file; repeated keys are not needed here."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


def listen(options: configparser.SectionProxy) -> socket.socket:
    """The socket that the unit describes."""
    path = options["ListenSequentialPacket"]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    shutil.chown(path, options.get("SocketUser", "root"), options.get("SocketGroup", "root"))
    os.chmod(path, int(options.get("SocketMode", "0666"), 8))
    listener.listen(16)
    return listener


def main() -> None:
    """Serve until killed."""
    path, program = Path(sys.argv[1]), sys.argv[2]
    service = unit(path.with_name(path.stem + "@.service"))["Service"]
    command = [program, *shlex.split(service["ExecStart"])[1:]]
    with listen(unit(path)["Socket"]) as listener:
        running: list[subprocess.Popen[bytes]] = []
        while True:
            peer = listener.accept()[0]
            with peer:
                running = [one for one in running if one.poll() is None]
                running.append(subprocess.Popen(command, stdin=peer.fileno()))


if __name__ == "__main__":
    main()
