# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.ml2 import guard

from .switch_fake import MAC, details

LLA = "fe80::f816:3eff:fe00:1"
Pairs = set[tuple[str, str]]


def pairs(**more: Any) -> Pairs:
    found = guard.guard_of(details(**more))
    assert found is not None
    return {(pair["mac"], pair["ip"]) for pair in found["pairs"]}


def test_fixed_addresses_and_the_link_local_one() -> None:
    fixed = [{"ip_address": "10.0.0.5"}, {"ip_address": "2001:DB8::5"}]
    assert pairs(fixed_ips=fixed) == {(MAC, "10.0.0.5"), (MAC, "2001:db8::5"), (MAC, LLA)}


def test_a_port_without_addresses_speaks_for_its_link_local_one_alone() -> None:
    assert pairs(fixed_ips=[]) == {(MAC, LLA)}


def test_allowed_pairs_have_a_mac_of_their_own_or_the_port_s() -> None:
    other = "FA:16:3E:00:00:99"
    allowed = [
        {"ip_address": "10.0.0.200"},
        {"mac_address": other, "ip_address": "192.168.1.7/24"},
        {"mac_address": MAC, "ip_address": "10.0.0.9/32"},
    ]
    assert pairs(allowed_address_pairs=allowed) == {
        (MAC, "10.0.0.5"), (MAC, "10.0.0.200"), (MAC, "10.0.0.9"), (MAC, LLA),
        (other.lower(), "192.168.1.0/24"), (other.lower(), "fe80::f816:3eff:fe00:99"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        {"port_security_enabled": False},
        {"device_owner": "network:dhcp"},
        {"device_owner": "network:router_interface"},
    ],
)
def test_unguarded(more: Any) -> None:
    assert guard.guard_of(details(**more)) is None


@pytest.mark.parametrize(
    "owner",
    ["", None, "compute:nova", "neutron:x", "neutron:LOADBALANCERV2", "Network:dhcp", "network"],
)
def test_an_owner_that_any_user_may_give_is_guarded(owner: str | None) -> None:
    """Neutron's policy guards ``network:``, and nothing else."""
    assert guard.guard_of(details(device_owner=owner)) is not None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"mac_address": "nonsense"}, "MAC address nonsense"),
        ({"fixed_ips": [{"ip_address": "10.0.0"}]}, "IP address 10.0.0"),
        ({"allowed_address_pairs": [{"ip_address": "1.2.3.4/99"}]}, "1.2.3.4/99"),
    ],
)
def test_refused(more: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        guard.guard_of(details(**more))


def test_one_pair_too_many() -> None:
    allowed = [{"ip_address": f"10.1.0.{n}"} for n in range(254)]
    assert len(pairs(allowed_address_pairs=allowed)) == guard.PAIRS_MAX
    allowed.append({"ip_address": "10.1.1.1"})
    with pytest.raises(InvalidInput, match="257 pairs"):
        pairs(allowed_address_pairs=allowed)


def safe(actual: Any, *ips: str, **more: Any) -> Pairs | None:
    allowed = [{"ip_address": ip} for ip in ips]
    found = guard.safe_guard_of(details(allowed_address_pairs=allowed, **more), actual)
    return None if found is None else {(pair["mac"], pair["ip"]) for pair in found["pairs"]}


TOO_MANY = [f"10.1.{n}.0/24" for n in range(256)]
OWN = {(MAC, "10.0.0.5"), (MAC, LLA)}


def test_while_there_is_no_whole_guard_what_is_still_allowed_stays() -> None:
    had = guard.as_guard([(MAC, "10.0.0.5"), (MAC, "10.1.7.0/24"), (MAC, "10.9.9.9")])
    assert safe(had, *TOO_MANY) == OWN | {(MAC, "10.1.7.0/24")}
    assert safe({"pairs": [{"mac": MAC, "ip": None}]}, *TOO_MANY) == OWN
    full = guard.as_guard((MAC, ip) for ip in TOO_MANY)
    kept = safe(full, *TOO_MANY)
    assert kept is not None
    assert len(kept) == guard.PAIRS_MAX
    assert kept > OWN


def test_a_port_that_had_no_guard_gets_its_own_addresses_alone() -> None:
    assert safe(None, *TOO_MANY) == OWN


def test_what_is_no_address_allows_nothing() -> None:
    assert safe(None, "nonsense") == set()
    assert safe(guard.as_guard(OWN), "nonsense") == set()


def test_a_whole_guard_is_the_safe_one() -> None:
    assert safe(None, "10.1.1.1") == OWN | {(MAC, "10.1.1.1")}
    assert safe({"pairs": []}, port_security_enabled=False) is None


def test_order_and_notation_do_not_make_a_difference() -> None:
    one = {"pairs": [{"mac": MAC, "ip": "10.0.0.5/32"}, {"mac": MAC.upper(), "ip": "FD00::/64"}]}
    two = {"pairs": [{"mac": MAC, "ip": "fd00::/64"}, {"mac": MAC, "ip": "10.0.0.5"}]}
    assert guard.same(one, two)
    assert not guard.same(one, {"pairs": [*two["pairs"], {"mac": MAC, "ip": None}]})


def test_no_guard_is_not_an_empty_one() -> None:
    assert guard.same(None, None)
    assert not guard.same(None, {"pairs": []})
    assert not guard.same({"pairs": []}, None)


def test_link_local_flips_the_universal_bit() -> None:
    assert guard.link_local("02:00:5e:10:00:01") == "fe80::5eff:fe10:1"
    assert guard.link_local(MAC) == LLA
