# SPDX-License-Identifier: Apache-2.0
"""``uswitchctl domain`` as it is typed: libvirt's driver for tests behind it, and none at all."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator

import libvirt
import pytest

from tests.unit.cmd.ctl_rig import Ctl
from tests.unit.daemon.control_rig import UP, Control
from tests.unit.domain.domain_rig import MAC, OTHER, UUID, bridge, domain, ours
from vif_uswitch.cmd import domain as cmd
from vif_uswitch.cmd import parsing, uswitchctl
from vif_uswitch.domain.connect import Guest, Hypervisor
from vif_uswitch.domain.watch import Change

URI = "test:///default"
OS = "<os><type arch='x86_64'>hvm</type></os>"
NAME = f"{UUID}-525400000009"


class Host:
    """What the driver for tests knows as long as a connection is open."""

    def __init__(self) -> None:
        self.connection = libvirt.open(URI)

    def define(self, text: str) -> None:
        text = text.replace("type='kvm'", "type='test'").replace("<devices>", f"{OS}<devices>")
        self.connection.defineXML(text)

    def xml(self) -> str:
        text: str = self.connection.lookupByName("vm1").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        return text


@pytest.fixture
def host(control: Control, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("VIRSH_DEFAULT_CONNECT_URI", URI)
    # The file of the host that runs the tests is none of theirs.
    monkeypatch.setenv("USWITCH_LIBVIRT_CONF", f"{control.directory}/none")
    made = Host()
    yield made
    made.connection.close()


def test_list(host: Host, control: Control, ctl: Ctl) -> None:
    host.define(domain(ours(f"{control.vhost}/p.sock"), bridge(OTHER)))
    ctl("port add p --segment blue --create-segment")
    control.fabric.lives[0] = UP
    assert ctl("domain list vm1") == 0
    assert [" ".join(line.split()) for line in ctl.out.splitlines()] == [
        "DOMAIN INTERFACE TYPE SOURCE MODEL MAC LINK SEGMENT TRUNK",
        f"vm1 testnet0 vhostuser {control.vhost}/p.sock virtio {MAC} up blue -",
        f"vm1 testnet1 bridge br0 virtio {OTHER} - - -",
    ]
    assert ctl("domain list -f json") == 0
    rows = [row for row in json.loads(ctl.out) if row["domain"] == "vm1"]
    assert (rows[0]["port"], rows[0]["state"], rows[1]["port"]) == ("p", "shut off", None)
    assert ctl("domain list nobody") == 4 and "domain nobody: does not exist" in ctl.err
    assert ctl("domain list --connect nonsense:///x") == 3 and "libvirt" in ctl.err


def test_check(host: Host, control: Control, ctl: Ctl) -> None:
    host.define(domain(ours(f"{control.vhost}/p.sock")))
    assert ctl("domain check vm1") == 0
    assert ctl.out.splitlines()[:2] == [
        "DOM-01  PASS  the configuration shares its memory",
        f"NIC-01  PASS  {MAC}: virtio on {control.vhost}/p.sock, mode server",
    ]
    ctl("port add p --mode client")
    assert ctl("domain check vm1 -q") == 1
    assert [line.split()[:2] for line in ctl.out.splitlines() if line[0] != " "] == [
        ["NIC-02", "FAIL"], ["NIC-03", "FAIL"]]  # fmt: skip
    assert ctl("domain check vm1 -f json") == 1
    assert {row["check"] for row in json.loads(ctl.out) if row["status"] == "FAIL"} == {
        "NIC-02", "NIC-03"}  # fmt: skip
    assert ctl(f"domain check vm1 --socket {control.directory}/none") == 1
    assert "DOM-03  FAIL" in ctl.out


def test_convert(host: Host, control: Control, ctl: Ctl) -> None:
    host.define(domain(bridge(), memory=""))
    before = host.xml()
    assert ctl("domain convert vm1 --segment blue --dry-run") == 0
    assert "+    <interface type='vhostuser'>" in ctl.out and host.xml() == before
    assert ctl.out.endswith("nothing was changed\n")
    assert ctl("domain convert vm1") == 1 and "none is said for interface" in ctl.err
    assert ctl("domain convert vm1 --segment blue --yes") == 4 and "blue" in ctl.err
    assert host.xml() == before
    assert ctl("domain convert vm1 --segment blue --create-segment --yes -f json") == 0
    said = json.loads(ctl.out)
    assert said["done"] and said["diff"].startswith("--- vm1") and len(said["ports"]) == 1
    after = host.xml()
    assert "type='vhostuser'" in after and "mode='shared'" in after
    ctl("port list -f json")
    assert [port["path"] in after for port in json.loads(ctl.out)] == [True]


@pytest.mark.parametrize(("answer", "status", "end"), [
    ("y\n", 0, f"vm1 converted: ports {UUID}-525400000001\n"), ("\n", 1, "nothing was changed\n"),
    ("", 1, "nothing was changed\n"),
])  # fmt: skip
def test_convert_asks(host: Host, ctl: Ctl, monkeypatch: pytest.MonkeyPatch, answer: str,
                      status: int, end: str) -> None:  # fmt: skip
    host.define(domain(bridge()))
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    line = "domain convert vm1 --segment blue --create-segment"
    assert ctl(line) == status and ctl.out.endswith(end)
    assert ("vhostuser" in host.xml()) == (status == 0)


def test_convert_does_not_ask_nobody(host: Host, ctl: Ctl) -> None:
    host.define(domain(bridge()))
    assert ctl("domain convert vm1 --segment blue -f json") == 1 and "--yes" in ctl.err
    assert "vhostuser" not in host.xml()


def test_attach_and_detach(
    host: Host, control: Control, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver for tests has no hot-plug of these: what libvirt is asked for is looked at."""
    host.define(domain())
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(Guest, "attach", lambda _, text, which: asked.append((text, which.value)))
    line = f"domain attach vm1 --segment blue --create-segment --mac {MAC[:-1]}9 --queues 2"
    assert ctl(f"{line} --allow {MAC}=10.0.0.5 --down") == 0
    assert ctl.out == (f"interface 52:54:00:00:00:09 attached to vm1 (configuration): port {NAME},"
                       " link down\n")  # fmt: skip
    [(text, which)] = asked
    assert which == libvirt.VIR_DOMAIN_AFFECT_CONFIG and "<driver queues='2'/>" in text
    assert f"path='{control.vhost}/{NAME}.sock'" in text
    ctl(f"port show {NAME} -f json")
    port = json.loads(ctl.out)
    assert port["guard"] == {"pairs": [{"mac": MAC, "ip": "10.0.0.5"}]} and not port["admin_up"]
    assert "urn:vif-uswitch:domain:1" in host.xml() and "uswitch:allow" in host.xml()

    host.define(domain(ours(f"{control.vhost}/{NAME}.sock", "52:54:00:00:00:09")))
    monkeypatch.setattr(Guest, "detach", lambda _, text, which: asked.append((text, which.value)))
    assert ctl(f"domain detach vm1 {NAME} -f json") == 0
    assert json.loads(ctl.out) == {"domain": "vm1", "mac": "52:54:00:00:00:09",
                                   "affects": "configuration", "port_deleted": NAME}  # fmt: skip
    host.define(domain())
    assert ctl(f"port add {NAME} --external-id owner=libvirt --external-id domain-uuid={UUID}"
               " --external-id mac=52:54:00:00:00:09") == 0  # fmt: skip
    assert ctl("domain detach vm1 52:54:00:00:00:09") == 0
    assert ctl.out == (f"interface 52:54:00:00:00:09 was gone from vm1 already; port {NAME}"
                       " deleted\n")  # fmt: skip
    assert ctl("domain attach vm1 --live --segment blue") == 1 and "is not running" in ctl.err


def test_a_port_that_libvirt_does_not_take_is_taken_back(host: Host, ctl: Ctl) -> None:
    host.define(domain())
    assert ctl("domain attach vm1 --segment blue --create-segment") == 1
    assert "note: taken back: port" in ctl.err and "domain vm1" in ctl.err
    ctl("port list -f json")
    assert json.loads(ctl.out) == [] and "urn:vif-uswitch" not in host.xml()


def test_watch(host: Host, ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(domain(bridge()))
    monkeypatch.setattr("vif_uswitch.domain.watch.start_events", lambda: None)
    monkeypatch.setattr(Hypervisor, "subscribe", lambda *_: None)
    assert ctl("domain watch vm1 --count 1") == 0
    assert ctl.out[8:] == f"  vm1  {MAC}  appeared: bridge br0\n"
    assert ctl("domain watch --count 1 -f json vm1") == 0
    assert json.loads(ctl.out.splitlines()[0])["what"] == "appeared"


@pytest.mark.parametrize(("change", "line"), [
    (Change("", "", "lost", None, "uswitchd: no answer"), "uswitchd: no answer"),
    (Change("", "", "back", None, None), "both answer again"),
    (Change("v\x1b[m", MAC, "link", "up", "waiting", "left"),
     f"v\\x1b[m  {MAC}  link: up -> waiting (left)"),
    (Change("v", MAC, "gone", "bridge br0", None), f"v  {MAC}  gone: bridge br0"),
])  # fmt: skip
def test_lines_of_watch(change: Change, line: str) -> None:
    assert cmd._line(change) == line


def test_without_the_binding(control: Control) -> None:
    """Everything else works, and this says what to install."""
    code = ("import sys; sys.modules['libvirt'] = None\n"
            "from vif_uswitch.cmd.uswitchctl import main\n"
            "assert main(['port', 'list']) == 0\n"
            "sys.exit(main(['domain', 'list']))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={"USWITCH_SOCKET": control.path}, check=False)  # fmt: skip
    assert done.returncode == 1 and "Install python3-libvirt" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("words", "variables", "uid", "whose"), [
    ("--connect qemu:///session", {}, 1000, "user"),
    ("--connect qemu+unix:///session?socket=/s", {}, 1000, "user"),
    ("--connect qemu:///session", {}, 0, None),
    ("--connect qemu:///system", {}, 1000, "system"),
    ("--connect test:///default", {}, 1000, None),
    ("--connect nonsense", {}, 1000, None),
    ("", {}, 1000, None),
    ("", {"LIBVIRT_DEFAULT_URI": "qemu:///session"}, 1000, "user"),
    ("", {"LIBVIRT_DEFAULT_URI": "qemu:///session", "VIRSH_DEFAULT_CONNECT_URI": "qemu:///system"},
     1000, "system"),
    ("--connect qemu:///session --system", {}, 1000, "system"),
    ("--connect qemu:///system --user", {}, 1000, "user"),
    ("--connect qemu:///session", {"USWITCH_SOCKET": "/named"}, 1000, None),
])  # fmt: skip
def test_the_switch_is_that_of_the_libvirt(
    monkeypatch: pytest.MonkeyPatch, words: str, variables: dict[str, str], uid: int,
    whose: str | None,
) -> None:  # fmt: skip
    for name in ("LIBVIRT_DEFAULT_URI", "VIRSH_DEFAULT_CONNECT_URI", "USWITCH_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.geteuid", lambda: uid)
    asked: list[str | None] = []

    def socket_of(whose: str | None = None) -> str:
        asked.append(whose)
        return "/x"

    monkeypatch.setattr(parsing, "default_socket", socket_of)
    for command in ("list", "check v", "watch", "attach v", "detach v w", "convert v"):
        args = uswitchctl.build().parser.parse_args(f"domain {command} {words}".split())
        assert parsing.control_socket(args) == "/x"
    assert asked == [whose] * 6
    args = uswitchctl.build().parser.parse_args(f"domain list {words} --socket /y".split())
    if "--system" not in words and "--user" not in words:
        assert parsing.control_socket(args) == "/y" and len(asked) == 6


def test_words_that_cannot_be(host: Host, ctl: Ctl) -> None:
    for line in ("domain", "domain attach", "domain watch --interval 0", "domain detach vm1",
                 "domain attach vm1 --mode both"):  # fmt: skip
        assert ctl(line) == 2


