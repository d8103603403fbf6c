# SPDX-License-Identifier: Apache-2.0
"""CTL-01..02, SOCK-01..04: who may use which socket, in words that name user, group and mode."""

from __future__ import annotations

import os

import pytest

from tests.unit.cmd.doctor.conftest import Expect
from tests.unit.cmd.doctor.fake_root import (
    CONTROL,
    DAEMON_PID,
    NEUTRON,
    NOVA,
    STRANGER,
    USWITCH,
    VHOST,
    FakeRoot,
)
from tests.unit.test_access import GROUP, MASK, NAMED, NO_ID, OTHERS, OWNER, acl
from vif_uswitch.exceptions import DaemonUnreachable, TimedOut


def daemon_is(host: FakeRoot, uid: int, *gids: int) -> None:
    host.process(DAEMON_PID, "python3", "/opt/uswitch/bin/uswitchd", uid=uid, gids=gids)


def test_a_good_directory(host: FakeRoot, expect: Expect) -> None:
    assert "2775" in expect("SOCK-01", "PASS").text
    assert "libvirt-qemu may create" in expect("SOCK-02", "PASS").text
    assert "uswitch may connect" in expect("SOCK-03", "PASS").text
    assert "1 socket, none" in expect("SOCK-04", "PASS").text


def test_no_directory(empty: FakeRoot, expect: Expect) -> None:
    empty.accounts()
    assert "systemd-tmpfiles" in expect("SOCK-01", "FAIL").todo
    for ident in ("SOCK-02", "SOCK-03", "SOCK-04"):
        expect(ident, "SKIP")


def test_the_directory_is_a_file(empty: FakeRoot, expect: Expect) -> None:
    empty.accounts()
    empty.put(VHOST, "x")
    assert "is no directory" in expect("SOCK-01", "FAIL").text


@pytest.mark.parametrize(("mode", "status", "says"), [
    (0o2770, "PASS", "2770"),
    (0o0775, "WARN", "not setgid"),
    (0o2755, "FAIL", "uswitch may not write"),
    (0o2777, "FAIL", "everybody"),
])
def test_mode_of_the_directory(
    host: FakeRoot, expect: Expect, mode: int, status: str, says: str
) -> None:
    host.at(VHOST).chmod(mode)
    assert says in expect("SOCK-01", status).text


def test_nobody_known(host: FakeRoot, expect: Expect) -> None:
    host.at("/etc/passwd").unlink()
    host.client.error = DaemonUnreachable("control socket", CONTROL, "is not there", "Start it.")
    host.at(f"/proc/{DAEMON_PID}/cmdline").unlink()
    expect("SOCK-01", "SKIP")
    expect("SOCK-02", "SKIP")
    expect("SOCK-03", "SKIP")


def test_qemu_may_not_create(host: FakeRoot, expect: Expect) -> None:
    host.put("/etc/passwd", f"qemu:x:107:107::/:\nuswitch:x:{USWITCH}:{USWITCH}::/:\n")
    found = expect("SOCK-02", "FAIL")
    assert "QEMU's user qemu" in found.text and "kvm 2775" in found.text
    assert "chgrp qemu" in found.todo


@pytest.mark.parametrize(("settings", "status"), [
    ('user = "stranger"\n', "FAIL"),
    ('user = "stranger"\ngroup = "kvm"\n', "PASS"),
    ('#user = "stranger"\n', "PASS"),
    (f'user = "+{STRANGER}"\n', "FAIL"),
    ('user = "nobody-there"\n', "PASS"),  # falls back to the distribution's
    ("\0\xff = [", "PASS"),
])
def test_qemu_conf_says_who_qemu_is(
    host: FakeRoot, expect: Expect, settings: str, status: str
) -> None:
    with host.at("/etc/passwd").open("a") as file:
        file.write(f"stranger:x:{STRANGER}:{STRANGER}::/:\n")
    host.put("/etc/libvirt/qemu.conf", settings)
    expect("SOCK-02", status)


def test_uswitchd_is_not_in_the_group(host: FakeRoot, expect: Expect) -> None:
    """A group that the user got later, but the process has not."""
    daemon_is(host, USWITCH, USWITCH)
    found = expect("SOCK-03", "FAIL")
    assert "may not connect" in found.text or "not in it" in found.text
    assert "restart uswitchd" in found.todo and "usermod" not in found.todo
    host.accounts(members="")
    assert "usermod -a -G kvm uswitch" in expect("SOCK-03", "FAIL").todo


def test_a_single_socket_is_closed(host: FakeRoot, expect: Expect) -> None:
    host.socket(f"{VHOST}/vm2.sock", 0o700)
    found = expect("SOCK-03", "FAIL")
    assert "vm2.sock" in found.text and "0700" in found.text


def test_no_group_in_common(host: FakeRoot, expect: Expect) -> None:
    host.at(f"{VHOST}/vm1.sock").unlink()
    host.at(VHOST).chmod(0o777)
    daemon_is(host, USWITCH, USWITCH)
    assert "no group in common" in expect("SOCK-03", "FAIL").text


def test_stale_sockets(host: FakeRoot, expect: Expect) -> None:
    for number in range(7):
        host.socket(f"{VHOST}/dead{number}.sock")
    found = expect("SOCK-04", "WARN")
    assert "dead0.sock" in found.text and "2 more" in found.text and "vm1" not in found.text
    host.client.ports = [{"path": f"{VHOST}/dead0.sock", "mode": "server", "link": "up"},
                         {"path": f"{VHOST}/dead1.sock", "mode": "client", "link": "waiting"},
                         {"path": f"{VHOST}/dead2.sock", "mode": "server", "link": "waiting"}]
    found = expect("SOCK-04", "WARN")
    assert "dead2.sock" in found.text and "dead0" not in found.text and "dead1" not in found.text
    host.put("/proc/net/unix", "garbage\n\n1 2 3\n")
    expect("SOCK-04", "WARN")
    host.at("/proc/net/unix").unlink()
    expect("SOCK-04", "SKIP")


def test_a_socket_that_was_bound_by_way_of_its_directory(host: FakeRoot, expect: Expect) -> None:
    """As uswitchd does: the kernel keeps the path that was given to bind(2)."""
    host.put("/proc/net/unix", "Num RefCount Protocol Flags Type St Inode Path\n"
             "0: 00000002 00000000 00010000 0001 01 123 /proc/self/fd/12/vm1.sock\n")
    expect("SOCK-04", "PASS")


def test_control_socket(host: FakeRoot, expect: Expect) -> None:
    assert f"pid {DAEMON_PID}, answers on {CONTROL}" in expect("CTL-01", "PASS").text
    host.client.error = TimedOut("uswitchd", None, "no answer to show within 10 s", "")
    found = expect("CTL-01", "FAIL")
    assert "no answer" in found.text and "restart" in found.todo
    host.client.error = DaemonUnreachable("it", CONTROL, "may not be used by you", "Be root.")
    assert expect("CTL-01", "SKIP").todo == "Be root."


def test_a_dead_uswitchd_is_asked_once(host: FakeRoot) -> None:
    host.client.error = TimedOut("uswitchd", None, "no answer to show within 10 s", "")
    scene = host.scene()
    for _ in range(3):
        assert (scene.switch.show(), scene.switch.ports(), scene.switch.uplinks()) == (None,) * 3
    assert host.client.asked == 1


def test_services_may_use_the_control_socket(host: FakeRoot, expect: Expect) -> None:
    assert "nova-compute and neutron-uswitch-agent" in expect("CTL-02", "PASS").text
    host.process(200, "python3", "/opt/nova/bin/nova-compute", uid=NOVA, gids=(NOVA,))
    found = expect("CTL-02", "FAIL")
    assert "runs as nova" in found.text and "0660" in found.text
    assert "control_group" in found.todo
    host.at("/proc/200/cmdline").unlink()
    host.at("/proc/201/cmdline").unlink()
    expect("CTL-02", "SKIP")
    host.at(CONTROL).unlink()
    expect("CTL-02", "SKIP")


def test_an_access_list_of_the_control_socket(host: FakeRoot, expect: Expect) -> None:
    host.process(200, "python3", "/opt/nova/bin/nova-compute", uid=NOVA, gids=(NOVA,))
    expect("CTL-02", "FAIL")
    rights = acl((OWNER, 6, NO_ID), (NAMED, 6, NOVA), (GROUP, 6, NO_ID), (MASK, 6, NO_ID),
                 (OTHERS, 0, NO_ID))  # fmt: skip
    try:
        os.setxattr(host.at(CONTROL), "system.posix_acl_access", rights)
    except OSError as error:
        pytest.skip(f"no access lists there: {error}")
    expect("CTL-02", "PASS")


@pytest.mark.parametrize("name", ["dhcp", "l3"])
def test_agents_with_our_interface_driver_may_use_it(
    host: FakeRoot, expect: Expect, name: str
) -> None:
    program, file = f"neutron-{name}-agent", f"/etc/neutron/{name}_agent.ini"
    host.process(202, "python3", f"/usr/bin/{program}", uid=NEUTRON, gids=(NEUTRON,))
    assert program not in expect("CTL-02", "PASS").text
    host.put(file, "[DEFAULT]\ninterface_driver = openvswitch\n")
    assert program not in expect("CTL-02", "PASS").text
    host.put(file, "[DEFAULT]\ninterface_driver = uswitch\n")
    assert f"{program} runs as" in expect("CTL-02", "FAIL").text
    host.process(202, "python3", f"/usr/bin/{program}", uid=NEUTRON, gids=(NEUTRON, host.gid))
    assert f"nova-compute, neutron-uswitch-agent and {program} may" in expect("CTL-02", "PASS").text
    host.put(file, "garbage\n")
    assert program not in expect("CTL-02", "PASS").text
