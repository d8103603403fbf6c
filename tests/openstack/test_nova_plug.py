# SPDX-License-Identifier: Apache-2.0
"""Unmodified Nova plugs into a running uswitchd, through real os-vif.

What is looked at afterwards is the switch: its ports, its sockets, the frames
of a guest; and what Nova would have shown to a user or an operator.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nova import exception
from nova.network import model, os_vif_util

from testbed.daemons import Switch
from tests.functional.conftest import Guest, Stream, mac
from tests.functional.frontend import Frontend

from .nova_side import Compute, Server

_numbers = itertools.count(1)


@pytest.fixture
def compute(switch: Switch) -> Iterator[Compute]:
    node = Compute(switch)
    yield node
    node.close()
    for port in switch.call("port.list"):
        switch.call("port.delete", name=port["name"])


def port_of(switch: Switch, vif: model.VIF) -> dict[str, Any]:
    port: dict[str, Any] = switch.call("port.show", name=vif["id"])["port"]
    return port


def ports(switch: Switch) -> list[str]:
    return [port["name"] for port in switch.call("port.list")]


def qemu(switch: Switch, vif: model.VIF, segment: str = "blue") -> Guest:
    """A guest behind the plugged interface, wired as the agent would."""
    wired = {"segment": segment, "macs": []}
    switch.call("port.set", name=vif["id"], changes=wired, create_segments=True)
    front = Frontend(vif["details"]["vhostuser_socket"], listen=True)
    front.start()
    return Guest(vif["id"], mac(next(_numbers)), front)


# ---- which plugin, which port ----


@pytest.mark.parametrize(
    ("nova_plug", "plugin"),
    [("vrouter", "contrail_vrouter"), ("fp", "vhostuser_fp"), ("noop", "noop")],
)
def test_nova_picks_a_plugin_by_the_binding(
    compute: Compute, nova_plug: str, plugin: str
) -> None:
    vif = compute.vif(1, nova_plug=nova_plug)
    assert os_vif_util.nova_to_osvif_vif(vif).plugin == plugin
    compute.plug(Server(), vif)
    assert ports(compute.switch) == ([] if plugin == "noop" else [vif["id"]])


def test_the_port_as_the_switch_has_it(compute: Compute) -> None:
    vif, server = compute.vif(1, mtu=8950), Server()
    compute.plug(server, vif)
    port = port_of(compute.switch, vif)
    assert port["path"] == str(compute.socket(vif["id"])) and port["mode"] == "server"
    assert port["mtu"] == 8950
    assert (port["segment"], port["trunk"], port["macs"]) == (None, [], []), "the agent's to give"
    assert port["external_ids"] == {
        "owner": "nova",
        "instance": server.uuid,
        "instance-name": server.name,
        "project": "9d3f1c2b4a5e4f60",
        "network": vif["network"]["id"],
        "vif-name": vif["devname"],
        "mac": "fa:16:3e:00:00:01",
    }


def test_a_network_whose_mtu_nova_does_not_know(compute: Compute) -> None:
    vif = compute.vif(1, mtu=None)
    compute.plug(Server(), vif)
    assert port_of(compute.switch, vif)["mtu"] == 1500


# ---- what Nova's guest is told ----


def test_nova_writes_an_interface_that_listens(compute: Compute) -> None:
    vif = compute.vif(7)
    xml = compute.interface(Server(), vif).to_xml()
    assert '<interface type="vhostuser">' in xml
    assert f'<source type="unix" mode="server" path="{compute.socket(vif["id"])}"/>' in xml
    assert '<mac address="fa:16:3e:00:00:07"/>' in xml and '<model type="virtio"/>' in xml


def test_queues_where_the_flavor_asks_for_them(compute: Compute) -> None:
    server = Server(extra_specs={"hw:vif_multiqueue_enabled": "true"})
    with pytest.MonkeyPatch.context() as patch:
        instance = server.instance()
        instance.flavor.vcpus = 4
        patch.setattr(server, "instance", lambda: instance)
        compute.configure("libvirt", rx_queue_size=1024, tx_queue_size=512)
        xml = compute.interface(server, compute.vif(1), "kvm").to_xml()
    assert 'queues="4"' in xml and 'rx_queue_size="1024"' in xml


# ---- again and again ----


def test_nova_compute_restarts_under_a_running_guest(compute: Compute) -> None:
    """Nova plugs every interface of every instance when it starts; no frame may be lost."""
    switch, server = compute.switch, Server()
    vifs = [compute.vif(1), compute.vif(2)]
    for vif in vifs:
        compute.plug(server, vif)
    a, b = (qemu(switch, vif) for vif in vifs)
    b.send(b"\xff" * 6, [b"here"])
    assert len(a.front.recv_frames(1)) == 1
    before = [switch.call("port.show", name=vif["id"]) for vif in vifs]
    with Stream(a, b) as stream:
        for _ in range(10):
            for vif in vifs:
                compute.plug(server, model.VIF(**{**vif, "active": True}))
    assert stream.sent > 0 and stream.arrived == list(range(stream.sent))
    for vif, then in zip(vifs, before, strict=True):
        now = switch.call("port.show", name=vif["id"])
        assert now["sessions"] == then["sessions"] == 1
        assert now["port"]["segment"] == "blue" and now["port"]["link"] == "up"
    a.front.close()
    b.front.close()


def test_hard_reboot(compute: Compute) -> None:
    """Nova unplugs all, destroys, plugs all, starts: the next QEMU finds its back-end."""
    server = Server()
    vifs = [compute.vif(1), compute.vif(2)]
    for round_ in range(2):
        for vif in vifs:
            compute.plug(server, vif)
        guests = [qemu(compute.switch, vif, f"round{round_}") for vif in vifs]
        assert [port_of(compute.switch, vif)["link"] for vif in vifs] == ["up", "up"]
        for vif in vifs:
            compute.unplug(server, vif)
        assert ports(compute.switch) == []
        for guest in guests:
            guest.front.close()


def test_unplug_as_often_as_nova_likes(compute: Compute) -> None:
    """Twice after a failed build; for ports that never were plugged; for those of other nodes."""
    vif, never = compute.vif(1), compute.vif(2)
    compute.plug(Server(), vif)
    for _ in range(3):
        compute.unplug(Server(), vif)
        compute.unplug(Server(), never)
    assert ports(compute.switch) == []


def test_a_socket_that_a_killed_qemu_left_goes_with_the_port(compute: Compute) -> None:
    vif = compute.vif(1)
    compute.plug(Server(), vif)
    guest = qemu(compute.switch, vif)
    guest.front.close()
    path = Path(vif["details"]["vhostuser_socket"])
    assert path.is_socket()
    compute.unplug(Server(), vif)
    assert not path.exists()


# ---- bad luck ----


def test_a_foreign_socket(compute: Compute, caplog: pytest.LogCaptureFixture) -> None:
    vif = compute.vif(1, path="/var/run/vrouter/uvh_vif_tap0")
    with pytest.raises(exception.InternalError) as caught:
        compute.plug(Server(), vif)
    assert str(compute.switch.vhost) in str(caught.value)
    assert "belongs to another plugin" in str(caught.value)
    compute.unplug(Server(), vif)
    assert ports(compute.switch) == []
    assert "could not be deleted" not in caplog.text


def test_a_path_that_no_socket_can_have(compute: Compute) -> None:
    vif = compute.vif(1, path=f"{compute.switch.vhost}/{'x' * 100}")
    with pytest.raises(exception.InternalError, match="the kernel allows 107 for a socket"):
        compute.plug(Server(), vif)


def test_an_mtu_that_no_port_can_have(compute: Compute) -> None:
    with pytest.raises(exception.InternalError, match="mtu"):
        compute.plug(Server(), compute.vif(1, mtu=100_000))
    assert ports(compute.switch) == []


def test_another_port_has_the_socket(compute: Compute) -> None:
    first = compute.vif(1)
    compute.plug(Server(), first)
    second = compute.vif(2, path=first["details"]["vhostuser_socket"])
    with pytest.raises(exception.InternalError, match=f"is the socket of port {first['id']}"):
        compute.plug(Server(), second)
    assert ports(compute.switch) == [first["id"]]


def test_what_the_log_of_nova_compute_says(
    compute: Compute, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vif_uswitch")
    vif, server = compute.vif(1), Server()
    compute.plug(server, vif)
    compute.plug(server, vif)
    compute.unplug(server, vif)
    compute.unplug(server, vif)
    mine = [record.getMessage() for record in caplog.records if record.name.startswith("vif_usw")]
    head = f"port {vif['id']}"
    whose = f"of instance {server.name} ({server.uuid})"
    assert mine == [
        f"{head} {whose} added: socket {compute.socket(vif['id'])}",
        f"{head} {whose} is as wanted: socket {compute.socket(vif['id'])}",
        f"{head} deleted",
        f"{head} was not there",
    ]


