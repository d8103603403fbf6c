# SPDX-License-Identifier: Apache-2.0
"""The switch of one host, as a package would install it: its user, its directories, its helpers.

Default paths everywhere.  Both processes are those of user ``uswitch``; root makes directories,
gives the adapter to the switch, and answers for sockets that only root can make.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e import CloudError
from tests.e2e.cloud import settings
from tests.e2e.cloud.host import CABLE, Host
from tests.e2e.cloud.service import Service, user, wait
from tests.e2e.cloud.settings import Place

UPLINK = "wire"
CONF = f"""
[DEFAULT]
control_group = uswitch-control

[uplink:{UPLINK}]
ifname = {CABLE}
physnet = {settings.PHYSNET}
# 2 MiB of locked memory: both hosts' switches are one user, whom a container may limit to 8.
ring_size = 512
"""
# Beside the package's own users: that of the agent, who may use the control socket.
AGENT = """
u neutron - "Neutron's agents"
m neutron uswitch-control
"""
HELPERS = ("uswitch-xdp", "uswitch-tap")


def users(place: Place) -> None:
    """The users, for all hosts: their /etc is a layer above this one."""
    agent = place.state / "agent.conf"
    agent.write_text(AGENT)
    shipped = place.checkout / "etc/sysusers.d/uswitch.conf"
    subprocess.run(["systemd-sysusers", shipped, agent], check=True, capture_output=True)


class Switch:
    """uswitchd, its dataplane, its helpers of one host."""

    def __init__(self, place: Place, host: Host) -> None:
        self.host = host
        self._place = place
        host.write("/etc/uswitch/uswitchd.conf", CONF)
        directories = place.checkout / "etc/tmpfiles.d/uswitch.conf"
        host.run("systemd-tmpfiles", "--create", str(directories))
        host.run(place.program("uswitch-xdp"), "attach", CABLE)
        self.helpers = [self._helper(name) for name in HELPERS]
        self.daemon = Service(
            "uswitchd", [place.program("uswitchd"), "--config-file", "/etc/uswitch/uswitchd.conf"],
            host.logs / "uswitchd.log", who=user("uswitch"),
            within=host.within)  # fmt: skip

    def _unit(self, name: str) -> Path:
        return self._place.checkout / f"etc/systemd/{name}.socket"

    def _helper(self, name: str) -> Service:
        return Service(f"{name}.socket",
                       [sys.executable, "-m", "tests.e2e.cloud.activation", self._unit(name),
                        self._place.program(name)], self.host.logs / f"{name}.log",
                       within=self.host.within, environment=self._place.search_path)  # fmt: skip

    def start(self) -> None:
        """Start all, and wait until the dataplane forwards."""
        for one in self.helpers:
            one.start()
        self.daemon.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Until uswitchd answers and its dataplane runs."""
        wait(f"the switch of {self.host.name}", self._ready, 60, [self.daemon])

    def _ready(self) -> bool:
        with contextlib.suppress(CloudError):
            return bool(self.ctl("show")["host"]["dataplane"]["running"])
        return False

    def ctl(self, *words: str) -> Any:
        """What ``uswitchctl -f json`` says, as the user of the agent."""
        command = [self._place.program("uswitchctl"), *words, "-f", "json"]
        return json.loads(self.host.run(*command) or "null")

    def ports(self) -> dict[str, dict[str, Any]]:
        """All ports by name."""
        return {port["name"]: port for port in self.ctl("port", "list")}

    def drops(self, port: str) -> dict[str, int]:
        """Frames of a port that were not delivered, by reason."""
        found: dict[str, int] = {}
        for drop in self.ctl("drops", "--port", port):
            found[drop["reason"]] = found.get(drop["reason"], 0) + drop["frames"]
        return found

    def dataplane_pid(self) -> int:
        """Of uswitch-dataplane: a child of the daemon, or adopted from an earlier one."""
        return int(self.ctl("show")["host"]["dataplane"]["pid"])

    def kill_dataplane(self) -> None:
        """SIGKILL, and wait for the next one."""
        old = self.dataplane_pid()
        os.kill(old, signal.SIGKILL)
        wait("a new dataplane", lambda: self._ready() and self.dataplane_pid() != old, 60)

    def restart_daemon(self, how: signal.Signals) -> None:
        """End uswitchd and start the next one."""
        self.daemon.stop(how)
        self.daemon.start()
        self.wait_ready()

    def privileges(self) -> list[str]:
        """What either process has that an ordinary user has not; empty if all is well."""
        found = []
        for pid in (self.daemon.pid, self.dataplane_pid()):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            words = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            uids = {int(uid) for uid in words["Uid"].split()}
            if uids != {pwd.getpwnam("uswitch").pw_uid}:
                found.append(f"{words['Name']} runs as {sorted(uids)}")
            for capability in ("CapPrm", "CapEff", "CapAmb"):
                if int(words[capability], 16):
                    found.append(f"{words['Name']} has {capability} {words[capability]}")
        return found
