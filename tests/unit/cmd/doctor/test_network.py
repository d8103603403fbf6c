# SPDX-License-Identifier: Apache-2.0
"""NET-01..02: physical networks and the links of their uplinks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.cmd.doctor.conftest import Expect
from tests.unit.cmd.doctor.fake_root import CONTROL, FakeRoot
from vif_uswitch.exceptions import DaemonUnreachable

AGENT_CONF = "/etc/neutron/plugins/ml2/uswitch_agent.ini"


def mapping(host: FakeRoot, value: str) -> None:
    host.put(AGENT_CONF, f"[uswitch]\nphysical_interface_mappings = {value}\n")


def uplink(host: FakeRoot, **port: Any) -> None:
    host.client.uplinks.append({"port": {**host.client.uplinks[0]["port"], **port},
                                "adapter": {"link_up": True}})  # fmt: skip


def test_uplinks_own_names_count_where_nothing_is_mapped(host: FakeRoot, expect: Expect) -> None:
    assert expect("NET-01", "PASS").text == "physnet1 by wire"
    uplink(host, name="wire2")
    assert "several uplinks lead to physnet1" in expect("NET-01", "FAIL").text
    host.client.uplinks = [{"port": {"name": "w", "physnet": ""}}]
    assert "1 uplink, none with a physnet" in expect("NET-01", "WARN").text
    host.client.uplinks = []
    assert "0 uplinks" in expect("NET-01", "WARN").text


@pytest.mark.parametrize(("value", "status", "says"), [
    ("physnet1:wire", "PASS", "physnet1 by wire"),
    (" physnet1 : wire , physnet2:wire ", "PASS", "physnet2 by wire"),
    ("physnet1:eth7", "FAIL", "no such uplink (it has: wire)"),
    ("physnet1", "FAIL", "is not PHYSNET:UPLINK"),
    (":wire", "FAIL", "is not PHYSNET:UPLINK"),
    ("physnet1:", "FAIL", "is not PHYSNET:UPLINK"),
])
def test_the_agents_mappings(
    host: FakeRoot, expect: Expect, value: str, status: str, says: str
) -> None:
    mapping(host, value)
    assert says in expect("NET-01", status).text


def test_files_that_the_agent_was_given(host: FakeRoot, expect: Expect) -> None:
    host.put("/srv/agent.ini", "[uswitch]\nphysical_interface_mappings = a:b\n")
    host.process(201, "python3", "neutron-uswitch-agent", "--config-file", "/srv/agent.ini")
    assert "maps a to b" in expect("NET-01", "FAIL").text


def test_directories_that_the_agent_reads(host: FakeRoot, expect: Expect) -> None:
    mapping(host, "a:b")
    own = "/etc/neutron/neutron-uswitch-agent.conf.d/10.conf"
    host.put(own, "[uswitch]\nphysical_interface_mappings = c:d\n")
    assert "maps c to d" in expect("NET-01", "FAIL").text
    host.put("/srv/conf/1.conf", "[uswitch]\nphysical_interface_mappings = physnet1:wire\n")
    host.process(201, "python3", "neutron-uswitch-agent", "--config-dir", "/srv/conf")
    assert expect("NET-01", "PASS").text == "physnet1 by wire"


def test_the_agents_file_is_garbage(host: FakeRoot, expect: Expect) -> None:
    host.put(AGENT_CONF, "physical_interface_mappings = a:b\n")
    assert AGENT_CONF in expect("NET-01", "FAIL").text


def test_without_openstack(empty: FakeRoot, expect: Expect) -> None:
    expect("NET-01", "SKIP")
    expect("NET-02", "SKIP")
    empty.client.error = DaemonUnreachable("control socket", CONTROL, "is not there", "Start it.")
    for ident in ("NET-01", "NET-02"):
        assert expect(ident, "SKIP").todo == "See CTL-01."


@pytest.mark.parametrize(("port", "adapter", "status", "says"), [
    ({}, {"link_up": True}, "PASS", "1 uplink up"),
    ({}, {"link_up": False}, "FAIL", "wire has no carrier"),
    ({"link": "waiting", "reason": "no such adapter"}, None, "FAIL", "waiting: no such adapter"),
    ({"link": "down", "admin_up": False}, None, "WARN", "switched off: wire"),
])
def test_links(host: FakeRoot, expect: Expect, port: dict[str, Any], adapter: Any, status: str,
               says: str) -> None:
    host.client.uplinks[0]["port"].update(port)
    host.client.uplinks[0]["adapter"] = adapter
    assert says in expect("NET-02", status).text
