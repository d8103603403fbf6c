# SPDX-License-Identifier: Apache-2.0
"""A host of somebody without a cloud: uswitchd, libvirtd, and guests that they join.

Users and groups are as packaging makes them: QEMU runs as Debian's libvirt-qemu,
uswitchd as a user without privileges that is in the socket directory's group.
Here a test makes the ports, by the call that hook and commands make too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from testbed import libvirt, netns, parts, unprivileged
from testbed.cache import Cache
from testbed.daemons import Switch
from testbed.libvirt import Domain, Libvirt
from testbed.libvirt_guests import Device, Guests, Interface
from testbed.netns import Namespace, Tap
from testbed.qemu import Mode, Network

_peers = itertools.count(1)


def missing() -> str | None:
    """Why none of this can be had here, or None."""
    return libvirt.available() or netns.available()


def mac_of(number: int) -> str:
    """Of interface ``number``."""
    return f"52:54:00:6c:76:{number:02x}"


@dataclass(frozen=True, slots=True)
class Host:
    """A switch and a libvirtd."""

    switch: Switch
    libvirt: Libvirt
    guests: Guests

    def interface(self, name: str, number: int, mode: Mode, segment: str = "lan") -> Interface:
        """An interface with a port of this name."""
        path = self.ensure(name, mode, segment, mac_of(number))
        return Interface(path, mac_of(number), mode)

    def ensure(self, name: str, mode: Mode, segment: str, mac: str) -> Path:
        """The port, whether it was there or not, as somebody makes it by hand; its socket."""
        port = {"name": name, "mode": mode, "segment": segment,
                "external_ids": {"domain": name, "mac": mac}}
        answer = self.switch.call("port.ensure", port=port, create_segments=True)
        return Path(answer["port"]["path"])

    def start(self, name: str, number: int, mode: Mode, *more: Device) -> Domain:
        """A guest with one interface at 10.9.0.``number``, and more devices; not ready yet."""
        network = Network(ip=f"10.9.0.{number}/24")
        devices = [self.interface(name, number, mode), *more]
        return self.libvirt.start_domain(self.guests.xml(name, devices, network))

    def ports(self) -> set[str]:
        """Names of all ports."""
        return {port["name"] for port in self.switch.call("port.list")}

    def sockets(self) -> set[str]:
        """What is in the socket directory."""
        return {path.name for path in self.switch.vhost.iterdir()}


@contextlib.contextmanager
def host(prefix: str, *, of_switch: Sequence[str] = (), of_libvirt: Sequence[str] = ()
         ) -> Iterator[Host]:  # fmt: skip
    """One, in a directory whose name begins so; the others are words before command lines."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o755)
    who, group = unprivileged.identity(), libvirt.group_of_qemu()
    unprivileged.own(directory, who)
    (directory / "vhost").mkdir()
    shutil.chown(directory / "vhost", who.uid, group)
    (directory / "vhost").chmod(0o2775)
    switch = Switch(directory, who=replace(who, groups=(*who.groups, group)), within=of_switch)
    machine = parts.prepare(Cache(), lambda _: None).machine
    with switch, Libvirt(directory / "libvirt", within=of_libvirt) as running:
        yield Host(switch, running, Guests(running, machine))
        assert "Traceback" not in switch.log.read_text(), switch.tail(40)
    shutil.rmtree(directory)


@contextlib.contextmanager
def peer(switch: Switch, ip: str, *, within: Namespace | None = None) -> Iterator[Namespace]:
    """A host's kernel on a port of the switch, in a namespace of its own: no guest that can stall.

    ``within`` is the namespace of the switch, if it has one.
    """
    name = f"lv{os.getpid()}-{next(_peers)}"
    with Namespace(name) as namespace, Tap(f"lv{next(_peers)}x{os.getpid() & 0xFFFF:x}") as tap:
        if within is not None:
            within.take(tap.ifname)
            tap.namespace = within
        switch.add_tap(name, tap.ifname, segment="lan")
        if within is not None:
            within.release(tap)
        namespace.adopt(tap, Network(ip=f"{ip}/24"))
        switch.wait_link(name)
        yield namespace
        switch.call("port.delete", name=name)
