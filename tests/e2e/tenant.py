# SPDX-License-Identifier: Apache-2.0
"""What a user of the cloud has: networks, a router, servers, made through the APIs.

Networks and routers are made by an ordinary user of project "demo".  Servers are made for that
project by the administrator, because only they may say on which host one shall start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.e2e.cloud.cloud import Cloud, connect, give_user
from tests.e2e.cloud.service import wait
from tests.e2e.guest import Guest
from tests.e2e.report import Report

PROJECT = "demo"
NETWORKS = {"blue": "10.1.0.0/24", "red": "10.2.0.0/24"}
POOL = 10, 199  # what Neutron gives out; the stages take other addresses for what is nobody's
# Two in one network on one host, two in one network on two hosts.
SERVERS = {"red1": ("red", "host1"), "red2": ("red", "host1"),
           "blue1": ("blue", "host1"), "blue2": ("blue", "host2")}  # fmt: skip
FLAVOR = {"name": "m1.nano", "ram": 128, "vcpus": 1, "disk": 1}
ACTIVE_SECONDS = 180.0


@dataclass(slots=True)
class Tenant:
    """A user's view of the cloud, and the report on what they see."""

    cloud: Cloud
    report: Report
    user: Any  # openstack.connection.Connection
    operator: Any
    image: Any
    flavor: Any
    networks: dict[str, Any] = field(default_factory=dict)
    subnets: dict[str, Any] = field(default_factory=dict)
    router: Any = None
    guests: dict[str, Guest] = field(default_factory=dict)

    def make_networks(self) -> None:
        """Two networks, each a VLAN of its own, with a subnet; no router yet."""
        for name, cidr in NETWORKS.items():
            network = self.user.network.create_network(name=name)
            self.networks[name] = network
            first, last = (cidr.replace("0/24", str(number)) for number in POOL)
            self.subnets[name] = self.user.network.create_subnet(
                network_id=network.id, name=name, ip_version=4, cidr=cidr,
                allocation_pools=[{"start": first, "end": last}])  # fmt: skip

    def vlan(self, name: str) -> int:
        """The VLAN of a network, which only an administrator may know."""
        found = self.cloud.sdk.network.get_network(self.networks[name].id)
        return int(found.provider_segmentation_id)

    def boot(self, name: str, network: str, host: str) -> Guest:
        """Ask for a server; it is not there yet."""
        server = self.operator.compute.create_server(
            name=name, image_id=self.image.id, flavor_id=self.flavor.id, host=host,
            networks=[{"uuid": self.networks[network].id}])  # fmt: skip
        self.guests[name] = Guest(self.cloud, server.id, name)
        return self.guests[name]

    def wait_status(self, guest: Guest, status: str = "ACTIVE") -> None:
        """Until Nova says so; an error of Nova is ours to explain."""
        self.operator.compute.wait_for_server(
            guest.server, status=status, interval=1, wait=ACTIVE_SECONDS)  # fmt: skip
        wait(f"{guest.name} to be at rest", lambda: not guest.server.task_state, 60)

    def address(self, name: str) -> str:
        """A server's first address."""
        return str(self.guests[name].ports()[0].fixed_ips[0]["ip_address"])

    def port(self, name: str) -> Any:
        """A server's first port."""
        return self.guests[name].ports()[0]


def enter(cloud: Cloud, report: Report, image: Any) -> Tenant:
    """A project with a user, and quotas that are no matter."""
    give_user(cloud.sdk, PROJECT, PROJECT, ("member",))
    identity = cloud.sdk.identity
    admin = next(role for role in identity.roles(name="admin"))
    identity.assign_project_role_to_user(
        identity.find_project(PROJECT), identity.find_user("admin"), admin)  # fmt: skip
    flavor = cloud.sdk.compute.create_flavor(**FLAVOR)
    user, operator = connect(PROJECT, PROJECT), connect(PROJECT, "admin")
    return Tenant(cloud, report, user, operator, image, flavor)
