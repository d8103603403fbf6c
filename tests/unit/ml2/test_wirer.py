# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from vif_uswitch.exceptions import DaemonUnreachable, ResourceExhausted
from vif_uswitch.ml2 import guard
from vif_uswitch.ml2.switch import Switch
from vif_uswitch.ml2.wirer import RETRY_FIRST_S, RETRY_MAX_S, CutRefused, PortGone, Wirer

from .switch_fake import (
    MAC,
    NET,
    NET2,
    PORT,
    PORT2,
    Clock,
    FakeControl,
    details,
    port,
    uplink,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def control() -> FakeControl:
    return FakeControl(port(PORT), uplink("up0", "physnet1"))


@pytest.fixture
def wirer(control: FakeControl, clock: Clock) -> Wirer:
    made = Wirer(Switch(control), {}, clock)
    assert made.devices() == {PORT}
    return made


def test_mappings_are_the_uplinks_own_or_configured(control: FakeControl, wirer: Wirer) -> None:
    assert wirer.mappings() == {"physnet1": "up0"}
    told = Wirer(Switch(control), {"provider": "up0", "other": "up9"})
    told.devices()
    assert told.mappings() == {"provider": "up0"}, "only uplinks that exist"


def test_wired_and_wired_again_without_a_call(control: FakeControl, wirer: Wirer) -> None:
    assert wirer.wire(details())
    assert control.calls == [
        ("map", "up0", "101", NET), ("set", PORT, "guard", "macs", "mtu", "segment"),
    ]  # fmt: skip
    assert wirer.wire(details())
    assert len(control.calls) == 2


def test_a_new_agent_touches_nothing(control: FakeControl, wirer: Wirer) -> None:
    wirer.wire(details())
    control.calls.clear()
    second = Wirer(Switch(control), {})
    assert second.devices() == {PORT}
    assert second.wire(details())
    second.sweep(whole=True)
    assert control.calls == []


def test_a_second_port_of_a_network_needs_no_second_row(
    control: FakeControl, wirer: Wirer
) -> None:
    control.ports[PORT2] = port(PORT2)
    wirer.devices()
    wirer.wire(details())
    wirer.wire(details(PORT2, mac_address="fa:16:3e:00:00:02"))
    assert [call[0] for call in control.calls] == ["map", "set", "set"]


def test_the_last_port_that_leaves_takes_row_and_segment(
    control: FakeControl, wirer: Wirer
) -> None:
    wirer.wire(details())
    wirer.sweep()
    del control.ports[PORT]
    wirer.devices()
    wirer.gone([PORT])
    wirer.sweep()
    assert control.calls[2:] == [("map", "up0", "101", "None"), ("segment-delete", NET)]
    assert not control.segment_names


def test_a_cut_port_lets_its_network_go(control: FakeControl, wirer: Wirer) -> None:
    wirer.wire(details())
    assert wirer.cut(PORT)
    assert not wirer.cut(PORT)
    wirer.sweep()
    assert control.ports[PORT]["segment"] is None
    assert control.ports[PORT]["macs"] == []
    assert control.ports[PORT]["guard"] is not None
    assert not control.segment_names


def test_a_cut_that_is_refused_is_tried_again(
    control: FakeControl, wirer: Wirer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    wirer.wire(details())
    control.refuse[PORT] = ResourceExhausted("state", None, "no space left on device")
    for _ in range(2):
        before = wirer.timestamps([PORT])
        with pytest.raises(CutRefused):
            wirer.cut(PORT)
        clock.now += RETRY_MAX_S
        assert wirer.timestamps([PORT]) != before
    (record,) = caplog.records
    assert record.message == (
        f"Port {PORT} cannot be taken out of its network: state: no space left on device"
    )
    del control.refuse[PORT]
    assert wirer.cut(PORT)
    assert control.ports[PORT]["segment"] is None


def test_a_cut_while_nobody_answers_or_the_port_is_gone(
    control: FakeControl, wirer: Wirer
) -> None:
    wirer.wire(details())
    control.away = True
    with pytest.raises(DaemonUnreachable):
        wirer.cut(PORT)
    control.away = False
    del control.ports[PORT]
    with pytest.raises(PortGone):
        wirer.cut(PORT)


def expected() -> dict[str, object]:
    return details(no_active_binding=True)


def test_a_port_whose_guest_has_left_is_cut_and_known(control: FakeControl, wirer: Wirer) -> None:
    """It was pinned, so its guest was here; whoever asks again does not wire it for another."""
    assert not wirer.has_left(PORT), "nobody was here yet"
    wirer.wire(details())
    assert wirer.has_left(PORT)
    assert (control.ports[PORT]["segment"], control.ports[PORT]["macs"]) == (None, [])
    wirer.devices()
    calls = len(control.calls)
    assert wirer.has_left(PORT)
    assert len(control.calls) == calls


def test_a_port_that_waits_for_its_guest_has_not_been_left(
    control: FakeControl, wirer: Wirer
) -> None:
    wirer.wire(expected())
    assert (control.ports[PORT]["segment"], control.ports[PORT]["macs"]) == (NET, [])
    assert not wirer.has_left(PORT)
    wirer.sweep(whole=True)
    assert control.ports["up0"]["trunk"], "the network of a port that waits stays"
    wirer.wire(details())
    assert control.ports[PORT]["macs"] == [MAC]
    assert wirer.has_left(PORT)


@pytest.mark.parametrize("seen", [True, False])
def test_a_guest_that_comes_back_finds_a_new_port(
    control: FakeControl, wirer: Wirer, seen: bool
) -> None:
    """Plugged again, whether or not anybody looked while it was gone."""
    wirer.wire(details())
    assert wirer.has_left(PORT)
    again = {**control.ports.pop(PORT), "created_us": 2}
    if seen:
        wirer.devices()
        wirer.gone([PORT])
    control.ports[PORT] = again
    wirer.devices()
    assert not wirer.has_left(PORT)


def test_an_operator_s_port_is_never_touched(control: FakeControl, wirer: Wirer) -> None:
    """Whatever its name."""
    control.ports[PORT2] = port(PORT2, segment="blue", macs=[MAC], external_ids={})
    assert wirer.devices() == {PORT}
    assert wirer.known_in("blue") == set()


def test_ports_of_a_network(control: FakeControl, wirer: Wirer) -> None:
    wirer.wire(details())
    assert wirer.known_in(NET) == {PORT}
    assert wirer.known_in(NET2) == set()


@pytest.mark.parametrize("how", ["unplugged", "cut"])
def test_a_local_network_goes_with_its_last_port(
    control: FakeControl, wirer: Wirer, how: str
) -> None:
    """It has no row whose end would be noticed."""
    wirer.sweep()
    wirer.wire(details(network_type="local", physical_network=None, segmentation_id=None))
    wirer.sweep()
    assert control.segment_names == {NET}
    if how == "cut":
        wirer.cut(PORT)
    else:
        del control.ports[PORT]
        wirer.devices()
        wirer.gone([PORT])
    wirer.sweep()
    assert not control.segment_names


# ---- plugged again, tried again ----


def test_plugged_again_between_two_looks(control: FakeControl, wirer: Wirer) -> None:
    before = wirer.timestamps([PORT])
    control.ports[PORT] = port(PORT, created_us=2)
    wirer.devices()
    assert wirer.timestamps([PORT]) != before


def test_a_refusal_is_logged_once_and_tried_again_later_and_later(
    control: FakeControl, wirer: Wirer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    control.refuse[PORT] = ResourceExhausted("state", None, "no space left on device")
    pauses = []
    for _ in range(7):
        before = wirer.timestamps([PORT])
        assert not wirer.wire(details())
        start = clock.now
        while wirer.timestamps([PORT]) == before:
            clock.now += 1
        pauses.append(clock.now - start)
    assert pauses[:4] == [RETRY_FIRST_S, 4, 8, 16]
    assert pauses[-1] == RETRY_MAX_S
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "cannot be wired: state: no space left" in record.message
    del control.refuse[PORT]
    assert wirer.wire(details())
    before = wirer.timestamps([PORT])
    clock.now += 1000
    assert wirer.timestamps([PORT]) == before, "no more tries after success"


def test_a_refusal_that_lasts_for_days(wirer: Wirer, clock: Clock) -> None:
    for _ in range(2000):
        assert not wirer.wire(details(segmentation_id=4095))
        clock.now += RETRY_MAX_S
    before = wirer.timestamps([PORT])
    assert not wirer.wire(details(segmentation_id=4095))
    clock.now += RETRY_MAX_S
    assert wirer.timestamps([PORT]) != before, "still tried"


def test_another_reason_is_logged_too(
    control: FakeControl, wirer: Wirer, caplog: pytest.LogCaptureFixture
) -> None:
    wirer.wire(details(physical_network="nowhere"))
    wirer.wire(details(segmentation_id=4095))
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert control.calls == []


def test_a_refusal_keeps_what_the_port_had(control: FakeControl, wirer: Wirer) -> None:
    wirer.wire(details())
    many = [{"ip_address": f"10.1.{n}.0/24"} for n in range(256)]
    assert not wirer.wire(details(allowed_address_pairs=many))
    wirer.sweep(whole=True)
    assert control.ports[PORT]["segment"] == NET
    assert control.ports["up0"]["trunk"] == [{"vid": 101, "segment": NET}]


@pytest.mark.parametrize("why", ["no uplink", "row refused", "row of an operator", "MAC taken"])
def test_what_neutron_has_taken_from_a_port_is_taken_although_it_cannot_be_wired(
    control: FakeControl, wirer: Wirer, why: str
) -> None:
    wirer.wire(details(port_security_enabled=False))
    if why == "no uplink":
        del control.ports["up0"]
    elif why == "row of an operator":
        control.ports["up0"]["trunk"] = [{"vid": 101, "segment": "operators"}]
    elif why == "row refused":
        control.ports["up0"]["trunk"] = []
        control.refuse["up0"] = ResourceExhausted("state", None, "no space left on device")
    else:
        control.ports[PORT]["macs"] = []
        control.ports["probe"] = port("probe", segment=NET, macs=[MAC])
    wirer.devices()
    assert not wirer.wire(details(admin_state_up=False))
    now = control.ports[PORT]
    assert now["guard"] == guard.guard_of(details())
    assert now["admin_up"] is False
    assert now["segment"] == NET, "and stays where it is"


def test_the_row_of_a_port_that_failed_goes(control: FakeControl, wirer: Wirer) -> None:
    control.refuse[PORT] = ResourceExhausted("state", None, "no space left on device")
    wirer.wire(details())
    wirer.sweep()
    assert control.ports["up0"]["trunk"] == []


def test_duplicate_mac_is_this_port_s_trouble(
    control: FakeControl, wirer: Wirer, caplog: pytest.LogCaptureFixture
) -> None:
    control.ports["probe"] = port("probe", segment=NET, macs=[MAC])
    wirer.devices()
    assert not wirer.wire(details())
    assert "is pinned to port probe" in caplog.text
    control.ports["probe"]["macs"] = []
    assert wirer.wire(details())


# ---- gone, away ----


def test_unplugged_while_being_wired(control: FakeControl, wirer: Wirer) -> None:
    del control.ports[PORT]
    with pytest.raises(PortGone):
        wirer.wire(details())


def test_nothing_is_known_while_nobody_answers(control: FakeControl, wirer: Wirer) -> None:
    control.away = True
    before = wirer.timestamps([PORT])
    with pytest.raises(DaemonUnreachable):
        wirer.wire(details())
    assert wirer.devices() == {PORT}, "the last known ones"
    assert wirer.timestamps([PORT]) != before, "due at once"
    wirer.sweep(whole=True)
    control.away = False
    assert wirer.wire(details())
