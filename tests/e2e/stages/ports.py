# SPDX-License-Identifier: Apache-2.0
"""Ports that come and go while a guest runs, and guests that do."""

from __future__ import annotations

from tests.e2e.cloud.service import wait
from tests.e2e.report import need
from tests.e2e.stages.traffic import ping
from tests.e2e.tenant import Tenant

GUEST = "red2"
CHANGE_SECONDS = 90.0


def attach(tenant: Tenant) -> None:
    """A second network interface, plugged into a running guest and pulled out."""
    guest = tenant.guests[GUEST]
    compute = tenant.operator.compute
    port = None
    with tenant.report.check("a port is attached to a running guest, and has a lease") as row:
        port = tenant.user.network.create_port(network_id=tenant.networks["blue"].id)
        address = port.fixed_ips[0]["ip_address"]
        compute.create_server_interface(guest.server, port_id=port.id)
        shown = guest.until("ip -4 -o address show dev eth1 | grep inet", CHANGE_SECONDS)
        need(f" {address}/" in shown, f"eth1 has {shown}, and Neutron gave it {address}")
        said = guest.must(f"ping -I eth1 -c 3 -W 5 {tenant.address('blue1')}")
        row.detail = f"{address}: {said.splitlines()[-2]}"
    if port is None:
        return
    with tenant.report.check("it is detached, and leaves neither port nor socket"):
        compute.delete_server_interface(port.id, server=guest.server)
        guest.until("test ! -e /sys/class/net/eth1", CHANGE_SECONDS)
        switch = guest.node.switch
        wait("the switch to forget the port", lambda: port.id not in switch.ports(), 60)
        need(not guest.node.host.path(f"/run/uswitch/vhost/{port.id}.sock").exists(),
             "its socket is still there")  # fmt: skip
        network = tenant.user.network
        wait("Nova to let go of it", lambda: not network.get_port(port.id).device_owner, 60)
        network.delete_port(port.id)


def power(tenant: Tenant) -> None:
    """Stop, start, hard reboot; the address stays, and so does everybody else."""
    guest = tenant.guests[GUEST]
    compute = tenant.operator.compute
    with tenant.report.check("stopped: nobody answers, others go on") as row:
        guest.close()
        compute.stop_server(guest.server)
        tenant.wait_status(guest, "SHUTOFF")
        result = tenant.guests["red1"].run(f"ping -c 2 -W 1 {tenant.address(GUEST)}")
        need(result.rc, f"{GUEST} answers")
        row.detail = ping(tenant, "red1", "blue1")
    with tenant.report.check("started: boots, has its lease and its peers again") as row:
        compute.start_server(guest.server)
        row.detail = _back(tenant)
    with tenant.report.check("hard reboot: the same") as row:
        guest.close()
        compute.reboot_server(guest.server, "HARD")
        wait("Nova to begin", lambda: guest.server.status == "HARD_REBOOT", 30)
        row.detail = _back(tenant)


def _back(tenant: Tenant) -> str:
    guest = tenant.guests[GUEST]
    tenant.wait_status(guest)
    guest.wait_ready()
    return ping(tenant, GUEST, "red1") + ", " + ping(tenant, GUEST, "blue2")
