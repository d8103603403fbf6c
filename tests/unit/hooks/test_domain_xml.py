# SPDX-License-Identifier: Apache-2.0
"""Domains as libvirt writes them, as users mistype them, and as nobody should ever send them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vif_uswitch.exceptions import InvalidInput
from vif_uswitch.hooks import domain_xml, xml_tree
from vif_uswitch.hooks.domain_xml import Allowed, HostSettings, Interface, PortSettings, TrunkRow

UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
MAC, OTHER = "52:54:00:aa:bb:01", "52:54:00:aa:bb:02"
PATH = "/run/uswitch/vhost/vm1.sock"
NAMESPACE = 'xmlns:uswitch="urn:vif-uswitch:domain:1"'
PORTS = f"""<uswitch:ports {NAMESPACE}>
  <uswitch:port mac="52:54:00:AA:BB:01" segment="blue" mtu="9000" max-kbps="100000" admin="down"
      flood-rate="10" description="web">
    <uswitch:trunk vid="100" segment="red"/>
    <uswitch:allow mac="{MAC}" ip="10.0.0.5/32"/>
    <uswitch:allow mac="{MAC}"/>
  </uswitch:port>
</uswitch:ports>"""
SOCKET = f"""<interface type='vhostuser'>
  <mac address='{MAC}'/>
  <source type='unix' path='{PATH}' mode='server'/>
  <target dev='vhu0'/>
  <model type='virtio'/>
  <driver queues='2' rx_queue_size='1024'/>
  <alias name='net1'/>
</interface>"""
BRIDGE = f"""<interface type='bridge'>
  <mac address='{OTHER}'/><source bridge='br0'/><model type='e1000'/>
</interface>"""
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"


def domain(metadata: str = "", devices: str = BRIDGE + SOCKET, more: str = "") -> str:
    return (f"<domain type='kvm' id='3'><name>vm1</name><uuid>{UUID}</uuid>"
            f"<metadata>{metadata}</metadata>{more}<devices>{devices}</devices></domain>")


def port(inner: str = "", attributes: str = "", mac: str = MAC) -> str:
    return (f"<uswitch:ports {NAMESPACE}><uswitch:port mac='{mac}' {attributes}>{inner}"
            "</uswitch:port></uswitch:ports>")


# ---- interfaces ----


def test_interfaces_of_all_types_are_there_in_order() -> None:
    found = domain_xml.parse_domain(domain().encode())
    assert (found.name, found.uuid, found.nova) == ("vm1", UUID, False)
    assert found.interfaces == (
        Interface(OTHER, model="e1000", number=0, type="bridge", source="br0"),
        Interface(MAC, PATH, "server", "net1", "vhu0", "virtio", 2, 1),
    )
    assert found.vhost_users == found.interfaces[1:]


def test_an_interface_without_a_socket_has_no_path() -> None:
    """libvirt starts passt itself for these: there is nothing for us in them."""
    passt = f"<interface type='vhostuser'><mac address='{MAC}'/><backend type='passt'/></interface>"
    (found,) = domain_xml.parse_domain(domain(devices=passt)).vhost_users
    assert (found.path, found.mode, found.queues) == ("", "", None)


@pytest.mark.parametrize(("more", "expected"), [
    ("", False),
    ("<memoryBacking><hugepages/></memoryBacking>", False),
    ("<memoryBacking><access mode='private'/></memoryBacking>", False),
    (SHARED, True),
    ("<cpu><numa><cell id='0' memAccess='shared'/><cell id='1' memAccess='shared'/></numa></cpu>",
     True),
    ("<cpu><numa><cell id='0' memAccess='shared'/><cell id='1'/></numa></cpu>", False),
    (SHARED + "<cpu><numa><cell id='0'/></numa></cpu>", True),
    (SHARED + "<cpu><numa><cell id='0' memAccess='private'/></numa></cpu>", False),
])
def test_shared_memory(more: str, expected: bool) -> None:
    assert domain_xml.parse_domain(domain(more=more)).shared_memory is expected


def test_nova_is_known_by_its_metadata() -> None:
    nova = "<n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'/>"
    assert domain_xml.parse_domain(domain(nova)).nova


# ---- hostile XML ----


@pytest.mark.parametrize(("text", "complaint"), [
    ("", "cannot be read"),
    ("<domain>", "cannot be read"),
    ("<domain>\x00</domain>", "cannot be read"),
    (b"<?xml version='1.0' encoding='nonsense-7'?><domain/>", "cannot be read"),
    (b"<domain>\xff\xfe</domain>", "cannot be read"),
    ("<network/>", "begins with <network>"),
    ("<domain/>", "is no UUID"),
    ("<domain><uuid>../../etc</uuid></domain>", "is no UUID"),
    ("<!DOCTYPE domain><domain/>", "has a document type"),
    ("<!DOCTYPE d [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><domain>&b;</domain>", "document type"),
    ("<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain/>", "has a document type"),
    ("<domain>" + "<a>" * 100 + "</a>" * 100 + "</domain>", "nested deeper"),
    ("<domain>" + " " * xml_tree.XML_MAX + "</domain>", "is longer than"),
    (domain(devices="<interface/>" * 1025), "more than 1024 interfaces"),
    (domain(devices="<interface><mac address='52:54'/></interface>"), "is no MAC address"),
])
def test_what_is_no_domain_is_refused(text: str | bytes, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(complaint)):
        domain_xml.parse_domain(text)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_xml_never_raises_anything_else(data: st.DataObject) -> None:
    text = domain(PORTS, more=SHARED).encode()
    start = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(0, 40))
    damaged = text[:start] + data.draw(st.binary(max_size=20)) + text[start + length:]
    try:
        found = domain_xml.parse_domain(damaged)
        for each in found.vhost_users:
            domain_xml.settings_to_port(found, each, found.settings(each.mac), HostSettings())
    except InvalidInput:
        pass


# ---- metadata ----


def test_what_the_metadata_say() -> None:
    found = domain_xml.parse_domain(domain(PORTS))
    assert not found.refused
    assert found.settings(MAC) == PortSettings(
        MAC, segment="blue", mtu=9000, max_kbps=100000, admin_up=False, flood_rate=10,
        description="web", trunk=(TrunkRow(100, "red"),),
        guard=(Allowed(MAC, "10.0.0.5/32"), Allowed(MAC)),
    )
    assert found.settings(OTHER) is None


def test_guard_alone_means_nothing_may_be_sent() -> None:
    with_guard = domain_xml.parse_domain(domain(port("<uswitch:guard/>"))).settings(MAC)
    without = domain_xml.parse_domain(domain(port())).settings(MAC)
    assert with_guard == PortSettings(MAC, guard=()) and without == PortSettings(MAC)


@pytest.mark.parametrize(("metadata", "complaint"), [
    (port(attributes="segmnt='blue'"), "attribute segmnt"),
    (port(attributes="max_kbps='1'"), "attribute max_kbps"),
    (port(attributes="name='x'"), "attribute name"),
    (port(attributes="mtu='many'"), "mtu many: is no whole number"),
    (port(attributes="mtu='-1'"), "is no whole number"),
    (port(attributes="mtu='٣'"), "is no whole number"),
    (port(attributes=f"mtu='{'9' * 5000}'"), "is no whole number"),
    (port(attributes="admin='yes'"), "is neither up nor down"),
    (port("<uswitch:trunk segment='red'/>"), "is no whole number"),
    (port("<uswitch:trunk vid='1' segment='red' mac='x'/>"), "attribute mac"),
    (port("<uswitch:allow ip='10.0.0.1'/>"), "is no MAC address"),
    (port("<uswitch:guard mac='x'/>"), "attribute mac"),
    (port("<uswitch:tunnel/>"), "element uswitch:tunnel"),
    (port("<trunk/>"), "element trunk"),
    (port("<uswitch:guard><uswitch:allow/></uswitch:guard>"), "element uswitch:allow"),
    (port("<uswitch:guard/>" + f"<uswitch:allow mac='{MAC}'/>" * 257), "257 allow elements"),
    (port("<uswitch:trunk vid='1' segment='red'/>" * 513), "513 trunk"),
])
def test_a_wrong_entry_breaks_its_interface_only(metadata: str, complaint: str) -> None:
    also = f"<uswitch:port mac='{OTHER}' segment='red'/></uswitch:ports>"
    found = domain_xml.parse_domain(domain(metadata.replace("</uswitch:ports>", also)))
    with pytest.raises(InvalidInput, match=re.escape(complaint)):
        found.settings(MAC)
    assert found.settings(OTHER) == PortSettings(OTHER, segment="red")


@pytest.mark.parametrize(("metadata", "complaint"), [
    (PORTS + PORTS, "are there twice"),
    (port(mac="nobody"), "is no MAC address"),
    (f"<uswitch:ports {NAMESPACE}><uswitch:prot/></uswitch:ports>", "element uswitch:prot"),
    (f"<uswitch:ports {NAMESPACE}>{'<uswitch:port/>' * 1025}</uswitch:ports>", "more than 1024"),
])
def test_an_entry_that_could_be_anybodys_breaks_all(metadata: str, complaint: str) -> None:
    found = domain_xml.parse_domain(domain(metadata))
    for mac in (MAC, OTHER):
        with pytest.raises(InvalidInput, match=re.escape(complaint)):
            found.settings(mac)


@pytest.mark.parametrize("copies", [2, 3])
def test_two_entries_for_one_interface_are_refused(copies: int) -> None:
    inner = f"<uswitch:port mac='{MAC}' segment='blue'/>" * copies
    found = domain_xml.parse_domain(domain(f"<uswitch:ports {NAMESPACE}>{inner}</uswitch:ports>"))
    with pytest.raises(InvalidInput, match="is there twice"):
        found.settings(MAC)
    assert not found.ports


def test_foreign_metadata_are_nobodys_business() -> None:
    foreign = "<x:ports xmlns:x='urn:other'><x:port mac='z' segmnt='1'/></x:ports>"
    found = domain_xml.parse_domain(domain(foreign))
    assert not found.ports and not found.refused


# ---- the port ----


def the_port(metadata: str, defaults: HostSettings) -> dict[str, object]:
    found = domain_xml.parse_domain(domain(metadata))
    (interface,) = found.vhost_users
    return domain_xml.settings_to_port(found, interface, found.settings(MAC), defaults,
                                       "qemu:///system")


def test_the_whole_port() -> None:
    assert the_port(PORTS, HostSettings(default_segment="lab")) == {
        "name": f"{UUID}-525400aabb01", "type": "vhost-user", "path": PATH, "mode": "server",
        "queues": 2, "segment": "blue", "trunk": [{"vid": 100, "segment": "red"}],
        "admin_up": False, "description": "web", "mtu": 9000, "flood_rate": 10,
        "flood_burst": None, "fdb_quota": None, "max_kbps": 100000, "max_burst_kbps": None,
        "max_kpps": None, "max_burst_kpps": None,
        "guard": {"pairs": [{"mac": MAC, "ip": "10.0.0.5/32"}, {"mac": MAC, "ip": None}]},
        "external_ids": {"owner": "libvirt", "domain": "vm1", "domain-uuid": UUID, "mac": MAC,
                         "uri": "qemu:///system", "asked-at": "0"},
    }  # fmt: skip


@pytest.mark.parametrize(("metadata", "default", "segment"), [
    ("", "lab", "lab"),
    ("", "", None),
    (port(attributes="mtu='1400'"), "lab", "lab"),
    (port(attributes="segment='blue'"), "lab", "blue"),
    (port(attributes="segment=''"), "lab", None),
    # Untagged frames of a trunk are not the default's business.
    (port("<uswitch:trunk vid='5' segment='lab'/>"), "lab", None),
])
def test_the_default_segment(metadata: str, default: str, segment: str | None) -> None:
    assert the_port(metadata, HostSettings(default_segment=default))["segment"] == segment


def test_what_the_port_says_uswitchd_understands() -> None:
    """Names of members and the form of values are those of the API."""
    import msgspec

    from vif_uswitch.api.types import PortSpec

    spec = msgspec.convert(the_port(PORTS, HostSettings()), PortSpec)
    bare = msgspec.convert(the_port("", HostSettings()), PortSpec)
    assert spec.guard and bare.guard is None
    assert all(getattr(bare, name) is not msgspec.UNSET for name in (
        "segment", "trunk", "guard", "admin_up", "description", "mtu", "max_kbps", "queues"))


def test_a_display_name_cannot_spoil_the_ids() -> None:
    found = domain_xml.DomainXml("v\x1b[31m" + "m" * 500, UUID)
    assert domain_xml.external_ids(found, MAC)["domain"] == "v?[31m" + "m" * 122


def test_an_interface_that_is_no_socket_makes_no_port() -> None:
    found = domain_xml.parse_domain(domain())
    with pytest.raises(InvalidInput, match="no socket path"):
        domain_xml.settings_to_port(found, found.interfaces[0], None, HostSettings())


# ---- writing ----

FOREIGN = "<!-- kept --><libosinfo:os xmlns:libosinfo='http://libosinfo.org' id='x'/>"


def test_paths_are_rewritten_and_nothing_else() -> None:
    text = domain(FOREIGN + PORTS)
    new = domain_xml.with_paths(text, {MAC: "/srv/vhost/vm1.sock", OTHER: "/never"})
    assert domain_xml.parse_domain(new).vhost_users[0].path == "/srv/vhost/vm1.sock"
    back = new.replace("/srv/vhost/vm1.sock", PATH)
    assert ET.canonicalize(back) == ET.canonicalize(text)


def test_writing_refuses_what_reading_refuses() -> None:
    with pytest.raises(InvalidInput, match="document type"):
        domain_xml.with_paths("<!DOCTYPE domain><domain/>", {})
