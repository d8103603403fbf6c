# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from typing import Any

import pytest

from vif_uswitch.exceptions import ResourceExhausted
from vif_uswitch.ml2 import plugging
from vif_uswitch.ml2.plugger import PULL_PASSES, RETRY_PASSES, Plugger
from vif_uswitch.ml2.switch import Switch

from .switch_fake import NET2, PORT, PORT2, FakeControl, bound, port, uplink

FULL = ResourceExhausted("port", None, "all 1024 are in use")
MINE = {"owner": plugging.OWNER}


@pytest.fixture
def control() -> FakeControl:
    return FakeControl(port(PORT), uplink("up0", "physnet1"))


@pytest.fixture
def plugger(control: FakeControl) -> Plugger:
    switch = Switch(control)
    assert switch.look()
    return Plugger(switch, "host1")


def passes_until_due(plugger: Plugger) -> int:
    for number in range(1, 1000):
        if plugger.due([], [], whole=False):
            return number
    return 0


def test_only_what_nobody_else_plugs_is_made_and_deleted(
    control: FakeControl, plugger: Plugger
) -> None:
    plugger.pulled([bound(PORT2), bound(PORT), bound(NET2, "vrouter")])
    assert control.calls == [("ensure", PORT2)]
    plugger.pulled([bound(PORT2)])
    assert len(control.calls) == 1, "somebody else's stays"
    plugger.pulled([])
    assert control.calls[1:] == [("delete", PORT2)]


def test_who_has_no_such_ports_is_not_asked(plugger: Plugger) -> None:
    assert passes_until_due(plugger) == 0
    assert plugger.due([], [], whole=True)
    plugger.pulled([])
    assert passes_until_due(plugger) == 0


def test_who_has_some_is_asked_now_and_then(plugger: Plugger) -> None:
    plugger.pulled([bound(PORT2)])
    assert passes_until_due(plugger) == PULL_PASSES


@pytest.mark.parametrize(
    ("announced", "deleted", "due"),
    [
        ([bound("cccccccc-cccc-4ccc-8ccc-cccccccccccc")], [], True),
        ([bound(PORT2)], [], False),  # made already
        ([bound(PORT2, **{"binding:host_id": "host2"})], [], True),
        ([bound(PORT, **{"binding:host_id": "host2"})], [], False),  # somebody else's
        ([bound(NET2, "vrouter")], [], False),
        ([], [PORT2], True),
        ([], [PORT], False),
    ],
)
def test_an_announcement_is_a_reason_to_ask_and_no_more(
    control: FakeControl, plugger: Plugger, announced: Any, deleted: Any, due: bool
) -> None:
    plugger.pulled([bound(PORT2)])
    control.calls.clear()
    assert plugger.due(announced, deleted, whole=False) is due
    assert control.calls == []


def test_an_announcement_that_came_too_late_does_no_harm(
    control: FakeControl, plugger: Plugger
) -> None:
    """It says that the port has left; it has come back since."""
    plugger.pulled([bound(PORT2)])
    control.calls.clear()
    assert plugger.due([bound(PORT2, **{"binding:host_id": "host2"})], [PORT2], whole=False)
    plugger.pulled([bound(PORT2)])
    assert control.calls == []


def test_what_could_not_be_made_is_tried_again_until_it_can(
    control: FakeControl, plugger: Plugger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    control.refuse[PORT2] = FULL
    for _ in range(3):
        plugger.pulled([bound(PORT2)])
        assert passes_until_due(plugger) == RETRY_PASSES
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.message == f"Port {PORT2} cannot be made: port: all 1024 are in use"
    control.refuse.clear()
    plugger.pulled([bound(PORT2)])
    assert PORT2 in control.ports
    assert "made: nobody else plugs it" in caplog.text


def test_what_could_not_be_deleted_likewise(
    control: FakeControl, plugger: Plugger, caplog: pytest.LogCaptureFixture
) -> None:
    plugger.pulled([bound(PORT2)])
    control.refuse[PORT2] = FULL
    plugger.pulled([])
    assert passes_until_due(plugger) == RETRY_PASSES
    assert f"Port {PORT2} cannot be deleted: port: all 1024" in caplog.text
    control.refuse.clear()
    plugger.pulled([])
    assert PORT2 not in control.ports


def test_one_that_fails_does_not_keep_the_others(control: FakeControl, plugger: Plugger) -> None:
    control.refuse[PORT2] = FULL
    plugger.pulled([bound(PORT2), bound(NET2)])
    assert NET2 in control.ports
