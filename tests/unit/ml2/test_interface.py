# SPDX-License-Identifier: Apache-2.0
"""The interface driver: what it makes in which order, and what it leaves when something fails."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from vif_uswitch.exceptions import (
    Busy,
    Conflict,
    DaemonUnreachable,
    Forbidden,
    InvalidInput,
    Unavailable,
    USwitchError,
)

from .interface_rig import REFUSED, Conf, Device, World, load

PORT = "940d342f-10aa-4bbb-8ccc-0123456789ab"
NETWORK = "7f000001-0000-4000-8000-000000000001"
NAME = "tap940d342f-10"
NAMESPACE = "qdhcp-7f000001"
MAC = "fa:16:3e:00:00:01"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def module(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    return load(world, monkeypatch)


@pytest.fixture
def driver(module: Any) -> Any:
    return module.UswitchInterfaceDriver(Conf(), get_networks_callback=None)


def plug(driver: Any, name: str = NAME, namespace: str | None = NAMESPACE, **more: Any) -> None:
    settings: dict[str, Any] = {"mtu": 1450, **more}
    driver.plug_new(NETWORK, PORT, name, MAC, namespace=namespace, **settings)


def test_plug(driver: Any, world: World) -> None:
    plug(driver)
    assert world.devices == {(NAMESPACE, NAME): Device(
        made={"mode": "tap", "uid": 4711,
              "ifr": {"no_pi": 1, "one_queue": 0, "vnet_hdr": 1, "multi_queue": 0}},
        set={"mac": MAC, "alias": PORT, "mtu": 1450}, up=True)}  # fmt: skip
    assert world.namespaces == {NAMESPACE}
    port = world.ports[PORT]
    assert (port["type"], port["ifname"], port["mtu"]) == ("tap", NAME, 1450)
    assert port["netns"] == NAMESPACE
    assert port["external_ids"] == {"owner": "neutron-dhcp", "network": NETWORK}
    assert "segment" not in port
    # uswitchd opens it where it can see it, and nothing is up in the host's namespace.
    order = [step for step in world.log if step in ("device made", "port ensured", "moved", "up")]
    assert order == ["device made", "port ensured", "moved", "up"]


@pytest.mark.parametrize(("name", "owner"), [
    ("tap940d342f-10", "neutron-dhcp"), ("qr-940d342f-10", "neutron-l3"),
    ("qg-940d342f-10", "neutron-l3"), ("ha-940d342f-10", "neutron-l3"),
])  # fmt: skip
def test_owners(driver: Any, world: World, name: str, owner: str) -> None:
    plug(driver, name)
    assert world.ports[PORT]["external_ids"]["owner"] == owner


def test_without_namespace_and_mtu(driver: Any, world: World) -> None:
    plug(driver, namespace=None, mtu=None)
    assert set(world.devices) == {(None, NAME)} and not world.namespaces
    assert world.ports[PORT]["mtu"] is None and world.ports[PORT]["netns"] == ""
    assert "mtu" not in world.devices[None, NAME].set


def test_left_down_if_asked(driver: Any, world: World) -> None:
    plug(driver, link_up=False)
    assert not world.devices[NAMESPACE, NAME].up


def test_what_an_earlier_agent_left_is_replaced(driver: Any, world: World) -> None:
    """A device half-way, one in the namespace, and a port whose device is gone."""
    world.devices[None, NAME] = Device(made={"old": 1})
    world.devices[NAMESPACE, NAME] = Device(made={"old": 2})
    world.ports[PORT] = {"name": PORT, "type": "tap", "ifname": "other"}
    plug(driver)
    assert set(world.devices) == {(NAMESPACE, NAME)}
    assert "old" not in world.devices[NAMESPACE, NAME].made
    assert world.ports[PORT]["ifname"] == NAME


def test_twice_is_once(driver: Any, world: World) -> None:
    plug(driver)
    before = (dict(world.devices), dict(world.ports))
    plug(driver)
    assert (world.devices, world.ports) == before


@pytest.mark.parametrize("place", [None, NAMESPACE])
def test_a_device_of_somebody_else(driver: Any, world: World, place: str | None) -> None:
    world.devices[place, NAME] = Device(kind="dummy")
    with pytest.raises(Conflict, match=NAME):
        plug(driver)
    assert world.devices == {(place, NAME): Device(kind="dummy")} and not world.ports


def test_a_guest_s_port(driver: Any, world: World) -> None:
    world.ports[PORT] = {"name": PORT, "type": "vhost-user", "ifname": ""}
    with pytest.raises(Conflict, match="guest"):
        plug(driver)
    assert PORT in world.ports and not world.devices


@pytest.mark.parametrize("name", ["", "tap%d", "a/b", "..", "x" * 16, "tap\n", "tap 1"])
def test_names_that_cannot_be(driver: Any, world: World, name: str) -> None:
    with pytest.raises(InvalidInput):
        plug(driver, name)
    assert not world.log


@pytest.mark.parametrize("step", ["address", "mtu", "port ensured", "moved", "up"])
def test_nothing_is_left_of_a_failure(driver: Any, world: World, step: str) -> None:
    world.fail[step] = REFUSED
    with pytest.raises(USwitchError, match="was refused"):
        plug(driver)
    assert not world.devices and not world.ports


@pytest.mark.parametrize("absence", [
    DaemonUnreachable("control socket", "/s", "is not there"),
    Busy("control socket", None, "64 clients are connected already"),
    Unavailable("the dataplane", None, "it is being restarted"),
])  # fmt: skip
def test_waits_for_uswitchd(
    driver: Any, world: World, caplog: pytest.LogCaptureFixture, absence: USwitchError
) -> None:
    world.down, world.absence = 3, absence
    plug(driver)
    assert PORT in world.ports
    assert [r.levelno for r in caplog.records].count(logging.WARNING) == 1


def test_does_not_wait_for_ever(driver: Any, module: Any, world: World) -> None:
    module.PATIENCE_S = 0.0
    world.down = 1 << 30
    with pytest.raises(DaemonUnreachable):
        plug(driver)
    assert not world.devices


def test_no_permission_is_told_at_once(
    driver: Any, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the agent's user and groups, and the socket's owner, group and mode."""
    socket = tmp_path / "s"
    socket.touch()
    socket.chmod(0o640)
    driver.conf["uswitch"].control_socket = str(socket)
    monkeypatch.setattr(os, "access", lambda name, mode: name != str(socket))
    world.down = 1 << 30
    world.absence = DaemonUnreachable("control socket", str(socket), "may not be used by you")
    with pytest.raises(Forbidden, match="control_group") as caught:
        plug(driver)
    text = str(caught.value)
    assert f"may not write {socket} ({socket.owner()}:{socket.group()}, mode 0640)" in text
    assert "(groups " in text and text.endswith("restart this agent.")
    assert world.calls == 1 and not world.devices


def test_what_the_advice_speaks_of_is_the_agent_s(
    driver: Any, module: Any, world: World
) -> None:
    module.PATIENCE_S = 0.0
    world.down = 1 << 30
    with pytest.raises(DaemonUnreachable, match=r"set control_socket in \[uswitch\]"):
        plug(driver)


def test_unplug(driver: Any, world: World) -> None:
    plug(driver)
    others = {
        name: {"name": name, "type": kind, "ifname": ifname, "netns": netns}
        for name, kind, ifname, netns in (
            ("another", "tap", "tapother", NAMESPACE), ("elsewhere", "tap", NAME, "qdhcp-2"),
            ("vm1", "vhost-user", "", ""),
        )
    }  # fmt: skip
    world.ports.update(others)
    for _ in range(2):
        driver.unplug(NAME, namespace=NAMESPACE, prefix="tap")
        assert not world.devices and world.ports == others


def test_unplug_knows_the_port_by_the_device(driver: Any, world: World) -> None:
    """Whatever namespace the switch was told of."""
    plug(driver)
    world.ports[PORT]["netns"] = ""
    driver.unplug(NAME, namespace=NAMESPACE)
    assert not world.devices and not world.ports


def test_unplug_takes_what_was_left_half_way(driver: Any, world: World) -> None:
    world.devices[None, NAME] = Device()
    world.devices[None, "eth0"] = Device(kind="real")
    driver.unplug(NAME, namespace=NAMESPACE)
    driver.unplug("eth0", namespace=NAMESPACE)
    assert set(world.devices) == {(None, "eth0")}


def test_unplug_without_uswitchd_may_be_repeated(driver: Any, module: Any, world: World) -> None:
    """The agent looks for devices that should not be there: it finds this one again."""
    plug(driver)
    module.PATIENCE_S = 0.0
    world.down = 1 << 30
    with pytest.raises(DaemonUnreachable):
        driver.unplug(NAME, namespace=NAMESPACE)
    assert world.devices
    world.down = 0
    driver.unplug(NAME, namespace=NAMESPACE)
    assert not world.devices and not world.ports


def test_set_mtu(driver: Any, world: World) -> None:
    plug(driver)
    driver.set_mtu(NAME, 9000, namespace=NAMESPACE)
    assert world.devices[NAMESPACE, NAME].set["mtu"] == 9000
    assert world.ports[PORT]["mtu"] == 9000


def test_set_mtu_tells_what_is_wrong_with_the_port(
    driver: Any, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    plug(driver)
    driver.set_mtu(NAME, 1450, namespace=NAMESPACE)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    world.ports[PORT].update(link="waiting", reason="the helper does not answer")
    driver.set_mtu(NAME, 1450, namespace=NAMESPACE)
    assert "is waiting: the helper does not answer" in caplog.text


def test_set_mtu_makes_a_lost_port_again(driver: Any, world: World) -> None:
    """uswitchd's state was lost, or somebody deleted the port: an agent's restart mends it."""
    plug(driver)
    before = world.ports.pop(PORT)
    driver.set_mtu(NAME, 1450, namespace=NAMESPACE)
    made = world.ports[PORT]
    assert made["external_ids"] == {"owner": "neutron-dhcp"}
    assert {**made, "external_ids": before["external_ids"]} == before


def test_set_mtu_of_a_device_that_is_not_ours(driver: Any, world: World) -> None:
    for alias in (None, "", "my tap", PORT + "x"):
        world.devices[NAMESPACE, "tapx"] = Device(set={"alias": alias})
        driver.set_mtu("tapx", 1400, namespace=NAMESPACE)
    assert not world.ports and world.devices[NAMESPACE, "tapx"].set["mtu"] == 1400
