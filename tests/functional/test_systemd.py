# SPDX-License-Identifier: Apache-2.0
"""The shipped unit, started by systemd: restarts that guests do not notice, and what is forbidden.

Guests are front-ends out here that use the sockets in there; the listening ones
do as libvirt's QEMU does: a socket of another user, which ``uswitchd`` may use by
the directory's group alone.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
from collections.abc import Iterator

import pytest

from vif_uswitch.client import Client

from . import systemd_host
from .conftest import Guest, Stream, mac
from .frontend import Frontend
from .systemd_host import SystemdHost, wait

UNIT = (systemd_host.TOP / "etc/systemd/uswitchd.service").read_text(encoding="utf-8")
BROADCAST = b"\xff" * 6
_names = itertools.count(1)


@pytest.fixture(scope="module")
def host() -> Iterator[SystemdHost]:
    if reason := systemd_host.why_not():
        pytest.skip(reason)
    with SystemdHost("unit", UNIT) as running:
        yield running
        log = running.log()
    assert "Traceback" not in log and "ERROR" not in log, log


@pytest.fixture
def client(host: SystemdHost) -> Iterator[Client]:
    with Client(str(host.at("/run/uswitch/control.sock"))) as one:
        yield one


def guest(host: SystemdHost, client: Client, mode: str) -> Guest:
    number = next(_names)
    port = {"name": f"g{number}", "mode": mode, "segment": "net"}
    path = host.at(client.port_add(port, create_segments=True)["port"]["path"])
    front = Frontend(str(path), listen=mode == "server")
    if mode == "server":
        os.chmod(path, 0o775)  # as libvirt starts QEMU: umask 002
    front.start()
    return Guest(f"g{number}", mac(number), front)


@pytest.fixture
def pair(host: SystemdHost, client: Client) -> Iterator[tuple[Guest, Guest]]:
    a, b = guest(host, client, "client"), guest(host, client, "server")
    b.send(BROADCAST, [b"hello"])
    assert len(a.front.recv_frames(1)) == 1
    yield a, b
    for one in (a, b):
        one.front.close()
        client.port_delete(one.name)


def test_it_is_ready_and_guests_talk(host: SystemdHost, pair: tuple[Guest, Guest]) -> None:
    a, b = pair
    assert host.show("SubState") == "running" and "segments" in host.show("StatusText")
    assert a.send(b, [b"there"]) == 1 and len(b.front.recv_frames(1)) == 1


def test_restarts_leave_dataplane_and_guests_alone(
    host: SystemdHost, client: Client, pair: tuple[Guest, Guest]
) -> None:
    a, b = pair
    before, main = host.dataplane(), host.show("MainPID")
    with Stream(a, b) as stream:
        host.systemctl("restart", "uswitchd")
        assert host.show("MainPID") != main
        host.systemctl("stop", "uswitchd")
        sent = stream.sent
        wait(lambda: stream.sent > sent, "frames flow while it is stopped")
        host.systemctl("start", "uswitchd")
    assert stream.sent > 0 and stream.arrived == list(range(stream.sent))
    assert host.dataplane() == before
    assert {port["link"] for port in client.port_list()} == {"up"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_systemd_starts_the_next_one(
    host: SystemdHost, pair: tuple[Guest, Guest], number: signal.Signals
) -> None:
    """Killed, or by the watchdog when it hangs; the dataplane goes on."""
    before, restarts = host.dataplane(), int(host.show("NRestarts"))
    host.systemctl("kill", f"--signal={number.name}", "--kill-whom=main", "uswitchd")
    wait(lambda: int(host.show("NRestarts")) > restarts and host.show("SubState") == "running",
         "systemd started it anew")  # fmt: skip
    a, b = pair
    assert a.send(b, [b"still"]) == 1 and len(b.front.recv_frames(1)) == 1
    assert host.dataplane() == before


def test_how_everything_is_ended(host: SystemdHost) -> None:
    """As doc/source/packaging.rst has it."""
    host.systemctl("stop", "uswitchd")
    pid, _ = host.dataplane().split()
    assert host.at(f"/proc/{pid}").exists()
    host.systemctl("kill", "--kill-whom=all", "uswitchd")
    wait(lambda: not host.at(f"/proc/{pid}").exists(), "the dataplane ended")
    host.systemctl("start", "uswitchd")


def test_a_wrong_configuration_is_not_tried_again(host: SystemdHost) -> None:
    config = host.at("/etc/uswitch/uswitchd.conf")
    good = config.read_text()
    config.write_text("[DEFAULT]\nno_such_option = 1\n")
    host.run("systemctl", "restart", "uswitchd", check=False)
    assert host.show("ActiveState") == "failed" and host.show("ExecMainStatus") == "2"
    config.write_text(good)
    host.systemctl("start", "uswitchd")


FAILURES = 6  # systemd's own limit is five


def test_many_failures_are_survived(host: SystemdHost) -> None:
    """Its program is away for a while; at a pace that would reach any limit there is."""
    fast = host.at("/run/units/uswitchd.service.d/zz-fast.conf")
    fast.write_text("[Service]\nRestartSec=100ms\n", encoding="utf-8")
    host.systemctl("daemon-reload")
    host.systemctl("stop", "uswitchd")
    host.run("mv", "/opt/uswitch", "/opt/away")
    try:
        host.run("systemctl", "start", "--no-block", "uswitchd")
        before = int(host.show("NRestarts"))
        wait(lambda: int(host.show("NRestarts")) >= before + FAILURES
             or host.show("ActiveState") == "failed", "it failed")  # fmt: skip
        assert host.show("ActiveState") == "activating", host.show("Result")
    finally:
        host.run("mv", "/opt/away", "/opt/uswitch")
    wait(lambda: host.show("SubState") == "running", "it healed by itself")
    fast.unlink()
    host.systemctl("daemon-reload")


AGENT = (systemd_host.TOP / "etc/systemd/neutron-uswitch-agent.service").read_text(encoding="utf-8")
NEUTRON = "u neutron - - /var/lib/neutron -\nu adm-test - - / -\n"
WRITER = """
import os
os.mkdir("/var/lib/neutron/lock")
open("/var/log/neutron/agent.log", "w").close()
for path in ("/etc/neutron-probe", "/var/log/neutron-probe"):
    try:
        open(path, "w")
    except OSError as error:
        print(error.strerror, file=open("/var/lib/neutron/refused", "a"))
"""


def test_the_agents_unit_uses_neutrons_directories_and_leaves_them(host: SystemdHost) -> None:
    """They are the distribution's: another group may read the log, by a mode of its own."""
    code = base64.b64encode(WRITER.encode()).decode()
    head, _, rest = AGENT.partition("ExecStart=")
    _, _, tail = rest.partition("Restart=always\nRestartSec=2\n")
    assert tail
    probe = (head.replace("[Unit]\n", "[Unit]\nDefaultDependencies=no\n") + "Type=oneshot\n"
             "ExecStart=/opt/uswitch/bin/python -c"
             f" \"import base64; exec(base64.b64decode('{code}'))\"\n" + tail)
    probe = probe.replace("Type=simple\n", "").replace("Wants=network-online.target", "Wants=")
    host.at("/run/units/agent.service").write_text(probe, encoding="utf-8")
    host.at("/run/neutron.conf").write_text(NEUTRON, encoding="utf-8")
    host.run("systemd-sysusers", "/run/neutron.conf")
    host.run("mount", "-t", "tmpfs", "tmpfs", "/var/log")
    for path, mode in (("/var/log/neutron", "2770"), ("/var/lib/neutron", "0751")):
        host.run("install", "-d", "-o", "neutron", "-g", "adm-test", "-m", mode, path)
    host.systemctl("daemon-reload")
    host.systemctl("start", "agent")
    seen = host.run("stat", "-c", "%U:%G %a", "/var/log/neutron", "/var/lib/neutron")
    assert seen.split("\n")[:2] == ["neutron:adm-test 2770", "neutron:adm-test 751"]
    assert host.at("/var/log/neutron/agent.log").exists()
    assert host.at("/var/lib/neutron/lock").is_dir()
    refused = host.at("/var/lib/neutron/refused").read_text().splitlines()
    assert refused == ["Read-only file system"] * 2


def test_the_doctor_likes_what_was_installed(
    host: SystemdHost, pair: tuple[Guest, Guest]
) -> None:
    said = host.run("/opt/uswitch/bin/uswitchctl", "doctor", "-f", "json", "--only",
                    "CTL,SOCK,PROC,UNIT,VER-01", check=False)  # fmt: skip
    found = {one["id"]: one for one in json.loads(said)}
    not_passed = {ident: one for ident, one in found.items() if one["status"] != "PASS"}
    assert set(not_passed) == {"CTL-02"}, not_passed  # neither Nova nor Neutron in there
    assert "2775" in found["SOCK-01"]["text"] and "libvirt-qemu" in found["SOCK-02"]["text"]


PROBE = """
import errno, mmap, os, socket
def tried(what):
    try:
        what()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
out = open("/run/uswitch/probe", "w")
for name, what in {
    "kvm": lambda: os.open("/dev/kvm", os.O_RDWR),
    "tun": lambda: os.open("/dev/net/tun", os.O_RDWR),
    "null": lambda: os.open("/dev/null", os.O_RDWR),
    "etc": lambda: open("/etc/uswitch/probe", "w"),
    "state": lambda: open("/var/lib/uswitch/probe", "w"),
    "inet": lambda: socket.socket(socket.AF_INET),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "root": lambda: os.setuid(0),
}.items():
    print(name, tried(what), file=out)
os.rename("/run/uswitch/probe", "/run/uswitch/probed")
"""


def test_what_the_unit_forbids() -> None:
    """A probe in uswitchd's place, started by the same unit: same user, same lines."""
    if reason := systemd_host.why_not():
        pytest.skip(reason)
    command = "ExecStart=/opt/uswitch/bin/uswitchd --config-file /etc/uswitch/uswitchd.conf"
    code = base64.b64encode(PROBE.encode()).decode()
    changes = {
        command: "ExecStart=/opt/uswitch/bin/python -c"
                 f" \"import base64; exec(base64.b64decode('{code}'))\"",
        "Type=notify\n": "Type=oneshot\nRemainAfterExit=yes\n",
        "Restart=always\n": "",
    }  # fmt: skip
    probing = UNIT
    for before, after in changes.items():
        assert before in probing
        probing = probing.replace(before, after)
    with SystemdHost("probe", probing) as host:
        found = dict(line.split() for line in
                     host.at("/run/uswitch/probed").read_text().splitlines())  # fmt: skip
        kvm = "EPERM" if os.path.exists("/dev/kvm") else "ENOENT"
    assert found == {"kvm": kvm, "tun": "done", "null": "done", "etc": "EROFS", "state": "done",
                     "inet": "EAFNOSUPPORT", "unix": "done", "code": "EPERM", "root": "EPERM"}

