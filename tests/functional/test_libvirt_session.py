# SPDX-License-Identifier: Apache-2.0
"""Two guests of qemu:///session on one segment of ``uswitchd --user``; nobody in there is root.

A user with a home and a runtime directory, and without groups, starts
everything: the switch, and by virsh libvirtd, virtlogd and QEMU.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed import parts, session
from testbed.cache import Cache
from testbed.libvirt import Domain
from testbed.libvirt_guests import Guests, Interface
from testbed.qemu import Network
from testbed.session import Session, SessionLibvirt

from .session_bed import PROGRAM, UserSwitch
from .xdp_bed import until

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(400),
    pytest.mark.skipif(session.available() is not None, reason=str(session.available())),
]
REPLIES = "3 packets transmitted, 3 received"


@dataclass
class Desktop:
    """A user's desktop: switch, libvirt, and a pair of guests, one for each socket direction."""

    session: Session
    switch: UserSwitch
    libvirt: SessionLibvirt
    guests: Guests
    a: Domain
    b: Domain


@pytest.fixture(scope="module")
def desktop() -> Iterator[Desktop]:
    directory = Path(tempfile.mkdtemp(prefix="uswitch-rootless-"))
    directory.chmod(0o755)
    bed = parts.prepare(Cache(), lambda _: None)
    with Session(directory / "s") as user:
        switch = UserSwitch(user)
        switch.start()
        for name, mode in (("a", "server"), ("b", "client")):
            user.run("uswitchctl", "port", "add", name, "--segment", "blue", "--create-segment",
                     "--mode", mode)  # fmt: skip
        sockets = user.runtime / "uswitch/vhost"
        user.add_hook()
        libvirt = SessionLibvirt(user)
        libvirt.start()
        made = Guests(libvirt, bed.machine)
        guests = [
            libvirt.start_domain(made.xml(name, [interface], Network(ip=ip)))
            for name, ip, interface in (
                ("a", "10.6.0.1/24", Interface(sockets / "a.sock", "52:54:00:0a:00:01", "server")),
                ("b", "10.6.0.2/24", Interface(sockets / "b.sock", "52:54:00:0a:00:02", "client")),
            )
        ]
        for guest in guests:
            guest.wait_ready()
        yield Desktop(user, switch, libvirt, made, *guests)
        for guest in guests:
            guest.destroy()
    log = switch.log.read_text()
    assert "Traceback" not in log and " ERROR " not in log
    shutil.rmtree(directory)


def test_two_guests_talk(desktop: Desktop) -> None:
    assert REPLIES in desktop.a.must("ping -c 3 -W 5 10.6.0.2")
    assert REPLIES in desktop.b.must("ping -c 3 -W 5 10.6.0.1")
    assert [desktop.switch.port(name)["link"] for name in "ab"] == ["up", "up"]


def test_nobody_in_there_has_a_right(desktop: Desktop) -> None:
    """Nor could gain one: not QEMU, not libvirt's daemons, not ours."""
    found = desktop.session.processes()
    names = {Path(word).name for process in found for word in process.command[:2]}
    assert {"uswitchd", "uswitch-dataplane", "libvirtd", "virtlogd", "qemu-system-x86_64"} <= names
    uid = str(desktop.session.who.uid)
    for process in found:
        status = process.status
        assert set(status["Uid"].split()) == {uid} != {"0"}, process
        assert {status[key].strip("0") for key in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {""}
        assert status["NoNewPrivs"] == "1" and not status["Groups"], process


def test_paths_are_the_users(desktop: Desktop) -> None:
    user = desktop.session
    shown = desktop.switch.show()["daemon"]["vhost_socket_dir"]
    assert shown == f"{user.runtime}/uswitch/vhost"
    directory = user.at(user.runtime / "uswitch")
    for path in (directory, directory / "vhost", user.home / ".local/state/uswitch"):
        assert (path.stat().st_uid, path.stat().st_mode & 0o7777) == (user.who.uid, 0o700), path
    assert (user.home / ".local/state/uswitch/state.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_uswitchd_restarts(desktop: Desktop, signal: str) -> None:
    """The guests, one of which pings, lose nothing."""
    pid = desktop.switch.show()["dataplane"]["pid"]
    desktop.a.must("ping -i 0.1 -c 50 -W 5 10.6.0.2 > /tmp/ping 2>&1 &")
    desktop.switch.end(signal)
    desktop.switch.start()
    said = desktop.a.must("while pidof ping > /dev/null; do sleep 0.1; done; cat /tmp/ping")
    assert "50 packets transmitted, 50 received" in said
    assert desktop.switch.show()["dataplane"]["pid"] == pid, "the dataplane is the same one"


def test_a_second_one_is_refused(desktop: Desktop) -> None:
    done = desktop.session.ask(PROGRAM, "--user")
    assert done.returncode == 1 and "another uswitchd (pid " in done.stderr


@pytest.mark.spare
def test_a_guest_is_started_anew(desktop: Desktop) -> None:
    b = desktop.b
    b.destroy()
    b.again()
    assert REPLIES in desktop.a.must("ping -c 3 -W 5 10.6.0.2")


def test_the_hosts_hook_runs_for_a_user_too(desktop: Desktop) -> None:
    """As the user, so it asks the user's switch; ports that were made by hand stay (a and b)."""
    path = desktop.session.runtime / "uswitch/vhost/c.sock"
    interface = Interface(path, "52:54:00:0a:00:03", "server")
    desktop.libvirt.start_domain(desktop.guests.xml("c", [interface]))
    ports = ("uswitchctl", "port", "list", "--external-id", "domain=c", "-f", "json")
    [port] = json.loads(desktop.session.run(*ports))
    assert (port["path"], port["external_ids"]["uri"]) == (str(path), "qemu:///session")
    desktop.libvirt.virsh("destroy", "c")
    until(lambda: json.loads(desktop.session.run(*ports)) == [], "its port is gone")


def test_what_a_user_cannot_have_is_said(desktop: Desktop) -> None:
    """A TAP device is root's to make; the text says how."""
    done = desktop.session.ask("uswitchctl", "port", "add", "t", "--type", "tap", "--ifname", "t0")
    name = desktop.session.who.name
    assert done.returncode and f"as root: ip tuntap add dev t0 mode tap user {name}" in done.stderr


def test_the_doctor_finds_nothing_wrong_with_it(desktop: Desktop) -> None:
    """KVM is this machine's matter."""
    only = "CTL,SOCK,MEM,PROC,UNIT,SAND-01,VER-01"
    done = desktop.session.ask("uswitchctl", "doctor", "--only", only)
    assert done.returncode == 0, done.stdout
    assert "WARN" not in done.stdout and "FAIL" not in done.stdout, done.stdout
    assert "qemu:///session" in done.stdout


def test_without_the_variable_what_the_login_made(desktop: Desktop) -> None:
    """As under cron, or after su."""
    done = desktop.session.ask("env", "-u", "XDG_RUNTIME_DIR", "uswitchctl", "port", "list")
    assert done.returncode == 0 and "blue" in done.stdout


def test_without_a_runtime_directory(desktop: Desktop) -> None:
    done = desktop.session.ask("env", "XDG_RUNTIME_DIR=/none", PROGRAM, "--user")
    assert done.returncode == 2
    assert "XDG_RUNTIME_DIR /none: cannot be used: No such file" in done.stderr
