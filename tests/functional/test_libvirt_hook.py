# SPDX-License-Identifier: Apache-2.0
"""The hook under a real libvirtd: guests get their ports from the XML and from nothing else.

Nobody but the hook makes or deletes a port here.  Most tests need no guest that
is up: a port is made before QEMU is there, and QEMU talks to it before the
guest's first instruction.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbed import TestbedError, libvirt_hook
from testbed.libvirt import Domain
from testbed.libvirt_guests import Interface
from testbed.qemu import Network

from .libvirt_bed import Host, host, mac_of, missing
from .xdp_bed import until

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(600),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

UP_SECONDS = 60.0
NAMESPACE = "urn:vif-uswitch:domain:1"


@dataclass
class Bed:
    """A host whose libvirtd has the hook."""

    host: Host
    config: Path

    def configure(self, **more: object) -> None:
        settings = {"control_socket": self.host.switch.control, "default_segment": "lan", **more}
        libvirt_hook.configure(self.config, **settings)

    def socket(self, name: str) -> Path:
        return self.host.switch.vhost / f"{name}.sock"

    def xml(self, name: str, number: int, inner: str = "", attributes: str = "") -> str:
        metadata = (f'<uswitch:ports xmlns:uswitch="{NAMESPACE}"><uswitch:port'
                    f' mac="{mac_of(number)}" {attributes}>{inner}</uswitch:port></uswitch:ports>'
                    if inner or attributes else "")
        interface = Interface(self.socket(name), mac_of(number))
        network = Network(ip=f"10.9.0.{number}/24")
        return self.host.guests.xml(name, [interface], network, metadata)

    def start(self, name: str, number: int, inner: str = "", attributes: str = "") -> Domain:
        return self.host.libvirt.start_domain(self.xml(name, number, inner, attributes))

    def refused(self, name: str, number: int, inner: str = "", attributes: str = "") -> str:
        """What libvirt says to a start that the hook refuses; nothing is left of it."""
        with pytest.raises(TestbedError) as raised:
            self.start(name, number, inner, attributes)
        assert self.port(name) is None
        assert not self.socket(name).exists()
        assert self.host.libvirt.virsh("domstate", name).strip() == "shut off"
        self.host.libvirt.virsh("undefine", name)
        return str(raised.value)

    def port(self, name: str) -> dict[str, Any] | None:
        """The port of a domain with one interface."""
        found = [port for port in self.host.switch.call("port.list")
                 if port["external_ids"].get("domain") == name]
        return found[0] if found else None

    def wait_up(self, name: str) -> dict[str, Any]:
        """The port of a domain once it is connected; libvirtd runs hooks after it answers."""
        deadline = time.monotonic() + UP_SECONDS
        while (port := self.port(name)) is None or port["link"] != "up":
            assert time.monotonic() < deadline, f"{name} is not up: {port}"
            time.sleep(0.05)
        return port

    def kept(self) -> list[Path]:
        """What the hook keeps between two calls, in libvirtd's own /run."""
        return list(self.host.libvirt.inside("/run/libvirt").glob("uswitch-hook-*"))

    def leaves_nothing(self, domain: Domain) -> None:
        """Neither port nor socket is left of a domain, soon (libvirt does not wait for the hook);
        the domain is forgotten."""
        uuid = self.host.libvirt.virsh("domuuid", domain.name).strip()
        self.host.libvirt.virsh("undefine", domain.name)
        until(lambda: not any(name.startswith(uuid) for name in self.host.ports())
              and not self.socket(domain.name).exists(), f"nothing is left of {domain.name}")


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with host("uswitch-hk-") as running:
        config = libvirt_hook.install(running.libvirt)
        made = Bed(running, config)
        made.configure()
        running.libvirt.restart()
        yield made
        assert running.ports() == set() and running.sockets() == set() and not made.kept()
        assert running.libvirt.virsh("list", "--all", "--name").strip() == ""


@pytest.fixture(scope="module")
def pair(bed: Bed) -> Iterator[tuple[Domain, Domain]]:
    """Two guests on one segment, one of them by the host's default."""
    both = bed.start("hook-a", 1), bed.start("hook-b", 2, attributes='segment="lan" mtu="1400"')
    for domain in both:
        domain.wait_ready()
    yield both
    for domain in both:
        domain.destroy()
        bed.leaves_nothing(domain)


def ping(domain: Domain, number: int) -> bool:
    return "3 received" in domain.must(f"ping -c 3 -W 5 10.9.0.{number}")


def test_two_guests_talk(bed: Bed, pair: tuple[Domain, Domain]) -> None:
    assert ping(pair[0], 2) and ping(pair[1], 1)
    a, b = bed.port("hook-a"), bed.port("hook-b")
    assert a is not None and b is not None
    assert (a["segment"], b["segment"], b["mtu"]) == ("lan", "lan", 1400)
    uuid = bed.host.libvirt.virsh("domuuid", "hook-a").strip()
    assert a["name"] == f"{uuid}-{mac_of(1).replace(':', '')}"
    assert float(a["external_ids"].pop("asked-at")) > 0
    assert a["external_ids"] == {"owner": "libvirt", "domain": "hook-a", "domain-uuid": uuid,
                                 "mac": mac_of(1), "uri": "qemu:///system"}


def test_libvirtd_restarts(bed: Bed, pair: tuple[Domain, Domain]) -> None:
    """A port that went missing is made again; one that was changed meanwhile is not touched."""
    a, b = bed.port("hook-a"), bed.port("hook-b")
    assert a is not None and b is not None
    bed.host.switch.call("port.delete", name=a["name"])
    bed.host.switch.call("port.set", name=b["name"], changes={"description": "by hand"})
    bed.host.libvirt.restart()
    again, kept = bed.wait_up("hook-a"), bed.wait_up("hook-b")
    assert ping(pair[0], 2)
    assert again["created_us"] != a["created_us"]
    assert kept["description"] == "by hand"


def test_libvirtd_restarts_while_uswitchd_is_down(bed: Bed, pair: tuple[Domain, Domain]) -> None:
    """libvirt would kill guests whose hook fails."""
    bed.host.switch.kill_daemon()
    bed.host.libvirt.restart()
    assert [domain.state() for domain in pair] == ["running", "running"]
    bed.host.switch.start()
    for domain in pair:
        bed.wait_up(domain.name)
    assert ping(pair[0], 2)


def test_a_killed_guest_leaves_nothing(bed: Bed) -> None:
    domain = bed.start("hook-killed", 3)
    assert bed.socket("hook-killed").exists()
    domain.kill()
    bed.leaves_nothing(domain)


@pytest.mark.spare
def test_all_that_the_metadata_can_say(bed: Bed) -> None:
    domain = bed.start(
        "hook-all", 4,
        f'<uswitch:trunk vid="7" segment="red"/><uswitch:allow mac="{mac_of(4)}" ip="10.9.0.4"/>',
        'segment="blue" max-kbps="5000" max-burst-kpps="3" flood-rate="9" fdb-quota="2"'
        ' admin="down" description="a guest"',
    )  # fmt: skip
    port = bed.port("hook-all")
    assert port is not None
    wanted = {"segment": "blue", "trunk": [{"vid": 7, "segment": "red"}], "max_kbps": 5000,
              "max_burst_kpps": 3, "flood_rate": 9, "fdb_quota": 2, "admin_up": False,
              "description": "a guest"}
    assert {key: port[key] for key in wanted} == wanted
    assert [pair["mac"] for pair in port["guard"]["pairs"]] == [mac_of(4)]
    domain.destroy()
    bed.leaves_nothing(domain)


@pytest.mark.parametrize(("inner", "attributes", "complaint"), [
    ("", 'segmnt="blue"', "attribute segmnt: is none of uswitch:port"),
    ("", 'mtu="5"', "Bytes of layer 3 payload"),
    ("", 'segment="no name"', "Name of a segment"),
    ('<uswitch:tunnel vid="1"/>', "", "element uswitch:tunnel"),
    ('<uswitch:allow mac="all"/>', "", "is no MAC address"),
])
def test_metadata_that_are_wrong(bed: Bed, inner: str, attributes: str, complaint: str) -> None:
    said = bed.refused("hook-wrong", 5, inner, attributes)
    assert complaint in said and f"interface {mac_of(5)} of domain hook-wrong gets no port" in said


def test_xml_that_was_copied(bed: Bed) -> None:
    """Two domains with one socket: the second would wait, and later get the first one's segment."""
    first = bed.start("hook-first", 9)
    copy = bed.xml("hook-copy", 10).replace(str(bed.socket("hook-copy")),
                                            str(bed.socket("hook-first")))
    with pytest.raises(TestbedError, match="belongs to domain hook-first"):
        bed.host.libvirt.start_domain(copy)
    assert bed.port("hook-copy") is None
    bed.host.libvirt.virsh("undefine", "hook-copy")
    assert bed.port("hook-first") is not None
    first.destroy()
    bed.leaves_nothing(first)


def test_uswitchd_is_down(bed: Bed) -> None:
    """QEMU would listen and wait without an end; the start is refused instead, with the reason."""
    bed.configure(deadline_s=0.5)
    bed.host.switch.kill_daemon()
    try:
        with pytest.raises(TestbedError, match="Start uswitchd"):
            bed.start("hook-down", 6)
    finally:
        bed.host.switch.start()
        bed.configure()
    bed.host.libvirt.virsh("start", "hook-down")
    domain = Domain(bed.host.libvirt, "hook-down")
    domain.destroy()
    bed.leaves_nothing(domain)


@pytest.mark.spare
def test_a_port_made_by_hand_stays(bed: Bed) -> None:
    path = bed.socket("hook-hand")
    bed.host.switch.call("port.add", port={"name": "by-hand", "path": str(path)})
    domain = bed.start("hook-hand", 7)
    domain.destroy()
    assert bed.host.ports() >= {"by-hand"}
    bed.host.switch.call("port.delete", name="by-hand")
    bed.leaves_nothing(domain)


@pytest.mark.spare
def test_restore_finds_the_directory_of_this_host(bed: Bed) -> None:
    """As on another host: what was saved names a directory that is not the one of sockets here."""
    elsewhere = bed.host.switch.vhost / "deep"
    elsewhere.mkdir()
    elsewhere.chmod(0o2777)
    domain = bed.start("hook-saved", 8, attributes='segment="blue"')
    image = bed.host.libvirt.guests / "saved"
    bed.host.libvirt.virsh("save", "hook-saved", image)
    until(lambda: bed.port("hook-saved") is None, "its port is gone")
    bed.configure(vhost_socket_dir=elsewhere)
    bed.host.libvirt.virsh("restore", image)
    port = bed.port("hook-saved")
    bed.configure()
    assert port is not None and port["path"] == str(elsewhere / "hook-saved.sock")
    assert port["segment"] == "blue"
    domain.destroy()
    bed.leaves_nothing(domain)
    elsewhere.rmdir()


def test_a_start_that_libvirt_gives_up(bed: Bed) -> None:
    """For a reason of its own, after it has called the hook: what the hook made goes again."""
    disk = ("<disk type='block'><source dev='/dev/uswitch-none'/>"
            "<target dev='vda' bus='virtio'/></disk>")
    xml = bed.xml("hook-disk", 11).replace("</devices>", f"{disk}</devices>")
    with pytest.raises(TestbedError, match="uswitch-none"):
        bed.host.libvirt.start_domain(xml)
    uuid = bed.host.libvirt.virsh("domuuid", "hook-disk").strip()
    until(lambda: f"port {uuid}-{mac_of(11).replace(':', '')} deleted" in
          bed.host.switch.log.read_text(), "the port was made and deleted")
    bed.leaves_nothing(Domain(bed.host.libvirt, "hook-disk"))
    until(lambda: not bed.kept(), "nothing is kept for a call that does not come")
