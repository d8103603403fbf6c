# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl domain`` with a real libvirtd, a real guest and a bridge to leave.

One guest lives through the module: it starts on a bridge, gets an interface of
the switch and loses it, and is converted.  libvirtd and the bridge are in a
network namespace of their own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from testbed import TestbedError
from testbed.daemons import installed
from testbed.libvirt import Domain
from testbed.netns import Namespace
from testbed.qemu import Network

from . import libvirt_bed
from .libvirt_bed import Host, mac_of

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(600),
    pytest.mark.skipif(libvirt_bed.missing() is not None, reason=str(libvirt_bed.missing())),
]
WATCH_SECONDS = 120.0
BRIDGE_IP, PEER_IP = "10.9.0.254", "10.9.0.100"
MAC = mac_of(1)


@dataclass(frozen=True, slots=True)
class OnBridge:
    """An interface on a bridge, at a place of its own."""

    mac: str
    alias: str
    slot: int

    def xml(self) -> str:
        return (f"<interface type='bridge'><mac address='{self.mac}'/><source bridge='dombr'/>"
                f"<model type='virtio'/><alias name='{self.alias}'/><address type='pci' domain='0'"
                f" bus='0' slot='{self.slot}' function='0'/></interface>")


@dataclass(frozen=True, slots=True)
class Done:
    """A command that was run."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Ctl:
    """``uswitchctl domain`` as an administrator of this host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def _command(self, action: str, *words: str) -> list[str]:
        return [str(installed("uswitchctl")), "--socket", str(self._host.switch.control),
                "domain", action, "--connect", self._host.libvirt.uri, *words]

    def __call__(self, action: str, *words: str, timeout: float = 100) -> Done:
        done = subprocess.run(self._command(action, *words), capture_output=True, text=True,
                              check=False, timeout=timeout, stdin=subprocess.DEVNULL)  # fmt: skip
        assert "Traceback" not in done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, action: str, *words: str) -> Generator[Any, None, None]:
        """Run it, and give each of its lines, parsed; it ends when that is closed."""
        command = self._command(action, *words)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as child:  # fmt: skip
            assert child.stdout is not None and child.stderr is not None
            late = threading.Timer(WATCH_SECONDS, child.kill)
            late.start()
            try:
                for line in child.stdout:
                    yield json.loads(line)
                raise AssertionError(f"no more lines, status {child.wait()}: {child.stderr.read()}")
            finally:
                late.cancel()
                child.terminate()

    def must(self, action: str, *words: str) -> Done:
        done = self(action, *words)
        assert done.status == 0, done.err + done.out
        return done


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Namespace(f"dom{os.getpid()}") as space:
        for words in (["link", "add", "dombr", "type", "bridge"], ["link", "set", "dombr", "up"],
                      ["addr", "add", f"{BRIDGE_IP}/24", "dev", "dombr"]):
            subprocess.run(["ip", "-n", space.name, *words], check=True)
        with libvirt_bed.host("uswitch-dom-",
                              of_libvirt=["ip", "netns", "exec", space.name]) as running:
            yield running


@pytest.fixture(scope="module")
def ctl(host: Host) -> Ctl:
    return Ctl(host)


@pytest.fixture(scope="module")
def vm(host: Host) -> Iterator[Domain]:
    device = OnBridge(MAC, "ua-first", 7)
    xml = host.guests.xml("vm1", [device], Network(ip="10.9.0.1/24"))
    domain = host.libvirt.start_domain(xml)
    domain.wait_ready()
    yield domain
    domain.destroy()


def config(host: Host, name: str) -> ET.Element:
    return ET.fromstring(host.libvirt.virsh("dumpxml", "--inactive", name))


def live(host: Host, name: str) -> ET.Element:
    return ET.fromstring(host.libvirt.virsh("dumpxml", name))


def kinds(domain: ET.Element) -> list[str | None]:
    return [one.get("type") for one in domain.findall("devices/interface")]


def test_attach_ping_detach(host: Host, ctl: Ctl, vm: Domain) -> None:
    assert "3 received" in vm.must(f"ping -c 3 -W 5 {BRIDGE_IP}")
    watched = ctl.start("watch", "vm1", "--interval", "0.1", "-f", "json")
    told_of = ctl.start("watch", "vm1", "--interval", "600", "-f", "json")  # by libvirt's events
    assert next(watched)["what"] == next(told_of)["what"] == "appeared"
    done = ctl.must("attach", "vm1", "--segment", "lan", "--create-segment", "--max-kbps", "800000",
                    "--wait", "-f", "json").json  # fmt: skip
    mac, port = done["mac"], done["port"]
    assert done["affects"] == "running guest and configuration" and port["link"] == "up"
    assert port["max_kbps"] == 800000 and port["external_ids"] == {
        "owner": "libvirt", "domain": "vm1", "domain-uuid": config(host, "vm1").findtext("uuid"),
        "mac": mac, "uri": "qemu:///system", "asked-at": "0"}  # fmt: skip
    assert kinds(live(host, "vm1")) == kinds(config(host, "vm1")) == ["bridge", "vhostuser"]
    for words in ([], ["--config"]):
        metadata = host.libvirt.virsh("metadata", "vm1", "urn:vif-uswitch:domain:1", *words)
        entry = ET.fromstring(metadata).find(".//")
        assert entry is not None
        assert entry.attrib == {"mac": mac, "segment": "lan", "max-kbps": "800000"}
    vm.must("ip addr flush dev eth0; ip addr add 10.9.0.1/24 dev eth1; ip link set eth1 up")
    with libvirt_bed.peer(host.switch, PEER_IP):
        assert "3 received" in vm.must(f"ping -c 3 -W 5 {PEER_IP}")
    rows = {row["mac"]: row for row in ctl.must("list", "vm1", "-f", "json").json}
    assert (rows[mac]["link"], rows[mac]["segment"], rows[mac]["port"]) == (
        "up", "lan", port["name"])  # fmt: skip
    assert (rows[MAC]["type"], rows[MAC]["source"], rows[MAC]["link"]) == ("bridge", "dombr", None)
    found = ctl.must("check", "vm1", "-f", "json").json
    assert {row["status"] for row in found} == {"PASS"} and len(found) > 5
    assert _until(told_of, "appeared")[-1]["mac"] == mac
    ctl.must("detach", "vm1", mac)
    assert "eth1" not in vm.must("ls /sys/class/net")
    assert kinds(live(host, "vm1")) == kinds(config(host, "vm1")) == ["bridge"]
    assert host.ports() == set() and host.sockets() == set()
    assert ctl("detach", "vm1", mac).status == 4
    told = _until(watched, "gone")
    assert _until(told_of, "gone")[-1]["mac"] == mac
    watched.close()
    told_of.close()
    assert {change["mac"] for change in told} == {mac} and told[0]["what"] == "appeared"
    assert "up" in [str(change["after"]).split()[-1] for change in told]
    for domain in (live(host, "vm1"), config(host, "vm1")):
        assert b"vif-uswitch" not in ET.tostring(domain)


def _until(changes: Iterator[Any], what: str) -> list[Any]:
    """What ``watch`` tells, up to that."""
    told = [next(changes)]
    while told[-1]["what"] != what:
        told.append(next(changes))
    return told


def test_convert_from_a_bridge(host: Host, ctl: Ctl, vm: Domain) -> None:
    before = config(host, "vm1").find("devices/interface")
    where = vm.must("readlink -f /sys/class/net/eth0/device")
    shown = ctl.must("convert", "vm1", "--segment", "lan", "--dry-run")
    assert "nothing was changed" in shown.out and "-    <interface type='bridge'>" in shown.out
    assert [line for line in shown.out.splitlines() if line.startswith("-") and "---" not in line
            ] == ["-    <interface type='bridge'>", "-      <source bridge='dombr'/>"]  # fmt: skip
    assert kinds(config(host, "vm1")) == ["bridge"] and host.ports() == set()
    assert "nobody to ask" in ctl("convert", "vm1", "--segment", "lan").err
    done = ctl.must("convert", "vm1", "--segment", "lan", "--yes")
    assert "until vm1 is shut down and started again" in done.err
    after = config(host, "vm1").find("devices/interface")
    assert before is not None and after is not None and after.get("type") == "vhostuser"
    for tag in ("mac", "address", "alias", "model"):
        assert _attributes(before, tag) == _attributes(after, tag) != {}
    assert kinds(live(host, "vm1")) == ["bridge"]
    vm.commands.close()
    host.libvirt.virsh("destroy", "vm1")
    vm.again()
    assert vm.must("readlink -f /sys/class/net/eth0/device") == where
    assert vm.must("cat /sys/class/net/eth0/address").strip() == MAC
    with libvirt_bed.peer(host.switch, PEER_IP):
        assert "3 received" in vm.must(f"ping -c 3 -W 5 {PEER_IP}")
    assert ctl("check", "vm1").status == 0


def _attributes(element: ET.Element, tag: str) -> dict[str, str]:
    found = element.find(tag)
    return {} if found is None else found.attrib


@pytest.fixture
def idle(host: Host) -> Iterator[str]:
    """A domain that is shut off, without an interface and without shared memory."""
    text = host.guests.xml("vm2", [])
    private = re.sub("<memoryBacking>.*</memoryBacking>", "", text)
    assert private != text
    yield host.libvirt.define(private)
    host.switch.vhost.chmod(0o2775)
    if host.libvirt.virsh("domstate", "vm2").strip() != "shut off":
        host.libvirt.virsh("destroy", "vm2")
    for port in ports_of(host, "vm2"):
        host.switch.call("port.delete", name=port)
    host.libvirt.virsh("undefine", "vm2")


def uuid_of(host: Host, name: str) -> str:
    return host.libvirt.virsh("domuuid", name).strip()


def ports_of(host: Host, name: str) -> list[str]:
    return [port for port in host.ports() if port.startswith(uuid_of(host, name))]


def stuck_s(host: Host, name: str) -> int:
    """For how many seconds libvirt has waited for its QEMU."""
    found = re.search(r"\((\d+)\.", host.libvirt.virsh("domcontrol", name))
    return int(found[1]) if found else 0


def wait_for(path: str, starting: subprocess.Popen[bytes]) -> None:
    """Until that file is there, as long as the other program is at it."""
    while not os.path.exists(path):
        assert starting.poll() is None
        time.sleep(0.02)


def wrong(ctl: Ctl, status: int = 1) -> dict[str, str]:
    """What check has against vm2: text and advice by check."""
    done = ctl("check", "vm2", "-q", "-f", "json")
    assert done.status == status, done.out + done.err
    return {row["check"]: f"{row['text']}. {row['todo']}" for row in done.json}


def test_shut_off_and_with_private_memory(host: Host, ctl: Ctl, idle: str) -> None:
    before = host.ports()
    done = ctl.must("attach", idle, "--segment", "lan", "--create-segment", "--queues", "2")
    assert "shares its memory from its next start on" in done.err
    [port] = host.ports() - before
    assert "(configuration)" in done.out and port in done.out
    assert wrong(ctl, 0) == {}
    host.libvirt.virsh("start", idle)
    found = {row["check"]: row["status"] for row in ctl("check", idle, "-f", "json").json}
    assert set(found) == {"DOM-01", "NIC-01", "NIC-02", "NIC-03", "NIC-04"}
    assert found.pop("NIC-04") in ("PASS", "WARN") and set(found.values()) == {"PASS"}
    host.libvirt.virsh("destroy", idle)
    ctl.must("detach", idle, port)
    assert host.ports() == before and kinds(config(host, idle)) == []


def test_a_running_guest_with_private_memory(host: Host, ctl: Ctl, idle: str) -> None:
    before = host.ports()
    host.libvirt.virsh("start", idle)
    for words in ([], ["--live"]):
        done = ctl("attach", idle, "--segment", "lan", "--create-segment", *words)
        assert done.status == 1 and "Attach with --config" in done.err
    assert host.ports() == before and kinds(config(host, idle)) == kinds(live(host, idle)) == []


def test_what_libvirt_refuses_is_taken_back(host: Host, ctl: Ctl, idle: str) -> None:
    """QEMU is in the directory's group, which may not write any more: it cannot listen."""
    same = f"<uuid>{uuid_of(host, idle)}</uuid>"
    host.libvirt.define(re.sub("<uuid>.*</uuid>", same, host.guests.xml(idle, [])))
    host.libvirt.virsh("start", idle)
    before = host.ports(), host.sockets()
    host.switch.vhost.chmod(0o2755)
    done = ctl("attach", idle, "--segment", "lan", "--create-segment")
    assert done.status == 1 and "Permission denied" in done.err
    assert re.search("taken back: metadata\n.*taken back: metadata\n.*taken back: port", done.err)
    assert (host.ports(), host.sockets()) == before
    for domain in (live(host, idle), config(host, idle)):
        assert b"vif-uswitch" not in ET.tostring(domain) and kinds(domain) == []


def test_a_running_guest_is_not_frozen(host: Host, ctl: Ctl, idle: str) -> None:
    """uswitchd owns the directory, and its owner may not enter: it says so before QEMU listens."""
    same = f"<uuid>{uuid_of(host, idle)}</uuid>"
    host.libvirt.define(re.sub("<uuid>.*</uuid>", same, host.guests.xml(idle, [])))
    host.libvirt.virsh("start", idle)
    before = host.ports()
    host.switch.vhost.chmod(0o2070)
    done = ctl("attach", idle, "--segment", "lan", "--create-segment")
    assert done.status == 1 and "denied access" in done.err and "taken back: port" in done.err
    assert host.ports() == before
    assert kinds(live(host, idle)) == kinds(config(host, idle)) == []


def test_detach_by_an_alias_of_the_running_guest(host: Host, ctl: Ctl, idle: str) -> None:
    ctl.must("attach", idle, "--segment", "lan", "--create-segment")
    host.libvirt.virsh("start", idle)
    alias = live(host, idle).find("devices/interface/alias")
    assert alias is not None
    ctl.must("detach", idle, alias.attrib["name"], "--config")
    assert (kinds(live(host, idle)), kinds(config(host, idle))) == (["vhostuser"], [])
    assert len(ports_of(host, idle)) == 1
    host.libvirt.virsh("destroy", idle)
    [port] = ports_of(host, idle)
    done = ctl.must("detach", idle, port)
    assert "was gone from" in done.out and ports_of(host, idle) == []


@pytest.mark.spare
def test_qemu_that_cannot_reach_its_switch_keeps_its_port(
    host: Host, ctl: Ctl, idle: str
) -> None:
    """It tries again and again, and answers nobody.  When it can, the guest has its interface."""
    same = f"<uuid>{uuid_of(host, idle)}</uuid>"
    host.libvirt.define(re.sub("<uuid>.*</uuid>", same, host.guests.xml(idle, [])))
    host.libvirt.virsh("start", idle)
    host.switch.vhost.chmod(0o2705)
    done = ctl("attach", idle, "--segment", "lan", "--create-segment", "--mode", "client")
    assert done.status == 5 and "the guest goes on by itself" in done.err
    assert "taken back" not in done.err and len(ports_of(host, idle)) == 1
    host.switch.vhost.chmod(0o2775)
    while kinds(live(host, idle)) != ["vhostuser"]:
        time.sleep(0.1)
    assert kinds(config(host, idle)) == ["vhostuser"]


def test_what_check_finds(host: Host, ctl: Ctl, idle: str) -> None:
    ctl.must("attach", idle, "--segment", "lan", "--create-segment")
    [port] = ports_of(host, idle)
    with_memory = ET.tostring(config(host, idle), encoding="unicode")
    without = re.sub("<memoryBacking>.*</memoryBacking>", "", with_memory, flags=re.DOTALL)
    with pytest.raises(TestbedError, match="requires shared memory"):
        host.libvirt.define(without)
    spec = host.switch.call("port.show", name=port)["port"]
    host.switch.call("port.delete", name=port)
    assert "without the hook" in wrong(ctl, 0)["NIC-02"]
    host.switch.call("port.add", port={"name": port, "path": spec["path"], "mode": "client"})
    found = wrong(ctl)
    assert "both listen" in found["NIC-02"] and "no segment" in found["NIC-03"]
    host.switch.call("port.delete", name=port)
    host.switch.call("port.add", port={
        "name": port, "path": spec["path"], "segment": "lan",
        "external_ids": spec["external_ids"]})  # fmt: skip
    # uswitchd owns the directory, and its owner may not enter: QEMU listens, and waits.
    host.switch.vhost.chmod(0o2070)
    with subprocess.Popen(["virsh", "-c", host.libvirt.uri, "start", idle]) as starting:
        try:
            wait_for(spec["path"], starting)
            while stuck_s(host, idle) < 4:
                time.sleep(0.1)
            found = wrong(ctl)
            assert set(found) == {"DOM-04", "NIC-04"} and "does not let" in found["NIC-04"]
            [row] = ctl.must("list", idle, "-f", "json").json
            assert (row["state"], row["link"], row["port"]) == ("stuck", "waiting", port)
            assert ctl("detach", idle, port).status == 1
        finally:
            host.switch.vhost.chmod(0o2775)
        assert starting.wait(60) == 0
