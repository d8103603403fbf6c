# SPDX-License-Identifier: Apache-2.0
"""What flows between guests, and what never does."""

from __future__ import annotations

from tests.e2e.report import need
from tests.e2e.stages.boot import lease
from tests.e2e.tenant import Tenant

PINGS = 5
METADATA = ("169.254.169.254", "/openstack/latest/meta_data.json")


def network(tenant: Tenant) -> None:
    """Inside the networks, before there is a router."""
    with tenant.report.check("ping in a network, on one host") as row:
        row.detail = ping(tenant, "red1", "red2")
    with tenant.report.check("ping in a network, between hosts, over the cable's VLAN") as row:
        row.detail = ping(tenant, "blue1", "blue2")
    with tenant.report.check("no ping between networks without a router") as row:
        for first, second in (("red1", "blue1"), ("blue1", "red2"), ("blue2", "red1")):
            result = tenant.guests[first].run(f"ping -c 2 -W 1 {tenant.address(second)}")
            need(result.rc, f"{first} reached {second}")
        row.detail = "3 pairs"
    with tenant.report.check("no frame crosses networks with addresses of the other one") as row:
        row.detail = _foreign_subnet(tenant)
    with tenant.report.check("metadata, by the DHCP namespace") as row:
        row.detail = metadata(tenant, "blue1")


def router(tenant: Tenant) -> None:
    """A router between the networks."""
    with tenant.report.check("a router joins both networks; its ports are ACTIVE"):
        sdk = tenant.user.network
        tenant.router = sdk.create_router(name="router")
        for subnet in tenant.subnets.values():
            sdk.add_interface_to_router(tenant.router, subnet_id=subnet.id)
        for name in tenant.guests:  # routes of the lease have changed
            renew(tenant, name)
    with tenant.report.check("ping across the router, both ways") as row:
        pairs = (("red1", "blue1"), ("blue2", "red2"))
        row.detail = ", ".join(ping(tenant, *pair) for pair in pairs)
    with tenant.report.check("a megabyte of TCP across the router, checked by md5") as row:
        row.detail = tcp(tenant, "red1", "blue2")
    with tenant.report.check("metadata, by the router's namespace") as row:
        row.detail = metadata(tenant, "red1")


def ping(tenant: Tenant, first: str, second: str) -> str:
    """Ping without loss, once the path is there."""
    guest, address = tenant.guests[first], tenant.address(second)
    guest.until(f"ping -c 1 -W 2 {address}")
    said = guest.must(f"ping -i 0.2 -c {PINGS} -W 5 {address}")
    need(f"{PINGS} received" in said, f"{first} to {second}: {said}")
    average = said.rsplit("= ", 1)[-1].split("/")[1]
    return f"{first} to {second} {average} ms"


def tcp(tenant: Tenant, server: str, client: str) -> str:
    """A megabyte by netcat."""
    give, take = tenant.guests[server], tenant.guests[client]
    give.must("dd if=/dev/urandom of=/tmp/data bs=1024 count=1024 2>/dev/null")
    wanted = give.must("md5sum < /tmp/data")
    give.must("nc -l -p 7000 < /tmp/data > /dev/null 2>&1 &")
    got = take.must(f"{_netcat(tenant.address(server), 7000)} | md5sum")
    need(got == wanted, f"{got} is not {wanted}")
    return f"{server} to {client}"


def metadata(tenant: Tenant, name: str) -> str:
    """The guest asks who it is."""
    guest = tenant.guests[name]
    request = f"GET {METADATA[1]} HTTP/1.0\\r\\nHost: {METADATA[0]}\\r\\n\\r\\n"
    said = guest.until(f"printf '{request}' > /tmp/ask; {_netcat(METADATA[0], 80, '/tmp/ask')}"
                       " > /tmp/said; cat /tmp/said; grep -q uuid /tmp/said", 90)  # fmt: skip
    need(guest.id in said, f"{name} was told {said[:200]}")
    return f"{name} is told its id"


def _netcat(address: str, port: int, say: str = "/dev/null") -> str:
    """A shell command that sends a file and prints what comes until the peer closes.

    busybox' netcat would leave when its input ends; this input does not.
    """
    return (f"{{ mkfifo /tmp/open 2>/dev/null; nc {address} {port} 3<>/tmp/open </tmp/open & "
            f"cat {say} >/tmp/open; wait; }}")  # fmt: skip


def renew(tenant: Tenant, name: str) -> None:
    """A new DHCP client in the guest."""
    guest = tenant.guests[name]
    guest.must("kill $(cat /tmp/dhcp.eth0); ip address flush dev eth0; rm /tmp/dhcp.eth0")
    lease(tenant, name)


def _foreign_subnet(tenant: Tenant) -> str:
    """With an address of the other network, and its MAC known: layer 2 must keep them apart."""
    guest = tenant.guests["red1"]
    target = tenant.address("blue1")
    mac = tenant.port("blue1").mac_address
    before = _received(tenant, "blue1")
    guest.must(f"ip route replace {target}/32 dev eth0 && "
               f"ip neighbour replace {target} lladdr {mac} dev eth0")  # fmt: skip
    result = guest.run(f"ping -c 3 -W 1 {target}")
    guest.must(f"ip route delete {target}/32 dev eth0; ip neighbour delete {target} dev eth0")
    need(result.rc, f"red1 reached {target}")
    after = _received(tenant, "blue1")
    need(after == before, f"blue1 got {after - before} echo requests")
    return f"3 frames to {mac}"


def _received(tenant: Tenant, name: str) -> int:
    said = tenant.guests[name].must("grep ^Icmp: /proc/net/snmp")
    names, values = (line.split() for line in said.splitlines())
    return int(values[names.index("InEchos")])
