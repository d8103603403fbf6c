# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from vif_uswitch.exceptions import Conflict, InvalidInput, NotFound
from vif_uswitch.ml2 import guard, wiring
from vif_uswitch.ml2.wiring import DeleteSegment, MapRow, SetPort, View

from .switch_fake import MAC, NET, NET2, PORT, PORT2, details, port, uplink

PHYSNETS = {"physnet1": "up0"}
GUARD = guard.guard_of(details())


def view(*ports: Any) -> View:
    return View.of(ports)


def wired(name: str = PORT, **more: Any) -> dict[str, Any]:
    return port(name, **{"segment": NET, "macs": [MAC], "mtu": 1450, "guard": GUARD, **more})


# ---- the switch as it is seen ----


def test_uplinks_are_not_ports() -> None:
    seen = view(port(PORT), uplink("up0", "physnet1", {None: NET2, 101: NET}))
    assert set(seen.ports) == {PORT}
    assert seen.rows("up0") == {None: NET2, 101: NET}
    assert seen.physnets() == PHYSNETS


@pytest.mark.parametrize(
    ("name", "ids", "ours"),
    [
        (PORT, {"owner": "nova"}, True),
        (PORT, {"owner": "neutron-dhcp"}, True),
        (PORT, {"owner": "neutron-agent"}, True),
        (PORT, {}, False),
        (PORT, {"owner": "neutron"}, False),
        (PORT, {"owner": "libvirt"}, False),
        (PORT.upper(), {"owner": "nova"}, False),
        ("vm1", {"owner": "nova"}, False),
        ("vm1", {}, False),
    ],
)
def test_whose_port_it_is(name: str, ids: dict[str, str], ours: bool) -> None:
    assert wiring.is_device(port(name, external_ids=ids)) is ours


# ---- wire ----


def test_a_fresh_port_gets_all_at_once_and_after_the_row() -> None:
    steps = wiring.wire(details(), view(port(PORT), uplink("up0")), PHYSNETS)
    assert steps == [
        MapRow("up0", 101, NET),
        SetPort(PORT, {"segment": NET, "macs": [MAC], "mtu": 1450, "guard": GUARD}),
    ]


def test_what_is_so_already_is_not_touched() -> None:
    seen = view(wired(), uplink("up0", rows={101: NET}))
    assert wiring.wire(details(), seen, PHYSNETS) == []


@pytest.mark.parametrize(
    ("was", "changes"),
    [
        ({"segment": None}, {"segment": NET}),
        ({"macs": []}, {"macs": [MAC]}),
        ({"macs": [MAC.upper()]}, {}),
        ({"mtu": 1500}, {"mtu": 1450}),
        ({"admin_up": False}, {"admin_up": True}),
        ({"guard": None}, {"guard": GUARD}),
        ({"guard": {"pairs": []}}, {"guard": GUARD}),
    ],
)
def test_only_what_differs_is_set(was: Any, changes: Any) -> None:
    steps = wiring.wire(details(), view(wired(**was), uplink("up0", rows={101: NET})), PHYSNETS)
    assert steps == ([SetPort(PORT, changes)] if changes else [])


def test_port_security_off_takes_the_guard_away() -> None:
    seen = view(wired(), uplink("up0", rows={101: NET}))
    steps = wiring.wire(details(port_security_enabled=False), seen, PHYSNETS)
    assert steps == [SetPort(PORT, {"guard": None})]


@pytest.mark.parametrize(
    ("owner", "pinned"),
    [
        ("compute:nova", True),
        ("", True),
        ("network:dhcp", True),
        ("network:router_interface", True),
        ("network:ha_router_replicated_interface", False),
        ("network:router_interface_distributed", False),
        ("network:router_gateway", False),
    ],
)
def test_a_mac_that_several_hosts_may_have_is_not_pinned(owner: str, pinned: bool) -> None:
    steps = wiring.wire(details(device_owner=owner), view(port(PORT), uplink("up0")), PHYSNETS)
    assert isinstance(steps[-1], SetPort)
    assert steps[-1].changes.get("macs", []) == ([MAC] if pinned else [])


def test_flat_is_the_untagged_row_and_local_has_none() -> None:
    seen = view(port(PORT), uplink("up0"))
    flat = wiring.wire(details(network_type="flat", segmentation_id=None), seen, PHYSNETS)
    assert flat[0] == MapRow("up0", None, NET)
    local = wiring.wire(details(network_type="local", physical_network=None), seen, PHYSNETS)
    assert [type(step) for step in local] == [SetPort]


def test_a_row_of_a_network_that_is_gone_is_taken_over() -> None:
    steps = wiring.wire(details(), view(port(PORT), uplink("up0", rows={101: NET2})), PHYSNETS)
    assert steps[0] == MapRow("up0", 101, NET)


@pytest.mark.parametrize("vid", [0, 4095, -1, "101", None, True, 1.0])
def test_vlan_out_of_range(vid: object) -> None:
    with pytest.raises(InvalidInput, match=r"VLAN id .* is not in 1..4094"):
        wiring.wire(details(segmentation_id=vid), view(port(PORT), uplink("up0")), PHYSNETS)


@pytest.mark.parametrize("vid", [1, 4094])
def test_vlan_at_the_edge(vid: int) -> None:
    steps = wiring.wire(details(segmentation_id=vid), view(port(PORT), uplink("up0")), PHYSNETS)
    assert steps[0] == MapRow("up0", vid, NET)


def test_refused_with_a_reason() -> None:
    seen = view(port(PORT), uplink("up0", rows={7: "blue"}))
    with pytest.raises(NotFound, match=r"physnet2: has no uplink on this host \(known: physnet1\)"):
        wiring.wire(details(physical_network="physnet2"), seen, PHYSNETS)
    with pytest.raises(NotFound, match="uplink up9"):
        wiring.wire(details(), seen, {"physnet1": "up9"})
    with pytest.raises(InvalidInput, match="network type vxlan"):
        wiring.wire(details(network_type="vxlan"), seen, PHYSNETS)
    with pytest.raises(Conflict, match="VLAN 7 row for segment blue"):
        wiring.wire(details(segmentation_id=7), seen, PHYSNETS)
    with pytest.raises(InvalidInput, match="is no UUID"):
        wiring.wire(details(network_id="blue"), seen, PHYSNETS)
    with pytest.raises(NotFound, match="not in the switch any more"):
        wiring.wire(details(PORT2), seen, PHYSNETS)


# ---- a guest that comes from another host ----


def resources(**more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The port and its network as neutron-server's resources, not details."""
    told = details(**more)
    of_network = ("network_type", "physical_network", "segmentation_id")
    of_port = {key: value for key, value in told.items() if key not in (*of_network, "mtu")}
    network = {f"provider:{key}": told[key] for key in of_network}
    return {**of_port, "id": PORT, "status": "ACTIVE"}, {**network, "id": NET, "mtu": told["mtu"]}


def test_it_finds_all_but_its_pinned_address() -> None:
    pair = {"mac_address": "fa:16:3e:00:00:99", "ip_address": "10.0.0.9"}
    port_, network = resources(allowed_address_pairs=[pair])
    expected = wiring.details_of(port_, network)
    assert expected is not None
    fresh = view(port(PORT, macs=[MAC]), uplink("up0"))
    steps = wiring.wire(expected, fresh, PHYSNETS)
    at_home = wiring.wire(details(allowed_address_pairs=[pair]), view(port(PORT), uplink("up0")),
                          PHYSNETS)  # fmt: skip
    assert steps[0] == at_home[0] == MapRow("up0", 101, NET)
    assert isinstance(steps[1], SetPort) and isinstance(at_home[1], SetPort)
    assert steps[1].changes == {**at_home[1].changes, "macs": []}


def test_without_the_extensions_it_is_guarded() -> None:
    """A resource that does not say whether a port is to be secured, or lacks its pairs."""
    port_, network = resources()
    del port_["port_security_enabled"], port_["allowed_address_pairs"]
    expected = wiring.details_of(port_, network)
    assert expected is not None and guard.same(guard.guard_of(expected), GUARD)


def test_a_network_of_several_segments_has_to_wait() -> None:
    port_, network = resources()
    assert wiring.details_of(port_, {**network, "segments": [{}, {}]}) is None


def test_one_that_cannot_be_wired_does_not_get_its_address_by_that() -> None:
    port_, network = resources()
    expected = wiring.details_of(port_, network)
    assert expected is not None
    assert wiring.protect(expected, view(wired(macs=[]))) == []


# ---- protect ----


def protected(was: Any, **more: Any) -> dict[str, Any]:
    """What is set of a port that was so, and cannot be wired."""
    changes: dict[str, Any] = {}
    for step in wiring.protect(details(**more), view(port(PORT, **was))):
        assert isinstance(step, SetPort)
        assert len(step.changes) == 1, "one may be refused, and the rest is done"
        changes |= step.changes
    return changes


IN = {"segment": NET, "macs": [MAC], "guard": GUARD}


def test_a_port_that_cannot_be_wired_loses_what_it_may_not() -> None:
    assert protected(IN) == {}
    assert protected({**IN, "guard": None}) == {"guard": GUARD}
    assert protected({**IN, "admin_up": True}, admin_state_up=False) == {"admin_up": False}
    other = "fa:16:3e:00:00:09"
    assert protected(IN, mac_address=other) == {
        "guard": guard.guard_of(details(mac_address=other)), "macs": [other],
    }  # fmt: skip


def test_a_guard_that_cannot_be_is_replaced_by_a_smaller_one() -> None:
    many = [{"ip_address": f"10.1.{n}.0/24"} for n in range(256)]
    assert protected({**IN, "guard": None}, allowed_address_pairs=many) == {"guard": GUARD}
    assert protected(IN, allowed_address_pairs=many) == {}
    assert protected(IN, mac_address="nonsense") == {"guard": {"pairs": []}, "macs": []}


def test_a_port_in_no_segment_needs_no_protection() -> None:
    assert protected({"guard": None}) == {}
    assert wiring.protect(details(PORT2), view()) == []


# ---- cut ----


def test_cut_leaves_the_guard() -> None:
    assert wiring.cut(PORT, view(wired())) == [SetPort(PORT, {"segment": None, "macs": []})]


def test_cut_of_what_is_cut_or_gone() -> None:
    assert wiring.cut(PORT, view(port(PORT))) == []
    assert wiring.cut(PORT, view()) == []


# ---- sweep ----

ROW = ("up0", 101)


def test_the_last_port_takes_row_and_segment_along() -> None:
    seen = view(uplink("up0", rows={101: NET, None: NET2}), wired(PORT2, segment=NET2))
    steps = wiring.sweep(seen, {PORT2: ("up0", None)}, None)
    assert steps == [MapRow("up0", 101, None), DeleteSegment(NET)]


def test_what_has_a_port_stays() -> None:
    seen = view(uplink("up0", rows={101: NET}), wired())
    assert wiring.sweep(seen, {PORT: ROW}, [NET]) == []


def test_a_network_with_a_port_that_was_not_wired_keeps_all() -> None:
    """The agent has just started, or the port is an operator's."""
    seen = view(uplink("up0", rows={101: NET, 55: NET}), wired(), wired("probe", macs=[]))
    assert wiring.sweep(seen, {}, [NET]) == []
    assert wiring.sweep(seen, {PORT: ROW}, [NET]) == []


def test_a_network_that_moved_to_another_vlan_loses_the_former_row_only() -> None:
    seen = view(uplink("up0", rows={100: NET, 101: NET}), wired())
    assert wiring.sweep(seen, {PORT: ROW}, [NET]) == [MapRow("up0", 100, None)]


def test_an_operator_s_segments_and_rows_stay() -> None:
    seen = view(uplink("up0", rows={7: "blue"}))
    assert wiring.sweep(seen, {}, ["blue", "red"]) == []


def test_segments_without_a_row_go_when_all_are_looked_at() -> None:
    assert wiring.sweep(view(), {}, [NET, "red"]) == [DeleteSegment(NET)]
    assert wiring.sweep(view(), {}, None) == []


def test_a_segment_that_another_uplink_still_has_stays() -> None:
    seen = view(
        uplink("up0", rows={101: NET}), uplink("up1", rows={101: NET2}), wired(PORT, segment=NET2)
    )
    steps = wiring.sweep(seen, {PORT: ("up1", 101)}, [NET, NET2])
    assert steps == [MapRow("up0", 101, None), DeleteSegment(NET)]
