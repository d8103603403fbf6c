# SPDX-License-Identifier: Apache-2.0
"""A server of the cloud, from the inside: commands through its console.

Nova gives a guest a console: a terminal, logged to a file.  The command loop of ``testbed/guest``
answers there, so that nothing of the network is needed to ask about the network.
``testbed/console.py`` explains the marks.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import time
import tty
from pathlib import Path
from typing import Any

from testbed.console import Result
from tests.e2e import CloudError
from tests.e2e.cloud.cloud import Cloud, ComputeNode
from tests.e2e.image import READY

BOOT_SECONDS = 240.0
COMMAND_SECONDS = 60.0


class Guest:
    """One server.  Where it runs and which terminal it has is asked anew after each change."""

    def __init__(self, cloud: Cloud, server_id: str, name: str) -> None:
        self.cloud = cloud
        self.id = server_id
        self.name = name
        self._terminal = -1
        self._said = ""
        self._log = Path("/nonexistent")
        self.node: ComputeNode = cloud.nodes[0]

    # -- from the outside ----------------------------------------------------------------------

    @property
    def server(self) -> Any:
        """What Nova says of it."""
        return self.cloud.sdk.compute.get_server(self.id)

    def find(self) -> None:
        """Find host and terminal of the running guest."""
        server = self.server
        self.node = self.cloud.node(server.compute_host)
        self.close()
        device = self.node.host.run("virsh", "-c", "qemu:///system", "ttyconsole",
                                    server.instance_name).strip()  # fmt: skip
        self._terminal = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
        tty.setraw(self._terminal)
        self._said = ""
        self._log = self.node.host.path(f"/var/lib/nova/instances/{self.id}/console.log")

    def close(self) -> None:
        """Leave the terminal."""
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    def ports(self) -> list[Any]:
        """Its Neutron ports."""
        return list(self.cloud.sdk.network.ports(device_id=self.id))

    # -- from the inside -----------------------------------------------------------------------

    def wait_ready(self) -> None:
        """Until its command loop runs; for a guest that boots."""
        end = time.monotonic() + BOOT_SECONDS
        self.find()
        while READY not in (text := self._log.read_text(errors="replace")):
            if time.monotonic() > end:
                raise CloudError(f"{self.name} did not boot; its console ends:\n{text[-600:]}")
            time.sleep(0.2)

    def run(self, command: str, timeout: float = COMMAND_SECONDS) -> Result:
        """Run one shell command line."""
        token = secrets.token_hex(4)
        pattern = re.compile(rf"@@{token} begin\n(.*)\n@@{token} (\d+)\n", re.DOTALL)
        end = time.monotonic() + timeout
        self._listen()
        self._said = ""
        os.write(self._terminal, f"{token} {command}\n".encode())
        while (found := pattern.search(self._said)) is None:
            if time.monotonic() > end:
                raise CloudError(f"{self.name} did not finish in {timeout:.0f} s: {command}\n"
                                 f"{self._said[-400:]}")  # fmt: skip
            select.select([self._terminal], [], [], 0.5)
            self._listen()
        return Result(found[1], int(found[2]))

    def must(self, command: str, timeout: float = COMMAND_SECONDS) -> str:
        """The output of a command that has to succeed."""
        result = self.run(command, timeout)
        if result.rc:
            raise CloudError(f"{self.name}: {command}: status {result.rc}: {result.output}")
        return result.output.strip()

    def until(self, command: str, timeout: float = COMMAND_SECONDS) -> str:
        """Repeat a command until it succeeds."""
        end = time.monotonic() + timeout
        while True:
            result = self.run(command, timeout)
            if not result.rc:
                return result.output.strip()
            if time.monotonic() > end:
                raise CloudError(f"{self.name}: {command}: {result.output.strip()}")
            time.sleep(0.5)

    def _listen(self) -> None:
        """Take what the guest has said; it would have to wait if nobody did."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._terminal, 65536):
                self._said += data.decode(errors="replace")
