# SPDX-License-Identifier: Apache-2.0
"""A guest that claims to be somebody else, with and without Neutron's leave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.cloud.service import wait
from tests.e2e.guest import Guest
from tests.e2e.report import need
from tests.e2e.stages.traffic import ping, renew
from tests.e2e.tenant import Tenant

FOREIGN = "10.2.0.200"
FOREIGN_MAC = "fa:16:3e:00:be:ef"
LIAR, VICTIM = "red1", "red2"
SETTLE_SECONDS = 30.0


def spoof(tenant: Tenant) -> None:
    """Each lie is dropped under its name, and the guest is none the worse for it."""
    liar, victim = tenant.guests[LIAR], tenant.address(VICTIM)
    # Known to the guest, so that it sends IP and does not ask by ARP first.
    known = f"ip neighbour replace {victim} lladdr {tenant.port(VICTIM).mac_address} dev eth0"
    lies = {
        "a foreign IP address": ("guard_ip", f"{known}; ping -I {FOREIGN} -c 3 -W 1 {victim}"),
        "a foreign address in ARP": (
            "guard_arp", f"arping -I eth0 -s {FOREIGN} -c 3 -w 3 {victim}"),
    }
    with _claimed(liar):
        for what, (reason, command) in lies.items():
            with tenant.report.check(f"{what} is dropped") as row:
                row.detail = _dropped(tenant, reason, command)
    with tenant.report.check("a guest that plays DHCP server is not heard, the real one is") as row:
        row.detail = _rogue_dhcp(tenant)
    with tenant.report.check("a foreign MAC address is dropped") as row:
        mac = tenant.port(LIAR).mac_address
        liar.must(f"ip link set eth0 address {FOREIGN_MAC}")
        try:
            row.detail = _dropped(tenant, "guard_mac", f"ping -c 3 -W 1 {victim}")
        finally:
            liar.must(f"ip link set eth0 address {mac}")
    with tenant.report.check("the same guest with its own addresses goes on") as row:
        row.detail = ping(tenant, LIAR, VICTIM)


def pairs(tenant: Tenant) -> None:
    """What the port's owner allows is let through, as long as they do."""
    liar, victim = tenant.guests[LIAR], tenant.address(VICTIM)
    command = f"ping -I {FOREIGN} -c 1 -W 2 {victim}"
    port = tenant.port(LIAR).id
    with _claimed(liar):
        with tenant.report.check("an allowed address pair is let through, until it is taken back"):
            tenant.user.network.update_port(port, allowed_address_pairs=[{"ip_address": FOREIGN}])
            liar.until(command)
            tenant.user.network.update_port(port, allowed_address_pairs=[])
            _until_fails(liar, command)
        with tenant.report.check("without port security anything is, until it is on again"):
            tenant.user.network.update_port(
                port, security_groups=[], is_port_security_enabled=False)  # fmt: skip
            liar.until(command)
            tenant.user.network.update_port(port, is_port_security_enabled=True)
            _until_fails(liar, command)


@contextmanager
def _claimed(liar: Guest) -> Iterator[None]:
    """The guest has an address that is not its own."""
    liar.must(f"ip address add {FOREIGN}/24 dev eth0")
    try:
        yield
    finally:
        liar.must(f"ip address delete {FOREIGN}/24 dev eth0")


def _dropped(tenant: Tenant, reason: str, command: str) -> str:
    """The command has no success, and the switch says why."""
    liar = tenant.guests[LIAR]
    port = tenant.port(LIAR).id
    before = liar.node.switch.drops(port).get(reason, 0)
    liar.run(command)
    wait(f"frames dropped as {reason}",
         lambda: liar.node.switch.drops(port).get(reason, 0) > before, 10)  # fmt: skip
    count = liar.node.switch.drops(port)[reason] - before
    if "ping" in command:
        need(liar.run(command).rc, f"{command} was answered")
    return f"{count} frames as {reason}"


def _rogue_dhcp(tenant: Tenant) -> str:
    """Its offers are dropped; who asks gets Neutron's address."""
    liar = tenant.guests[LIAR]
    port = tenant.port(LIAR).id
    before = liar.node.switch.drops(port).get("guard_dhcp", 0)
    liar.must("printf 'interface eth0\\nstart 10.2.0.100\\nend 10.2.0.110\\n' > /tmp/rogue; "
              "touch /tmp/rogue.leases; echo 'lease_file /tmp/rogue.leases' >> /tmp/rogue; "
              "udhcpd -f /tmp/rogue > /dev/null 2>&1 & echo $! > /tmp/rogue.pid")  # fmt: skip
    try:
        renew(tenant, VICTIM)
        wait("an offer to be dropped",
             lambda: liar.node.switch.drops(port).get("guard_dhcp", 0) > before, 10)  # fmt: skip
    finally:
        liar.must("kill $(cat /tmp/rogue.pid)")
    return f"{liar.node.switch.drops(port)['guard_dhcp'] - before} frames as guard_dhcp"


def _until_fails(guest: Guest, command: str) -> None:
    wait(f"{command} to be stopped", lambda: guest.run(command).rc, SETTLE_SECONDS)
