# SPDX-License-Identifier: Apache-2.0
"""A host beside the guests: network namespaces and TAP devices.

Needs root, like every TAP port in production needs somebody to make the device: it is made
persistent and given to the unprivileged user, the switch only opens it.  Once the switch holds it,
it may be moved into a namespace.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from types import TracebackType

from testbed import TestbedError, unprivileged
from testbed.console import Result
from testbed.qemu import Network


def available() -> str | None:
    """Why namespaces and TAP devices cannot be used here, or None."""
    if os.geteuid() != 0:
        return "network namespaces and TAP devices need root"
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun is missing: load the module tun"
    return None


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise TestbedError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Tap:
    """A persistent TAP device that belongs to the unprivileged user."""

    def __init__(self, ifname: str) -> None:
        self.ifname = ifname
        self.namespace: Namespace | None = None
        who = unprivileged.identity()
        _ip("tuntap", "add", "dev", ifname, "mode", "tap", "user", str(who.uid))

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def up(self) -> None:
        """Bring it up where it is."""
        _ip("link", "set", self.ifname, "up")

    def close(self) -> None:
        """Delete it, wherever it is."""
        where = ["-n", self.namespace.name] if self.namespace else []
        subprocess.run(["ip", *where, "link", "delete", self.ifname], capture_output=True,
                       check=False)


class Namespace:
    """A network namespace with its loopback up."""

    def __init__(self, name: str) -> None:
        self.name = name
        _ip("netns", "add", name)
        try:
            _ip("-n", name, "link", "set", "lo", "up")
        except TestbedError:
            self.close()
            raise

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def adopt(self, tap: Tap, network: Network) -> None:
        """Move a TAP device in here and configure it."""
        if network.vlans:
            raise ValueError("a host kernel need not have 8021q: use a guest for VLAN interfaces")
        _ip("link", "set", tap.ifname, "netns", self.name)
        tap.namespace = self
        inside = ("-n", self.name)
        if network.mtu:
            _ip(*inside, "link", "set", tap.ifname, "mtu", str(network.mtu))
        _ip(*inside, "link", "set", tap.ifname, "up")
        for address in (network.ip, network.ip6):
            if address:
                extra = ("nodad",) if ":" in address else ()
                _ip(*inside, "address", "add", address, "dev", tap.ifname, *extra)

    def release(self, tap: Tap) -> None:
        """Give a TAP device back to the host."""
        _ip("-n", self.name, "link", "set", tap.ifname, "netns", str(os.getpid()))
        tap.namespace = None

    def run(self, command: Sequence[str], timeout: float = 60) -> Result:
        """Run a program of the host in here."""
        done = subprocess.run(["ip", "netns", "exec", self.name, *command], capture_output=True,
                              text=True, check=False, timeout=timeout)
        return Result(done.stdout + done.stderr, done.returncode)

    def close(self) -> None:
        """Remove the namespace and the devices in it."""
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)
