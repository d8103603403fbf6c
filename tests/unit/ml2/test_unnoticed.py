# SPDX-License-Identifier: Apache-2.0
"""Ports that changed while messages were lost: which of them are looked at, and when."""

from __future__ import annotations

from typing import Any

import pytest

from vif_uswitch.ml2 import guard, wiring
from vif_uswitch.ml2.unnoticed import COMPARE_PASSES, Unnoticed
from vif_uswitch.ml2.wiring import View

from .switch_fake import MAC, NET, NET2, PORT, PORT2, listed, port

Json = dict[str, Any]


def wired(name: str = PORT, **more: Any) -> Json:
    """That port in the switch, as the agent has wired it."""
    own = guard.guard_of(listed(name))
    return port(name, **{"segment": NET, "macs": [MAC], "mtu": 1450, "guard": own, **more})


SWITCH = View.of([wired(PORT), wired(PORT2)])


@pytest.fixture
def unnoticed() -> Unnoticed:
    """With both ports listed already."""
    made = Unnoticed("host1")
    made.changed([listed(PORT), listed(PORT2)], SWITCH)
    return made


@pytest.mark.parametrize("more", [
    {"mac_address": "fa:16:3e:00:00:09"},
    {"fixed_ips": [{"subnet_id": "s", "ip_address": "10.0.0.6"}]},
    {"allowed_address_pairs": [{"ip_address": "10.0.0.7", "mac_address": MAC}]},
    {"allowed_address_pairs": [{"ip_address": "nonsense", "mac_address": MAC}]},
    {"port_security_enabled": False},
    {"device_owner": "network:router_gateway"},
    {"admin_state_up": False, "status": "DOWN"},
    {"network_id": NET2},
    {"binding:host_id": "host2"},
    {"status": "DOWN"},
    {"status": "BUILD"},
])  # fmt: skip
def test_what_the_switch_does_not_have_is_looked_at_once(unnoticed: Unnoticed, more: Json) -> None:
    now = [listed(PORT, **more), listed(PORT2)]
    assert unnoticed.changed(now, SWITCH) == {PORT}
    assert unnoticed.changed(now, SWITCH) == set(), "whatever came of it, it is known"
    assert unnoticed.changed([listed(PORT), listed(PORT2)], SWITCH) == set(), "as it was, and is"


@pytest.mark.parametrize("more", [
    {"revision_number": 99}, {"updated_at": "2027-01-01T00:00:00Z"}, {"name": "another"},
    {"binding:profile": {"x": "y"}},
])  # fmt: skip
def test_what_the_switch_has_nothing_of_is_no_change(unnoticed: Unnoticed, more: Json) -> None:
    assert unnoticed.changed([listed(PORT, **more), listed(PORT2)], SWITCH) == set()


def test_what_was_noticed_is_not_looked_at_again(unnoticed: Unnoticed) -> None:
    """Another list of addresses, another order of them: the agent was told, the switch has them."""
    pairs = [{"ip_address": f"10.0.0.{n}", "mac_address": MAC} for n in (8, 7)]
    now = listed(PORT, allowed_address_pairs=pairs, revision_number=9)
    there = wired(guard=guard.guard_of({**now, "allowed_address_pairs": pairs[::-1]}))
    assert unnoticed.changed([now, listed(PORT2)], View.of([there, wired(PORT2)])) == set()


def test_who_came_and_who_went(unnoticed: Unnoticed) -> None:
    assert unnoticed.changed([listed(PORT)], SWITCH) == {PORT2}, "no more bound here"
    new = [listed(PORT), listed(PORT2)]
    assert unnoticed.changed(new, View.of([wired(PORT), port(PORT2)])) == {PORT2}, "not wired"
    assert Unnoticed("host1").changed([listed(NET)], SWITCH) == set(), "not plugged"


def test_whose_guest_is_elsewhere_waits_in_no_network() -> None:
    there = listed(PORT, **{"binding:host_id": "host2"}, status="DOWN")
    assert wiring.is_as_listed(there, "host1", View.of([port(PORT)]))
    assert not wiring.is_as_listed(there, "host1", SWITCH)


def test_a_change_is_found_although_it_was_counted_back(unnoticed: Unnoticed) -> None:
    """A database that was restored."""
    older = listed(PORT, mac_address="fa:16:3e:00:00:09", revision_number=1)
    assert unnoticed.changed([older, listed(PORT2)], SWITCH) == {PORT}


def passes_until_due(unnoticed: Unnoticed) -> int:
    return next(number for number in range(1, 1000) if unnoticed.due())


def test_due_now_and_then_and_counted_from_the_last_answer() -> None:
    unnoticed = Unnoticed("host1")
    assert passes_until_due(unnoticed) == COMPARE_PASSES
    assert unnoticed.due(), "until there is an answer"
    unnoticed.changed([], SWITCH)
    for _ in range(10):
        assert not unnoticed.due()
    unnoticed.changed([], SWITCH)
    assert passes_until_due(unnoticed) == COMPARE_PASSES
