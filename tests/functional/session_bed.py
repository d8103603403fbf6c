# SPDX-License-Identifier: Apache-2.0
"""A user's own switch, as test_libvirt_session.py needs it."""

from __future__ import annotations

import json
import time
from typing import Any

from testbed import TestbedError
from testbed.process import Child
from testbed.session import Session

START_SECONDS = 30.0
PROGRAM = "/opt/uswitch/bin/uswitchd"
class UserSwitch:
    """``uswitchd --user`` in a session, and what ``uswitchctl`` says there without being told."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.log = session.directory / "uswitchd.log"
        self._child: Child | None = None

    def start(self, *options: str) -> None:
        self._child = self.session.child("uswitchd", [PROGRAM, "--user", *options], self.log)
        deadline = time.monotonic() + START_SECONDS
        while self.session.ask("uswitchctl", "show").returncode:
            self._child.check()
            if time.monotonic() > deadline:
                raise TestbedError(f"uswitchd --user is not ready: {self._child.tail()}")
            time.sleep(0.1)

    def show(self) -> dict[str, Any]:
        shown = json.loads(self.session.run("uswitchctl", "show", "-f", "json"))
        return dict(shown["host"])

    def port(self, name: str) -> dict[str, Any]:
        shown = json.loads(self.session.run("uswitchctl", "port", "show", name, "-f", "json"))
        return dict(shown)

    def end(self, signal: str) -> None:
        """Of uswitchd alone; the dataplane goes on."""
        assert self._child is not None
        self.session.run("kill", f"-{signal}", str(self.show()["daemon"]["pid"]))
        self._child.process.wait(START_SECONDS)

