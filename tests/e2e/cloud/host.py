# SPDX-License-Identifier: Apache-2.0
"""A host of the cloud: network, mount and host name namespaces that look like a machine.

It has an address in the control network, a cable to the other host's switch, its own /run, /etc and
/var.  A sleeping process holds the namespaces; everything else enters them.
"""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from testbed.process import Child
from tests.e2e import CloudError
from tests.e2e.cloud import settings
from tests.e2e.cloud.service import ROOT, wait
from tests.e2e.cloud.settings import Place

BRIDGE = "control"
CABLE = "phys0"  # the end of the cable between the hosts that is in each of them
PREFIX = 24

# Run in new namespaces; $1 is where this host's changes go.
FURNISH = """
set -e
mount -t tmpfs -o mode=755 run /run
for path in etc var; do
    mkdir -p "$1/$path" "$1/$path.work"
    mount -t overlay -o "lowerdir=/$path,upperdir=$1/$path,workdir=$1/$path.work" overlay "/$path"
done
mount -t tmpfs -o size=4g,mode=1777 shm /dev/shm
mkdir -p /run/netns /run/lock
ip link set lo up
sysctl -qw net.ipv6.conf.default.accept_dad=0
touch "$1/ready"
exec sleep infinity
"""


class Host:
    """One of ``settings.HOSTS``."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.address = settings.HOSTS[name]
        self.uuid = str(uuid.uuid4())
        self.logs = place.logs / name
        self.logs.mkdir(parents=True, exist_ok=True)
        changes = place.directory(name)
        self._holder = Child(name, ["sh", "-c", FURNISH, "sh", changes], self.logs / "host.log",
                             who=ROOT, within=["unshare", "--mount", "--net", "--uts"])  # fmt: skip
        wait(f"namespaces of {name}", (changes / "ready").exists, 20)
        self.run("hostname", name)
        self.write("/etc/hostname", f"{name}\n")
        hosts = [f"127.0.0.1 localhost\n{settings.CONTROLLER} controller"]
        hosts += [f"{address} {host}" for host, address in settings.HOSTS.items()]
        self.write("/etc/hosts", "\n".join(hosts) + "\n")
        self._connect()

    @property
    def within(self) -> list[str]:
        """Words before a command that make it one of this host."""
        return ["nsenter", "-t", str(self._holder.pid), "-m", "-n", "-u", "--"]

    def path(self, absolute: str) -> Path:
        """A file of this host, as this process reaches it."""
        return Path(f"/proc/{self._holder.pid}/root{absolute}")

    def write(self, absolute: str, text: str) -> Path:
        """Write a file of this host."""
        path = self.path(absolute)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> str:
        """Run a command in here; its output."""
        done = subprocess.run([*self.within, *command], capture_output=True, text=True,
                              check=False, timeout=timeout)  # fmt: skip
        if check and done.returncode:
            raise CloudError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def netns(self, name: str, *command: str, check: bool = True) -> str:
        """Run a command in one of the agents' namespaces."""
        return self.run("ip", "netns", "exec", name, *command, check=check)

    def _connect(self) -> None:
        inside = str(self._holder.pid)
        ip("link", "add", self.name, "type", "veth", "peer", "name", "control", "netns", inside)
        ip("link", "set", self.name, "master", BRIDGE, "up")
        self.run("ip", "address", "add", f"{self.address}/{PREFIX}", "dev", "control")
        self.run("ip", "link", "set", "control", "up")
        self.run("ip", "route", "add", "default", "via", settings.CONTROLLER)

    def cable(self, other: Host) -> None:
        """Lay the cable between the two switches."""
        ip("link", "add", "cable0", "type", "veth", "peer", "name", "cable1")
        for device, host in (("cable0", self), ("cable1", other)):
            ip("link", "set", device, "netns", str(host._holder.pid), "name", CABLE)
            # Only the switches talk on it.
            host.run("sysctl", "-qw", f"net.ipv6.conf.{CABLE}.disable_ipv6=1")
            host.run("ip", "link", "set", CABLE, "up")


def ip(*words: str) -> None:
    """ip(8), where the controller is."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CloudError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def control_network() -> None:
    """The bridge that controller and hosts talk over."""
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("address", "add", f"{settings.CONTROLLER}/{PREFIX}", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")
