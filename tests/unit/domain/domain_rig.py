# SPDX-License-Identifier: Apache-2.0
"""A guest that is a pair of texts, and that can be told to fail."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

from vif_uswitch.domain.affect import Affect, State, each
from vif_uswitch.exceptions import USwitchError
from vif_uswitch.hooks import port_xml

UUID = "1b2c3d4e-0000-4000-8000-00000000abcd"
MAC, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
NOVA = "<n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'/>"
ET.register_namespace(port_xml.PREFIX, port_xml.NAMESPACE)


def bridge(mac: str = MAC, inner: str = "<model type='virtio'/>") -> str:
    return (f"<interface type='bridge'><mac address='{mac}'/><source bridge='br0'/>"
            f"{inner}</interface>")


def ours(path: str, mac: str = MAC, mode: str = "server", inner: str = "") -> str:
    return (f"<interface type='vhostuser'><mac address='{mac}'/><source type='unix' path='{path}'"
            f" mode='{mode}'/><model type='virtio'/>{inner}</interface>")


def domain(*interfaces: str, memory: str = SHARED, metadata: str = "", name: str = "vm1") -> str:
    return (f"<domain type='kvm'><name>{name}</name><uuid>{UUID}</uuid>"
            + (f"<metadata>{metadata}</metadata>" if metadata else "")
            + f"<memory unit='KiB'>1024</memory>{memory}<vcpu>1</vcpu>"
            f"<devices>{''.join(interfaces)}</devices></domain>")


def entry(mac: str, **attributes: str) -> str:
    words = "".join(f" {key}='{value}'" for key, value in attributes.items())
    return (f"<uswitch:ports xmlns:uswitch='{port_xml.NAMESPACE}'><uswitch:port mac='{mac}'"
            f"{words}/></uswitch:ports>")


class FakeGuest:
    """Has the descriptions it was given.  ``fail``: by call, what is raised instead of it.

    ``on_detach``: which descriptions obey a detach at once.
    """

    def __init__(self, live: str | None = None, config: str | None = None) -> None:
        self.texts = {Affect.LIVE: live, Affect.CONFIG: config}
        self.name, self.uuid = "vm1", UUID
        self.fail: dict[str, Exception] = {}
        self.calls: list[str] = []
        self.obeys = Affect.LIVE | Affect.CONFIG
        self.during_attach: Callable[[], None] = lambda: None
        self.during_detach: Callable[[], None] = lambda: None
        self.after_define: Callable[[], None] = lambda: None

    def state(self) -> State:
        return State(self.name, self.texts[Affect.LIVE] is not None,
                     self.texts[Affect.CONFIG] is not None)  # fmt: skip

    def xml(self, which: Affect, *, secrets: bool = True) -> str:
        text = self.texts[which]
        assert text is not None
        return text

    def _call(self, name: str, affect: Affect) -> None:
        self.calls.append(f"{name} {'+'.join(one.name or '' for one in each(affect))}")
        if name in self.fail:
            raise self.fail[name]

    def attach(self, device: str, affect: Affect) -> None:
        self.during_attach()
        self._call("attach", affect)
        for which in each(affect):
            root = ET.fromstring(self.xml(which))
            devices = root.find("devices")
            assert devices is not None
            devices.append(ET.fromstring(device))
            self.texts[which] = ET.tostring(root, encoding="unicode")

    def detach(self, device: str, affect: Affect) -> None:
        self.during_detach()
        self._call("detach", affect)
        mac = ET.fromstring(device).find("mac")
        assert mac is not None
        for which in each(affect & self.obeys):
            root = ET.fromstring(self.xml(which))
            devices = root.find("devices")
            assert devices is not None
            for one in devices.findall("interface"):
                found = one.find("mac")
                if found is not None and found.get("address") == mac.get("address"):
                    devices.remove(one)
            self.texts[which] = ET.tostring(root, encoding="unicode")

    def define(self, xml: str) -> None:
        self._call("define", Affect.CONFIG)
        self.texts[Affect.CONFIG] = xml
        self.after_define, now = lambda: None, self.after_define
        now()

    def set_metadata(self, element: str | None, affect: Affect) -> None:
        self._call("metadata" if element else "no metadata", affect)
        for which in each(affect):
            root = ET.fromstring(self.xml(which))
            metadata = root.find("metadata")
            if metadata is None:
                metadata = ET.Element("metadata")
                root.insert(2, metadata)
            for old in metadata.findall(port_xml.PORTS):
                metadata.remove(old)
            if element is not None:
                metadata.append(_with_namespace(ET.fromstring(element)))
            self.texts[which] = ET.tostring(root, encoding="unicode")


def _with_namespace(element: ET.Element) -> ET.Element:
    """As libvirt's call does with an element that has none."""
    for one in element.iter():
        one.tag = f"{{{port_xml.NAMESPACE}}}{one.tag}"
    return element


def failing(why: str = "no room on the bus") -> USwitchError:
    return USwitchError("domain", "vm1", why)
