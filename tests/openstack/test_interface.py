# SPDX-License-Identifier: Apache-2.0
"""The interface driver under Neutron's own code: ip_lib and privsep, real devices and namespaces.

    agent's namespace            uswitchd, as an ordinary user           guest
    tap... -- the kernel  ====   a port without a segment, wired   ====  a front-end in Python

The driver is loaded as the DHCP and L3 agents load it.  privsep runs its daemon
in this process, which is root's.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from neutron.agent.common import utils as agent_utils
from neutron.agent.linux import ip_lib
from neutron.conf.agent import common as agent_config
from neutron.conf.agent import dhcp as dhcp_config
from neutron.privileged import default, link_cmd, namespace_cmd
from oslo_config import cfg

from testbed import netns
from testbed.daemons import Switch
from testbed.netns import Namespace
from tests.functional.conftest import Lab
from tests.functional.hosts import Responder
from tests.functional.tap_bed import Bed
from tests.functional.test_tap import ping_from
from vif_uswitch.exceptions import Conflict

_missing = netns.available()
pytestmark = pytest.mark.skipif(_missing is not None, reason=str(_missing))

KILLS = True
MAC = "fa:16:3e:00:00:01"
CIDR, GUEST = "10.9.0.200/24", "10.9.0.201"
NETWORK = "7f000001-0000-4000-8000-000000000001"
_numbers = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def _privsep() -> None:
    for context in (default, link_cmd, namespace_cmd):
        context.set_client_mode(False)


@pytest.fixture
def driver(switch: Switch) -> Any:
    conf = cfg.ConfigOpts()
    agent_config.register_interface_driver_opts_helper(conf)
    conf.register_opts(dhcp_config.DHCP_AGENT_OPTS)
    conf([], project="neutron", default_config_files=[])
    conf.set_override("interface_driver", "uswitch")
    made = agent_utils.load_interface_driver(conf, get_networks_callback=None)
    conf.set_override("control_socket", str(switch.control), "uswitch")
    return made


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"qdhcp-ustest-{os.getpid()}-{next(_numbers)}"
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.fixture
def port_id(switch: Switch) -> Iterator[str]:
    made = str(uuid.uuid4())
    yield made
    switch.call("port.delete", name=made)


def name_of(driver: Any, port_id: str) -> str:
    return str(driver.get_device_name(type("Port", (), {"id": port_id})()))


def plug(driver: Any, namespace: str, port_id: str, name: str = "", mtu: int = 1450) -> str:
    name = name or name_of(driver, port_id)
    driver.plug(NETWORK, port_id, name, MAC, namespace=namespace, mtu=mtu)
    return name


def state(switch: Switch, port_id: str) -> dict[str, Any]:
    return dict(switch.call("port.show", name=port_id)["port"])


def attributes(name: str, namespace: str) -> dict[str, Any]:
    return dict(ip_lib.IPDevice(name, namespace=namespace).link.attributes)


def test_plugged_wired_and_unplugged(
    driver: Any, switch: Switch, namespace: str, port_id: str
) -> None:
    name = plug(driver, namespace, port_id)
    assert name == f"tap{port_id}"[:14]
    found = attributes(name, namespace)
    assert (found["link/ether"], found["mtu"], found["alias"]) == (MAC, 1450, port_id)
    assert (found["link_kind"], found["state"]) == ("tun", "UP")
    shown = state(switch, port_id)
    assert (shown["type"], shown["ifname"], shown["netns"]) == ("tap", name, namespace)
    assert (shown["mtu"], shown["segment"], shown["link"]) == (1450, None, "up")
    assert shown["external_ids"] == {"owner": "neutron-dhcp", "network": NETWORK}

    driver.init_l3(name, [CIDR], namespace=namespace)
    lab = Lab(switch)
    guest = lab.guest("net")
    # What the L2 agent does when it has the port's details.
    switch.call("port.set", name=port_id, changes={"segment": "net"}, create_segments=True)
    try:
        with Responder(guest, GUEST) as responder:
            answers = ping_from(inside(namespace), GUEST)
            assert (answers.sent, answers.lost) == (10, 0) and responder.pings == 10
    finally:
        lab.close()

    for _ in range(2):
        driver.unplug(name, namespace=namespace, prefix="tap")
        assert not ip_lib.device_exists(name, namespace=namespace)
        assert not ip_lib.device_exists(name)
        assert port_id not in [port["name"] for port in switch.call("port.list")]


def inside(namespace: str) -> Namespace:
    """A namespace that Neutron made, for the test bed's tools."""
    found = object.__new__(Namespace)
    found.name = namespace
    return found


def test_plugged_twice(driver: Any, switch: Switch, namespace: str, port_id: str) -> None:
    """plug() of a device that is there leaves it and its connection alone."""
    name = plug(driver, namespace, port_id)
    before = state(switch, port_id)
    plug(driver, namespace, port_id, mtu=1400)
    after = state(switch, port_id)
    assert after["created_us"] == before["created_us"] and after["mtu"] == 1400
    assert attributes(name, namespace)["mtu"] == 1400
    driver.plug_new(NETWORK, port_id, name, MAC, namespace=namespace, mtu=1400)
    again = state(switch, port_id)
    assert again["link"] == "up" and again["created_us"] > before["created_us"]
    driver.unplug(name, namespace=namespace)


@pytest.mark.parametrize("prefix", ["qr-", "qg-"])
def test_of_a_router(
    driver: Any, switch: Switch, namespace: str, port_id: str, prefix: str
) -> None:
    name = plug(driver, namespace, port_id, name=f"{prefix}{port_id}"[:14], mtu=9000)
    driver.init_router_port(name, ["192.0.2.1/24", "2001:db8::1/64"], namespace=namespace)
    assert attributes(name, namespace)["mtu"] == 9000
    shown = state(switch, port_id)
    assert shown["mtu"] == 9000 and shown["external_ids"]["owner"] == "neutron-l3"
    driver.unplug(name, namespace=namespace, prefix=prefix)
    assert port_id not in [port["name"] for port in switch.call("port.list")]


def test_a_lost_port_is_made_again_when_its_device_is_found(
    driver: Any, switch: Switch, namespace: str, port_id: str
) -> None:
    """In our namespace, so that nobody's help is needed; the DHCP agent calls set_mtu()."""
    name = plug(driver, "", port_id)
    switch.call("port.delete", name=port_id)
    driver.set_mtu(name, 1450, namespace=None)
    shown = state(switch, port_id)
    assert (shown["link"], shown["ifname"], shown["mtu"]) == ("up", name, 1450)
    driver.unplug(name)
    assert not ip_lib.device_exists(name)


def test_nothing_is_left_of_what_failed(
    driver: Any, switch: Switch, namespace: str, port_id: str
) -> None:
    switch.call("port.add", port={"name": port_id})
    with pytest.raises(Conflict, match="guest"):
        plug(driver, namespace, port_id)
    assert state(switch, port_id)["type"] == "vhost-user"
    switch.call("port.delete", name=port_id)
    name = name_of(driver, port_id)
    with pytest.raises(Exception, match="address"):
        driver.plug(NETWORK, port_id, name, "no address", namespace=namespace, mtu=1450)
    assert not ip_lib.device_exists(name) and not ip_lib.device_exists(name, namespace=namespace)
    assert port_id not in [port["name"] for port in switch.call("port.list")]


def test_uswitchd_restarted_meanwhile(
    driver: Any, switch: Switch, namespace: str, port_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver waits; the device goes on working."""
    switch.kill_daemon()
    with ThreadPoolExecutor(max_workers=1) as agent:
        plugging = agent.submit(plug, driver, namespace, port_id)
        end = time.monotonic() + 30
        while "Trying again" not in caplog.text:
            assert time.monotonic() < end and not plugging.done()
            time.sleep(0.02)
        switch.start()
        name = plugging.result(30)
    assert state(switch, port_id)["link"] == "up"
    switch.restart_daemon()
    assert state(switch, port_id)["link"] == "up"
    driver.unplug(name, namespace=namespace)


def test_both_daemons_gone_meanwhile(driver: Any, namespace: str, port_id: str) -> None:
    """The switch was told of the namespace, and root's helper opens the device there."""
    bed = Bed()
    try:
        bed.helper.start()
        bed.switch.start()
        driver.conf.set_override("control_socket", str(bed.switch.control), "uswitch")
        name = plug(driver, namespace, port_id)
        driver.init_l3(name, [CIDR], namespace=namespace)
        bed.restart()
        assert bed.helper.started == 1
        assert (state(bed.switch, port_id)["link"], attributes(name, namespace)["state"]) == (
            "up", "UP")  # fmt: skip
        # The agent is started anew: it finds the device, and nothing to do.
        driver.set_mtu(name, 1450, namespace=namespace)
        assert [port["name"] for port in bed.switch.call("port.list")] == [port_id]
        driver.unplug(name, namespace=namespace)
        assert bed.switch.call("port.list") == []
    finally:
        bed.close()
