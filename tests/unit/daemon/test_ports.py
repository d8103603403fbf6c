# SPDX-License-Identifier: Apache-2.0
"""The rules about the desired state, without sockets and files."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vif_uswitch.api.guard import Guard, GuardPair
from vif_uswitch.api.types import PortChanges, PortSpec, TrunkRow, UplinkSpec
from vif_uswitch.daemon import ports, state
from vif_uswitch.daemon.addresses import format_mac, parse_mac
from vif_uswitch.daemon.defaults import PortDefaults, config_of
from vif_uswitch.daemon.model import TagRow
from vif_uswitch.daemon.ports import Desired, Segment
from vif_uswitch.dataplane.base import RateLimit
from vif_uswitch.exceptions import Conflict, InvalidInput, ResourceExhausted, USwitchError

DEFAULTS = PortDefaults(flood_rate=7, flood_burst=8, fdb_quota=9, mtu=1400)


def desired(*specs: PortSpec) -> Desired:
    result = Desired()
    for spec in specs:
        path = "" if spec.type == "tap" else f"/v/{spec.name}"
        port = ports.new_port(result, spec, path)
        result = ports.put_port(result, port, create_segments=True)
    return result


def test_nothing_changes_in_place() -> None:
    before = desired(PortSpec(name="a", segment="s"))
    after = ports.put_port(before, ports.changed(before.port("a"), PortChanges(segment="t")), True)
    assert set(before.segments) == {"s"} and set(after.segments) == {"s", "t"}
    assert before.port("a").segment == "s"


def test_defaults_follow_the_configuration_and_values_do_not() -> None:
    state_ = desired(PortSpec(name="a"), PortSpec(name="b", mtu=9000, flood_rate=0))
    a, b = (config_of(state_, state_.port(name), DEFAULTS) for name in "ab")
    assert (a.mtu, a.flood_rate, a.flood_burst, a.fdb_quota) == (1400, 7, 8, 9)
    assert (b.mtu, b.flood_rate, b.max_frame) == (9000, 0, 9014)


def test_queues_of_ports() -> None:
    """A guest's port has as many as it says, or as the configuration says; a device has one."""
    state_ = desired(PortSpec(name="a"), PortSpec(name="b", queues=3))
    tap = ports.new_port(state_, PortSpec(name="t", type="tap", ifname="tap0"), "")
    state_ = ports.put_port(state_, tap)
    defaults = PortDefaults(queues=5, features_off=1 << 40)
    made = [config_of(state_, state_.port(name), defaults) for name in "abt"]
    assert [config.queues for config in made] == [5, 3, 1]
    assert {config.features_off for config in made} == {1 << 40}
    with pytest.raises(InvalidInput, match="one queue pair"):
        ports.put_port(state_, ports.changed(state_.port("t"), PortChanges(queues=2)))


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("52:54:00:12:34:AB", bytes.fromhex("5254001234ab")),
        ("ff:ff:ff:ff:ff:ff", b""), ("00:00:00:00:00:00", b""), ("52:54:00:12:34", b""),
        ("of the guest", b""), ("5254.0012.34ab", b""), ("", b""),
    ],
)  # fmt: skip
def test_the_address_of_a_guest(said: str, address: bytes) -> None:
    """What is no address is the caller's own matter."""
    ids = {"mac": said, "owner": "x"}
    state_ = desired(PortSpec(name="a", external_ids=ids), PortSpec(name="b"))
    assert config_of(state_, state_.port("a"), DEFAULTS).address == address
    assert config_of(state_, state_.port("b"), DEFAULTS).address == b""


def test_limits_and_their_bursts() -> None:
    defaults = PortDefaults(max_kbps=1000, max_kpps=10, max_burst_kpps=3)
    state_ = desired(
        PortSpec(name="a"), PortSpec(name="b", max_kbps=0, max_kpps=20),
        PortSpec(name="c", max_burst_kbps=5, max_burst_kpps=0),
    )  # fmt: skip
    a, b, c = (config_of(state_, state_.port(name), defaults).rate for name in "abc")
    assert a == RateLimit(1000, 800, 10, 3)
    assert b == RateLimit(0, 0, 20, 3)
    assert c == RateLimit(1000, 5, 10, 8)


def test_null_goes_back_to_the_default() -> None:
    state_ = desired(PortSpec(name="a", mtu=9000))
    port = ports.changed(state_.port("a"), PortChanges(mtu=None))
    assert config_of(state_, port, DEFAULTS).mtu == 1400


def test_rows_of_access_and_trunk() -> None:
    rows = (TrunkRow(vid=20, segment="y"), TrunkRow(vid=10, segment="x"))
    state_ = desired(PortSpec(name="a", segment="s", trunk=rows))
    ids = {name: segment.segment_id for name, segment in state_.segments.items()}
    assert config_of(state_, state_.port("a"), DEFAULTS).tags == (
        TagRow(4096, ids["s"]), TagRow(10, ids["x"]), TagRow(20, ids["y"]),
    )  # fmt: skip
    alone = desired(PortSpec(name="b"))
    assert not config_of(alone, alone.port("b"), DEFAULTS).tags


def test_ids_are_the_lowest_free_ones() -> None:
    state_ = desired(PortSpec(name="a"), PortSpec(name="b"), PortSpec(name="c"))
    state_ = ports.delete_port(state_, "b")
    assert ports.new_port(state_, PortSpec(name="d"), "/v/d").port_id == 1
    assert ports.new_port(state_, PortSpec(name="d"), "/v/d", reserved=[1]).port_id == 3


def tap(name: str, netns: str = "") -> PortSpec:
    return PortSpec(name=name, type="tap", ifname="t0", netns=netns)


@pytest.mark.parametrize(("one", "other", "why"), [
    ("", "", "is the device of port a"),
    ("web", "web", "is the device of port a"),
    ("", "web", "in our network namespace, and could be taken for that in network namespace web"),
    ("web", "", "in network namespace web, and could be taken for that in our network namespace"),
])  # fmt: skip
def test_names_of_tap_devices(one: str, other: str, why: str) -> None:
    with pytest.raises(Conflict, match=why):
        desired(tap("a", one), tap("b", other))


def test_a_tap_device_in_each_of_two_namespaces() -> None:
    assert set(desired(tap("a", "web"), tap("b", "db")).ports) == {"a", "b"}


def test_an_uplink_s_device_is_no_tap_device() -> None:
    """An uplink's eth0, and a container's: nobody takes the one for the other."""
    uplink = ports.new_port(Desired(), UplinkSpec(name="up", ifname="t0"), "")
    web = ports.new_port(Desired(), tap("a", "web"), "", reserved=[uplink.port_id])
    for order in ((uplink, web), (web, uplink)):
        state_ = Desired()
        for port in order:
            state_ = ports.put_port(state_, port)
        assert set(state_.ports) == {"a", "up"}


def test_segments_run_out_at_4095() -> None:
    full = Desired({}, {f"s{i}": Segment(i, f"s{i}") for i in range(1, 4096)})
    with pytest.raises(ResourceExhausted, match="segment: all 4095 are in use"):
        ports.add_segment(full, "more")
    assert (
        ports.add_segment(ports.delete_segment(full, "s77"), "more").segments["more"].segment_id
        == 77
    )


def test_two_segments_with_one_name() -> None:
    with pytest.raises(Conflict, match="exists already"):
        ports.add_segment(ports.add_segment(Desired(), "s"), "s")


@pytest.mark.parametrize("text", ["02:00:00:00:00:01", "fe:ff:ff:ff:ff:ff", "00:00:00:00:00:01"])
def test_addresses_of_stations(text: str) -> None:
    assert format_mac(parse_mac(text)) == text


@pytest.mark.parametrize("text", ["01:00:00:00:00:00", "33:33:00:00:00:01", "00:00:00:00:00:00"])
def test_addresses_of_groups_and_nobody(text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        parse_mac(text)


NAMES = st.sampled_from(["a", "b", "c", "d"])
SEGMENTS = st.sampled_from(["s", "t", "u"])
MACS = st.lists(st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02"]), max_size=2)
IPS = st.none() | st.sampled_from(["10.0.0.1", "10.0.0.9/24", "::/0", "FD00::1/64", "1.2.3.4.5"])
GUARDS = st.lists(
    st.builds(GuardPair, mac=st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:0A"]), ip=IPS),
    max_size=3,
).map(lambda pairs: Guard(pairs=tuple(pairs)))
CHANGES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "segment": SEGMENTS | st.none(),
        "trunk": st.lists(
            st.builds(TrunkRow, vid=st.integers(1, 3), segment=SEGMENTS), max_size=3
        ).map(tuple),
        "macs": MACS.map(tuple),
        "admin_up": st.booleans(),
        "guard": st.none() | GUARDS,
        "external_ids": st.dictionaries(NAMES, st.sampled_from(["x", "", "\n"]), max_size=2),
    },
)
STEPS: st.SearchStrategy[tuple[str, str, dict[str, Any]]] = st.one_of(
    st.tuples(st.just("add"), NAMES, CHANGES),
    st.tuples(st.just("set"), NAMES, CHANGES),
    st.tuples(st.just("delete"), NAMES, st.just({})),
    st.tuples(st.just("segment"), SEGMENTS, st.just({})),
    st.tuples(st.just("no segment"), SEGMENTS, st.just({})),
)


def step(now: Desired, verb: str, name: str, values: dict[str, Any]) -> Desired:
    if verb == "add":
        spec = PortSpec(name=name, **values)
        if name in now.ports:
            raise Conflict("port", name)
        return ports.put_port(now, ports.new_port(now, spec, f"/v/{name}"), True)
    if verb == "set":
        return ports.put_port(now, ports.changed(now.port(name), PortChanges(**values)), False)
    if verb == "delete":
        return ports.delete_port(now, name)
    if verb == "segment":
        return ports.add_segment(now, name)
    return ports.delete_segment(now, name)


@given(st.lists(STEPS, max_size=25))
def test_whatever_is_asked_the_state_stays_one_that_can_be(
    steps: list[tuple[str, str, dict[str, Any]]],
) -> None:
    now = Desired()
    for verb, name, values in steps:
        before = now
        with contextlib.suppress(USwitchError):
            now = step(now, verb, name, values)
        ports.check_whole(now, AssertionError)
        assert state.decode(state.encode(now), "x") == now
        for port in now.ports.values():
            config_of(now, port, DEFAULTS)
            if port.name in before.ports and verb != "delete":
                assert before.ports[port.name].port_id == port.port_id
        for key, segment in before.segments.items():
            assert key not in now.segments or now.segments[key] == segment
