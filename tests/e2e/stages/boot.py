# SPDX-License-Identifier: Apache-2.0
"""Servers start, get their leases, and what they are plugged into is as promised."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.guest import Guest
from tests.e2e.report import need
from tests.e2e.tenant import SERVERS, Tenant


def boot(tenant: Tenant) -> None:
    """Two networks, two servers on each."""
    with tenant.report.check("two networks, two servers on each, all ACTIVE") as row:
        tenant.make_networks()
        for name, (network, host) in SERVERS.items():
            tenant.boot(name, network, host)
        with ThreadPoolExecutor() as pool:
            list(pool.map(tenant.wait_status, tenant.guests.values()))
        vlans = [f"{name} is VLAN {tenant.vlan(name)}" for name in tenant.networks]
        row.detail = ", ".join(vlans)
    with tenant.report.check("guests boot") as row:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Guest.wait_ready, tenant.guests.values()))
    with tenant.report.check("a lease in each guest, with Neutron's address and MTU") as row:
        row.detail = ", ".join(lease(tenant, name) for name in tenant.guests)
    with tenant.report.check("ports are vhost-user, plugged by os-vif, wired by the agent"):
        for name in tenant.guests:
            _plugged(tenant, name)
    with tenant.report.check("switches and agents run without any privilege"):
        for node in tenant.cloud.nodes:
            found = node.switch.privileges()
            need(not found, f"{node.name}: {', '.join(found)}")
            status = Path(f"/proc/{node.agent.pid}/status").read_text()
            need("CapEff:\t0000000000000000" in status, f"the agent of {node.name} has some")


def lease(tenant: Tenant, name: str, nic: str = "eth0") -> str:
    """Wait for the lease of a guest; its address."""
    guest = tenant.guests[name]
    shown = guest.until(f"ip -4 -o address show dev {nic} | grep inet")
    address = tenant.address(name)
    need(f" {address}/" in shown, f"{name} has {shown}, and Neutron gave it {address}")
    mtu = int(guest.must(f"cat /sys/class/net/{nic}/mtu"))
    wanted = tenant.user.network.get_network(tenant.port(name).network_id).mtu
    need(mtu == wanted, f"{name} has MTU {mtu}, and the network {wanted}")
    return f"{name} {address}"


def _plugged(tenant: Tenant, name: str) -> None:
    guest = tenant.guests[name]
    port = tenant.cloud.sdk.network.get_port(tenant.port(name).id)
    need(port.status == "ACTIVE", f"the port of {name} is {port.status}")
    need(port.binding_vif_type == "vhostuser", f"{name} has {port.binding_vif_type}")
    found = guest.node.switch.ports().get(port.id)
    need(found, f"the switch of {guest.node.name} has no port {port.id}")
    assert found is not None
    need(found["link"] == "up", f"the link of {name} is {found['link']}: {found['reason']}")
    need(found["segment"] == port.network_id, f"{name} is in segment {found['segment']}")
