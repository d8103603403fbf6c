# SPDX-License-Identifier: Apache-2.0
"""Everything is deleted, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.e2e import CloudError
from tests.e2e.cloud import libvirt
from tests.e2e.cloud.cloud import ComputeNode
from tests.e2e.cloud.service import wait
from tests.e2e.cloud.switch import UPLINK
from tests.e2e.report import CheckFailed, need
from tests.e2e.tenant import Tenant

GONE_SECONDS = 120.0


def deletion(tenant: Tenant) -> None:
    """Servers first, as anybody would."""
    compute, network = tenant.operator.compute, tenant.user.network
    with tenant.report.check("servers are deleted: no domain, no socket, no port of a guest"):
        servers = [guest.server for guest in tenant.guests.values()]
        for guest in tenant.guests.values():
            guest.close()
            compute.delete_server(guest.id)
        for server in servers:
            compute.wait_for_delete(server, wait=GONE_SECONDS)
        for node in tenant.cloud.nodes:
            need(not libvirt.domains(node.host), f"{node.name}: {libvirt.domains(node.host)}")
            wait(f"no port of a guest on {node.name}", partial(_none, _guests, node), 60)
            sockets = [path.name for path in node.host.path("/run/uswitch/vhost").iterdir()]
            need(not sockets, f"{node.name}: {sockets}")
    with tenant.report.check("networks are deleted: no port, segment, tap, namespace, VLAN"):
        if tenant.router is not None:
            for subnet in tenant.subnets.values():
                network.remove_interface_from_router(tenant.router, subnet_id=subnet.id)
            network.delete_router(tenant.router)
        for one in tenant.networks.values():
            network.delete_network(one)
        for node in tenant.cloud.nodes:
            try:
                wait("nothing left", partial(_none, leftovers, node), GONE_SECONDS, pause=1)
            except CloudError as error:
                left = ", ".join(leftovers(node))
                raise CheckFailed(f"{node.name} still has: {left}") from error


def leftovers(node: ComputeNode) -> list[str]:
    """What should not be there when there is no network."""
    switch = node.switch
    found = [f"port {name}" for name in switch.ports() if name != UPLINK]
    found += [f"segment {one['name']}" for one in switch.ctl("segment", "list")]
    found += [f"namespace {line.split()[0]}" for line in node.host.run("ip", "netns").splitlines()]
    devices = node.host.run("ip", "-o", "link").splitlines()
    found += [f"device {line.split()[1]}" for line in devices
              if line.split()[1].startswith(("tap", "qr-", "qg-"))]  # fmt: skip
    found += [f"VLAN {row} of the uplink" for row in switch.ports()[UPLINK]["trunk"]]
    return found


def _none(find: Callable[[ComputeNode], list[str]], node: ComputeNode) -> bool:
    return not find(node)


def _guests(node: ComputeNode) -> list[str]:
    return [name for name, port in node.switch.ports().items() if port["type"] == "vhost-user"]
