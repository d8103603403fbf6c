# SPDX-License-Identifier: Apache-2.0
"""unstack.sh and clean.sh: the host is as it was before stack.sh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.devstack.bed import TWO_LINES, Cloud, spare

GONE_BY_UNSTACK = ("run/uswitch", "var/lib/uswitch", "etc/udev/rules.d/60-uswitch-vfio.rules",
                   "etc/systemd/system/devstack@uswitchd.service.d",
                   "etc/systemd/system/uswitch-xdp.socket",
                   "etc/systemd/system/uswitch-xdp@.service")


def tap(name: str, user: str = "995") -> dict[str, Any]:
    return {name: {"kind": "tun", "user": user, "up": True, "addresses": []}}


def with_links(cloud: Cloud, *links: dict[str, Any]) -> None:
    state = cloud.host
    for link in links:
        state["links"] |= link
    cloud.host = state


def comparable(cloud: Cloud) -> dict[str, Any]:
    """But for what devstack itself makes and removes."""
    seen = cloud.snapshot()
    seen["files"] = {name: content for name, content in seen["files"].items()
                     if not name.startswith(("etc/nova", "etc/neutron"))}
    return seen


@pytest.mark.parametrize("uplink", ["veth", *map(spare, ("eth1", "0000:05:00.0", "none"))])
def test_nothing_is_left(tmp_path: Path, uplink: str) -> None:
    cloud = Cloud(tmp_path, f"USWITCH_UPLINK={uplink}\n")
    with_links(cloud, {"eth1": {"kind": "", "up": True, "addresses": []}})
    before = comparable(cloud)
    cloud.stack()
    (cloud.root / "run/uswitch/control.sock").touch()
    (cloud.root / "var/lib/uswitch/state.json").touch()
    cloud.unstack()
    host = cloud.host
    assert host["processes"] == [] and host["mounts"] == [] and host["routes"] == []
    assert host["attached"] == [] and host["bound"] == [] and set(host["links"]) == {"eth1"}
    assert not [name for name in GONE_BY_UNSTACK if (cloud.root / name).exists()]
    cloud.clean()
    assert comparable(cloud) == before


@pytest.mark.spare
def test_the_tmpfs_may_be_busy(tmp_path: Path) -> None:
    """Guests live until after our turn in unstack.sh."""
    cloud = Cloud(tmp_path)
    cloud.stack()
    cloud.unstack()
    assert cloud.calls_of("umount") == [["--lazy", f"{cloud.root}/var/lib/libvirt/qemu/ram"]]


@pytest.mark.spare
def test_local_conf_may_have_changed(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    with_links(cloud, {"eth1": {"kind": "", "up": True, "addresses": []}})
    cloud.stack()
    cloud.local_conf(TWO_LINES + "USWITCH_UPLINK=eth1\nUSWITCH_GUEST_MEMORY=hugepages\n")
    cloud.unstack()
    assert cloud.host["attached"] == [] and set(cloud.host["links"]) == {"eth1"}
    assert cloud.host["mounts"] == []


def test_only_taps_of_ours(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    cloud.stack()
    foreign = [tap("tapforeign", "1000"), tap("vpn0")]
    with_links(cloud, *foreign, tap("tap0123abcd-ef"), tap("qr-0123abcd-ef"), tap("qg-0123abcd-ef"))
    cloud.unstack()
    assert set(cloud.host["links"]) == {"tapforeign", "vpn0"}
    # What comes back out of a deleted namespace later, clean.sh finds.
    with_links(cloud, tap("qr-late"))
    cloud.clean()
    assert set(cloud.host["links"]) == {"tapforeign", "vpn0"}


@pytest.mark.spare
def test_twice_and_without_stack(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    before = comparable(cloud)
    cloud.unstack()
    cloud.clean()
    assert comparable(cloud) == before
    cloud.stack()
    cloud.unstack()
    cloud.unstack()
    cloud.clean()
    cloud.clean()
    assert comparable(cloud) == before


def test_the_second_line_may_be_forgotten(tmp_path: Path) -> None:
    """Q_AGENT is our default, which clean.sh alone does not know."""
    cloud = Cloud(tmp_path, two_lines=TWO_LINES.splitlines()[0] + "\n")
    before = comparable(cloud)
    cloud.stack()
    assert cloud.process("uswitchd")["user"] == "uswitch"
    cloud.clean()
    assert comparable(cloud) == before


@pytest.mark.spare
def test_a_user_that_was_there_stays(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    state = cloud.host
    state["users"]["uswitch"] = {"uid": 500, "gid": 500, "note": "a package"}
    state["groups"]["uswitch"] = {"gid": 500, "members": []}
    cloud.host = state
    cloud.stack()
    cloud.unstack()
    cloud.clean()
    assert cloud.host["users"]["uswitch"]["note"] == "a package"
    assert not cloud.calls_of("useradd") and not cloud.calls_of("userdel")


@pytest.mark.spare
def test_what_root_remembered_stays(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    cloud.stack()
    other = cloud.path("uswitch/uplinks.d/0000:09:00.0.conf")
    other.parent.mkdir()
    other.touch()
    cloud.unstack()
    cloud.clean()
    assert other.exists() and not cloud.path("uswitch/uswitchd.conf").exists()


@pytest.mark.spare
def test_stacked_again_after_unstack(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    cloud.stack()
    first = cloud.snapshot()
    cloud.unstack()
    cloud.stack()
    assert cloud.snapshot() == first
