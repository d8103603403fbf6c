# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from vif_uswitch.ml2 import plugging
from vif_uswitch.ml2.wiring import View

from .switch_fake import NET, PORT, PORT2, bound, port


@pytest.mark.parametrize(
    ("more", "ours"),
    [
        ({}, True),
        ({"nova_plug": "vrouter"}, False),
        ({"nova_plug": "fp"}, False),
        ({"binding:host_id": "host2"}, False),
        ({"binding:vif_type": "tap"}, False),
        ({"binding:vif_type": "binding_failed", "binding:vif_details": {}}, False),
        ({"binding:vif_details": None}, False),
    ],
)
def test_who_plugs(more: Any, ours: bool) -> None:
    assert plugging.plugged_by_agent(bound(**more), "host1") is ours


def test_a_missing_port_is_made_in_no_segment() -> None:
    ports = [bound(mac_address="fa:16:3e:00:00:01"), bound(PORT2)]
    (spec,) = plugging.missing(ports, "host1", View.of([port(PORT2)]))
    assert spec == {
        "name": PORT, "path": f"/run/uswitch/vhost/{PORT}.sock", "mode": "server",
        "external_ids": {"owner": "neutron-agent", "network": NET, "instance": "instance",
                         "mac": "fa:16:3e:00:00:01"},
    }  # fmt: skip


def test_only_what_the_agent_made_is_left_over() -> None:
    mine = {"owner": plugging.OWNER}
    view = View.of([port(PORT, external_ids=mine), port(PORT2, external_ids={"owner": "nova"})])
    assert plugging.leftover([], "host1", view) == [PORT]
    assert plugging.leftover([bound()], "host1", view) == []
    assert plugging.leftover([bound(**{"binding:host_id": "host2"})], "host1", view) == [PORT]
    assert not plugging.is_ours(PORT2, view)
    assert not plugging.is_ours("unknown", view)
