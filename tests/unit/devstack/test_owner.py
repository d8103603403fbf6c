# SPDX-License-Identifier: Apache-2.0
"""A switch that devstack has not installed is left alone, whatever is asked; one that it has, or
half of it, is taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.devstack.bed import Cloud, Failed, spare
from tests.unit.devstack.test_refusals import refused
from tests.unit.devstack.test_teardown import comparable

FILES = ("run/uswitch/vhost/guest.sock", "var/lib/uswitch/state.json", "etc/uswitch/uswitchd.conf",
         "etc/udev/rules.d/60-uswitch-vfio.rules", "etc/systemd/system/uswitchd.service",
         "etc/systemd/system/uswitch-xdp.socket", "etc/systemd/system/uswitch-xdp@.service",
         "etc/systemd/system/uswitch-tap.socket", "etc/systemd/system/uswitch-tap@.service")
PARTS = {FILES[0]: "run/uswitch", FILES[1]: "var/lib/uswitch"}  # what the message names
CABLE = {"usw-host": {"kind": "veth", "peer": "wire0", "up": True, "addresses": []},
         "tap0123abcd-ef": {"kind": "tun", "user": "500", "up": True, "addresses": []}}


def put(cloud: Cloud, *names: str) -> None:
    for name in names:
        path = cloud.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("an operator's\n", encoding="utf-8")


def packaged(directory: Path, *, runs: bool = True) -> Cloud:
    """A host in production, whose units are a package's."""
    cloud = Cloud(directory)
    state = cloud.host
    with_user(state)
    if runs:
        state["units"] |= {"uswitchd.service": "active", "uswitch-xdp.socket": "active"}
        state["processes"] += [{"name": name, "user": "uswitch", "command": name}
                               for name in ("uswitchd", "uswitch-dataplane")]
        state["links"] |= CABLE
    cloud.host = state
    put(cloud, *(FILES if runs else [name for name in FILES if not name.startswith("run/")]))
    return cloud


def with_user(state: dict[str, Any]) -> None:
    state["users"]["uswitch"] = {"uid": 500, "gid": 500, "note": "Packet switch"}
    state["groups"]["uswitch"] = {"gid": 500, "members": []}
    state["groups"]["uswitch-control"] = {"gid": 501, "members": []}


def test_one_that_runs(tmp_path: Path) -> None:
    cloud = packaged(tmp_path)
    before = comparable(cloud)
    message = refused(cloud)
    assert "its unit uswitchd.service is installed" in message
    assert "systemctl disable --now uswitchd) and remove its package" in message
    assert not cloud.calls_of("install_bindep")
    assert comparable(cloud) == before
    assert "has installed no switch here" in cloud.unstack()
    assert comparable(cloud) == before
    cloud.clean()
    assert comparable(cloud) == before
    assert not cloud.calls_of("pkill")


def test_one_that_is_stopped(tmp_path: Path) -> None:
    cloud = packaged(tmp_path, runs=False)
    before = comparable(cloud)
    assert "its unit uswitchd.service is installed" in refused(cloud)
    cloud.unstack()
    cloud.clean()
    assert comparable(cloud) == before


@pytest.mark.parametrize("name", FILES)
def test_any_part_of_it(tmp_path: Path, name: str) -> None:
    cloud = Cloud(tmp_path)
    put(cloud, name)
    before = comparable(cloud)
    found = PARTS.get(name, name)
    assert (Path(name).name if "/systemd/" in name else str(cloud.root / found)) in refused(cloud)
    cloud.unstack()
    cloud.clean()
    assert comparable(cloud) == before


def test_one_without_a_unit(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    state = cloud.host
    with_user(state)
    state["processes"].append({"name": "by hand", "user": "uswitch", "command": "uswitchd"})
    cloud.host = state
    before = comparable(cloud)
    assert "it runs, as user uswitch. See: pgrep -a -u uswitch" in refused(cloud)
    cloud.unstack()
    cloud.clean()
    assert comparable(cloud) == before


@pytest.mark.parametrize("name", [FILES[2], *map(spare, FILES[3:6])])
def test_one_that_came_after_unstack(tmp_path: Path, name: str) -> None:
    """clean.sh is late: the mark says devstack, the host says somebody else."""
    cloud = Cloud(tmp_path)
    nothing = comparable(cloud)
    cloud.stack()
    cloud.unstack()
    put(cloud, name, *FILES[:2])
    before = comparable(cloud)
    assert "NOTHING of the switch is taken away" in cloud.clean()
    assert comparable(cloud) == before
    refused(cloud)
    # As the message says: once it is gone, come again.
    (cloud.root / name).unlink()
    cloud.clean()
    assert comparable(cloud) == nothing


@pytest.mark.parametrize("command", [
    "useradd", "ip", "uswitchctl",
    *map(spare, ("groupadd", "usermod", "uswitchd", "mount", "systemctl", "ethtool", "uswitch-xdp",
                "udevadm", "uswitch-uplink")),
])  # fmt: skip
def test_half_a_stack(tmp_path: Path, command: str) -> None:
    """stack.sh fails at some step; what the steps before it have made goes all the same."""
    pci = command in {"udevadm", "uswitch-uplink"}
    cloud = Cloud(tmp_path, "USWITCH_UPLINK=0000:05:00.0\n" if pci else "")
    before = comparable(cloud)
    with cloud.broken(command), pytest.raises(Failed):
        cloud.stack()
    assert comparable(cloud) != before
    cloud.unstack()
    cloud.clean()
    assert comparable(cloud) == before


def test_half_an_uplink(tmp_path: Path) -> None:
    """An interface that was attached is the kernel's again, although stack.sh failed right then."""
    cloud = Cloud(tmp_path, "USWITCH_UPLINK=eth1\n")
    state = cloud.host
    state["links"]["eth1"] = {"kind": "", "up": True, "addresses": []}
    cloud.host = state
    before = comparable(cloud)
    with cloud.broken("ip", "link set dev eth1 up"), pytest.raises(Failed):
        cloud.stack()
    assert cloud.host["attached"] == ["eth1"]
    cloud.clean()
    assert comparable(cloud) == before


def test_a_user_whom_processes_keep(tmp_path: Path) -> None:
    """The mark stays as long as something is left for clean.sh."""
    cloud = Cloud(tmp_path)
    before = comparable(cloud)
    cloud.stack()
    with cloud.broken("userdel"):
        cloud.clean()
    assert "uswitch" in cloud.host["users"]
    cloud.clean()
    assert comparable(cloud) == before
