# SPDX-License-Identifier: Apache-2.0
"""What the switch does with frames of ports that real Neutron and the real agent have wired."""

from __future__ import annotations

from typing import Any

import pytest

from . import neutron_frames as frames
from .neutron_bed import until
from .neutron_cloud import Cloud, Guest

pytestmark = pytest.mark.timeout(400)  # the first one starts the cloud
OTHER_MAC = frames.mac_of("fa:16:3e:ff:ff:01")
V4_AND_V6 = ("10.0.0.0/24", "fd00:1::/64")


def passes(sender: Guest, receiver: Guest, **lie: Any) -> None:
    """A frame arrives, and nothing else before it."""
    data = sender.say(receiver, **lie)
    sender.send(data)
    assert receiver.receive() == data


def dies(sender: Guest, receiver: Guest, data: bytes, reason: str) -> None:
    """A frame is dropped for that reason, and what comes after it arrives first."""
    before = sender.drops(reason)
    sender.send(data)
    assert sender.drops(reason) == before + 1
    passes(sender, receiver)


# ---- networks ----


def test_same_network_passes_and_another_never_does(cloud: Cloud) -> None:
    red, blue = cloud.network(), cloud.network()
    a, b = cloud.guests(red)
    c, d = cloud.guests(blue)
    passes(a, b)
    passes(c, d)
    # Addressed to c, and to everybody: neither reaches blue, where the next frame is d's.
    a.send(a.say(c), a.say(c, dst_mac=frames.BROADCAST), frames.arp(a.mac, a.ip, c.ip))
    passes(d, c)
    passes(c, d)


def test_frames_leave_the_uplink_with_their_network_s_tag(cloud: Cloud) -> None:
    red, blue = cloud.network(), cloud.network()
    flat = cloud.network(provider__network_type="flat", provider__physical_network="physnet1")
    for network, tag in ((red, cloud.vlan(red)), (blue, cloud.vlan(blue)), (flat, None)):
        guest = cloud.guest(network)
        data = frames.arp(guest.mac, guest.ip, "10.0.0.250")
        guest.send(data)
        assert cloud.on_wire(data) == tag
    assert cloud.rows() == {cloud.vlan(red): red, cloud.vlan(blue): blue, None: flat}


def test_frames_from_the_wire_reach_their_network_alone(cloud: Cloud) -> None:
    red, blue = cloud.network(), cloud.network()
    a, b = cloud.guest(red), cloud.guest(blue)
    outside = frames.mac_of("02:00:00:00:00:99")

    def from_wire(guest: Guest, payload: bytes) -> bytes:
        data = frames.udp(outside, frames.BROADCAST, "10.0.0.99", "10.0.0.255", payload)
        tag = cloud.vlan(guest.network).to_bytes(2, "big")
        cloud.wire.send(data[:12] + b"\x81\x00" + tag + data[12:])
        return data

    first, second = from_wire(a, b"to red"), from_wire(b, b"to blue")
    assert (a.receive(), b.receive()) == (first, second)


@pytest.mark.spare
def test_a_local_network_has_no_way_out(cloud: Cloud) -> None:
    network = cloud.network(provider__network_type="local")
    a, b = cloud.guests(network)
    passes(a, b)
    assert cloud.rows() == {}
    assert cloud.segments() == {network}


# ---- what a guest may claim ----


def test_lies_die_under_their_counters(cloud: Cloud) -> None:
    a, b = cloud.guests(cloud.network(*V4_AND_V6))
    passes(a, b)
    dies(a, b, a.say(b, src_mac=OTHER_MAC), "guard_mac")
    dies(a, b, a.say(b, src="10.0.0.77"), "guard_ip")
    dies(a, b, a.say(b, src=b.ip), "guard_ip")
    dies(a, b, a.say(b, src="fd00:1::77", dst=b.ip6), "guard_ip")
    dies(a, b, frames.arp(a.mac, "10.0.0.77", b.ip), "guard_arp")
    dies(a, b, frames.arp(a.mac, a.ip, b.ip, sender_mac=b.mac), "guard_arp")
    dies(a, b, frames.neighbor_advertisement(a.mac, a.ip6, b.ip6), "guard_nd")
    dies(a, b, frames.dhcp_offer(a.mac, a.ip), "guard_dhcp")
    dies(a, b, b.mac + a.mac + b"\x88\xb5" + bytes(46), "guard_type")


def test_the_truth_passes_in_every_form(cloud: Cloud) -> None:
    a, b = cloud.guests(cloud.network(*V4_AND_V6))
    local = f"fe80::{int.from_bytes(bytes([a.mac[0] ^ 2, a.mac[1]]), 'big'):x}:{a.mac[2]:x}ff:fe"
    local += f"{a.mac[3]:02x}:{int.from_bytes(a.mac[4:], 'big'):x}"
    for data in (
        frames.arp(a.mac, a.ip, b.ip),
        a.say(b, src=a.ip6, dst=b.ip6),
        a.say(b, src=local, dst=b.ip6),
        frames.neighbor_advertisement(a.mac, a.ip6, a.ip6),
        frames.neighbor_advertisement(a.mac, local, local),
    ):
        a.send(data)
        assert b.receive() == data


def test_an_allowed_pair_lets_in_and_its_removal_shuts_out(cloud: Cloud) -> None:
    a, b = cloud.guests(cloud.network())
    lie = a.say(b, src="10.0.0.200")
    dies(a, b, lie, "guard_ip")
    pairs = [
        {"ip_address": "10.0.0.200"},
        {"ip_address": "192.168.5.0/24", "mac_address": "fa:16:3e:ff:ff:01"},
    ]
    guarded = a.show()["guard"]
    cloud.neutron.change("port", a.id, allowed_address_pairs=pairs)
    a.wait("the pairs are in the switch", lambda port: port["guard"] != guarded)
    passes(a, b, src="10.0.0.200")
    passes(a, b, src="192.168.5.9", src_mac=OTHER_MAC)
    dies(a, b, a.say(b, src="192.168.5.9"), "guard_ip")
    dies(a, b, a.say(b, src_mac=OTHER_MAC), "guard_ip")
    assert a.show()["macs"] == [a.mac.hex(":")], "an allowed MAC is nobody's own"
    cloud.neutron.change("port", a.id, allowed_address_pairs=[])
    a.wait("they are gone again", lambda port: port["guard"] == guarded)
    dies(a, b, lie, "guard_ip")


def test_port_security_off_and_on_again(cloud: Cloud) -> None:
    a, b = cloud.guests(cloud.network())
    guarded = a.show()["guard"]
    cloud.neutron.change("port", a.id, port_security_enabled=False, security_groups=[])
    a.wait("unguarded", lambda port: port["guard"] is None)
    passes(a, b, src="10.0.0.77", src_mac=OTHER_MAC)
    cloud.neutron.change("port", a.id, port_security_enabled=True)
    a.wait("guarded", lambda port: port["guard"] == guarded)
    dies(a, b, a.say(b, src="10.0.0.77"), "guard_ip")


@pytest.mark.spare
def test_a_new_port_is_never_in_its_network_unguarded(cloud: Cloud) -> None:
    """Looked at as often as can be while ports are wired."""
    network = cloud.network()
    guests = [cloud.unwired(network).plug(start=False) for _ in range(8)]
    wired: set[str] = set()

    def all_wired() -> bool:
        for port in cloud.switch.client.port_list():
            if port["segment"] == network and port["type"] == "vhost-user":
                assert port["guard"] is not None
                assert port["macs"]
                wired.add(port["name"])
        return len(wired) == len(guests)

    until(all_wired, "all are in their network")


@pytest.mark.spare
def test_neutron_s_own_ports_speak_for_others(cloud: Cloud) -> None:
    network = cloud.network()
    guest, dhcp = cloud.guest(network), cloud.guest(network, device_owner="network:dhcp")
    assert dhcp.show()["guard"] is None
    assert dhcp.show()["macs"] == [dhcp.mac.hex(":")]
    offer = frames.dhcp_offer(dhcp.mac, dhcp.ip)
    dhcp.send(offer)
    assert guest.receive() == offer


@pytest.mark.spare
def test_nobody_takes_the_address_of_another_port(cloud: Cloud) -> None:
    """Even unguarded: the address is pinned to the port that Neutron gave it to."""
    network = cloud.network()
    a, b = cloud.guests(network)
    thief = cloud.guest(network, port_security_enabled=False)
    lie = thief.say(a, src_mac=b.mac, dst_mac=frames.BROADCAST)
    thief.send(lie)
    assert a.receive() == b.receive() == lie
    passes(a, b)


# ---- state and size ----


@pytest.mark.spare
def test_admin_state_down_and_up(cloud: Cloud) -> None:
    a, b = cloud.guests(cloud.network())
    cloud.neutron.change("port", a.id, admin_state_up=False)
    a.wait("down in the switch", lambda port: not port["admin_up"])
    cloud.neutron.wait_status(a.id, "DOWN")
    a.send(a.say(b, dst_mac=frames.BROADCAST))
    cloud.neutron.change("port", a.id, admin_state_up=True)
    cloud.neutron.wait_status(a.id, "ACTIVE")
    passes(a, b)


@pytest.mark.spare
@pytest.mark.parametrize("mtu", [1280, 1450])
def test_the_network_s_mtu_is_the_port_s(cloud: Cloud, mtu: int) -> None:
    network = cloud.network(mtu=1400)
    a, b = cloud.guests(network)
    assert a.show()["mtu"] == 1400
    cloud.neutron.change("network", network, mtu=mtu)
    until(lambda: a.show()["mtu"] == b.show()["mtu"] == mtu, "both have the new MTU")
    passes(a, b)
