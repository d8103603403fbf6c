# SPDX-License-Identifier: Apache-2.0
"""Nova plugs while something is wrong: the message says what to do, and the next attempt works.

uswitchd dead, frozen or just starting; a directory that is closed to it; a full
disk; a crowd.  Permissions of nova-compute itself: test_nova_users.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nova import exception

from testbed import unprivileged
from testbed.daemons import Switch

from .nova_side import Compute, Server
from .test_nova_plug import ports, qemu

KILLS = True
CROWD = 80  # more than uswitchd takes connections at a time
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")


@pytest.fixture
def compute(switch: Switch) -> Iterator[Compute]:
    node = Compute(switch)
    yield node
    node.close()
    for name in ports(switch):
        switch.call("port.delete", name=name)


# ---- uswitchd is not there ----


def test_a_dead_uswitchd_is_an_error_in_time_and_leaves_nothing(
    compute: Compute, caplog: pytest.LogCaptureFixture
) -> None:
    compute.configure("os_vif_uswitch", timeout=1)
    vif, server = compute.vif(1), Server()
    compute.switch.kill_daemon()
    try:
        with pytest.raises(exception.InternalError) as caught:
            compute.plug(server, vif)
    finally:
        compute.switch.start()
    text = str(caught.value)
    assert f"cannot plug port {vif['id']} of instance {server.name} ({server.uuid})" in text
    assert "Start uswitchd" in text and str(compute.switch.control) in text
    assert "Trying again for up to 1 s" in caplog.text
    assert ports(compute.switch) == []
    compute.plug(server, vif)
    assert ports(compute.switch) == [vif["id"]]


def test_a_restart_of_uswitchd_is_not_even_noticed(
    compute: Compute, caplog: pytest.LogCaptureFixture
) -> None:
    compute.configure("os_vif_uswitch", timeout=60)
    vif = compute.vif(1)
    compute.switch.kill_daemon()
    with ThreadPoolExecutor(1) as nova:
        plugging = nova.submit(compute.plug, Server(), vif)
        while "Trying again" not in caplog.text and not plugging.done():
            time.sleep(0.01)
        compute.switch.start()
        plugging.result()
    assert ports(compute.switch) == [vif["id"]]


def test_servers_can_be_deleted_while_uswitchd_is_dead(
    compute: Compute, caplog: pytest.LogCaptureFixture
) -> None:
    compute.configure("os_vif_uswitch", timeout=1)
    vif, server = compute.vif(1), Server()
    compute.plug(server, vif)
    compute.switch.kill_daemon()
    try:
        compute.unplug(server, vif)
    finally:
        compute.switch.start()
    assert f"uswitchctl port delete {vif['id']}" in caplog.text
    assert ports(compute.switch) == [vif["id"]], "nobody could be told"
    compute.unplug(server, vif)
    assert ports(compute.switch) == []


def test_a_frozen_uswitchd(compute: Compute) -> None:
    """The request may be carried out later: Nova unplugs what it could not plug."""
    compute.configure("os_vif_uswitch", timeout=1)
    vif, server = compute.vif(1), Server()
    os.kill(compute.switch.daemon_pid, signal.SIGSTOP)
    try:
        with pytest.raises(exception.InternalError, match="no answer within 1 s"):
            compute.plug(server, vif)
    finally:
        os.kill(compute.switch.daemon_pid, signal.SIGCONT)
    compute.unplug(server, vif)
    assert ports(compute.switch) == []
    compute.plug(server, vif)


def test_uswitchd_killed_between_plug_and_qemu(compute: Compute) -> None:
    """The port is there again before QEMU listens, and its guest is connected."""
    vif = compute.vif(1)
    compute.plug(Server(), vif)
    compute.switch.restart_daemon()
    guest = qemu(compute.switch, vif)
    compute.switch.wait_link(vif["id"])
    guest.front.close()


# ---- no permission ----


def test_uswitchd_may_not_enter_the_directory_of_the_sockets(compute: Compute) -> None:
    """A QEMU that listens there would hang for ever: better no instance, and a reason."""
    switch, vif = compute.switch, compute.vif(1)
    mode = switch.vhost.stat().st_mode & 0o7777
    os.chmod(switch.vhost, 0)
    try:
        with pytest.raises(exception.InternalError) as caught:
            compute.plug(Server(), vif)
    finally:
        os.chmod(switch.vhost, mode)
    who, group = switch.who.name, switch.vhost.group()
    assert f"user {who}, was denied access in {switch.vhost} ({who}:{group}, mode 0000)" in str(
        caught.value
    )
    assert ports(switch) == []
    compute.plug(Server(), vif)


# ---- no room ----


@root
def test_a_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be kept is not begun; as soon as there is room it works."""
    directory = Path(tempfile.mkdtemp(prefix="uswitch-os-"))
    unprivileged.own(directory, unprivileged.identity())
    switch = Switch(directory)
    state = directory / "state"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "full", state], check=True)
    try:
        unprivileged.own(state, unprivileged.identity())
        with switch:
            node = Compute(switch)
            filler = state / "filler"
            _fill(filler)
            with pytest.raises(exception.InternalError, match="No space left on device") as caught:
                node.plug(Server(), node.vif(1))
            assert str(state) in str(caught.value)
            assert ports(switch) == []
            filler.unlink()
            node.plug(Server(), node.vif(2))
            node.close()
    finally:
        subprocess.run(["umount", state], check=True)
    shutil.rmtree(directory)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(1024))
        except OSError as error:
            assert error.errno == errno.ENOSPC


# ---- a crowd ----


def test_many_at_once(compute: Compute) -> None:
    """A node that starts plugs everything it has; too many at a time wait for each other."""
    compute.configure("os_vif_uswitch", timeout=60)
    vifs = [compute.vif(number) for number in range(CROWD)]
    with ThreadPoolExecutor(CROWD) as pool:
        list(pool.map(lambda vif: compute.driver.plug(Server().instance(), vif), vifs))
    assert ports(compute.switch) == sorted(vif["id"] for vif in vifs)


def test_unplugged_while_being_plugged(compute: Compute) -> None:
    """Whatever the order was, the next round finds a whole port or none."""
    compute.configure("os_vif_uswitch", timeout=60)
    vif = compute.vif(1)
    with ThreadPoolExecutor(8) as pool:
        rounds = [pool.submit(action, Server().instance(), vif) for _ in range(20)
                  for action in (compute.driver.plug, compute.driver.unplug)]  # fmt: skip
        for done in rounds:
            done.result()
    assert ports(compute.switch) in ([], [vif["id"]])
    compute.unplug(Server(), vif)
    assert ports(compute.switch) == []
    compute.plug(Server(), vif)
    assert ports(compute.switch) == [vif["id"]]
