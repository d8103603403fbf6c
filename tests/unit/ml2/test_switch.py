# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

import pytest

from vif_uswitch.exceptions import (
    Busy,
    Conflict,
    DaemonUnreachable,
    Forbidden,
    ResourceExhausted,
    TimedOut,
    USwitchError,
)
from vif_uswitch.ml2.switch import PATIENCE_S, Switch
from vif_uswitch.ml2.wiring import DeleteSegment, MapRow, SetPort, Step

from .switch_fake import NET, PORT, PORT2, Clock, FakeControl, port, uplink


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def control() -> FakeControl:
    return FakeControl(port(PORT), uplink("up0"))


@pytest.fixture
def switch(control: FakeControl, clock: Clock) -> Switch:
    made = Switch(control, clock)
    assert made.look()
    return made


def test_looking(switch: Switch) -> None:
    assert set(switch.view.ports) == {PORT}
    assert set(switch.view.uplinks) == {"up0"}
    assert switch.vhost_socket_dir == "/run/uswitch/vhost"
    assert not switch.take_restarted(), "the first sight is no restart"


def test_ports_are_listed_only_after_a_change(switch: Switch, control: FakeControl) -> None:
    control.revision, control.lists = 7, 0
    for _ in range(3):
        assert switch.look()
    assert control.lists == 1
    control.ports[PORT2] = port(PORT2)
    control.revision += 1
    assert switch.look()
    assert set(switch.view.ports) == {PORT, PORT2}
    control.pid += 1  # another process counts anew, and may be at the same number
    del control.ports[PORT2]
    assert switch.look()
    assert set(switch.view.ports) == {PORT}


def test_a_list_that_failed_is_asked_for_again(
    switch: Switch, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.revision = 7
    control.ports[PORT2] = port(PORT2)

    def no_answer() -> None:
        raise TimedOut("uswitchd", None, "no answer")

    with monkeypatch.context() as patch:
        patch.setattr(control, "port_list", no_answer)
        assert not switch.look()
    assert switch.look()
    assert set(switch.view.ports) == {PORT, PORT2}


def test_the_view_follows_each_step(switch: Switch) -> None:
    switch.step(MapRow("up0", 101, NET))
    assert switch.view.rows("up0") == {101: NET}
    switch.step(SetPort(PORT, {"segment": NET}))
    assert switch.view.ports[PORT]["segment"] == NET
    switch.delete(PORT)
    assert not switch.view.ports


def test_away_keeps_the_view_and_says_so_once(
    switch: Switch, control: FakeControl, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    control.away = True
    assert not switch.look()
    assert not switch.look()
    with pytest.raises(DaemonUnreachable):
        switch.step(SetPort(PORT, {"segment": NET}))
    assert switch.is_away()
    assert set(switch.view.ports) == {PORT}
    control.away = False
    assert switch.look()
    assert not switch.is_away()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "has nobody behind it" in caplog.text
    assert switch.take_restarted()
    assert not switch.take_restarted(), "once"


def test_a_restart_is_noticed_that_no_look_fell_into(switch: Switch, control: FakeControl) -> None:
    control.pid += 1
    assert switch.look()
    assert switch.take_restarted()


def test_neutron_is_told_when_it_lasts(switch: Switch, control: FakeControl, clock: Clock) -> None:
    control.away = True
    switch.look()
    clock.now += PATIENCE_S - 1
    assert switch.problem() == ""
    clock.now += 2
    assert "has nobody behind it" in switch.problem()
    control.away = False
    switch.look()
    assert switch.problem() == ""


def test_neutron_is_told_at_once_of_a_switch_that_never_was_there(control: FakeControl) -> None:
    control.away = True
    switch = Switch(control, Clock())
    assert not switch.look()
    assert "has nobody behind it" in switch.problem()


def test_cleaning_goes_on_after_a_refusal_and_says_it_once(
    switch: Switch, control: FakeControl, caplog: pytest.LogCaptureFixture
) -> None:
    control.refuse["up0"] = Conflict("uplink", "up0", "comes from the configuration")
    steps: list[Step] = [MapRow("up0", 101, None), DeleteSegment(NET)]
    switch.clean(steps)
    switch.clean(steps)
    assert control.calls == [("segment-delete", NET)] * 2
    assert [record.message for record in caplog.records] == [
        "row 101 of uplink up0 stays: uplink up0: comes from the configuration"
    ]


def test_cleaning_goes_on_after_a_refused_change_of_a_port(
    switch: Switch, control: FakeControl, caplog: pytest.LogCaptureFixture
) -> None:
    control.refuse[PORT] = ResourceExhausted("state", None, "no space left on device")
    steps: list[Step] = [SetPort(PORT, {"segment": None, "macs": []}), DeleteSegment(NET)]
    switch.clean(steps)
    switch.clean(steps)
    assert control.calls == [("segment-delete", NET)] * 2
    (record,) = caplog.records
    assert record.message == f"port {PORT} stays: state: no space left on device"
    control.refuse.clear()
    switch.clean(steps)
    assert control.calls[2:] == [("set", PORT, "macs", "segment"), ("segment-delete", NET)]


@pytest.mark.parametrize(
    "error",
    [
        Busy("control socket", None, "64 clients are connected already"),
        Forbidden("control socket", None, "your user is not in group uswitch-control"),
    ],
)
def test_who_is_not_let_in_waits_as_if_nobody_answered(
    control: FakeControl, monkeypatch: pytest.MonkeyPatch, error: USwitchError
) -> None:
    def version() -> None:
        raise error

    switch = Switch(control, Clock())
    with monkeypatch.context() as patch:
        patch.setattr(control, "version", version)
        assert not switch.look()
    assert switch.is_away()
    assert switch.problem() == str(error), "Neutron is told why"
    assert switch.look()
    assert not switch.is_away()


def test_cleaning_ends_when_nobody_answers(switch: Switch, control: FakeControl) -> None:
    control.refuse["up0"] = TimedOut("uswitchd", None, "no answer")
    switch.clean([MapRow("up0", 101, None), DeleteSegment(NET)])
    assert control.calls == []
    assert switch.is_away()
