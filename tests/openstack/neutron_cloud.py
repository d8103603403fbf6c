# SPDX-License-Identifier: Apache-2.0
"""A cloud of one host: Neutron, its agent, a running switch with an uplink, and guests on it.

    guests (Frontend) === switch === up0: near0 ==veth== far0 (namespace), where a test listens

Plugging is what the os-vif plugin does, without Nova.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from testbed import unprivileged
from testbed.daemons import Switch
from tests.functional.frontend import Frontend
from tests.functional.xdp_bed import Bed
from tests.openstack import neutron_frames as frames
from tests.openstack.neutron_bed import Agent, ListeningNova, Neutron, until

Json = dict[str, Any]
_markers = itertools.count(1)


class Guest:
    """An instance's interface: a Neutron port, plugged, and a front-end that plays the guest."""

    def __init__(self, switch: Switch, port: Json) -> None:
        self.id: str = port["id"]
        self.network: str = port["network_id"]
        self.mac = frames.mac_of(port["mac_address"])
        addresses = [fixed["ip_address"] for fixed in port["fixed_ips"]]
        self.ip = next((ip for ip in addresses if ":" not in ip), "")
        self.ip6 = next((ip for ip in addresses if ":" in ip), "")
        self.switch = switch
        self.front: Frontend | None = None

    def plug(self, start: bool = True) -> Guest:
        """As Nova does it: the port first, then QEMU, which listens."""
        path = str(self.switch.vhost / f"{self.id}.sock")
        self.switch.client.port_ensure({
            "name": self.id, "path": path, "mode": "server",
            "external_ids": {"owner": "nova", "network": self.network},
        })  # fmt: skip
        return self.start() if start else self

    def start(self) -> Guest:
        self.front = Frontend(str(self.switch.vhost / f"{self.id}.sock"), listen=True)
        self.front.start()
        return self

    def unplug(self) -> None:
        if self.front is not None:
            self.front.close()
            self.front = None
        self.switch.client.port_delete(self.id)

    def show(self) -> Json:
        shown: Json = self.switch.client.port_show(self.id)["port"]
        return shown

    def wait(self, what: str, condition: Callable[[Json], object]) -> None:
        """Until the agent has set this, and the dataplane has it."""
        until(lambda: condition(self.show()), what)
        # What is shown is what is wanted; changes come one after the other, so this one is later.
        self.switch.client.port_set(self.id, {})

    def drops(self, reason: str) -> int:
        found = self.switch.client.port_show(self.id)["drops"]
        return sum(drop["frames"] for drop in found if drop["reason"] == reason)

    # ---- frames ----

    def send(self, *data: bytes) -> None:
        """Returns when the switch is through with them."""
        assert self.front is not None
        assert self.front.send_frames(data) == len(data)

    def receive(self) -> bytes:
        assert self.front is not None
        got = self.front.recv_frames(1, timeout=10)
        assert got, "no frame came"
        return got[0][1]

    def say(self, to: Guest, **lie: Any) -> bytes:
        """An honest datagram to another guest, unless told otherwise; not sent yet."""
        payload = b"frame %06d" % next(_markers)
        values = {"src_mac": self.mac, "dst_mac": to.mac, "src": self.ip, "dst": to.ip, **lie}
        return frames.udp(payload=payload, **values)


class Cloud:
    def __init__(self, name: str) -> None:
        self.bed = Bed(name)
        self.directory = Path(tempfile.mkdtemp(prefix="uswitch-os-"))  # short: AF_UNIX
        unprivileged.own(self.directory, unprivileged.identity())
        self.nova = ListeningNova()
        self.neutron_directory = Path(tempfile.mkdtemp(prefix="uswitch-neutron-"))
        self.neutron = Neutron(self.neutron_directory, self.nova)
        self.switch = Switch(self.directory, within=self.bed.within())
        self.agent = Agent(self.neutron, self.switch, "host1")
        self._guests: list[Guest] = []
        self._kept: dict[tuple[str, ...], list[str]] = {}  # networks of nobody, by their ranges
        self._lent: list[tuple[tuple[str, ...], str]] = []

    def start(self) -> Cloud:
        """All at the same time, as far as they do not need one another."""
        self.switch.start()
        self.agent.start(wait=False)
        self.bed.attached("near0", "far0")
        self.switch.client.uplink_ensure(
            {"name": "up0", "ifname": "near0", "physnet": "physnet1", "ring_size": 256}
        )
        self.wire = self.bed.raw("far0")
        self.switch.wait_link("up0")
        self.neutron.wait()
        until(self.knows_uplink, "host1 reports its uplink", 120, pause=0.2)
        return self

    def knows_uplink(self) -> bool:
        agent = self.neutron.agent("host1")
        return agent is not None and agent["configurations"]["interface_mappings"] == {
            "physnet1": "up0"
        }

    def close(self) -> None:
        for one in (self.agent, self.neutron, self.nova):
            one.close()
        self.switch.stop()
        self.bed.close()
        for directory in (self.directory, self.neutron_directory):
            shutil.rmtree(directory)

    # ---- what a user asks for ----

    def network(self, *cidrs: str, **values: Any) -> str:
        """A network with a subnet for each range; its id.

        Ordinary ones are kept for the next test: making them is most of what Neutron has to do.
        """
        kept = self._kept.get(cidrs, [])
        if kept and not values:
            network = kept.pop()
        else:
            network = self.neutron.make("network", name="n", **values)["id"]
            for cidr in cidrs or ("10.0.0.0/24",):
                self.neutron.call("POST", "/subnets", {"subnet": {
                    "project_id": "p1", "network_id": network, "cidr": cidr,
                    "ip_version": 6 if ":" in cidr else 4, "enable_dhcp": False,
                }})  # fmt: skip
        if not values:
            self._lent.append((cidrs, network))
        return network

    def port(self, network: str, host: str = "host1", **values: Any) -> Json:
        return self.neutron.make("port", **{
            "network_id": network, "device_owner": "compute:nova",
            "device_id": str(uuid.uuid4()), "binding__host_id": host, **values,
        })  # fmt: skip

    def guest(self, network: str, *, start: bool = True, **values: Any) -> Guest:
        """Bound, plugged, wired and ACTIVE."""
        guest = self.unwired(network, **values).plug(start)
        self.wait_active(guest)
        return guest

    def guests(self, network: str, count: int = 2, **values: Any) -> list[Guest]:
        """Several at once: the agent wires them in one pass."""
        made = [self.unwired(network, **values).plug() for _ in range(count)]
        for guest in made:
            self.wait_active(guest)
        return made

    def wait_active(self, guest: Guest) -> None:
        until(lambda: guest.show()["segment"] == guest.network, "it is in its network")
        self.neutron.wait_status(guest.id, "ACTIVE")

    def unwired(self, network: str, **values: Any) -> Guest:
        """Bound, and not plugged."""
        guest = Guest(self.switch, self.port(network, **values))
        self._guests.append(guest)
        return guest

    @contextlib.contextmanager
    def broker_away(self) -> Iterator[None]:
        """No message arrives; a heartbeat of the agent is lost before the block begins.

        An absence between two heartbeats goes unnoticed, and is made up for minutes later.
        """
        lost = self.agent.lost_heartbeats()  # the log has those of earlier absences, too
        self.neutron.cut(True)
        try:
            until(lambda: self.agent.lost_heartbeats() > lost, "a heartbeat is lost")
            yield
        finally:
            self.neutron.cut(False)

    # ---- what there is ----

    def on_wire(self, data: bytes) -> int | None:
        """The tag with which this frame leaves the uplink; None: untagged."""
        while True:
            tag, got = self.wire.receive(data[12:14])
            if got == data:
                return tag

    def rows(self) -> dict[int | None, str]:
        """VLAN id (None: untagged) -> segment, of the uplink."""
        port = self.switch.client.uplink_show("up0")["uplink"]["port"]
        rows: dict[int | None, str] = {row["vid"]: row["segment"] for row in port["trunk"]}
        if port["segment"]:
            rows[None] = port["segment"]
        return rows

    def segments(self) -> set[str]:
        return {segment["name"] for segment in self.switch.client.segment_list()}

    def vlan(self, network: str) -> int:
        shown = self.neutron.call("GET", f"/networks/{network}")["network"]
        return int(shown["provider:segmentation_id"])

    def clean(self) -> None:
        """Unplug and delete all, and wait until the switch has nothing of it left."""
        for guest in self._guests:
            guest.unplug()
        self._guests.clear()
        self.neutron.forget({network for _, network in self._lent})
        for cidrs, network in self._lent:
            self._kept.setdefault(cidrs, []).append(network)
        self._lent.clear()
        until(lambda: not self.rows() and not self.segments(), "nothing is left in the switch")


def pid_name(name: str) -> str:
    return f"{name}{os.getpid()}"
