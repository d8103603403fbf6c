# SPDX-License-Identifier: Apache-2.0
"""libvirt itself, by its driver for tests: what comes of its answers and of its errors."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import libvirt
import pytest

from tests.unit.domain.domain_rig import MAC, UUID, bridge, domain, entry, ours
from vif_uswitch.domain import connect as room
from vif_uswitch.domain import settings, tree
from vif_uswitch.domain.affect import Affect
from vif_uswitch.domain.connect import Hypervisor, connect, patiently
from vif_uswitch.domain.uri import VARIABLES, named
from vif_uswitch.exceptions import (
    Busy,
    Conflict,
    DaemonUnreachable,
    Forbidden,
    InvalidInput,
    NotFound,
    TimedOut,
    USwitchError,
)
from vif_uswitch.hooks.domain_xml import PortSettings, parse_domain

URI = "test:///default"
OS = "<os><type arch='x86_64'>hvm</type></os>"


def for_test(text: str) -> str:
    return text.replace("type='kvm'", "type='test'").replace("<devices>", f"{OS}<devices>")


@pytest.fixture
def hypervisor() -> Iterator[Hypervisor]:
    """With one domain that is shut off.  The driver forgets all with its last connection."""
    with connect(URI, write=True) as opened:
        raw = libvirt.open(URI)
        raw.defineXML(for_test(domain(ours("/run/v/a.sock"), bridge("52:54:00:00:00:02"))))
        yield opened
        raw.close()


def test_domains_by_every_name(hypervisor: Hypervisor) -> None:
    assert [guest.name for guest in hypervisor.guests()] == ["test", "vm1"]
    assert hypervisor.guest("vm1").uuid == hypervisor.guest(UUID).uuid == UUID
    assert hypervisor.guest("1").name == "test"
    for word in ("nobody", "999", "9" * 30, "x" * 36, ""):
        with pytest.raises(NotFound, match="does not exist"):
            hypervisor.guest(word)


def test_what_it_prints_is_what_we_write(hypervisor: Hypervisor) -> None:
    text = hypervisor.guest("vm1").xml(Affect.CONFIG)
    assert tree.written(tree.parse(text)) == text


def test_metadata_come_back_as_they_were_written(hypervisor: Hypervisor) -> None:
    guest, entry_ = hypervisor.guest("vm1"), PortSettings(MAC, "blue", description="<'a' & \"b\">")
    guest.set_metadata(settings.ports_text({MAC: entry_}), Affect.CONFIG)
    assert parse_domain(guest.xml(Affect.CONFIG)).ports == {MAC: entry_}
    guest.set_metadata(None, Affect.CONFIG)
    guest.set_metadata(None, Affect.CONFIG)
    assert "vif-uswitch" not in guest.xml(Affect.CONFIG)


def test_a_definition_is_validated(hypervisor: Hypervisor) -> None:
    guest = hypervisor.guest("vm1")
    root = tree.parse(guest.xml(Affect.CONFIG))
    settings.put(root, parse_domain(domain(metadata=entry(MAC, segment="red"))).ports)
    guest.define(tree.written(root))
    assert parse_domain(guest.xml(Affect.CONFIG)).ports[MAC].segment == "red"
    with pytest.raises(USwitchError, match="schema") as refused:
        guest.define(tree.written(root).replace("<vcpu", "<vcpus").replace("</vcpu", "</vcpus"))
    assert str(refused.value).isprintable()


def test_state_and_what_the_driver_cannot_do(hypervisor: Hypervisor) -> None:
    running = hypervisor.guest("test")
    assert (running.state().active, running.state().persistent) == (True, True)
    assert not hypervisor.guest("vm1").state().active
    with pytest.raises(USwitchError, match="vm1"):
        hypervisor.guest("vm1").attach(ours("/x", "52:54:00:00:00:09"), Affect.LIVE)
    assert hypervisor.alive() and hypervisor.short_uri == URI


def test_a_connection_that_only_reads() -> None:
    with connect(URI, write=False) as reader:
        assert reader.guest("test").xml(Affect.LIVE, secrets=False)
        with pytest.raises(Forbidden, match="read only"):
            reader.guest("test").set_metadata(None, Affect.LIVE)


def test_who_is_not_there() -> None:
    for uri in ("qemu+unix:///system?socket=/nonexistent/sock", "nonsense:///x"):
        with pytest.raises((DaemonUnreachable, USwitchError)) as refused:
            connect(uri, write=False)
        assert str(refused.value).isprintable()
    with pytest.raises(DaemonUnreachable, match="Start libvirtd"):
        connect("qemu+unix:///system?socket=/nonexistent/sock", write=True)


def test_a_qemu_that_does_not_answer_is_not_waited_for(
    hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = hypervisor.guest("test")
    monkeypatch.setattr(libvirt.virDomain, "controlInfo", lambda _: [1, 0, 2900])
    assert guest.xml(Affect.LIVE)
    monkeypatch.setattr(libvirt.virDomain, "controlInfo", lambda _: [1, 0, 9900])
    with pytest.raises(Busy, match="waited 9 s"):
        guest.xml(Affect.LIVE)


class Elsewhere:
    """A connection as libvirt makes it over ssh."""

    def __init__(self, host: str) -> None:
        self.host = host

    def getURI(self) -> str:
        return f"qemu+ssh://root@{self.host}.example.org/system"

    def getHostname(self) -> str:
        return f"{self.host}.example.org"

    def close(self) -> None:
        pass


def test_libvirt_must_run_where_the_switch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(libvirt, "open", lambda uri: Elsewhere("there"))
    with pytest.raises(InvalidInput, match="another host"):
        connect("qemu+ssh://there/system", write=True)
    monkeypatch.setattr(libvirt, "open", lambda uri: Elsewhere("here"))
    assert connect("qemu+ssh://here/system", write=True).short_uri == "qemu:///system"


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_uri_is_virshs(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, URI)
    with connect(None, write=False) as opened:
        assert opened.uri == URI


def test_virshs_own_variable_comes_first_and_what_is_given_before_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in reversed(VARIABLES):
        monkeypatch.setenv(name, f"{name.lower()}:///x")
    assert named(None) == "virsh_default_connect_uri:///x"
    assert named("qemu:///system") == "qemu:///system"
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    assert named(None) == "", "libvirt chooses"


def error(code: int, domain_: int, text: str) -> libvirt.libvirtError:
    made = libvirt.libvirtError(text)
    made.err = (code, domain_, text, 2, None, None, None, -1, -1)
    return made


@pytest.mark.parametrize(("code", "where", "text", "kind", "words"), [
    (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, "Permission denied", Forbidden, "group"),
    (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_FROM_QEMU, "not running", Conflict, "domstate"),
    (libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC, "closed", DaemonUnreachable, "log of libvirtd"),
    (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, libvirt.VIR_FROM_QEMU, "requires shared memory",
     USwitchError, "domain check"),
    (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, "a\n b", USwitchError, "vm1: a b"),
])  # fmt: skip
def test_errors_say_what_to_do(code: int, where: int, text: str, kind: type[USwitchError],
                               words: str) -> None:  # fmt: skip
    made = room.explanation(error(code, where, text), "domain", "vm1")
    assert type(made) is kind and words in str(made)


def test_patience_ends() -> None:
    release = threading.Event()
    with pytest.raises(TimedOut, match=r"0\.05 s\. Do that"):
        patiently("domain", "vm1", lambda: _wait(release), 0.05, "Do that.")
    release.set()
    with pytest.raises(NotFound):
        patiently("domain", "vm1", lambda: _raise(NotFound("x")), 20, "")


def _wait(event: threading.Event) -> None:
    event.wait(20)


def _raise(error_: Exception) -> None:
    raise error_
