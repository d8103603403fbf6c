# SPDX-License-Identifier: Apache-2.0
"""A host beside the guests: network namespaces and TAP devices.

Needs root, like every TAP port in production needs somebody to make the device: it is made
persistent and given to the unprivileged user, the switch only opens it.  Once the switch holds it,
it may be moved into a namespace.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from testbed import TestbedError, unprivileged
from testbed.console import Result
from testbed.qemu import Network

CLONE_NEWNET = 0x40000000


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

    def take(self, ifname: str) -> None:
        """Move a device of the host in here."""
        _ip("link", "set", ifname, "netns", self.name)

    def adopt(self, tap: Tap, network: Network) -> None:
        """Move a TAP device in here and configure it."""
        self.take(tap.ifname)
        tap.namespace = self
        configure(self, tap.ifname, network)

    def release(self, tap: Tap) -> None:
        """Give a TAP device back to the host."""
        _ip("-n", self.name, "link", "set", tap.ifname, "netns", str(os.getpid()))
        tap.namespace = None

    def run(self, command: Sequence[str], timeout: float = 60) -> Result:
        """Run a program of the host in here."""
        done = subprocess.run(["ip", "netns", "exec", self.name, *command], capture_output=True,
                              text=True, check=False, timeout=timeout)
        return Result(done.stdout + done.stderr, done.returncode)

    def socket(self, family: int, kind: int, proto: int = 0) -> socket.socket:
        """A socket of this namespace: a thread enters it and ends, the socket stays there."""
        with ThreadPoolExecutor(max_workers=1) as visitor:
            return visitor.submit(_open_in, self.name, family, kind, proto).result()

    def close(self) -> None:
        """Remove the namespace and the devices in it."""
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)


def _open_in(namespace: str, family: int, kind: int, proto: int) -> socket.socket:
    """Changes the calling thread's namespace for good."""
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)
    return socket.socket(family, kind, proto)


def configure(namespace: Namespace, ifname: str, network: Network) -> None:
    """Bring a namespace's device up with these settings."""
    if network.vlans:
        raise ValueError("a host kernel need not have 8021q: use a guest for VLAN interfaces")
    inside = ("-n", namespace.name)
    if network.mtu:
        _ip(*inside, "link", "set", ifname, "mtu", str(network.mtu))
    _ip(*inside, "link", "set", ifname, "up")
    for address in (network.ip, network.ip6):
        if address:
            extra = ("nodad",) if ":" in address else ()
            _ip(*inside, "address", "add", address, "dev", ifname, *extra)
