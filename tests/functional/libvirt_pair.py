# SPDX-License-Identifier: Apache-2.0
"""Two hosts of somebody without a cloud, between which guests migrate.

    peer -- switch A -- AF_XDP == veth == AF_XDP -- switch B
               |                                       |
            libvirtd A      the guest moves         libvirtd B

Each host has a network namespace of its own, a libvirtd with an identity of its
own, and another socket directory: what the guest's XML says of its socket is
wrong on the other host.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed import TestbedError, libvirt_hook
from testbed.daemons import Switch
from testbed.libvirt import Domain
from testbed.netns import Namespace

from . import libvirt_bed, xdp_bed
from .libvirt_bed import Host

CABLE, UPLINK = "cable0", "up"
PEER = "10.9.0.250"


def missing() -> str | None:
    """Why this cannot be had here, or None."""
    return libvirt_bed.missing() or xdp_bed.missing()


@dataclass(frozen=True, slots=True)
class Pair:
    """Both hosts, their namespaces, and who pings from the first one."""

    a: Host
    b: Host
    near: tuple[Namespace, Namespace]
    peer: Namespace


@contextlib.contextmanager
def pair(name: str, hooks: bool = False) -> Iterator[Pair]:
    """``name`` begins the names of namespaces; ``hooks``: both libvirtd have ours."""
    with contextlib.ExitStack() as stack:
        beds = [xdp_bed.Bed(f"{name}{os.getpid()}-{end}") for end in "ab"]
        for bed in beds:
            stack.callback(bed.close)
        lay_cable(beds[0], beds[1].near, CABLE)
        a, b = [stack.enter_context(_host_in(bed, hooks)) for bed in beds]
        peer = libvirt_bed.peer(a.switch, PEER, within=beds[0].near)
        yield Pair(a, b, (beds[0].near, beds[1].near), stack.enter_context(peer))


@contextlib.contextmanager
def _host_in(bed: xdp_bed.Bed, hooks: bool) -> Iterator[Host]:
    """A host in the bed's near namespace, its switch on the cable's end there."""
    within = ["ip", "netns", "exec", bed.near.name]
    with libvirt_bed.host("uswitch-lv-", of_switch=bed.within(), of_libvirt=within) as host:
        _attach(bed, host.switch)
        if hooks:
            libvirt_hook.install(host.libvirt, control_socket=host.switch.control,
                                 default_segment="lan")  # fmt: skip
            host.libvirt.restart()
        yield host


def lay_cable(a: xdp_bed.Bed, b: Namespace, name: str) -> None:
    """A veth pair, an end in each host."""
    a.veth(name, name)
    xdp_bed.ip("-n", a.far.name, "link", "set", name, "netns", b.name)
    xdp_bed.ip("-n", b.name, "link", "set", name, "up")


def _attach(bed: xdp_bed.Bed, switch: Switch) -> None:
    """The uplink: root gives the cable's end to the switch."""
    done = bed.helper("attach", CABLE)
    assert done.returncode == 0, done.stderr
    switch.ctl("uplink", "add", UPLINK, "--ifname", CABLE, "--create-segment",
               "--vlan", "untagged=lan", "--ring-size", "256")
    switch.wait_link(UPLINK)


def migrate(domain: Domain, source: Host, target: Host, paths: dict[str, str]) -> Domain:
    """``virsh migrate``; ``paths`` are replaced in the XML, old and new.

    The hosts share the files of this machine, so the stream has a Unix socket, and what the test
    bed's serial ports are called has to change.
    """
    name = domain.name
    xml = source.libvirt.virsh("dumpxml", "--migratable", name)
    for old, new in {**paths, str(source.libvirt.guests): str(target.libvirt.guests)}.items():
        assert old in xml
        xml = xml.replace(old, new)
    file = target.libvirt.directory / f"{name}-migrating.xml"
    file.write_text(xml)
    domain.commands.close()
    stream = target.libvirt.guests / f"{name}.migration"
    source.libvirt.virsh(
        "migrate", "--live", "--persistent", "--undefinesource", name, target.libvirt.uri,
        "--migrateuri", f"unix://{stream}", "--xml", file, "--persistent-xml", file)  # fmt: skip
    return Domain(target.libvirt, name)


def move(domain: Domain, source: Host, target: Host, path: Path, name: str) -> Domain:
    """As somebody without a hook does it: the port first, then the guest, its socket's path new.

    ``path`` is its socket's on the source, ``name`` the port's on both.
    """
    port = source.switch.call("port.show", name=name)["port"]
    there = target.ensure(name, port["mode"], "lan", port["external_ids"]["mac"])
    moved = migrate(domain, source, target, {str(path): str(there)})
    source.switch.call("port.delete", name=name)
    return moved


def downtime_ms(domain: Domain) -> int:
    """QEMU's own figure for the migration that brought a guest to where it is."""
    said = domain.libvirt.virsh("domjobinfo", "--completed", domain.name)
    found = re.search(r"Total downtime: +(\d+) +ms", said)
    if found is None:
        raise TestbedError(f"no downtime in what virsh domjobinfo says:\n{said}")
    return int(found[1])
